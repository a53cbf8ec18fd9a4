"""Checkpoints as training programs write them: the network of the plain file, and one note of what was left out."""

import json
import logging
import re

import checks
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from system.encoders import cards, family_class, layout, peek, wrapped
from system.encoders.ast import Ast, AstConfig
from system.encoders.audiomae import AudioMae
from system.encoders.beats import Beats
from system.encoders.echo import Echo, EchoConfig
from system.encoders.fisher import Fisher, FisherConfig
from system.errors import WheeltapperError

NETS = {
    "fisher": checks.toy(Fisher, FisherConfig(embed_dim=128, depth=4, num_heads=2)),
    "ast": checks.toy(Ast, AstConfig(embed_dim=128, depth=2, num_heads=2)),
    "audiomae": checks.toy(AudioMae, AudioMae.SIZES["nano"]),
    "beats": checks.toy(Beats, Beats.SIZES["nano"]),
    "echo": checks.toy(Echo, EchoConfig(embed_dim=128, depth=2, num_heads=2)),
}
NOISE = torch.randn(3, 128, generator=torch.Generator().manual_seed(3))


def published(family: str) -> dict[str, torch.Tensor]:
    net = NETS[family]
    return {name: tensor.clone() for name, tensor in net.to_published(net.state_dict()).items()}


