"""Files and tensor names of checkpoints as other programs write them, without loading torch."""

import json
import os
import re
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError

ADAPTER_CONFIG = "adapter_config.json"
INDEX = ".index.json"
# Weights in a folder that peft or transformers wrote.
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
WHOLE = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
# Parts of names that DataParallel, torch.compile, FSDP, activation checkpointing and peft insert anywhere.
_WRAPPERS = re.compile(
    r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer"
    r"|modules_to_save\.[^.]+)\.(?=.)"
)
_SHARD = re.compile(r"-\d+-of-(\d+)\.\w+$")


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers of modules insert into it."""
    return _WRAPPERS.sub("", name)


def main_file(path: str | os.PathLike) -> Path:
    """The file that stands for a checkpoint: the path itself, or the weights in a folder as model hubs have them."""
    path = Path(path)
    if not path.is_dir():
        return path
    wanted = ADAPTERS if (path / ADAPTER_CONFIG).is_file() else WHOLE
    return next((path / name for name in wanted if (path / name).is_file()), path)


def shards(path: Path) -> dict[str, Path]:
    """Tensor name to file of a checkpoint in several files.

    Args:
        path: its index, ``*.index.json``.

    Raises:
        WheeltapperError: the index is damaged, or a file that it names is missing.
    """
    names = read_json_object(path).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise WheeltapperError(f"{path}: expected weight_map, tensor names to files, found none")
    for file in sorted({str(file) for file in names.values()}):
        if Path(file).name != file or not path.with_name(file).is_file():
            raise WheeltapperError(f"{path}: expected {file} beside it, found no such file; download all parts")
    return {str(name): path.with_name(str(file)) for name, file in names.items()}


def check_whole(path: Path) -> None:
    """Raises WheeltapperError if a file is one of several parts of a checkpoint."""
    part = _SHARD.search(path.name)
    if part and int(part[1]) > 1:
        raise WheeltapperError(
            f"{path}: expected a whole checkpoint, found one of {int(part[1])} parts; name the {INDEX} file beside them"
        )


def adapter_settings(path: Path) -> dict[str, Any]:
    """What ``adapter_config.json`` beside a checkpoint says; empty without such a file."""
    beside = path.with_name(ADAPTER_CONFIG)
    return read_json_object(beside) if beside.is_file() else {}


def adapter_base(path: Path) -> Path | None:
    """Base weights of an adapter in files of its own; None if the file is no such adapter.

    Raises:
        WheeltapperError: there are no base weights where ``adapter_config.json`` says.
    """
    if path.name not in ADAPTERS:
        return None
    named = adapter_settings(path).get("base_model_name_or_path")
    for place in (Path(str(named)), path.parent / str(named)) if named else ():
        if (file := main_file(place)).is_file() and file.resolve() != path.resolve():
            return file
    raise WheeltapperError(
        f"{path}: expected the base weights of this LoRA adapter, found none at {str(named or 'nothing')!r} "
        f"(base_model_name_or_path in {ADAPTER_CONFIG}); write the path of the base checkpoint there, or save the "
        "network after merge_and_unload() of peft"
    )


def parts(path: str | os.PathLike) -> list[Path]:
    """All files that a checkpoint is read from, its settings aside."""
    file = main_file(path)
    if file.name.endswith(INDEX):
        return [file, *sorted(set(shards(file).values()))]
    base = adapter_base(file)
    return [file] if base is None else [file, file.with_name(ADAPTER_CONFIG), *parts(base)]


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys and values.

    Raises:
        WheeltapperError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WheeltapperError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(found, dict):
        raise WheeltapperError(f"{path}: expected keys and values, found {type(found).__name__}")
    return found
