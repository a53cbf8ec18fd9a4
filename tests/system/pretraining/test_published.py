"""Distillation of a published network against plain NumPy: frequencies, times, losses, a complete small training."""

import csv

import numpy as np
import pytest
import torch

from system.config import DecoderConfig, LoopConfig, MaskConfig, PretrainConfig, TeacherConfig
from system.encoders.mn import MobileNet
from system.errors import WheeltapperError
from system.pretraining import pretrain
from system.pretraining.batches import Batches
from system.pretraining.corpus import Mixture
from system.pretraining.objectives import build_objective
from system.pretraining.published import PublishedTeacher, RowPrediction, cosine_distances, relation_loss

BLOCKS = [2, 8]  # maps of 32 and 8 rows, of 40 and 160 ms


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """An untrained network of the family mn."""
    path = tmp_path_factory.mktemp("published") / "mn.safetensors"
    MobileNet.build("nano", 0).save(path)
    return str(path)


@pytest.fixture
def teacher(checkpoint, tiny_encoder):
    torch.manual_seed(0)
    return PublishedTeacher(tiny_encoder(), TeacherConfig(checkpoint, BLOCKS))


def config(checkpoint: str, **changes) -> PretrainConfig:
    loop = LoopConfig(steps=8, batch_size=4, learning_rate=2e-2, warmup_steps=1, save_every=3, log_every=1)
    settings = {
        "loop": loop,
        "mask": MaskConfig(clones=1),
        "decoder": DecoderConfig(dim=16, layers=2, kernel=3, groups=4),
        "teacher": TeacherConfig(checkpoint, BLOCKS),
        "crop_seconds": 0.7,
        "max_rate": 8000,
        "copies": 2,
        "mix_share": 0.5,
        "patch_weight": 0.02,
        "band_weight": 0.02,
    }
    return PretrainConfig(**(settings | changes))


