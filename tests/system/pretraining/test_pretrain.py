"""Batches and complete small trainings."""

import csv

import numpy as np
import pytest
import torch

from system import audio
from system.config import DecoderConfig, LoopConfig, MaskConfig, PretrainConfig, ProbeConfig, TargetConfig
from system.encoders.echo import Echo, EchoConfig
from system.errors import WheeltapperError
from system.pretraining import pretrain
from system.pretraining.batches import Batches
from system.pretraining.corpus import Mixture
from system.pretraining.objectives import build_objective


def config(changes: dict | None = None, **loop) -> PretrainConfig:
    settings = {"steps": 6, "batch_size": 4, "learning_rate": 2e-3, "warmup_steps": 2, "save_every": 2, "log_every": 1}
    return PretrainConfig(
        **{
            "loop": LoopConfig(**(settings | loop)),
            "mask": MaskConfig(clones=2),
            "decoder": DecoderConfig(dim=16, layers=2, kernel=3, groups=4),
            "crop_seconds": 0.4,
            "max_rate": 8000,
            "ema_start": 0.98,
            "ema_end": 0.999,
            "ema_steps": 300,
            **(changes or {}),
        }
    )


def tiny_echo() -> Echo:
    torch.manual_seed(0)
    return Echo(EchoConfig(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0)).eval()


def run(encoder, clips, settings, folder, seed=0, progress=None, probe=None):
    return pretrain(encoder, Mixture.of_clips(clips), settings, folder, seed, "cpu", progress, probe)


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first if isinstance(first[name], torch.Tensor))


def test_batches_have_one_rate_each(tiny_encoder, train_clips, record):
    fast = [record("fast.wav", seconds=0.6, rate=18000, channels=1), record("short.wav", seconds=0.15, rate=16000)]
    settings = config({"max_rate": 32000})
    batches = Batches(build_objective(tiny_encoder(), settings), Mixture.of_clips([*train_clips, *fast]), settings, 0)
    assert batches.rates == [8000, 12000, 16000]
    drawn = set()
    for step in range(20):
        batch = batches(step)
        rate = batch["rate"]
        teacher, student = batch["spectrograms"]
        assert teacher.shape == (4, 38, rate // 80 + 1)
        assert teacher is student
        # Above the recordings' own rates there is silence: 12 and 16 kHz use only recordings of higher rates.
        assert teacher.mean((1, 2)).min() > -2.0
        drawn.add(rate)
    assert drawn == {8000, 12000, 16000}


@pytest.mark.parametrize("front_end", ["worker", "device"])
def test_parts_of_a_batch_are_those_of_the_whole(tiny_encoder, train_clips, front_end):
    settings = config({"mix_share": 0.5, "gain_db": 6.0, "front_end": front_end})
    task = build_objective(tiny_encoder(), settings)
    batches = Batches(task, Mixture.of_clips(train_clips), settings, 3)

    def heard(batch):
        return (batch if "spectrograms" in batch else task.inputs(batch, torch.device("cpu")))["spectrograms"]

    whole, parts = batches(7), [batches(7, part, 2) for part in range(2)]
    assert 0 < np.isfinite(whole["snr"]).sum() < 4
    assert np.array_equal(np.concatenate([part["snr"] for part in parts]), whole["snr"])
    for name in ("visible", "gain"):
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])
    for number in range(2):
        joined = torch.cat([heard(part)[number] for part in parts])
        torch.testing.assert_close(joined, heard(whole)[number], atol=1e-5, rtol=1e-5)
    assert not torch.equal(*heard(whole))


def test_batches_depend_on_seed_and_step_alone(tiny_encoder, train_clips):
    settings = config()
    task, mixture = build_objective(tiny_encoder(), settings), Mixture.of_clips(train_clips)
    first = Batches(task, mixture, settings, 0)(5)
    again, later, other = Batches(task, mixture, settings, 0)(5), Batches(task, mixture, settings, 0)(6), None
    other = Batches(task, mixture, settings, 1)(5)
    assert torch.equal(first["spectrograms"][0], again["spectrograms"][0])
    assert torch.equal(first["visible"], again["visible"])
    for changed in (later, other):
        assert not torch.equal(first["spectrograms"][0], changed["spectrograms"][0])


def test_short_recordings_are_repeated(tiny_encoder, record):
    settings = config()
    clip = record("short.wav", seconds=0.1, rate=8000, channels=1)
    batch = Batches(build_objective(tiny_encoder(), settings), Mixture.of_clips([clip]), settings, 0)(0)
    wave = audio.read(clip.path)[0]
    expected = tiny_encoder().spectrogram(torch.from_numpy(np.tile(wave, (1, 4))), 8000)
    torch.testing.assert_close(batch["spectrograms"][0], expected.expand(4, -1, -1))


