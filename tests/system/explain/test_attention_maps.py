"""Attention of transformers: equal to that of the layers, of transformers' AST, and of plain loops."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from transformers import ASTConfig, ASTModel

from system.encoders.ast import Ast, AstConfig
from system.encoders.audiomae import AudioMae, AudioMaeConfig
from system.encoders.beats import Beats
from system.encoders.beats_network import BeatsConfig, GatedAttention
from system.encoders.cnn import ResNeXt
from system.encoders.eat import TABLE, Eat
from system.encoders.echo import Echo, EchoConfig
from system.encoders.fisher import Fisher
from system.encoders.mn import MobileNet
from system.encoders.subband import SubbandConfig
from system.encoders.transformer import Attention, SeparateProjections
from system.errors import WheeltapperError
from system.explain import attention
from system.explain.attention import attend, probabilities
from system.explain.grid import frequencies, patch_grid, pieces

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2}
TOYS = {
    "ast": (Ast, AstConfig(**SMALL)),
    "audiomae": (AudioMae, AudioMaeConfig(**SMALL)),
    "eat": (Eat, SubbandConfig(**SMALL, **TABLE)),
    "fisher": (Fisher, SubbandConfig(**SMALL, max_freq=6)),
    "echo": (Echo, EchoConfig(**SMALL)),
    "beats": (Beats, BeatsConfig(**SMALL, hidden_dim=32, patch_dim=16, conv_pos=8, conv_pos_groups=2)),
}
RATE = 16000


def toy(name: str):
    """A small encoder with weights large enough that attention is far from uniform."""
    kind, config = TOYS[name]
    encoder = kind.untrained(config, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return encoder


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_probabilities_of_known_weights():
    layer = Attention(2, 1)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 1], [0, 0], [0, 0]]))
        layer.qkv.bias.zero_()
    x = [[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]]
    expected = []
    for a, b in x:  # query (a, b), key of (c, d): (2 c, d)
        weights = [math.exp((2 * a * c + b * d) / math.sqrt(2)) for c, d in x]
        expected.append([weight / sum(weights) for weight in weights])
    found = probabilities(layer, torch.tensor([x]))
    assert found.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(found[0, 0].detach(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", TOYS)
@torch.no_grad()
def test_probabilities_times_values_are_what_the_layers_give(name):
    encoder, seen = toy(name), []

    def keep(layer, inputs, output):
        seen.append((layer, inputs, output))

    for module in encoder.modules():
        if isinstance(module, Attention | SeparateProjections):
            module.register_forward_hook(keep)
    encoder(encoder.spectrogram(0.1 * noise(1, 8000), RATE))
    assert len(seen) == 2
    for layer, inputs, output in seen:
        x, weights = inputs[0], probabilities(layer, *inputs)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
        assert weights.std() > 0.1 / weights.shape[-1]
        if isinstance(layer, Attention):
            values = layer.qkv(x)[..., 2 * x.shape[-1] :].unflatten(-1, (2, 8)).transpose(1, 2)
            expected = layer.proj((weights @ values).transpose(1, 2).flatten(2))
        else:
            expected = layer.out_proj((weights @ layer.heads(layer.v_proj(x))).transpose(1, 2).flatten(2))
        torch.testing.assert_close(expected, output, rtol=1e-4, atol=1e-5)
    assert isinstance(seen[0][0], GatedAttention) == (name == "beats")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' AST with attention outputs, ours with its weights, and a spectrogram (1, 66, 128)."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ASTModel(ASTConfig(**sizes, max_length=66, initializer_range=0.4, attn_implementation="eager")).eval()
    path = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(path)
    x = noise(1, 66, 128)
    with torch.no_grad():
        layers = torch.stack(model(x, output_attentions=True).attentions)[:, 0].double().numpy()
    return Ast.load(path / "model.safetensors"), x, layers  # (3, 4, N, N), N = 2 + 12 * 6


def centres() -> list[tuple[float, float]]:
    """(frame, bin) of AST's patches of 66 frames in its order: frequency, then time."""
    return [(10 * column + 7.5, 10 * row + 7.5) for row in range(12) for column in range(6)]


def test_distances_equal_loops_over_transformers_attention(theirs):
    encoder, x, layers = theirs
    found = attend(encoder, x)
    places = centres()
    assert found.distance.shape == (3, 4)
    for layer in range(3):
        for head in range(4):
            total = 0.0
            for query, (time, bin_) in enumerate(places):
                weights = layers[layer, head, 2 + query, 2:]
                far = [math.hypot(time - t, bin_ - b) for t, b in places]
                total += sum(w * d for w, d in zip(weights, far, strict=True)) / sum(weights)
            assert found.distance[layer, head] == pytest.approx(total / len(places), rel=1e-4)
    even = np.mean([[math.dist(a, b) for b in places] for a in places])
    assert found.even == pytest.approx(even, rel=1e-5)
    assert np.abs(found.distance - even).max() > 1  # otherwise the test has no effect


