"""The reference systems: the autoencoder against NumPy, statistics against scikit-learn, the command end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from system import audio, manifest
from system.bin import main
from system.errors import WheeltapperError
from system.frontends.farfield import subtract_far
from system.frontends.logmel import log_mel
from system.manifest import Clip
from system.references import SYSTEMS, dense
from system.references.autoencoder import Autoencoder, AutoencoderSettings, build
from system.references.systems import available, score_manifest

RATE = 16000


def spectrogram(frames: int, seed: int, bands: int = 16, tilt: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = -40 + 10 * np.sin(np.arange(bands) / 3) + tilt * np.arange(bands)
    return (level + 3 * rng.standard_normal((frames, bands))).astype(np.float32)


def toy_clips() -> list[np.ndarray]:
    return [spectrogram(frames, seed) for seed, frames in enumerate([40, 25, 60, 33, 40, 52])]


def vectors_by_loops(clip: np.ndarray, frames: int) -> np.ndarray:
    return np.array([np.concatenate([clip[t + i] for i in range(frames)]) for t in range(len(clip) - frames + 1)])


def forward_by_numpy(network: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    for i in range(0, 27, 3):
        x = x @ weights[f"{i}.weight"].T + weights[f"{i}.bias"]
        x = (x - weights[f"{i + 1}.running_mean"]) / np.sqrt(weights[f"{i + 1}.running_var"] + 1e-3)
        x = np.maximum(x * weights[f"{i + 1}.weight"] + weights[f"{i + 1}.bias"], 0.0)
    return x @ weights["27.weight"].T + weights["27.bias"]


def test_network_is_the_official_one():
    network = build(640, AutoencoderSettings())
    sizes = [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, torch.nn.Linear)]
    assert sizes == [
        *[(640, 128), (128, 128), (128, 128), (128, 128), (128, 8)],
        *[(8, 128), (128, 128), (128, 128), (128, 128), (128, 640)],
    ]
    # Linear weights and biases, and scale and shift of 8 x 128 + 8 normalised units.
    linear = 2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8 + 8 * 128 + 8 + 640
    assert sum(parameter.numel() for parameter in network.parameters()) == linear + 2 * (8 * 128 + 8)
    assert all(layer.momentum == 0.01 for layer in network if isinstance(layer, torch.nn.BatchNorm1d))
    config = AutoencoderSettings()
    assert (config.frames, config.epochs, config.batch, config.learning_rate) == (5, 100, 256, 1e-3)
    assert (config.validation, config.seed) == (0.1, 13711)


def test_score_equals_a_numpy_forward_of_the_trained_weights():
    model = Autoencoder(AutoencoderSettings(epochs=3, batch=32, hidden=(24,) * 4)).fit(toy_clips())
    for clip in (spectrogram(30, 99), spectrogram(5, 98, tilt=1.0)):
        vectors = vectors_by_loops(clip, 5).astype(np.float64)
        expected = np.mean((forward_by_numpy(model.network, vectors) - vectors) ** 2)
        assert model.score(clip) == pytest.approx(expected, rel=1e-5)


def test_vectors_stay_within_one_clip_and_all_are_used(monkeypatch):
    clips = [np.full((7, 3), 1.0, np.float32), np.full((5, 3), 2.0, np.float32), np.full((9, 3), 3.0, np.float32)]
    batches, step = [], dense.Steps.__call__
    monkeypatch.setattr(dense.Steps, "__call__", lambda self, x: batches.append(x.numpy()) or step(self, x))
    Autoencoder(AutoencoderSettings(epochs=2, batch=4, hidden=(4,) * 4, validation=0.2)).fit(clips)
    assert [len(batch) for batch in batches] == [4, 3, 4, 3]
    seen = [np.concatenate(batches[:2]), np.concatenate(batches[2:])]
    # 3 + 1 + 5 vectors, of which 20 % rounded up are held out; each vector has the value of its own clip throughout.
    assert [len(vectors) for vectors in seen] == [7, 7]
    assert all((vectors == vectors[:, :1]).all() for vectors in seen)
    assert sorted(seen[0][:, 0]) == sorted(seen[1][:, 0])
    assert not np.array_equal(seen[0], seen[1])


def test_training_lowers_the_loss_and_one_step_moves_every_weight():
    losses = []
    config = AutoencoderSettings(epochs=60, batch=32, hidden=(24,) * 4, learning_rate=0.02)
    Autoencoder(config).fit(toy_clips(), lambda epoch, loss, validation: losses.append((epoch, loss, validation)))
    assert [epoch for epoch, _, _ in losses] == list(range(1, 61))
    assert losses[-1][1] < 0.2 * losses[0][1]
    assert losses[-1][2] < losses[0][2]
    before = build(80, config).state_dict()
    after = Autoencoder(replace(config, epochs=1, batch=1000)).fit(toy_clips()).network.state_dict()
    for name, value in after.items():
        # A bias in front of a batch normalisation has no gradient but rounding.
        if name.endswith("weight"):
            assert not torch.equal(value, before[name]), name


def test_an_outlier_scores_higher():
    config = AutoencoderSettings(epochs=60, batch=32, hidden=(24,) * 4, learning_rate=0.02)
    model = Autoencoder(config).fit(toy_clips())
    assert model.score(spectrogram(40, 77, tilt=1.5)) > 2 * model.score(spectrogram(40, 77))


def test_the_seed_decides_everything_and_the_callers_random_state_is_left_alone():
    config = AutoencoderSettings(epochs=2, batch=32, hidden=(24,) * 4)
    torch.manual_seed(1)
    first = Autoencoder(config).fit(toy_clips())
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = Autoencoder(config).fit(toy_clips())
    assert torch.equal(state, torch.random.get_rng_state())
    other = Autoencoder(replace(config, seed=1)).fit(toy_clips())
    clip = spectrogram(40, 77)
    assert first.score(clip) == second.score(clip)
    assert first.score(clip) != other.score(clip)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "at least one clip"),
        ([np.zeros((4, 8), np.float32)], "5 frames or more, found one of 4"),
        ([np.zeros((6, 8), np.float32)], "at least two vectors"),
        ([np.full((40, 8), np.inf, np.float32)], "finite loss"),
    ],
)
def test_autoencoder_refuses_what_it_cannot_learn_from(clips, message):
    with pytest.raises(WheeltapperError, match=message):
        Autoencoder(AutoencoderSettings(epochs=1)).fit(clips)


def tone_clip(seed: int, pitch: float, samples: int) -> np.ndarray:
    """Near: a hum and common noise; far: the noise and a little of the hum."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE
    hum = 0.02 * sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 9))
    noise = 0.05 * rng.standard_normal(samples)
    own = 0.004 * rng.standard_normal((2, samples))
    return (np.stack([hum + noise, 0.1 * hum + 0.8 * noise]) + own).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    """Two machines, 14 + 6 normal training clips, 2 x 2 x 4 labelled test clips of one second."""
    root = tmp_path_factory.mktemp("data")
    found = []
    for m, machine in enumerate(("mill", "lathe")):
        plan = [("train", "source", "normal")] * 14 + [("train", "target", "normal")] * 6
        plan += [("test", domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")] * 4
        for i, (split, domain, label) in enumerate(plan):
            pitch = {"source": 200.0, "target": 230.0}[domain] * (1.3 if label == "anomaly" else 1.0)
            file = f"section_00_{domain}_{split}_{label}_{i:04d}.wav"
            path = root / machine / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, tone_clip(100 * m + i, pitch, RATE), RATE)
            found.append(
                Clip("toy", machine, "00", split, file, str(path), label, domain, channels=2, rate=RATE, samples=RATE)
            )
    return found


STATISTICS = [name for name in SYSTEMS if not name.startswith("autoencoder")]


def features(clips: list[Clip], channel: str) -> list[np.ndarray]:
    pick = {"near": lambda wave: wave[:1], "far": lambda wave: wave[1:], "subtracted": subtract_far}[channel]
    return [log_mel(pick(audio.read(clip.path)[0]), RATE)[0].astype(np.float64) for clip in clips]


def test_knn_and_mahalanobis_equal_their_definitions(clips):
    scores = score_manifest(clips, STATISTICS)
    train = [clip for clip in clips if clip.machine == "lathe" and clip.split == "train"]
    test = [clip for clip in clips if clip.machine == "lathe" and clip.split == "test"]
    for channel, suffix in (("near", ""), ("subtracted", "_subtracted"), ("far", "_far")):
        pooled = [np.array([x.mean(0) for x in features(part, channel)]) for part in (train, test)]
        domains = np.array([clip.domain for clip in train])
        distances = []
        for domain in ("source", "target"):
            model = LedoitWolf().fit(pooled[0][domains == domain])
            distances.append(np.sqrt(model.mahalanobis(pooled[1])))
        found = scores[f"logmel_mahalanobis{suffix}"]["lathe", "00"]
        np.testing.assert_allclose([found[clip.file] for clip in test], np.min(distances, axis=0), rtol=1e-4)
    for channel, suffix in (("near", ""), ("subtracted", "_subtracted")):
        pooled = [np.array([np.r_[x.mean(0), x.std(0)] for x in features(part, channel)]) for part in (train, test)]
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in pooled]
        found = scores[f"logmel_knn{suffix}"]["lathe", "00"]
        np.testing.assert_allclose([found[clip.file] for clip in test], (1 - unit[1] @ unit[0].T).min(1), atol=1e-6)


