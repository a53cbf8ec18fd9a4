"""Noise-aware layers: equal to a computation from stock torch modules, identity at first, no code run from files.

The fixtures were computed with official BEATs and EAT blocks and torch's own attention, norms and linear layers.
"""

import pickle

import checks
import numpy as np
import pytest
import torch
from checks import FIXTURES, RATE, wave

from system.encoders import checkpoints, noise_aware
from system.encoders.base import Encoder
from system.encoders.beats import Beats
from system.encoders.eat import TOOLKIT_FRAMES, Eat
from system.encoders.echo import Echo
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

FOLDER = FIXTURES / "encoders" / "noise_aware"
CASES = np.load(FOLDER / "noise_aware_cases.npz")
OBJECTS = FOLDER / "nabeats_ca_objects.ckpt"  # holds objects of OmegaConf, as the published files do


def spectrograms(encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    near, far = (encoder.spectrogram(torch.from_numpy(CASES[f"case0.{name}"])[None], RATE) for name in ("near", "far"))
    missing = -near.shape[1] % TOOLKIT_FRAMES if isinstance(encoder, Eat) else 0
    pad = torch.nn.functional.pad
    return tuple(pad(each, (0, 0, 0, missing), value=encoder.pad_value) for each in (near, far))


@pytest.mark.parametrize(
    ("kind", "base", "file", "expected"),
    [
        (Beats, "base_beats.pt", OBJECTS.name, "nabeats_ca"),
        (Beats, "base_beats.pt", "nabeats_film.ckpt", "nabeats_film"),
        (Eat, "base_eat.pt", "naeat.ckpt", "naeat"),
    ],
)
@torch.inference_mode()
def test_tokens_equal_the_reference(kind, base, file, expected):
    encoder = noise_aware.load(kind.load(FOLDER / base), FOLDER / file)
    near, far = spectrograms(encoder)
    tokens = encoder(near, None, far)
    found = tokens.grid[0].flatten(0, 1)
    if kind is Eat:
        found = torch.cat([tokens.summary[0], found])
    reference = CASES[f"case0.{expected}.tokens"]
    assert checks.relative(found[: len(reference)], reference) < 1e-5
    assert checks.relative(tokens.summary[0, 0], CASES[f"case0.{expected}.embedding"]) < 1e-5


def test_the_moving_average_is_read_and_not_the_raw_copy(tmp_path):
    file = checkpoints.load_file(OBJECTS, inert=True)["state_dict"]
    raw = {name: tensor + 1 for name, tensor in file.items()}
    both = tmp_path / "both.ckpt"
    torch.save({"current_model_state": raw, "state_dict": file, "ema_state": raw}, both)
    found = noise_aware.load(Beats.load(FOLDER / "base_beats.pt"), both)
    assert torch.equal(found.noise_aware[1].norm_q.weight, file["model.encoder.fusion_layers.1.norm_q.weight"])


@pytest.mark.parametrize("kind", ["cross_attention", "film"])
@pytest.mark.parametrize("family", [Fisher, Eat, Beats])
@torch.inference_mode()
def test_new_layers_are_the_identity(family, kind):
    encoder = family.untrained(family.SIZES["nano"], 0)
    near, far = (encoder.spectrogram(wave(2.5, batch=3, seed=seed), RATE) for seed in (0, 1))
    plain = encoder(near)
    noise_aware.attach(encoder, noise_aware.NoiseAwareLayers(kind, encoder.dim, encoder.depth))
    assert all(map(torch.equal, encoder(near, None, far), plain))
    checks.disturb(encoder.noise_aware)
    assert all(map(torch.equal, encoder(near), plain))  # without far the encoder stays plain
    whole = encoder(near, 2, far)
    single = [encoder(near[k : k + 1], 2, far[k : k + 1]).grid for k in range(3)]
    assert checks.relative(whole.grid, torch.cat(single)) < 1e-5
    assert not torch.allclose(whole.grid, encoder(far, 2, near).grid)


def test_a_file_is_read_as_it_was_saved_for_the_encoder_that_it_was_trained_on(tmp_path):
    encoder = Fisher.untrained(Fisher.SIZES["nano"], 0)
    layers = checks.disturb(noise_aware.NoiseAwareLayers("film", encoder.dim, encoder.depth, hidden=16))
    file = tmp_path / "layers.safetensors"
    noise_aware.save(file, layers, checkpoints.weights_hash(encoder), steps=3)
    again = noise_aware.load(encoder, file).noise_aware
    assert again.kind == "film"
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in layers.state_dict().items())
    with pytest.raises(WheeltapperError, match="expected the encoder that it was trained on"):
        noise_aware.load(Fisher.untrained(Fisher.SIZES["nano"], 1), file)


def test_layers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(WheeltapperError, match=r"expected 4 layers of width 128 .* found 2 of width 64"):
        noise_aware.load(Beats.untrained(Beats.SIZES["nano"], 0), OBJECTS)
    with pytest.raises(WheeltapperError, match="found ECHO"):
        noise_aware.attach(
            Echo.untrained(Echo.SIZES["nano"], 0), noise_aware.NoiseAwareLayers("film", 128, 4), "layers"
        )
    with pytest.raises(WheeltapperError, match=r"expected noise-aware layers \(fusion_layers.0. ...\), found none"):
        noise_aware.load(Beats.load(FOLDER / "base_beats.pt"), FOLDER / "base_beats.pt")
    with pytest.raises(WheeltapperError, match="far signal: expected an encoder with noise-aware layers"):
        Fisher.untrained(Fisher.SIZES["nano"], 0)(torch.zeros(1, 32, 200), None, torch.zeros(1, 32, 200))


class Writes:
    """Would write a file if its pickle were run."""

    def __init__(self, path, how):
        self.path, self.how = str(path), how

    def __reduce__(self):
        return (self.how, (self.path,) if self.how is not exec else (f"open({self.path!r}, 'w')",))


@pytest.mark.parametrize("how", [exec, pickle.Unpickler, checkpoints.save_torch])
def test_nothing_of_a_file_is_run(tmp_path, how):
    file, written = tmp_path / "evil.ckpt", tmp_path / "written"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "hyper_parameters": Writes(written, how)}, file)
    with pytest.raises(WheeltapperError, match="refused, its pickle asks for more"):
        checkpoints.load_file(file)
    found = checkpoints.load_file(file, inert=True)
    assert isinstance(found["hyper_parameters"], checkpoints.Inert)
    assert not written.exists()