def test_maps_and_rollout_equal_transformers_attention(theirs):
    encoder, x, layers = theirs
    found = attend(encoder, x)
    assert found.maps.shape == (3, 66, 128)
    assert found.rollout.shape == (66, 128)
    mixed = np.eye(74)
    for layer, heads in enumerate(layers):
        np.testing.assert_allclose(found.maps[layer], at_full_size(heads.mean(0)), rtol=1e-3, atol=1e-4)
        mixed = (0.5 * heads.mean(0) + 0.5 * np.eye(74)) @ mixed
    np.testing.assert_allclose(found.rollout, at_full_size(mixed), rtol=1e-3, atol=1e-4)


def at_full_size(weights: np.ndarray) -> np.ndarray:
    """Attention of the two special tokens, (74, 74) to (66, 128), relative to the mean of the patches."""
    known = weights[:2, 2:].mean(0).reshape(12, 6).T
    axes = 10 * np.arange(6) + 7.5, 10 * np.arange(12) + 7.5
    pixels = np.meshgrid(np.clip(np.arange(66), 7.5, 57.5), np.clip(np.arange(128), 7.5, 117.5), indexing="ij")
    return RegularGridInterpolator(axes, known / known.mean())(np.stack(pixels, -1))


@pytest.mark.parametrize("name", TOYS)
def test_even_attention_and_attention_to_oneself(name, monkeypatch):
    encoder = toy(name)
    x = encoder.spectrogram(0.1 * noise(1, 16000), RATE)

    def alike(layer, x, bias=None):
        return torch.full((len(x), 2, x.shape[1], x.shape[1]), 1.0 / x.shape[1])

    monkeypatch.setattr(attention, "probabilities", alike)
    found = attend(encoder, x)
    np.testing.assert_allclose(found.distance, found.even, rtol=1e-5)
    seen = slice(0, 200) if name == "fisher" else slice(None)  # it drops its last bin
    np.testing.assert_allclose(found.maps[..., seen], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found.rollout[..., seen], 1.0, rtol=1e-5)

    def oneself(layer, x, bias=None):
        return torch.eye(x.shape[1]).expand(len(x), 2, -1, -1)

    monkeypatch.setattr(attention, "probabilities", oneself)
    found = attend(encoder, x)
    np.testing.assert_allclose(found.distance, 0.0, atol=1e-6)
    assert np.isfinite(found.maps).all()


# Token, counted from the first patch, and the centre (frame, bin) of its patch, in a recording of 98 frames.
PLACES = {
    "ast": (9 * 7 + 4, 47.5, 77.5),  # 9 columns; row 7, column 4
    "audiomae": (3 * 8 + 5, 55.5, 87.5),  # 8 rows; column 3, row 5
    "eat": (3 * 8 + 5, 55.5, 87.5),
    "fisher": (3 * 6 + 4, 55.5, 71.5),  # 6 rows of the first band
    "beats": (3 * 8 + 5, 55.5, 87.5),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_map_peaks_at_the_patch_that_is_attended_to(name, monkeypatch):
    encoder = toy(name)
    x = encoder.spectrogram(0.1 * noise(1, 16000), RATE)
    assert x.shape[1] == 98
    token, frame, bin_ = PLACES[name]
    special = {"ast": 2, "beats": 0}.get(name, 1)

    def one(layer, x, bias=None):
        weights = torch.full((len(x), 2, x.shape[1], x.shape[1]), 1e-3)
        weights[0, :, :, special + token] = 1.0
        return weights / weights.sum(-1, keepdim=True)

    monkeypatch.setattr(attention, "probabilities", one)
    for values in (attend(encoder, x).maps[1], attend(encoder, x).rollout):
        found = np.unravel_index(values.argmax(), values.shape)
        assert abs(found[0] - frame) <= 0.5
        assert abs(found[1] - bin_) <= 0.5
        assert values.max() > 10


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("samples", [60, 4001, 17777])
def test_maps_have_the_spectrograms_shape(name, samples):
    encoder = toy(name)
    x = encoder.spectrogram(0.1 * noise(1, samples), RATE)
    found = attend(encoder, x)
    assert found.maps.shape == (2, *x.shape[1:])
    assert found.rollout.shape == x.shape[1:]
    assert found.distance.shape == (2, 2)
    assert np.isfinite(found.maps).all()
    assert np.isfinite(found.distance).all()
    assert found.maps.min() >= 0


def test_long_recordings_go_in_pieces():
    encoder = Ast.untrained(AstConfig(**SMALL, target_length=64), 0)
    x = noise(1, 64 + 64 + 40 + 0, 128)
    found = attend(encoder, x)
    parts = [attend(encoder, x[:, a:b]) for a, b in ((0, 64), (64, 128), (128, 168))]
    np.testing.assert_allclose(found.maps, np.concatenate([part.maps for part in parts], 1), rtol=1e-5)
    weighted = sum(part.distance * length for part, length in zip(parts, (64, 64, 40), strict=True)) / 168
    np.testing.assert_allclose(found.distance, weighted, rtol=1e-6)
    ends = attend(encoder, noise(1, 64 + 10, 128))  # the remainder is shorter than a patch
    assert ends.maps.shape == (2, 74, 128)
    assert not ends.maps[:, 64:].any()


def test_modes_that_fill_up_and_that_cut():
    encoder = Ast.untrained(AstConfig(**SMALL, target_length=64), 0)
    x = noise(1, 41, 128)
    filled = torch.nn.functional.pad(x, (0, 0, 0, 23), value=encoder.pad_value)
    found, expected = attend(encoder, x, "official"), attend(encoder, filled)
    np.testing.assert_allclose(found.maps, expected.maps[:, :41])
    np.testing.assert_allclose(found.distance, expected.distance)
    longer = attend(encoder, noise(1, 100, 128), "official")
    assert longer.maps[:, :64].any()
    assert not longer.maps[:, 64:].any()
    fisher = toy("fisher")
    assert [part.shape[1] for part in pieces(fisher, noise(1, 1100, 201), "official")] == [1024]
    with pytest.raises(WheeltapperError, match="mode: expected one of official, chunks, found 'none'"):
        attend(encoder, x, "none")


@pytest.mark.parametrize("name", ["ast", "fisher", "beats"])
def test_the_encoder_stays_as_it_was(name):
    encoder = toy(name).train()
    next(encoder.children()).eval()
    encoder.requires_grad_(False)
    next(encoder.parameters()).requires_grad_(True)
    states = [module.training for module in encoder.modules()]
    wishes = [parameter.requires_grad for parameter in encoder.parameters()]
    x = encoder.spectrogram(0.1 * noise(1, 8000), RATE)
    with torch.no_grad():
        before = encoder(x)
        attend(encoder, x)
        after = encoder(x)
    assert torch.equal(before.grid, after.grid)
    assert [module.training for module in encoder.modules()] == states
    assert [parameter.requires_grad for parameter in encoder.parameters()] == wishes
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in encoder.modules())