def prefixed(tensors: dict, prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def assert_same(family: str, path, expected: dict[str, torch.Tensor] | None = None) -> None:
    """The file loads to the network's own weights, or to other expected ones under published names."""
    loaded = type(NETS[family]).load(path)
    found = loaded.to_published(loaded.state_dict())
    expected = expected or published(family)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def notes(caplog) -> list[str]:
    return [record.message for record in caplog.records if "note:" in record.message]


OPTIMISER = {"state": {0: {"exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def lightning(tensors):
    heads = {"loss.W": NOISE, "model.arcface.weight": NOISE, "projection.0.weight": NOISE}
    return {
        "epoch": 3,
        "global_step": 99,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed(tensors, "model."), **heads},
        "optimizer_states": [OPTIMISER],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1, "embed_dim": 128},
    }


def averaged(tensors):
    """SWA and EMA keep their copy beside the trained weights."""
    copy = {name: tensor + 1 for name, tensor in tensors.items()}
    return {"model": tensors, "model_ema": copy, "optimizer": OPTIMISER, "epoch": 7}


WRAPPINGS = {
    "lightning": (lightning, ["left out", "optimizer_states", "arcface", "projection", "loss"]),
    "model_state_dict": (lambda t: {"model_state_dict": t, "epoch": 1, "best": 0.5}, ["left out epoch, best"]),
    "data parallel": (lambda t: prefixed(t, "module."), []),
    "compiled": (lambda t: prefixed(t, "_orig_mod."), []),
    "compiled inside": (
        lambda t: {re.sub(r"^(\w+)\.", r"\1._orig_mod.", name): tensor for name, tensor in t.items()},
        [],
    ),
    "compiled data parallel": (lambda t: {"state_dict": prefixed(t, "model._orig_mod.module.backbone.")}, []),
    "net": (lambda t: prefixed(t, "net."), []),
    "student and teacher": (
        lambda t: {**prefixed({k: v + 1 for k, v in t.items()}, "teacher."), **prefixed(t, "student.")},
        ["took student of teacher, student"],
    ),
    "two dicts": (lambda t: {"student": t, "teacher": {k: v + 1 for k, v in t.items()}}, ["took student"]),
    "averaged beside": (averaged, ["took model of model, model_ema", "left out optimizer, epoch"]),
    "averaged alone": (lambda t: {"ema": {"module": t, "decay": 0.999}}, []),
    "swa": (lambda t: {**prefixed(t, "module."), "n_averaged": torch.tensor(4)}, ["left out n_averaged"]),
    "heads": (
        lambda t: {
            **t,
            "head.weight": NOISE,
            "classifier.0.bias": NOISE[0],
            "fc.weight": NOISE,
            "proj_head.1.w": NOISE,
        },
        ["left out ", "head", "classifier", "fc", "proj_head"],
    ),
    "heads apart": (
        lambda t: {"encoder": t, "head": {"weight": NOISE}, "step": 3},
        ["left out head, step"],
    ),
    "flat with numbers": (lambda t: {**t, "epoch": 3, "optimizer": OPTIMISER}, ["left out epoch, optimizer"]),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("family", NETS)
def test_wrapped_is_plain(family, wrapping, tmp_path, caplog):
    wrap, told = WRAPPINGS[wrapping]
    path = tmp_path / "last.ckpt"
    torch.save(wrap(published(family)), path)
    assert cards.family_of(path) == family
    assert not peek.families(path) or family in peek.families(path)
    assert_same(family, path)
    lines = notes(caplog)
    assert len(lines) == bool(told)
    for text in told:
        assert text in lines[0]


@torch.inference_mode()
def test_the_embedding_is_the_same_to_the_last_bit(tmp_path):
    torch.save(lightning(published("beats")), tmp_path / "last.ckpt")
    sound = checks.wave(0.5)
    expected = NETS["beats"].embed(sound, checks.RATE)
    assert torch.equal(Beats.load(tmp_path / "last.ckpt").embed(sound, checks.RATE), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halved_weights(dtype, tmp_path):
    half = {name: tensor.to(dtype) for name, tensor in published("audiomae").items()}
    save_file(half, tmp_path / "x.safetensors")
    assert_same("audiomae", tmp_path / "x.safetensors", {name: tensor.float() for name, tensor in half.items()})


def test_quantised_weights_are_refused(tmp_path):
    tensors = published("audiomae")
    tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].to(torch.int8)
    torch.save(tensors, tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match=r"blocks\.0\.mlp\.fc1\.weight holds integers \(a quantised"):
        AudioMae.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "name", ["blocks.0.attn.rel_pos", "blocks.3.head.weight", "patch_proj.weight", "fusion_layers.0.w", "norm_head.w"]
)
def test_parts_of_another_network_are_refused(name, tmp_path):
    torch.save({**published("audiomae"), name: NOISE}, tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match=f"unexpected {name}"):
        AudioMae.load(tmp_path / "x.pt")


# Several files.


def sharded(folder, tensors: dict) -> None:
    names = list(tensors)
    files = {name: f"model-0000{1 + (place % 2)}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name].contiguous() for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def test_several_files(tmp_path):
    sharded(tmp_path, prefixed(published("beats"), "model."))
    index = tmp_path / "model.safetensors.index.json"
    for path in (index, tmp_path):
        assert_same("beats", path)
        assert peek.families(path) == ["beats"]
        assert cards.find_checkpoint(path, "nowhere") == index
    assert len(layout.parts(tmp_path)) == 3
    with pytest.raises(WheeltapperError, match=r"found one of 2 parts; name the \.index\.json file"):
        Beats.load(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    for look in (peek.families, Beats.load):
        with pytest.raises(WheeltapperError, match=r"expected model-00002-of-00002\.safetensors beside it, found"):
            look(index)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {"a": "../x"}}'])
def test_a_damaged_index(text, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WheeltapperError, match=r"index\.json: expected"):
        Beats.load(tmp_path)


# LoRA adapters of peft.


def adapted(family: str, layers: list[str], rank: int = 4):
    """Adapter tensors of some layers, and the base weights with B A added by hand."""
    generator = np.random.default_rng(0)
    tensors, merged = {}, published(family)
    for layer in layers:
        rows, columns = merged[f"{layer}.weight"].shape
        down = torch.from_numpy(generator.standard_normal((rank, columns)).astype(np.float32))
        up = torch.from_numpy(generator.standard_normal((rows, rank)).astype(np.float32))
        tensors |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
        merged[f"{layer}.weight"] = merged[f"{layer}.weight"] + 16 / rank * (up @ down)
    return tensors, merged


QKV = ["blocks.0.attn.qkv", "blocks.3.attn.qkv"]


def adapter_folder(folder, base: str, **settings):
    tensors, merged = adapted("audiomae", QKV)
    folder.mkdir()
    save_file(prefixed(tensors, "base_model.model."), folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "base_model_name_or_path": base, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return merged


@pytest.mark.parametrize("prefix", ["", "module.", "base_model.model."])
def test_adapter_beside_its_base(prefix, tmp_path, caplog):
    torch.save(prefixed(published("audiomae"), prefix), tmp_path / "base.pt")
    merged = adapter_folder(tmp_path / "lora", "../base.pt")
    assert_same("audiomae", tmp_path / "lora", merged)
    assert notes(caplog)[0].endswith("merged the LoRA adapter of 2 layers (alpha 16)")
    assert peek.families(tmp_path / "lora") == ["audiomae"]
    assert {path.name for path in layout.parts(tmp_path / "lora")} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "base.pt",
    }


def test_adapter_and_base_in_one_file(tmp_path):
    tensors, merged = adapted("audiomae", QKV)
    named = {name.replace(".weight", ".default.weight"): tensor for name, tensor in tensors.items()}
    for name, tensor in published("audiomae").items():
        layer = name.rpartition(".")[0]
        named[f"{layer}.base_layer.{name.rpartition('.')[2]}" if layer in QKV else name] = tensor
    file = {
        "state_dict": prefixed(named, "base_model.model."),
        "hyper_parameters": {"lora": {"r": 4, "lora_alpha": 16}},
    }
    torch.save(file, tmp_path / "x.ckpt")
    assert_same("audiomae", tmp_path / "x.ckpt", merged)
    torch.save(file["state_dict"], tmp_path / "x.ckpt")
    with pytest.raises(
        WheeltapperError, match="expected lora_alpha of its LoRA adapter, found none; put adapter_config"
    ):
        AudioMae.load(tmp_path / "x.ckpt")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16}))
    assert_same("audiomae", tmp_path / "x.ckpt", merged)