def test_scores_do_not_depend_on_names_order_or_other_test_clips(clips):
    rng = np.random.default_rng(5)
    names = list(SYSTEMS)
    whole = score_manifest(clips, names, epochs=1)
    train = [clip for clip in clips if clip.split == "train"]
    test = [clip for clip in clips if clip.split == "test"]
    renamed = [
        replace(clip, file=f"{number:05d}.wav", label="", domain="", attributes="")
        for clip, number in zip(test, rng.permutation(len(test)), strict=True)
    ]
    shuffled = [renamed[i] for i in rng.permutation(len(test))]
    again = score_manifest(train + shuffled, names, epochs=1)
    alone = score_manifest([*train, renamed[3]], names, epochs=1)
    for name in names:
        for clip, new in zip(test, renamed, strict=True):
            key = clip.machine, clip.section
            assert whole[name][key][clip.file] == again[name][key][new.file], name
        key = renamed[3].machine, renamed[3].section
        assert alone[name] == {key: {renamed[3].file: whole[name][key][test[3].file]}}, name


def test_mono_clips_have_the_near_systems_only(clips):
    assert available(clips) == list(SYSTEMS)
    mono = [replace(clip, channels=1) for clip in clips]
    assert available(mono) == ["logmel_knn", "logmel_mahalanobis", "autoencoder", "autoencoder_mahalanobis"]


