"""Low-rank adapters: trained weights, no effect initially, equal output after merging."""

import pytest
import torch

from system.adaptation.lora import add_lora, all_linear, merge_lora, merge_tensors
from system.config import LoraConfig
from system.encoders.cnn import ResNeXt
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

WAVE = 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))


def trainable(module) -> dict[str, tuple]:
    return {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}


def perturb(module) -> None:
    """Gives the adapters random values, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_trainable_names_and_count():
    encoder = add_lora(Fisher.build("nano", 0), LoraConfig())
    assert trainable(encoder) == {
        "blocks.0.attn.qkv.lora_A.default.weight": (8, 128),
        "blocks.0.attn.qkv.lora_B.default.weight": (384, 8),
        "blocks.1.attn.qkv.lora_A.default.weight": (8, 128),
        "blocks.1.attn.qkv.lora_B.default.weight": (384, 8),
        "blocks.2.attn.qkv.lora_A.default.weight": (8, 128),
        "blocks.2.attn.qkv.lora_B.default.weight": (384, 8),
        "blocks.3.attn.qkv.lora_A.default.weight": (8, 128),
        "blocks.3.attn.qkv.lora_B.default.weight": (384, 8),
    }
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == 4 * (8 * 128 + 384 * 8) == 16384


def test_the_encoder_computes_what_it_did_before(tiny_encoder):
    encoder = tiny_encoder()
    before = encoder.embed(WAVE, 16000)
    torch.testing.assert_close(add_lora(encoder, LoraConfig()).eval().embed(WAVE, 16000), before, rtol=0, atol=0)


def test_the_update_is_the_low_rank_product(tiny_encoder):
    encoder = add_lora(tiny_encoder(), LoraConfig(rank=4, alpha=12)).eval()
    perturb(encoder)
    layer = encoder.blocks[0].attn.qkv
    x = torch.randn(5, 16)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = x @ (layer.base_layer.weight + 12 / 4 * b @ a).T + layer.base_layer.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_merged_adapters_compute_the_same(tiny_encoder):
    encoder = add_lora(tiny_encoder(), LoraConfig(targets=["qkv", "proj", "fc1"])).eval()
    base = encoder.embed(WAVE, 16000)
    perturb(encoder)
    before = encoder.embed(WAVE, 16000)
    merge_lora(encoder)
    after = encoder.embed(WAVE, 16000)
    assert (before - base).norm() > 1e-2 * base.norm()
    assert (after - before).norm() <= 1e-5 * before.norm()


def test_dropout_works_in_training_alone(tiny_encoder):
    encoder = add_lora(tiny_encoder(), LoraConfig(dropout=0.5))
    perturb(encoder)
    encoder.eval()
    assert torch.equal(encoder.embed(WAVE, 16000), encoder.embed(WAVE, 16000))
    encoder.train()
    assert not torch.equal(encoder.embed(WAVE, 16000), encoder.embed(WAVE, 16000))


@pytest.mark.parametrize(("targets", "found"), [(["query"], "query"), (["qkv", "typo"], "typo")])
def test_a_wrong_target_is_named(tiny_encoder, targets, found):
    with pytest.raises(
        WheeltapperError, match=rf"lora\.targets: expected names among fc1, fc2, patch_embed, proj, qkv, found {found}$"
    ):
        add_lora(tiny_encoder(), LoraConfig(targets=targets))


def test_a_target_that_is_no_layer(tiny_encoder):
    with pytest.raises(WheeltapperError, match=r"lora\.targets: norm1: "):
        add_lora(tiny_encoder(), LoraConfig(targets=["norm1"]))


def test_a_family_without_targets_is_frozen_alone():
    encoder = ResNeXt.build("nano", 0)
    names, before = list(encoder.state_dict()), encoder.embed(WAVE, 16000)
    assert add_lora(encoder, LoraConfig()) is encoder
    assert list(encoder.state_dict()) == names
    assert not trainable(encoder)
    assert torch.equal(encoder.embed(WAVE, 16000), before)


def test_convolutions_take_adapters_by_name():
    encoder = add_lora(ResNeXt.build("nano", 0), LoraConfig(rank=2, targets=["conv3"])).eval()
    assert len(trainable(encoder)) == 8
    perturb(encoder)
    before = encoder.embed(WAVE, 16000)
    merge_lora(encoder)
    after = encoder.embed(WAVE, 16000)
    assert (after - before).norm() <= 1e-5 * before.norm()
    with pytest.raises(WheeltapperError, match=r"expected names among 0, conv1, conv2, conv3, found qkv"):
        add_lora(ResNeXt.build("nano", 0), LoraConfig(targets=["qkv"]))


@pytest.mark.parametrize("targets", [[], ["qkv", "fc1"], ["blocks.1.attn.proj"]])
def test_matrices_are_added_as_peft_adds_them(tiny_encoder, targets):
    config = LoraConfig(rank=3, alpha=7, targets=targets)
    adapted, plain = add_lora(tiny_encoder(), config).eval(), tiny_encoder()
    perturb(adapted)
    tensors = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    assert all_linear(plain, config)
    merge_tensors(plain, config, tensors, "a.safetensors")
    merge_lora(adapted)
    assert torch.equal(plain.embed(WAVE, 16000), adapted.embed(WAVE, 16000))
    fewer = dict(list(tensors.items())[1:])
    with pytest.raises(WheeltapperError, match=r"a\.safetensors: does not fit .*missing "):
        merge_tensors(tiny_encoder(), config, fewer, "a.safetensors")


def test_convolutions_are_left_to_peft():
    assert not all_linear(ResNeXt.build("nano", 0), LoraConfig(targets=["conv3"]))
    assert all_linear(ResNeXt.build("nano", 0), LoraConfig())