@pytest.mark.parametrize("build", ["fisher", "echo"])
def test_loss_falls(build, tiny_encoder, train_clips, tmp_path):
    losses = []
    encoder = tiny_encoder() if build == "fisher" else tiny_echo()
    settings = config({"objective": build}, steps=40, learning_rate=5e-3)
    run(encoder, train_clips, settings, tmp_path / "run", progress=lambda s, v: losses.append(v["loss"]))
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def curve(folder) -> list[dict]:
    with open(folder / "curve.csv") as file:
        free = ("seconds", "clips_per_second")
        return [{name: value for name, value in row.items() if name not in free} for row in csv.DictReader(file)]


@pytest.mark.parametrize(("norm", "band"), [("instance", "mean"), ("instance", "positions"), ("whitened", "whitened")])
def test_resuming_equals_running_through(tiny_encoder, train_clips, tmp_path, norm, band):
    settings = config({"target": TargetConfig(norm=norm, band=band), "mix_share": 0.5, "min_prediction_std": 1e-4})
    whole = run(tiny_encoder(), train_clips, settings, tmp_path / "whole", 3)

    def stop(step, values):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder(), train_clips, settings, tmp_path / "cut", 3, stop)
    steps = []
    resumed = run(tiny_encoder(9), train_clips, settings, tmp_path / "cut", 3, lambda step, values: steps.append(step))
    assert steps == [4, 5]
    assert equal(whole.state_dict(), resumed.state_dict())
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "whole")) == 6
    assert set(curve(tmp_path / "whole")[0]) >= {"step", "loss", "loss_band", "loss_patch", "target_std", "ema"}


def test_a_state_of_other_settings_is_refused(tiny_encoder, train_clips, tmp_path):
    def stop(step, values):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder(), train_clips, config(), tmp_path / "run", 0, stop)
    with pytest.raises(WheeltapperError, match=r"state\.pt.*pretrain\.gain_db"):
        run(tiny_encoder(), train_clips, config({"gain_db": 3.0}), tmp_path / "run", 0)
    # The place where spectra are computed does not influence the weights.
    run(tiny_encoder(), train_clips, config({"front_end": "device"}), tmp_path / "run", 0)


def test_training_is_deterministic_by_seed(tiny_encoder, train_clips, tmp_path):
    found = [
        run(tiny_encoder(), train_clips, config(steps=2), tmp_path / str(number), seed).state_dict()
        for number, seed in enumerate((1, 1, 2))
    ]
    assert equal(found[0], found[1])
    assert not torch.equal(found[0]["cls_token"], found[2]["cls_token"])


def test_the_position_table_is_not_trained(tiny_encoder, train_clips, tmp_path):
    trained = run(tiny_encoder(), train_clips, config(steps=2), tmp_path / "run")
    assert torch.equal(trained.positions, tiny_encoder().positions)
    assert not torch.equal(trained.cls_token, tiny_encoder().cls_token)


def test_the_probe_stands_in_the_curve(tiny_encoder, train_clips, tmp_path):
    settings = config({"probe": ProbeConfig(every=4, manifest="m.csv")})
    seen = []
    run(
        tiny_encoder(),
        train_clips,
        settings,
        tmp_path,
        probe=lambda encoder: seen.append(encoder) or {"probe_cls": 50.0},
    )
    assert len(seen) == 2  # after the fourth step and at the end
    assert [row["probe_cls"] for row in curve(tmp_path)] == ["", "", "", "50.0", "", "50.0"]


def test_a_collapsed_run_stops(tiny_encoder, train_clips, tmp_path):
    settings = config({"min_target_std": 100.0})
    with pytest.raises(WheeltapperError, match="pre-training collapsed at step 2"):  # after the warm-up of two steps
        run(tiny_encoder(), train_clips, settings, tmp_path / "run")


def test_only_normal_training_clips_are_taken(record):
    clips = {
        "anomaly": record("a.wav", label="anomaly"),
        "test": record("b.wav", split="test", label="normal"),
        "unlabelled test": record("c.wav", split="test"),
    }
    for clip in clips.values():
        with pytest.raises(WheeltapperError, match=clip.file):
            Mixture.of_clips([clip])
    with pytest.raises(WheeltapperError, match="found none"):
        Mixture.of_clips([])
