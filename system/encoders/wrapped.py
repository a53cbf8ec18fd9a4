"""Checkpoints as training programs wrap them: reduced to the tensors of the network.

Accepted are the dicts of Lightning, timm, fairseq and of loops by hand (``state_dict``, ``model_state_dict``,
``model``, averaged copies), names of DataParallel, torch.compile and peft, files in several parts, and LoRA adapters,
which are merged. Heads of the training are left out. Whatever is left out, chosen or merged is said in one note.
"""

import contextlib
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from system.encoders import checkpoints, layout
from system.errors import WheeltapperError

log = logging.getLogger(__name__)

# Keys of a file's dict that hold a network, in the order of preference: the trained weights before averaged ones.
NETWORKS = (
    *("model", "state_dict", "model_state_dict", "model_state", "encoder", "encoder_state_dict", "backbone", "net"),
    *("network", "module", "student", "params", "weights", "teacher"),
    *("model_ema", "ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "swa_model"),
)
SHOWN = 16  # names of what is left out in a note
# Keys beside the network that are read: settings of published files, and our own metadata.
READ = ("cfg", "heads", "model_type", "metadata")
# Names of parts of a training that an encoder does without, and of parts of networks that look like them.
_HEAD = re.compile(
    r"head|proj|class|fc|linear|logit|arc|cos|sphere|margin|loss|criterion|metric|cent(er|re)|proto|queue|decoder"
    r"|predict|averag|ema|teacher|neck|pool|discrim|domain|attr|label|optim|sched|scaler|epoch|step|temperature|num_"
)
_NETWORK = re.compile(r"norm|embed|pos|block|layer|fusion|patch|extract|conv")
_AVERAGED = re.compile(r"(?<![^._])(ema|teacher|swa|averaged|momentum|target|offline)(?![^._])")
# Keys that hold states of a training, not a network.
_TRAINING = re.compile(r"optim|sched|scaler|loops|callbacks|criterion|loss")
_PEFT = "base_model.model."
_MERGE = "save the network after merge_and_unload() of peft"
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.(?!weight)([^.]+))?\.weight")


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a checkpoint in any wrapping.

    Args:
        path: file, index of a checkpoint in several files, or folder with one as model hubs have it.

    Returns:
        "model": tensors by name; "notes": what was chosen and merged; "left_out": receives the parts of the network
        that are left out; "keys": of the file, "unread" those that are of no use; "file": with the base weights, beside
        which settings lie; and the settings in the file.

    Raises:
        WheeltapperError: a file cannot be read, or an adapter has no base weights or settings.
    """
    file = layout.main_file(path)
    base = layout.adapter_base(file)
    loaded = _load(base or file)
    metadata = loaded.get("metadata")
    if base is None and isinstance(metadata, Mapping) and "config" in metadata:  # our own
        return {**loaded, "keys": list(loaded), "unread": [], "notes": [], "left_out": [], "file": file}
    found = {**unwrap(loaded), "file": base or file}
    adapter = unwrap(_load(file))["model"] if base else found["model"]
    if base or any("lora_" in name for name in adapter):
        settings = layout.adapter_settings(file) or _lora_settings(loaded)
        found["model"] = _merged(found["model"], adapter, settings, file, found["notes"])
    return found


def unwrap(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the network of a file's dict under "model", with plain names; see ``read`` for the other keys."""
    key, network, others = _network(loaded)
    tensors = {layout.plain_name(str(name)): value for name, value in network.items() if key or name not in READ}
    # peft keeps the former weights of modules that it has trained as a whole.
    replaced = [name for name in tensors if ".original_module." in name]
    return {
        **{name: loaded[name] for name in READ if name in loaded},
        "model": {name: value for name, value in tensors.items() if name not in replaced},
        "keys": list(loaded),
        "notes": [f"took {key} of {', '.join([key, *others])}"] if others else [],
        "left_out": [],
        "unread": [str(name) for name in loaded if key and name not in (*READ, key, *others)],
    }


