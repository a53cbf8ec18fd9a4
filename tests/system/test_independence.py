"""The challenge's rule: neither name nor position nor any other test clip changes a clip's embedding or score."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from system.adaptation.model import AdaptedEncoder
from system.config import EncoderBranchConfig, ScorerConfig, SystemConfig
from system.embeddings.embed import embed_branch
from system.fused_scores import fuse_system
from system.machine_scores import score_machines
from system.manifest import Clip

RATE = 8000
SCORERS = {
    "main": ScorerConfig("mahalanobis", {"bank": "domain", "standardize": True}),
    "aux": ScorerConfig("knn", {"k": 3, "bank": "global"}),
    "bands": ScorerConfig(
        "beam", {"varmin": 2, "bank": "domain", "standardize": "mean", "smote": 0.5, "memmixup": 0.1}
    ),
}
SYSTEM = SystemConfig(weights={"main": 0.85, "aux": 0.15, "bands": 0.3})


@pytest.fixture
def model(tiny_encoder) -> AdaptedEncoder:
    torch.manual_seed(0)
    built = AdaptedEncoder(tiny_encoder(), EncoderBranchConfig(embedding_dim=8), RATE).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return built.requires_grad_(False)


@pytest.fixture
def clips(record) -> tuple[list[Clip], list[Clip]]:
    """References and anonymous test clips of two machines; lengths and rates vary."""
    train, test = [], []
    for m, machine in enumerate(("fan", "pump")):
        for i in range(10):
            domain = "target" if i >= 6 else "source"
            train.append(record(f"train_{i:04d}.wav", seed=100 * m + i, machine=machine, domain=domain, label="normal"))
        for i in range(5):
            options = {"seconds": 0.3 + 0.1 * i, "rate": RATE if i % 2 else 12000, "channels": 1 + (i != 2)}
            test.append(
                record(f"{i:04d}.wav", seed=100 * m + 50 + i, machine=machine, split="test", domain="", **options)
            )
    return train, test


def embed(model, clips: list[Clip], folder: Path, workers: int = 1) -> dict[tuple, dict[str, np.ndarray]]:
    found = embed_branch(model, clips, folder, workers)
    return {clip.key: {name: values[row] for name, values in found.items()} for row, clip in enumerate(clips)}


def score(clips: list[Clip], embedded: dict, view: str = "two_channel", seed: int = 0) -> tuple[dict, dict]:
    rows = {key: values[view] for key, values in embedded.items()}
    branches = {name: score_machines(clips, rows, config, seed) for name, config in SCORERS.items()}
    fused, thresholds = fuse_system(branches, SYSTEM, 0.1)
    return {(r.machine, r.section, r.split, r.file): r.score for r in fused}, thresholds


def rename_and_shuffle(test: list[Clip], folder: Path) -> dict[tuple, Clip]:
    """Copies of the test clips under other names, in another order, with everything else in the manifest changed."""
    order = np.random.default_rng(7).permutation(len(test))
    folder.mkdir()
    renamed = {}
    for number, index in enumerate(order):
        clip, file = test[index], f"zz_{number:03d}_anomaly.wav"
        shutil.copy(clip.path, folder / file)
        renamed[clip.key] = replace(
            clip, file=file, path=str(folder / file), label="anomaly", domain="target", group="g"
        )
    return renamed


@pytest.mark.parametrize("view", ["two_channel", "near_only"])
def test_names_and_order(model, clips, tmp_path, view):
    train, test = clips
    embedded = embed(model, train + test, tmp_path / "a")
    expected, thresholds = score(train + test, embedded, view)
    renamed = rename_and_shuffle(test, tmp_path / "renamed")
    others = [*renamed.values(), *train]
    found_embeddings = embed(model, others, tmp_path / "b", workers=3)
    for clip in test:
        for name, values in embedded[clip.key].items():
            assert np.array_equal(found_embeddings[renamed[clip.key].key][name], values), (clip.key, name)
    found, found_thresholds = score(others, found_embeddings, view)
    for clip in test:
        assert found[renamed[clip.key].key] == pytest.approx(expected[clip.key], rel=1e-12)
    assert found_thresholds == pytest.approx(thresholds, rel=1e-12)


def test_alone(model, clips, tmp_path):
    train, test = clips
    embedded = embed(model, train + test, tmp_path / "a", workers=2)
    expected, _ = score(train + test, embedded)
    for clip in (test[0], test[7]):
        alone = embed(model, [*train, clip], tmp_path / clip.machine)
        for name, values in embedded[clip.key].items():
            assert np.array_equal(alone[clip.key][name], values)
        found, _ = score([*train, clip], alone)
        assert found[clip.key] == pytest.approx(expected[clip.key], rel=1e-12)


def test_calibration_and_thresholds_see_no_test_clip(model, clips, tmp_path):
    train, test = clips
    embedded = embed(model, train + test, tmp_path / "a")
    expected, thresholds = score(train + test, embedded)
    without, found = score(train, embedded)
    assert found == pytest.approx(thresholds, rel=1e-12)
    for clip in train:
        assert without[clip.key] == pytest.approx(expected[clip.key], rel=1e-12)


def test_the_seed_of_the_shuffling_does_not_count(model, clips, tmp_path):
    train, test = clips
    embedded = embed(model, train + test, tmp_path / "a")
    first, second = (score(train + test, embedded, seed=seed)[0] for seed in (0, 1))
    assert {key: pytest.approx(value, rel=1e-10) for key, value in first.items()} == second