def test_scale_of_rank_stabilised_adapters_and_of_layers(tmp_path):
    torch.save(published("audiomae"), tmp_path / "base.pt")
    settings = {"use_rslora": True, "alpha_pattern": {r"blocks\.3\.attn\.qkv": 64}}
    merged = adapter_folder(tmp_path / "lora", "../base.pt", **settings)
    plain = published("audiomae")
    name = "blocks.0.attn.qkv.weight"
    merged[name] = plain[name] + 16 / 2 * ((merged[name] - plain[name]) / 4)
    name = "blocks.3.attn.qkv.weight"
    merged[name] = plain[name] + 64 / 2 * ((merged[name] - plain[name]) / 4)
    found = AudioMae.load(tmp_path / "lora")
    tensors = found.to_published(found.state_dict())
    assert all(torch.allclose(tensors[name], merged[name], rtol=1e-4, atol=1e-4) for name in merged)


@pytest.mark.parametrize(
    ("base", "settings", "text"),
    [
        ("facebook/none", {}, "expected the base weights of this LoRA adapter, found none at 'facebook/none'"),
        ("", {}, "found none at 'nothing'"),
        ("../base.pt", {"use_dora": True}, "expected a plain LoRA adapter, found another kind"),
        ("../base.pt", {"peft_type": "IA3"}, "expected a plain LoRA adapter"),
        ("../base.pt", {"lora_alpha": "16"}, "expected lora_alpha of its LoRA adapter, found '16'"),
        ("../base.pt", {"lora_alpha": float("nan")}, "expected lora_alpha of its LoRA adapter, found nan"),
        ("../base.pt", {"r": 16}, "expected a LoRA adapter of rank 16 as in its settings, found 4"),
        ("../base.pt", {"rank_pattern": {"qkv": 8}}, "of rank 8 as in its settings, found 4"),
        ("../base.pt", {"alpha_pattern": {"(": 8}}, "alpha_pattern: expected names of layers to numbers"),
        ("../base.pt", {"alpha_pattern": [8]}, "alpha_pattern: expected names of layers to numbers"),
        ("../base.pt", {"alpha_pattern": {"qkv": "8"}}, "expected a number as lora_alpha, found '8'"),
        ("../other.pt", {}, "expected the base weights blocks.0.attn.qkv.weight beside its LoRA adapter, found none"),
    ],
)
def test_adapters_that_cannot_be_merged(base, settings, text, tmp_path):
    torch.save(published("audiomae"), tmp_path / "base.pt")
    torch.save(published("ast"), tmp_path / "other.pt")
    adapter_folder(tmp_path / "lora", base, **settings)
    with pytest.raises(WheeltapperError, match=text) as caught:
        AudioMae.load(tmp_path / "lora")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a[:2], "expected lora_A and lora_B of one rank, found 2 and 4"),
        (lambda a: a * float("nan"), "expected a LoRA adapter of finite numbers"),
        (lambda a: a.to(torch.float8_e4m3fn), "expected a plain LoRA adapter"),
    ],
)
def test_matrices_that_cannot_be_merged(change, text, tmp_path):
    torch.save(published("audiomae"), tmp_path / "base.pt")
    adapter_folder(tmp_path / "lora", "../base.pt", r=None)
    tensors, _ = adapted("audiomae", QKV)
    name = "blocks.0.attn.qkv.lora_A.weight"
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(WheeltapperError, match=text):
        AudioMae.load(tmp_path / "lora")


def test_a_head_beside_an_adapter_is_left_out_and_said(tmp_path, caplog):
    torch.save(published("audiomae"), tmp_path / "base.pt")
    merged = adapter_folder(tmp_path / "lora", "../base.pt")
    tensors = {**adapted("audiomae", QKV)[0], "base_model.model.classifier.weight": NOISE}
    save_file(tensors, tmp_path / "lora" / "adapter_model.safetensors")
    assert_same("audiomae", tmp_path / "lora", merged)
    assert "left out classifier" in notes(caplog)[0]


