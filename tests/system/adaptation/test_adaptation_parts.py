"""An adaptation computed in parts, one after another or in several processes, is that of whole batches."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from training_runs import curve, in_processes

from system import adaptation
from system.adaptation import ADAPTER, attribute_labels, batches, domain_labels
from system.adaptation.augment import Part
from system.adaptation.lora import BatchDropout
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.config import AugmentConfig, EncoderBranchConfig, HeadConfig, LoopConfig
from system.encoders import checkpoints

RATE = 8000
AUGMENT = AugmentConfig(0.5, 0.5, 6.0, 0.5, 0.5, time_mask=5, frequency_mask=10)
FIGURES = ("loss", "loss_attribute", "loss_domain", "gradient_norm")


def config(kind: str = "arcface", accumulate: int = 1, **values) -> EncoderBranchConfig:
    loop = LoopConfig(5, 8, accumulate, learning_rate=1e-3, warmup_steps=2, log_every=1)
    heads = HeadConfig(kind=kind, adaptive_scale=kind != "arcface", subclusters=2)
    settings = {"embedding_dim": 8, "crop_seconds": 0.3, "augment": AUGMENT}
    return EncoderBranchConfig(**settings | {"loop": loop, "heads": heads} | values)


def assert_equal(folder, reference) -> None:
    """Figures of every step to 1e-6; weights as far as Adam keeps gradients that are nothing apart."""
    rows, expected = curve(folder), curve(reference)
    assert len(rows) == len(expected) == 5
    for name in FIGURES:
        found, wanted = ([float(row[name]) for row in each] for each in (rows, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-6 if name != "gradient_norm" else 1e-5, atol=1e-6)
    found, wanted = (checkpoints.load_file(place / ADAPTER)["model"] for place in (folder, reference))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("kind", ["arcface", "adacos"])
def test_accumulated(tiny_encoder, train_clips, tmp_path, kind):
    for parts in (1, 2, 4):
        settings = config(kind, parts, tune="full")
        adaptation.adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / str(parts), 0)
    assert_equal(tmp_path / "2", tmp_path / "1")
    assert_equal(tmp_path / "4", tmp_path / "1")


def adapt_in_process(folder, encoder, clips, settings) -> None:
    adaptation.adapt(encoder, clips, settings, RATE, folder, 0)


def test_in_two_processes(tiny_encoder, train_clips, tmp_path):
    settings = config("adaproj", tune="full")
    adaptation.adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / "1", 0)
    given = (tmp_path / "2", tiny_encoder(), train_clips, settings)
    assert in_processes(2, adapt_in_process, *given) == [(0, "")] * 2
    assert_equal(tmp_path / "2", tmp_path / "1")


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_a_part_reads_its_own_clips_and_those_mixed_into_them(train_clips, monkeypatch, mixup):
    settings = config(augment=replace(AUGMENT, mixup=mixup))
    usual, read = batches.input_crop, []
    monkeypatch.setattr(batches, "input_crop", lambda *given: read.append(given[0]) or usual(*given))
    given = (train_clips, attribute_labels(train_clips), domain_labels(train_clips, "machine"), settings, RATE, 0)
    make_batch = batches.CropBatches(*given)
    whole = make_batch(3)
    assert len(read) == 8
    for number in range(4):
        read.clear()
        batch = make_batch(3, number, 4)
        rows = batch["rows"]
        assert len(read) == len(rows) < 8
        assert rows[:2] == [2 * number, 2 * number + 1]
        assert mixup or len(rows) == 2
        assert torch.equal(batch["wave"], whole["wave"][rows])
        assert all(torch.equal(batch[name], whole[name]) for name in ("attribute", "domain"))


def test_the_loss_of_a_part_by_hand(tiny_encoder):
    """One clip of the first part has attributes, none of the second, two of the third."""
    off = AugmentConfig(channel_swap=0.0, channel_drop=0.0, gain_db=0.0)
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(augment=off, tune="full"), RATE), 2, 3).eval()
    waves = 0.1 * torch.randn(6, 2, 4000, generator=torch.Generator().manual_seed(0))
    labels = {"attribute": torch.tensor([0, -1, -1, -1, 1, 1]), "domain": torch.tensor([0, 1, 2, 0, 1, 2])}
    losses = []
    for number in range(3):
        rows = torch.tensor([2 * number, 2 * number + 1])
        losses.append(task({"wave": waves[rows], "rows": rows, "part": Part(number, 3), **labels}))
    embedding = task.model.views(waves).two_channel
    each = task.attribute(embedding, labels["attribute"]).detach()
    assert (each > 0).tolist() == [True, False, False, False, True, True]
    expected = [each[0], 0 * each[0], each[4] + each[5]]
    found = [float(loss["loss_attribute"].detach()) for loss in losses]
    np.testing.assert_allclose(found, torch.stack(expected).tolist(), rtol=1e-5)
    np.testing.assert_allclose(np.mean(found), each.sum().item() / 3, rtol=1e-5)


@pytest.mark.parametrize("shape", [(12, 5, 7), (12, 3, 4, 5), (12, 6)])
def test_dropout_of_parts_is_that_of_the_whole(shape):
    layer, x = BatchDropout(0.4), torch.randn(shape)
    torch.manual_seed(2)
    whole = layer(x)
    torch.manual_seed(2)
    assert torch.equal(whole, torch.nn.functional.dropout(x, 0.4))
    for total in (2, 3, 4):
        found = []
        for number, rows in enumerate(x.chunk(total)):
            torch.manual_seed(2)
            layer.part = Part(number, total)
            found.append(layer(rows))
        assert torch.equal(torch.cat(found), whole)
    assert all(not torch.equal(a != 0, b != 0) for a, b in pairwise(found))
    assert torch.equal(layer.eval()(x), x)


def test_bits_do_not_depend_on_the_number_of_threads(tiny_encoder, train_clips, tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            adaptation.adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path / str(threads), 0)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, two = (checkpoints.load_file(tmp_path / name / ADAPTER)["model"] for name in ("1", "2"))
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())