def test_half_precision_stays_and_hooks_go_when_a_pass_fails(monkeypatch):
    encoder = toy("ast").bfloat16()
    x = noise(1, 66, 128)
    found = attend(encoder, x)
    assert encoder.dtype == torch.bfloat16
    np.testing.assert_allclose(found.distance, attend(toy("ast"), x).distance, rtol=0.05)
    monkeypatch.setattr(attention, "_distance", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attend(encoder, x)
    assert not any(module._forward_pre_hooks for module in encoder.modules())


def test_bad_input_is_refused():
    encoder = toy("ast")
    for value in (float("nan"), float("inf")):
        x = noise(1, 40, 128)
        x[0, 3, 5] = value
        with pytest.raises(WheeltapperError, match="expected finite values, found 1 that are NaN or infinite"):
            attend(encoder, x)
    for shape in ((40, 128), (2, 40, 128), (1, 0, 128)):
        with pytest.raises(WheeltapperError, match=r"expected \(1, frames, bins\), found shape"):
            attend(encoder, torch.zeros(shape))
    with pytest.raises(
        WheeltapperError, match="attention: expected a transformer, found ResNeXt, which has no attention"
    ):
        attend(ResNeXt.build("nano", 0), noise(1, 64, 128))
    assert np.isfinite(attend(encoder, encoder.spectrogram(torch.zeros(1, 8000), RATE)).maps).all()


@pytest.mark.parametrize("name", [*TOYS, "cnn", "mn", "even"])
def test_frequencies_are_those_of_the_bins(name):
    cnns = {"cnn": ResNeXt, "mn": MobileNet}
    encoder = cnns[name].build("nano", 0) if name in cnns else toy("eat" if name == "even" else name)
    if name == "even":
        encoder.set_front_end("even")
    for hertz in (500.0, 1500.0, 5000.0):
        wave = torch.sin(2 * math.pi * hertz / RATE * torch.arange(16000))[None]
        levels = encoder.spectrogram(wave, RATE)[0].mean(0)
        centre = frequencies(encoder, len(levels), RATE)
        step = np.diff(centre)[np.abs(centre[:-1] - hertz).argmin()]
        assert abs(centre[levels.argmax()] - hertz) <= max(step, 40.0)


def test_grid_of_overlapping_patches():
    grid = patch_grid(toy("ast"), 66)
    places = np.array(centres())
    expected = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    np.testing.assert_allclose(grid.distances(), expected, rtol=1e-6)
    values = torch.arange(72.0)
    assert grid.unfold(values)[2, 5] == 5 * 6 + 2
