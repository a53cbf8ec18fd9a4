"""The comparison of frozen encoders by block on the development sets, against plain NumPy."""

import numpy as np
import pytest
import torch

from recipes.every_machine.local import encoder_blocks
from system import audio
from system.corpora.folder import write_rows
from system.encoders.fisher import Fisher, FisherConfig


@pytest.fixture
def tiny_fisher() -> Fisher:
    config = FisherConfig(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0)
    return Fisher.untrained(config, 0).requires_grad_(False)


def test_measures_of_two_domains():
    scores = np.array([0.1, 0.6, 0.2, 0.9, 0.5, 0.8])
    anomalous = np.array([False, False, False, False, True, True])
    domains = np.array(["source", "source", "target", "target", "source", "target"])
    partial, source, target = encoder_blocks.measures(scores, anomalous, domains)
    assert (source, target) == (3 / 4, 1 / 2)  # each normal clip against both anomalous ones
    assert 0.0 < partial < 1.0
    assert len(encoder_blocks.measures(scores, anomalous, np.full(6, "source"))) == 2


def test_scores_of_a_folder_equal_plain_numpy(tiny_fisher, tmp_path):
    rng, waves = np.random.default_rng(0), {}
    for split, count in (("train", 4), ("test", 6)):
        (tmp_path / "fan" / split).mkdir(parents=True)
        for number in range(count):
            wave = 0.1 * rng.normal(size=(1, 4000)).astype(np.float32)
            path = tmp_path / "fan" / split / f"{number}.wav"
            audio.write(path, wave, 8000)
            waves[split, number] = audio.read(path)[0]
    labels = ["normal", "anomaly"] * 3
    rows = [("fan", "00", f"{number}.wav", "source", label, "") for number, label in enumerate(labels)]
    write_rows(tmp_path / "truth.csv", ("machine", "section", "file", "domain", "label", "fault"), rows)

    def embedded(split: str, number: int) -> np.ndarray:
        grid = tiny_fisher(tiny_fisher.spectrogram(torch.from_numpy(waves[split, number]), 8000), 1).grid.detach()
        found = grid[0].mean(0).flatten().numpy()
        return found / np.linalg.norm(found)

    scores = [min(1.0 - embedded("test", k) @ embedded("train", j) for j in range(4)) for k in range(6)]
    normal, faulty = scores[::2], scores[1::2]
    area = np.mean([a > b for a in faulty for b in normal])
    partial = encoder_blocks.partial_auc(np.array(scores), np.array([False, True] * 3))
    expected = 200.0 / (1.0 / max(area, 1e-12) + 1.0 / partial)
    found = {tuple(key): score for *key, score in encoder_blocks.evaluate(tiny_fisher, tmp_path, "clean")}
    assert set(found) == {(block, scorer, "fan") for block in (1, 2) for scorer in ("1-NN", "Mahalanobis")}
    np.testing.assert_allclose(found[1, "1-NN", "fan"], expected, rtol=1e-6)


def test_the_residual_is_quieter_than_the_first_channel(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=16000).astype(np.float32)
    audio.write(tmp_path / "a.wav", np.stack([0.1 * noise + 0.001 * rng.normal(size=16000), 0.1 * noise]), 8000)
    near, rate = encoder_blocks.read_input(tmp_path / "a.wav", "near")
    residual, _ = encoder_blocks.read_input(tmp_path / "a.wav", "residual")
    assert rate == 8000
    assert near.shape == residual.shape == (1, 16000)
    assert residual.std() < 0.2 * near.std()
