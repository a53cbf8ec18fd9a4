"""The arithmetic of embeddings: which is chosen, what int8 computes, and that a run never mixes two."""

import copy

import numpy as np
import pytest
import torch

from system.embeddings.precision import choose_precision, long_name, precision_of, set_precision
from system.encoders import family_class
from system.encoders.int8 import Int8Linear
from system.encoders.linear import Linear
from system.errors import WheeltapperError

NANO, TINY = (family_class("fisher").build(size, 0) for size in ("nano", "tiny"))
ECHO = family_class("echo").build("tiny", 0)


@pytest.mark.parametrize(("amx", "avx512", "chosen"), [(0, 0, "fp32"), (0, 1, "bf16"), (1, 0, "bf16")])
def test_auto_follows_the_processor_and_the_network(monkeypatch, amx, avx512, chosen):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    assert choose_precision("auto", "cpu", TINY) == chosen
    assert choose_precision("auto", "cpu", NANO) == choose_precision("auto", "cpu", ECHO) == "fp32"
    assert choose_precision("auto", "mps", TINY) == "fp32"
    for precision in ("fp32", "bf16", "int8"):
        assert choose_precision(precision, "cpu", NANO) == precision


def test_what_cannot_be_is_told():
    with pytest.raises(WheeltapperError, match="expected one of fp32, bf16, int8, auto, found 'fp8'"):
        choose_precision("fp8", "cpu", NANO)
    with pytest.raises(WheeltapperError, match="expected fp32, bf16 or auto on cuda:1, found int8, which is for CPUs"):
        choose_precision("int8", "cuda:1", NANO)
    with pytest.raises(WheeltapperError, match="expected fp32, bf16 or auto with ResNeXt, found int8"):
        choose_precision("int8", "cpu", family_class("cnn").build("nano", 0))


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (1, 5)])
def test_int8_layer_equals_plain_rounding(shape):
    layer = Linear(5, 7)
    x = torch.randn(shape)
    x[..., 0, :] = 0.0
    rows, weight = x.numpy().reshape(-1, 5).astype(np.float64), layer.weight.detach().numpy().astype(np.float64)
    step = np.abs(rows).max(1, keepdims=True) / 127.0
    own = np.abs(weight).max(1) / 127.0
    whole = np.divide(rows, step, out=np.zeros_like(rows), where=step > 0).round() @ (weight / own[:, None]).round().T
    expected = whole * own * step + layer.bias.detach().numpy()
    with torch.inference_mode():
        found = Int8Linear(layer)(x)
    np.testing.assert_allclose(found.numpy().reshape(-1, 7), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 5)])
def test_a_layer_with_weights_in_bf16_rounds_its_input(shape):
    layer, x = Linear(5, 7), torch.randn(shape)
    layer.to(torch.bfloat16)
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    expected = x.to(torch.bfloat16).double().numpy() @ weight.T + bias
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            found = layer(x)
        assert found.dtype == torch.bfloat16
        np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=2**-8, atol=2**-8)


FAMILIES = ["fisher", "echo", "beats", "eat", "audiomae", "ast"]


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_for_products_within_blocks(family):
    encoder = family_class(family).build("nano", 0)
    low, rounded = set_precision(copy.deepcopy(encoder), "bf16"), copy.deepcopy(encoder).to(torch.bfloat16)
    assert (precision_of(low), long_name(low), low.dtype) == ("bf16", "bfloat16", torch.float32)
    kept = [name for name, weight in low.named_parameters() if weight.dtype == torch.float32]
    assert {name for name in kept if "norm" in name or "embed" in name or "token" in name} == {
        name for name, _ in encoder.named_parameters() if "norm" in name or "embed" in name or "token" in name
    }
    wave = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, *others = (one.embed(wave, 16000) for one in (encoder, low, rounded))
    mine, whole = (torch.linalg.vector_norm(other - exact) for other in others)
    assert 0 < mine < whole


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_close_in_every_family(family):
    encoder = family_class(family).build("nano", 0)
    low = set_precision(copy.deepcopy(encoder), "int8")
    assert (precision_of(encoder), precision_of(low), long_name(low)) == ("fp32", "int8", "int8")
    assert set_precision(low, "int8") is low
    wave = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, exact = low.embed(wave, 16000), encoder.embed(wave, 16000)
    assert not torch.equal(found, exact)
    assert torch.cosine_similarity(found, exact).min() > 0.999