def test_faults_name_what_was_expected(clips, tmp_path):
    train = [clip for clip in clips if clip.machine == "mill" and clip.split == "train"]
    test = [clip for clip in clips if clip.machine == "mill" and clip.split == "test"]
    with pytest.raises(WheeltapperError, match="found 'nothing'"):
        score_manifest(clips, ["nothing"])
    with pytest.raises(WheeltapperError, match="mill section 00: expected training clips"):
        score_manifest(test, ["logmel_knn"])
    with pytest.raises(WheeltapperError, match="expected test clips to score"):
        score_manifest(train, ["logmel_knn"])
    with pytest.raises(WheeltapperError, match=r"mill section 00: .* at least 2 clips, found 1"):
        score_manifest([*train[:1], *test], ["logmel_knn"])
    other = tmp_path / "other_rate.wav"
    audio.write(other, np.zeros((2, 8000), np.float32), 8000)
    with pytest.raises(WheeltapperError, match=r"other_rate\.wav: expected 16000 Hz"):
        score_manifest([*train, replace(test[0], path=str(other))], ["logmel_knn"])
    mono = tmp_path / "mono.wav"
    audio.write(mono, np.zeros((1, 8000), np.float32), RATE)
    with pytest.raises(WheeltapperError, match=r"mono\.wav: expected two channels"):
        score_manifest([*train, replace(test[0], path=str(mono))], ["logmel_mahalanobis_far"])


def test_verb_writes_challenge_files_and_metrics(clips, tmp_path, capsys):
    table = tmp_path / "manifest.csv"
    manifest.write(table, clips)
    out = tmp_path / "references"
    arguments = ["reference", "--manifest", str(table), "--out", str(out), "--epochs", "1", "--system"]
    assert main([*arguments, "logmel_mahalanobis", "--system", "autoencoder"]) == 0
    assert "official score" in capsys.readouterr().out
    results = json.loads((out / "references.json").read_text())
    assert list(results["systems"]) == ["logmel_mahalanobis", "autoencoder"]
    assert set(results["systems"]["autoencoder"]["per_machine"]) == {"mill", "lathe"}
    # The hum of an anomaly is 30 % higher: hard to miss.
    assert results["systems"]["logmel_mahalanobis"]["official_score"] > 0.8
    lines = (out / "logmel_mahalanobis" / "anomaly_score_lathe_section_00_test.csv").read_text().splitlines()
    expected = score_manifest(clips, ["logmel_mahalanobis"])["logmel_mahalanobis"]["lathe", "00"]
    assert {line.split(",")[0]: float(line.split(",")[1]) for line in lines} == expected


def test_verb_without_labels_writes_scores_only(clips, tmp_path, capsys):
    table = tmp_path / "manifest.csv"
    manifest.write(table, [replace(clip, label="", domain="") if clip.split == "test" else clip for clip in clips])
    out = tmp_path / "references"
    assert main(["reference", "--manifest", str(table), "--out", str(out), "--system", "logmel_knn"]) == 0
    assert "scores only" in capsys.readouterr().out
    assert not (out / "references.json").exists()
    assert len(list((out / "logmel_knn").iterdir())) == 2
    assert main(["reference", "--manifest", str(table), "--out", str(out), "--epochs", "0"]) == 1
    assert "--epochs: expected 1 or more" in capsys.readouterr().err
