"""Training of noise-aware layers: mixtures by hand, what is trained, and the moving average."""

import numpy as np
import torch

from system import audio
from system.corpora.simulation.emulate import EmulateSettings
from system.corpora.simulation.noise import NoisePool
from system.encoders import noise_aware
from system.pretraining.noise_aware import Mixtures, NoiseAwareTask

RATE = 8000


def mixtures(folder, **settings) -> Mixtures:
    rng = np.random.default_rng(0)
    for name in ("machine", "first", "second", "third"):
        audio.write(folder / f"{name}.wav", 0.1 * rng.standard_normal((1, RATE), dtype=np.float32), RATE)
    pool = NoisePool(folder, ("first.wav", "second.wav", "third.wav"))
    own = EmulateSettings(rate=RATE, rt60=0.1, **settings)
    return Mixtures([folder / "machine.wav"], pool, own, 0.5, 4)


def test_mixtures_have_the_ratio_and_depend_on_step_and_place_only(tmp_path):
    source = mixtures(tmp_path, snr_low=-10.0, snr_high=-10.0)
    whole = source(3, 0, 1)
    parts = [source(3, part, 2) for part in range(2)]
    assert all(torch.equal(whole[name], torch.cat([part[name] for part in parts])) for name in whole)
    assert not torch.equal(whole["near"], source(4, 0, 1)["near"])
    noise = (whole["near"] - whole["clean"]).square().mean(1)
    torch.testing.assert_close(10 * torch.log10(whole["clean"].square().mean(1) / noise), torch.full((4,), -10.0))


def test_layers_alone_learn_and_their_average_follows(tmp_path, tiny_encoder):
    encoder = tiny_encoder()
    batch = mixtures(tmp_path)(0, 0, 1)
    clean, near = (encoder(encoder.spectrogram(batch[name], RATE)) for name in ("clean", "near"))
    expected = sum((a - b).square().mean() for a, b in zip(near, clean, strict=True))
    layers = noise_aware.NoiseAwareLayers("cross_attention", encoder.dim, encoder.depth)
    task = NoiseAwareTask(noise_aware.attach(encoder, layers), RATE, decay=0.5)
    trained = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
    assert trained == {f"encoder.noise_aware.{name}" for name, _ in layers.named_parameters()}
    optimizer = torch.optim.SGD(layers.parameters(), 0.02)
    losses = []
    for _ in range(4):
        loss = task(batch)["loss"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(losses[0] - float(expected.detach())) < 1e-5 * losses[0]  # the identity at first
    assert losses[-1] < losses[0]
    before = {name: tensor.clone() for name, tensor in task.average.state_dict().items()}
    task.update_average(100)
    name = "0.ffn.down_proj.weight"
    torch.testing.assert_close(task.average.state_dict()[name], (before[name] + layers.state_dict()[name]) / 2)
    assert {each.removeprefix("average.") for each in task.extra_state()} == set(before)