def without_heads(tensors: Mapping[str, Any], own: Iterable[str], left_out: list[str]) -> dict[str, Any]:
    """Tensors without those of heads that the network does not have.

    A head is a part at the top of the file that the network has no part of the name of, and that is called like one.
    An unknown tensor elsewhere stays, so that the strict load refuses it: the file is of another network.

    Args:
        tensors: name to tensor.
        own: names of the network's tensors.
        left_out: receives the names of the heads.
    """
    paths = [name.split(".") for name in own]
    root: list[str] = []  # of all names, as "network"
    for parts in zip(*(path[:-1] for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        root.append(parts[0])
    tops = {path[len(root)] for path in paths}
    kept = {}
    for name, tensor in tensors.items():
        path = name.split(".")
        top = path[len(root)] if path[: len(root)] == root and len(path) > len(root) else ""
        is_head = _HEAD.search(top.lower()) and not _NETWORK.search(top.lower())
        if top and top not in tops and (is_head or not isinstance(tensor, Tensor) or not tensor.dim()):
            left_out.append(top)
        else:
            kept[name] = tensor
    return kept


def find_tensors(
    loaded: Mapping[str, Any],
    needs: Sequence[str],
    expected: str,
    path: str | os.PathLike,
    left_out: Sequence[str] = (),
    inner: str = "",
) -> dict[str, Any]:
    """Tensors of a published checkpoint, without the common prefix that wrapper modules add to their names.

    Args:
        loaded: checkpoint as returned by ``read``, which learns what is left out.
        needs: tensor names that the layout requires; the prefix is found by the first one.
        expected: description of the layout, for the message.
        path: file, for the message.
        left_out: beginnings of names, with a leading dot, of tensors that inference does not need.
        inner: second prefix of some names, removed too.

    Returns:
        Name to tensor.

    Raises:
        WheeltapperError: one of ``needs`` is missing; the message lists some keys of the file.
    """
    tensors = {name.replace(inner, ""): tensor for name, tensor in loaded["model"].items()}
    prefix = _choose_prefix(tensors, needs, loaded["notes"])
    found = {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        if not name.startswith(prefix) or any(f".{own}".startswith(part) for part in left_out):
            loaded["left_out"].append(_part(name, prefix))
        else:
            found[own] = tensor
    if not all(isinstance(found.get(name), Tensor) for name in needs):
        shown = [name for name, value in tensors.items() if isinstance(value, Tensor)] or loaded["keys"]
        names = ", ".join(map(str, shown[:6])) or "none"
        raise WheeltapperError(f"{path}: expected {expected}, found the keys {names}")
    return found


def _choose_prefix(names: Mapping[str, Any], needs: Sequence[str], notes: list[str]) -> str:
    """What wrapper modules add to the names of a network: the trained one's rather than an averaged copy's."""
    prefixes = [name.removesuffix(needs[0]) for name in names if f".{name}".endswith(f".{needs[0]}")]
    whole = [prefix for prefix in prefixes if all(prefix + need in names for need in needs)]
    chosen = min(whole or prefixes, key=lambda prefix: bool(_AVERAGED.search(prefix.lower())), default="")
    if len(whole) > 1:
        shown = [prefix.rstrip(".") or "the names without prefix" for prefix in (chosen, *whole)]
        notes.append(f"took {shown[0]} of {', '.join(shown[1:])}")
    return chosen


def _part(name: str, prefix: str) -> str:
    """The first part of a name that the prefix does not have."""
    parts, common = name.split("."), prefix.split(".")
    return next((part for part, other in zip(parts, common, strict=False) if part != other), parts[-1])


def say(path: str | os.PathLike, loaded: Mapping[str, Any]) -> None:
    """Says in one line, once for each file, what ``read`` and the family have chosen, merged and left out."""
    told = list(loaded["notes"])
    names = list(dict.fromkeys([*loaded["left_out"], *loaded["unread"]]))
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        told.append(f"left out {', '.join(names[:SHOWN])}{more}, which the encoder does without")
    if told:
        _say(f"{path}: note: {'; '.join(told)}")


@lru_cache(maxsize=256)
def _say(line: str) -> None:
    log.warning(line)


def _load(path: Path) -> dict[str, Any]:
    """The dict of a file, or of all parts of a checkpoint in several."""
    if not path.name.endswith(layout.INDEX):
        layout.check_whole(path)
        return checkpoints.load_file(path)
    places = layout.shards(path)
    tensors: dict[str, Any] = {}
    for part in sorted(set(places.values())):
        tensors |= unwrap(checkpoints.load_file(part))["model"]
    missing = [name for name in places if layout.plain_name(name) not in tensors]
    if missing:
        raise WheeltapperError(f"{path}: expected {missing[0]} in {places[missing[0]].name}, found no such tensor")
    return {"model": tensors}


def _network(loaded: Mapping[Any, Any]) -> tuple[str, Mapping[Any, Any], list[str]]:
    """Key of the network in a file's dict (empty for the dict itself), its tensors, and keys of further networks."""
    inside = {str(key): _network(value)[1] for key, value in loaded.items() if _may_be_network(key, value)}
    count = {key: _count(tensors) for key, tensors in inside.items() if _count(tensors)}
    most = max(count.values(), default=0)
    if _count(loaded) >= most:
        return "", loaded, []
    order = {key: number for number, key in enumerate(NETWORKS)}
    # A dict of much fewer tensors is that of a head.
    alike = sorted((key for key in count if 2 * count[key] > most), key=lambda key: order.get(key, len(order)))
    return alike[0], inside[alike[0]], alike[1:]


def _may_be_network(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Mapping) and key not in READ and not _TRAINING.search(key)


def _count(value: Mapping[Any, Any]) -> int:
    return sum(isinstance(key, str) and isinstance(each, Tensor) for key, each in value.items())


def _lora_settings(loaded: Mapping[Any, Any], depth: int = 4) -> dict[str, Any]:
    """Settings of an adapter somewhere among the settings in a file's dict; empty if there are none."""
    if "lora_alpha" in loaded:
        return dict(loaded)
    inside = (value for value in loaded.values() if isinstance(value, Mapping) and depth)
    return next(filter(None, (_lora_settings(value, depth - 1) for value in inside)), {})


def _merged(
    base: Mapping[str, Any], adapter: Mapping[str, Any], settings: Mapping[str, Any], path: Path, notes: list[str]
) -> dict[str, Any]:
    """Base weights with a LoRA adapter merged: W + alpha / r B A (Hu et al. 2021)."""
    pairs = _lora_pairs(adapter, settings, path)
    found = {name: tensor for name, tensor in base.items() if ".lora_" not in name}
    for layer, (down, up) in pairs.items():
        name = _base_name(found, f"{layer}.weight", path)
        if not _is_float(found[name]):
            raise WheeltapperError(f"{path}: {layer}: expected base weights of 16 bits or more; {_MERGE}")
        weight, scale = found[name].float(), _lora_scale(settings, layer, len(down), path)
        change = _lora_change(down, up, f"{path}: {layer}")
        change = change.T if settings.get("fan_in_fan_out") else change
        if change.numel() != weight.numel() or len(change) != len(weight):
            raise WheeltapperError(
                f"{path}: {layer}: expected a LoRA adapter of the base weights {tuple(weight.shape)}, found one of "
                f"{tuple(change.shape)}"
            )
        found[name] = weight + change.reshape(weight.shape) * scale
    if adapter is not base:  # biases and modules that peft has trained as a whole
        for name in [name for name in adapter if ".lora_" not in name]:
            own = name.removeprefix(_PEFT)  # of a head, which the base does not have
            with contextlib.suppress(WheeltapperError):
                own = _base_name(found, name, path)
            found[own] = adapter[name]
    notes.append(f"merged the LoRA adapter of {len(pairs)} layers (alpha {settings['lora_alpha']:g})")
    return found


def _lora_pairs(
    adapter: Mapping[str, Any], settings: Mapping[str, Any], path: Path
) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer to the matrices A (r, in) and B (out, r) of its adapter."""
    halves: dict[str, dict[str, Tensor]] = {"A": {}, "B": {}}
    strange, names = [], set()
    for name, tensor in adapter.items():
        if (match := _LORA.fullmatch(name)) and _is_float(tensor):
            halves[match[2]][match[1].removeprefix(_PEFT)] = tensor
            names.add(match[3])
        elif ".lora_" in name:
            strange.append(name)
    alpha = settings.get("lora_alpha")
    if strange or settings.get("use_dora") or settings.get("peft_type", "LORA") != "LORA":
        found = strange[0] if strange else "another kind of adapter"
        raise WheeltapperError(f"{path}: expected a plain LoRA adapter, found {found}; {_MERGE}")
    if len(names) > 1 or set(halves["A"]) != set(halves["B"]) or not halves["A"]:
        found = f"several ({', '.join(sorted(map(str, names)))})" if len(names) > 1 else "half of one"
        found = found if halves["A"] or halves["B"] else "none"
        raise WheeltapperError(f"{path}: expected one LoRA adapter, lora_A and lora_B of each layer, found {found}")
    if not _is_number(alpha):
        raise WheeltapperError(
            f"{path}: expected lora_alpha of its LoRA adapter, found {'none' if alpha is None else repr(alpha)[:40]}; "
            f"put {layout.ADAPTER_CONFIG} beside it, or {_MERGE}"
        )
    return {layer: (down, halves["B"][layer]) for layer, down in halves["A"].items()}


def _lora_change(down: Tensor, up: Tensor, where: str) -> Tensor:
    """B A, (out, in), of the halves of an adapter."""
    down, up = down.float().flatten(1), up.float().flatten(1)
    if up.shape[1] != len(down):
        raise WheeltapperError(f"{where}: expected lora_A and lora_B of one rank, found {len(down)} and {up.shape[1]}")
    change = up @ down
    if not torch.isfinite(change).all():
        raise WheeltapperError(f"{where}: expected a LoRA adapter of finite numbers, found NaN or infinity")
    return change


def _lora_scale(settings: Mapping[str, Any], layer: str, rank: int, path: Path) -> float:
    """Alpha over rank; the settings may name both for single layers."""
    alpha = _of_layer(settings, "alpha_pattern", "lora_alpha", layer, path)
    told = _of_layer(settings, "rank_pattern", "r", layer, path)
    if told not in (None, rank):
        raise WheeltapperError(
            f"{path}: {layer}: expected a LoRA adapter of rank {told} as in its settings, found {rank}"
        )
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _of_layer(settings: Mapping[str, Any], patterns: str, default: str, layer: str, path: Path) -> Any:
    """A setting of a layer: that of the first pattern which its name ends in, as peft has it."""
    found = settings.get(patterns) or {}
    try:
        value = next((each for key, each in found.items() if re.fullmatch(rf"(.*\.)?{key}", layer)), None)
    except (AttributeError, re.error) as error:
        raise WheeltapperError(f"{path}: {patterns}: expected names of layers to numbers, found {error}") from error
    value = settings.get(default) if value is None else value
    if value is not None and not _is_number(value):
        raise WheeltapperError(f"{path}: {layer}: expected a number as {default}, found {str(value)[:40]!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_float(value: Any) -> bool:
    """Whether a value is a tensor of floating-point numbers of at least 16 bits."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.element_size() > 1


def _base_name(base: Mapping[str, Any], name: str, path: Path) -> str:
    """Name of a tensor of the base weights, which may have other prefixes than in the adapter."""
    name = name.removeprefix(_PEFT)
    for own in (name, _PEFT + name):
        if own in base:
            return own
    alike = [own for own in base if own.endswith(f".{name}") or name.endswith(f".{own}")]
    if len(alike) != 1:
        raise WheeltapperError(
            f"{path}: expected the base weights {name} beside its LoRA adapter, found none; give a folder with "
            f"{layout.ADAPTER_CONFIG}, whose base_model_name_or_path is the base checkpoint, or {_MERGE}"
        )
    return alike[0]
