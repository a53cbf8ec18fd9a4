"""Checkpoints as training programs write them: wrapped, with heads, with adapters, in their authors' own layout."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import named, no_traceback, refused, well
from real_inputs.program import Ended, run

KIND = "16 checkpoints"
NOISE = torch.randn(6, 128, generator=torch.Generator().manual_seed(3))
Tensors = dict[str, Tensor]
SAID = "note|left|drop|ignor|without|skip"


@cache
def _plain() -> Tensors:
    """Untrained weights of a small encoder under the names that are published."""
    from system.encoders.fisher import Fisher, FisherConfig

    torch.manual_seed(0)
    net = Fisher(FisherConfig(embed_dim=128, depth=4, num_heads=2))
    return {name: tensor.clone() for name, tensor in net.to_published(net.state_dict()).items()}


def _prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _other(tensors: Tensors) -> Tensors:
    return {name: tensor + 0.01 for name, tensor in tensors.items()}


def _embed(place: Place, checkpoint: Path, family: str = "fisher-nano") -> tuple[Ended, np.ndarray | None]:
    clip, out = sounds.put(place / "clips/clip.wav", sounds.machine("checkpoint", 1.0)), place / "e.npz"
    out.unlink(missing_ok=True)
    options = ("--encoder", family, "--checkpoint", checkpoint, "--out", out)
    ended = run("embed", "--audio", clip.parent, *options)
    no_traceback(ended)
    if not out.is_file():
        return ended, None
    with np.load(out, allow_pickle=False) as file:
        return ended, file["embeddings"]


def _of_plain(place: Place) -> np.ndarray:
    """The embedding by the weights alone."""
    torch.save(_plain(), place / "plain.pt")
    ended, found = _embed(place, place / "plain.pt")
    well(ended, "embed with the plain weights")
    assert found is not None
    return found


def _lightning(tensors: Tensors) -> dict:
    heads = {"loss.W": NOISE, "model.arcface.weight": NOISE, "projection.0.weight": NOISE}
    return {
        "epoch": 3,
        "global_step": 99,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**_prefixed(tensors, "model."), **heads},
        "optimizer_states": [{"state": {0: {"exp_avg": NOISE}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "callbacks": {},
        "hyper_parameters": {"lr": 0.1},
    }


WRAPPINGS: dict[str, tuple[Callable[[Tensors], dict], str]] = {
    "Lightning": (_lightning, "arcface"),
    "model_state_dict": (lambda t: {"model_state_dict": t, "optimizer_state_dict": {"state": {}}, "epoch": 5}, ""),
    "state_dict": (lambda t: {"state_dict": t}, ""),
    "model": (lambda t: {"model": t, "args": {"lr": 0.1}}, ""),
    "encoder, head and step": (lambda t: {"encoder": t, "head": {"weight": NOISE}, "step": 9}, "head"),
    "module. of DataParallel": (lambda t: _prefixed(t, "module."), ""),
    "_orig_mod. of a compiled network": (lambda t: _prefixed(t, "_orig_mod."), ""),
    "module._orig_mod.model.": (lambda t: {"state_dict": _prefixed(t, "module._orig_mod.model.")}, ""),
    "encoder. beside heads": (
        lambda t: {**_prefixed(t, "encoder."), "head.weight": NOISE, "head.bias": NOISE[0]},
        "head",
    ),
    "heads: arcface, projection, classifier": (
        lambda t: {**t, "arcface.weight": NOISE, "projection.0.weight": NOISE, "classifier.bias": NOISE[0]},
        "arcface|projection",
    ),
    "n_averaged of SWA": (lambda t: {**_prefixed(t, "module."), "n_averaged": torch.tensor(7)}, "n_averaged"),
    "EMA beside the trained network": (lambda t: {"model": t, "model_ema": _other(t), "epoch": 2}, "model_ema|ema"),
    "student and teacher": (lambda t: {**_prefixed(_other(t), "teacher."), **_prefixed(t, "student.")}, "teacher"),
    "numbers beside tensors": (lambda t: {**t, "epoch": 12, "best": 0.93}, ""),
}


@case(KIND, "{}: the same embeddings", WRAPPINGS)
def wrapped_weights(place: Place, wrapping: tuple[Callable[[Tensors], dict], str]) -> None:
    wrap, left_out = wrapping
    torch.save(wrap(_plain()), place / "last.ckpt")
    ended, found = _embed(place, place / "last.ckpt")
    well(ended)
    expect(found is not None and np.array_equal(found, _of_plain(place)), "the embedding by the weights alone", found)
    if left_out:
        named(ended, left_out, rf"{SAID}|took|chose|instead")


@case(KIND, "{} numbers", {"half precision": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64})
def other_precision(place: Place, dtype: torch.dtype) -> None:
    torch.save({name: tensor.to(dtype) for name, tensor in _plain().items()}, place / "last.pt")
    ended, found = _embed(place, place / "last.pt")
    well(ended)
    expected = _of_plain(place)
    assert found is not None
    expect(
        np.abs(found - expected).max() < 0.02 * np.abs(expected).max(), "nearly the same embedding", found - expected
    )


@case(KIND, "safetensors with prefix and head")
def safetensors_with_prefix(place: Place) -> None:
    save_file({**_prefixed(_plain(), "model."), "head.weight": NOISE}, place / "model.safetensors")
    ended, found = _embed(place, place / "model.safetensors")
    well(ended)
    expect(found is not None and np.array_equal(found, _of_plain(place)), "the embedding by the weights alone", found)


@case(KIND, "the run takes a wrapped checkpoint and says what it leaves out")
def run_with_a_wrapped_checkpoint(place: Place) -> None:
    torch.save(_lightning(_plain()), place / "last.ckpt")
    conf = place.bases.conf()
    encoder = f"encoder={{family: fisher, size: nano, checkpoint: {place / 'last.ckpt'}}}"
    branches = "branches={main: {readout: mean, loop: {steps: 0}, scorer: {name: knn}}}"
    systems = "systems=[{weights: {main: 1}}]"
    options = ("--set", encoder, "--set", branches, "--set", systems, "--set", "pretrain.loop.steps=0")
    ended = run("run", "--exp", place / "exp", "--conf", conf, "--data", place.bases.small, "--stop-stage", 5, *options)
    well(ended)
    named(ended, r"last\.ckpt", "arcface")


LORA = "blocks.0.attn.qkv"
ALPHA, RANK = 16, 4


def _lora() -> tuple[Tensors, Tensors]:
    """Matrices of an adapter of one layer, and the whole weights with it merged: W + alpha / r B A."""
    dice = np.random.default_rng(0)
    rows, columns = _plain()[f"{LORA}.weight"].shape
    down = torch.from_numpy(0.05 * dice.standard_normal((RANK, columns)).astype(np.float32))
    up = torch.from_numpy(0.05 * dice.standard_normal((rows, RANK)).astype(np.float32))
    merged = dict(_plain())
    merged[f"{LORA}.weight"] = merged[f"{LORA}.weight"] + ALPHA / RANK * (up @ down)
    return {f"{LORA}.lora_A.weight": down, f"{LORA}.lora_B.weight": up}, merged


def _merged_or_said(place: Place, checkpoint: Path, merged: Tensors) -> None:
    torch.save(merged, place / "merged.pt")
    ended, expected = _embed(place, place / "merged.pt")
    well(ended)
    ended, found = _embed(place, checkpoint)
    if found is None:
        refused(ended, "lora|adapter|peft")
    else:
        assert expected is not None
        expect(np.allclose(found, expected, rtol=1e-3, atol=1e-5), "the embedding with the adapter merged", found)
        named(ended, "lora|adapter")


@case(KIND, "an adapter of peft beside its base: merged, or said")
def adapter_beside_its_base(place: Place) -> None:
    adapter, merged = _lora()
    torch.save(_plain(), place / "base.pt")
    (place / "lora").mkdir()
    save_file(_prefixed(adapter, "base_model.model."), place / "lora/adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": str(place / "base.pt")}
    (place / "lora/adapter_config.json").write_text(json.dumps(about))
    _merged_or_said(place, place / "lora", merged)


@case(KIND, "base and adapter in one file: merged, or said")
def adapter_in_one_file(place: Place) -> None:
    adapter, merged = _lora()
    tensors = {
        name.replace(LORA, f"{LORA}.base_layer") if name.startswith(LORA) else name: tensor
        for name, tensor in _plain().items()
    }
    tensors |= {name.replace(".weight", ".default.weight"): tensor for name, tensor in adapter.items()}
    torch.save(_prefixed(tensors, "base_model.model."), place / "last.pt")
    about = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": ""}
    (place / "adapter_config.json").write_text(json.dumps(about))
    _merged_or_said(place, place / "last.pt", merged)


ODD = {
    "another rank than in its settings": {"r": 16},
    "a pattern that is none": {"alpha_pattern": {"(": 8}},
    "alpha as text in a pattern": {"alpha_pattern": {"qkv": "8"}},
    "DoRA": {"use_dora": True},
}


@case(KIND, "an adapter with odd settings is refused: {}", ODD)
def adapter_with_odd_settings(place: Place, odd: dict) -> None:
    torch.save(_plain(), place / "base.pt")
    (place / "lora").mkdir()
    save_file(_prefixed(_lora()[0], "base_model.model."), place / "lora/adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": "../base.pt"}
    (place / "lora/adapter_config.json").write_text(json.dumps(about | odd))
    ended, found = _embed(place, place / "lora")
    refused(ended, "lora|adapter")
    expect(found is None, "no embeddings", found)


@case(KIND, "an adapter without its base is said")
def adapter_alone(place: Place) -> None:
    torch.save(_prefixed(_lora()[0], "base_model.model."), place / "lora.pt")
    ended, found = _embed(place, place / "lora.pt")
    refused(ended, r"lora\.pt", "lora|adapter")
    expect(found is None, "no embeddings", found)


def _quantised(tensors: Tensors) -> Tensors:
    name = "blocks.0.mlp.fc1.weight"
    return {**tensors, name: (tensors[name] * 100).to(torch.int8)}


NO_NETWORK: dict[str, Callable[[Tensors], object]] = {
    "an optimiser alone": lambda t: {"optimizer": {"state": {0: {"exp_avg": NOISE}}, "param_groups": []}},
    "nothing": lambda t: {},
    "a list of tensors": lambda t: list(t.values()),
    "half of the network": lambda t: dict(list(t.items())[: len(t) // 2]),
    "quantised weights": _quantised,
    "a layer more of another network": lambda t: {**t, "blocks.9.attn.qkv.weight": torch.zeros(384, 128)},
    "a whole module by pickle": lambda t: torch.nn.Linear(3, 3),
    "numbers of 8 bits": lambda t: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in t.items()},
    "tensors without content": lambda t: {name: tensor.to("meta") for name, tensor in t.items()},
}


@case(KIND, "{}: refused by name", NO_NETWORK)
def no_network(place: Place, content: Callable[[Tensors], object]) -> None:
    torch.save(content(_plain()), place / "last.pt")
    ended, found = _embed(place, place / "last.pt")
    refused(ended, r"last\.pt")
    expect(found is None, "no embeddings", found)


@cache
def _ast() -> tuple[Tensors, Tensors]:
    """A small AST in the layout of transformers, and in that of its authors."""
    from system.encoders.ast import Ast, AstConfig

    torch.manual_seed(0)
    net = Ast(AstConfig(embed_dim=128, depth=2, num_heads=2))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    hub = {name: tensor.clone() for name, tensor in net.to_published(net.state_dict()).items()}
    own = {
        "cls_token": hub["embeddings.cls_token"],
        "dist_token": hub["embeddings.distillation_token"],
        "pos_embed": hub["embeddings.position_embeddings"],
        "patch_embed.proj.weight": hub["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": hub["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": hub["layernorm.weight"],
        "norm.bias": hub["layernorm.bias"],
        "head.weight": NOISE,
        "head_dist.weight": NOISE,
    }
    layers = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    layers |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for block in range(2):
        for kind in ("weight", "bias"):
            for name, theirs in layers.items():
                own[f"blocks.{block}.{name}.{kind}"] = hub[f"layers.{block}.{theirs}.{kind}"]
            parts = [hub[f"layers.{block}.attention.{part}_proj.{kind}"] for part in "qkv"]
            own[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return hub, {**_prefixed(own, "v."), "mlp_head.0.weight": NOISE[0], "mlp_head.1.weight": NOISE}


@case(KIND, "AST as its authors have it, {}", {"module.v.*": "module.", "v.*": ""})
def ast_of_its_authors(place: Place, prefix: str) -> None:
    hub, own = _ast()
    torch.save(hub, place / "hub.pt")
    torch.save(_prefixed(own, prefix), place / "audioset_10_10_0.4593.pth")
    ended, expected = _embed(place, place / "hub.pt", "ast")
    well(ended)
    ended, found = _embed(place, place / "audioset_10_10_0.4593.pth", "ast")
    well(ended)
    expect(np.array_equal(found, expected), "the embedding by the other layout", found)
    named(ended, "head", SAID)


@case(KIND, "AST as its authors have it is never called AudioMAE")
def ast_is_no_audiomae(place: Place) -> None:
    torch.save(_prefixed(_ast()[1], "module."), place / "audioset.pth")
    for family in ("audiomae", "fisher-nano", "eat"):
        ended, found = _embed(place, place / "audioset.pth", family)
        expect(found is None, f"no embeddings as {family}", ended.text)
        refused(ended, r"audioset\.pth", r"\bast\b")
        expect(family == "audiomae" or "audiomae" not in ended.err.lower(), "no word of AudioMAE", ended.err)