def test_overlap_equals_counted_frequencies(tiny_encoder):
    found = RowPrediction(tiny_encoder(), 8, 4).overlap(2).numpy()
    hertz = np.arange(0.5, 15000.0)  # each stands for one Hz
    row = np.floor(8 * np.log1p(hertz / 700.0) / np.log1p(15000.0 / 700.0)).astype(int)
    bins = np.floor(hertz / 40.0 + 0.5)
    expected = np.zeros((8, 12))
    for place, first in enumerate([band * 100 + 16 * at for band in range(2) for at in range(6)]):
        inside = (bins >= first) & (bins < first + 16)
        expected[:, place] = np.bincount(row[inside], minlength=8) / np.bincount(row, minlength=8)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_targets_are_means_over_a_token(teacher):
    spectrogram = torch.randn(2, 70, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = [teacher.network.feature_map(spectrogram, block) for block in BLOCKS]
        found = teacher.targets(spectrogram, 4)
    for features, target, step in zip(maps, found, (40.0, 160.0), strict=True):
        columns = features.permute(0, 3, 2, 1).numpy()
        assert target.shape == (2, 4, *columns.shape[2:])
        at = np.minimum((np.arange(8) / 2 + 0.25) * 160.0 / step, columns.shape[1] - 1)  # two in each token
        for row in range(columns.shape[2]):
            values = np.interp(at, np.arange(columns.shape[1]), columns[1, :, row, 0])
            np.testing.assert_allclose(target[1, :, row, 0], values.reshape(4, 2).mean(1), atol=1e-4)


def test_prediction_of_rows_equals_plain_numpy(tiny_encoder):
    torch.manual_seed(0)
    head = RowPrediction(tiny_encoder(), 8, 5)
    tokens, target = torch.randn(3, 4, 12, 16), 2.0 + torch.randn(3, 4, 8, 5)
    head.bias.data.normal_()
    share = head.overlap(2).numpy()
    kept = [row for row in range(8) if share[row].sum() >= 0.3]
    assert kept == list(range(7))  # 16 kHz does not reach the last one
    mixed = np.einsum("rf,btfd->btrd", share / np.maximum(share.sum(1), 1e-6)[:, None], tokens.numpy())
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()[:, 0]
    predicted = (np.einsum("btrd,rdc->btrc", mixed, weight) + bias)[:, :, kept]
    loss, covered = head(tokens, target, 2)
    np.testing.assert_allclose(loss.item(), np.mean((predicted - target.numpy()[:, :, kept]) ** 2), rtol=1e-4)
    assert torch.equal(covered, target[:, :, kept])
    for scale in head.scale:
        scale.update()
    plain = target.numpy()[:, :, kept]
    standard = (plain - plain.mean((0, 1))) / np.sqrt(plain.var((0, 1)) + 1e-6)
    np.testing.assert_allclose(head(tokens, target, 2)[0].item(), np.mean((predicted - standard) ** 2), rtol=1e-3)


def test_relation_loss_equals_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(6, 5)).astype(np.float32) for _ in range(2))
    student = cosine_distances([torch.from_numpy(first)])
    teacher = cosine_distances([torch.from_numpy(first), torch.from_numpy(second)])

    def cosine(x, i, j):
        return 1.0 - x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])

    ratios, weights = [], []
    for i in range(6):
        for j in range(6):
            if i != j:
                far = (cosine(first, i, j) + cosine(second, i, j)) / 2
                ratios.append(np.log(cosine(first, i, j) + 1e-3) - np.log(far + 1e-3))
                weights.append(0.5 / 12 if i // 3 == j // 3 else 0.5 / 18)  # 12 ordered pairs of copies, 18 others
    mean = np.average(ratios, weights=weights)
    expected = np.average((np.array(ratios) - mean) ** 2, weights=weights)
    np.testing.assert_allclose(relation_loss(student, teacher, 3).item(), expected, rtol=1e-3)
    assert relation_loss(teacher, teacher, 3) == 0.0
    assert relation_loss(student, teacher, 1) > 0.0


def test_a_batch_has_copies_and_the_mixtures_that_the_student_gets(checkpoint, tiny_encoder, train_clips):
    settings = config(checkpoint, front_end="device")
    task = build_objective(tiny_encoder(), settings)
    batch = Batches(task, Mixture.of_clips(train_clips), settings, 1)(0)
    assert 0 < np.isfinite(batch["snr"]).sum() < 4
    heard = []
    task.published.network.spectrogram = lambda waves, rate: heard.append(waves.clone())
    inputs = task.inputs(batch, torch.device("cpu"))
    torch.testing.assert_close(task.student.spectrogram(heard[0], 8000), inputs["spectrograms"][1])
    assert not torch.equal(*inputs["spectrograms"])


def test_the_network_alone_trains_the_student_alone(checkpoint, tiny_encoder, train_clips):
    teacher = TeacherConfig(checkpoint, BLOCKS, weight=2.0, relation_weight=3.0)
    settings = config(checkpoint, teacher=teacher, patch_weight=0.0, band_weight=0.0)
    task = build_objective(tiny_encoder(), settings)
    found = task(Batches(task, Mixture.of_clips(train_clips), settings, 1)(0))
    assert found["loss"].item() == pytest.approx(2 * found["loss_teacher"].item() + 3 * found["loss_relation"].item())
    assert set(found) == {"loss", "loss_teacher", "loss_relation"}
    found["loss"].backward()
    assert task.partly_used
    assert task.student.patch_embed.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in task.decoder.parameters())


def test_training_learns_from_the_network_and_resumes(checkpoint, tiny_encoder, train_clips, tmp_path):
    def train(folder, **more):
        settings = config(checkpoint)
        encoder = pretrain(tiny_encoder(), Mixture.of_clips(train_clips), settings, tmp_path / folder, 0, **more)
        with open(tmp_path / folder / "curve.csv", newline="", encoding="utf-8") as file:
            return encoder, [float(row["loss_teacher"]) for row in csv.DictReader(file)]

    def interrupt(step, values):
        if step == 3:
            raise KeyboardInterrupt

    encoder, losses = train("once")
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[1:4])
    assert not any("published" in name for name in encoder.state_dict())
    with pytest.raises(KeyboardInterrupt):
        train("twice", progress=interrupt)
    resumed, again = train("twice")
    assert again == pytest.approx(losses)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), resumed.parameters(), strict=True))


def test_impossible_settings_are_one_message(checkpoint, tiny_encoder):
    with pytest.raises(WheeltapperError, match=r"teacher\.blocks: expected 1 to 16, found 17"):
        PublishedTeacher(tiny_encoder(), TeacherConfig(checkpoint, [10, 17]))