@pytest.mark.parametrize(
    "change", [lambda a: a.to("meta"), lambda a: a.to(torch.float8_e4m3fn), lambda a: a.to_sparse()]
)
def test_tensors_that_are_no_weights_are_refused_in_one_line(change, tmp_path):
    tensors = published("audiomae")
    name = "blocks.0.mlp.fc1.weight"
    torch.save({**tensors, name: change(tensors[name])}, tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match=name) as caught:
        AudioMae.load(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_kind_is_not_ignored(tmp_path):
    torch.save(published("audiomae"), tmp_path / "base.pt")
    adapter_folder(tmp_path / "ia3", "../base.pt")
    save_file({"base_model.model.blocks.0.attn.ia3_l": NOISE}, tmp_path / "ia3" / "adapter_model.safetensors")
    with pytest.raises(WheeltapperError, match=r"expected one LoRA adapter, .*, found none"):
        AudioMae.load(tmp_path / "ia3")


@pytest.mark.parametrize("saved", [OPTIMISER, {"optimizer_state_dict": OPTIMISER, "epoch": 3}, {}, [1.0]])
def test_a_file_without_a_network_is_refused_in_one_line(saved, tmp_path):
    torch.save(saved, tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match=r"x\.pt: expected") as caught:
        AudioMae.load(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_an_adapter_without_settings(tmp_path):
    torch.save(prefixed(adapted("audiomae", QKV)[0], "base_model.model."), tmp_path / "lora.pt")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 16}')
    with pytest.raises(WheeltapperError, match=r"expected the base weights blocks\.0\.attn\.qkv\.weight beside"):
        AudioMae.load(tmp_path / "lora.pt")


# AST's own layout.


def authors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' file of a network under transformers' names, with the heads that they leave in."""
    named = {
        "cls_token": tensors["embeddings.cls_token"],
        "dist_token": tensors["embeddings.distillation_token"],
        "pos_embed": tensors["embeddings.position_embeddings"],
        "patch_embed.proj.weight": tensors["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": tensors["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": tensors["layernorm.weight"],
        "norm.bias": tensors["layernorm.bias"],
        "head.weight": NOISE,
        "head_dist.weight": NOISE,
    }
    parts = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    parts |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for block in range(2):
        for kind in ("weight", "bias"):
            for own, theirs in parts.items():
                named[f"blocks.{block}.{own}.{kind}"] = tensors[f"layers.{block}.{theirs}.{kind}"]
            qkv = [tensors[f"layers.{block}.attention.{part}_proj.{kind}"] for part in "qkv"]
            named[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(qkv)
    return {**prefixed(named, "v."), "mlp_head.0.weight": NOISE[0], "mlp_head.1.weight": NOISE}


@pytest.mark.parametrize("prefix", ["module.", "", "model.encoder."])
def test_ast_of_its_authors(prefix, tmp_path, caplog):
    path = tmp_path / "audioset_10_10_0.4593.pth"
    torch.save(prefixed(authors(published("ast")), prefix), path)
    assert cards.family_of(path) == "ast"
    assert peek.families(path) == ["ast"]
    assert_same("ast", path)
    assert "left out" in notes(caplog)[0]
    assert all(name in notes(caplog)[0] for name in ("mlp_head", "head_dist"))
    with pytest.raises(WheeltapperError, match="it looks like a checkpoint of the family ast"):
        AudioMae.load(path)
    with pytest.raises(WheeltapperError, match="of the family audiomae, found one that looks like ast"):
        peek.check_family(path, "audiomae")


@pytest.mark.parametrize(("patches", "stride"), [(1212, 10), (850, 12), (657, 14), (512, 16)])
def test_strides_of_the_authors_are_told_by_the_table(patches, stride, tmp_path):
    tensors = authors(published("ast"))
    tensors["v.pos_embed"] = torch.zeros(1, 2 + patches, 128)
    torch.save(tensors, tmp_path / "x.pth")
    found = Ast.load(tmp_path / "x.pth")
    assert (found.config.frequency_stride, found.config.time_stride) == (stride, stride)
    assert np.prod(found.config.grid) == patches


@pytest.mark.parametrize("family", NETS)
@pytest.mark.parametrize("other", NETS)
def test_wrong_families_are_told_in_one_line(family, other, tmp_path):
    if family == other:
        return
    torch.save(lightning(published(family)), tmp_path / "x.ckpt")
    with pytest.raises(WheeltapperError, match=f"it looks like a checkpoint of the family {family}") as caught:
        family_class(other).load(tmp_path / "x.ckpt")
    assert "\n" not in str(caught.value)


def test_a_note_is_said_once(tmp_path, caplog):
    torch.save({**published("audiomae"), "head.weight": NOISE}, tmp_path / "x.pt")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            AudioMae.load(tmp_path / "x.pt")
    assert len(notes(caplog)) == 1
    assert wrapped.read(tmp_path / "x.pt")["file"] == tmp_path / "x.pt"
