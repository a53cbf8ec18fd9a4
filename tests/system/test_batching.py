"""Batches: rows that do not depend on the others, sizes from the device, halving where memory ends."""

import threading

import numpy as np
import pytest
import torch

from system import batching
from system.batching import choose_batch_size, run_batches
from system.embeddings.embed import embed_files
from system.encoders import FAMILIES, family_class
from system.errors import WheeltapperError


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_row_does_not_depend_on_its_company(record, family):
    """Loud and quiet recordings of three lengths: alone, and in batches of four of the same length."""
    paths = [record(f"{i}.wav", seconds=0.4 + 0.2 * (i % 3), seed=i).path for i in range(9)]
    encoder = family_class(family).build("nano", 0)
    alone = np.concatenate([embed_files(encoder, [path], batch_size=1) for path in paths])
    together = embed_files(encoder, paths, workers=2, batch_size=4)
    assert np.abs(together - alone).max() <= 1e-5 * np.abs(alone).max()
    assert np.ptp(alone, axis=0).max() > 1e-3 * np.abs(alone).max()  # recordings differ by far more


@pytest.mark.parametrize(
    ("free", "expected"), [(100 << 30, 64), (16 << 30, 64), (9 << 30, 32), (2 << 30, 8), (300 << 20, 1), (0, 1)]
)
def test_sizes(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 0))
    assert choose_batch_size(0, "cuda") == expected
    assert choose_batch_size(5, "cuda") == choose_batch_size(5, "cpu") == 5
    assert choose_batch_size(0, "cpu") == choose_batch_size(0, "mps") == 1


class Memory:
    """A network that holds a number of rows at once, over all threads, and says what torch says of more."""

    def __init__(self, rows: int):
        self.rows, self.now, self.lock = rows, 0, threading.Lock()
        self.sizes: list[int] = []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        with self.lock:
            self.now += len(batch)
            self.sizes.append(len(batch))
            full = self.now > self.rows
        try:
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return batch.sum(1)
        finally:
            with self.lock:
                self.now -= len(batch)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("held", "smallest"), [(100, 16), (5, 4), (1, 1)])
def test_batches_are_halved_until_memory_holds_them(device, held, smallest):
    network = Memory(held)
    load = lambda item: torch.full((3 + item % 2,), float(item))  # noqa: E731
    found = {}
    for rows, values in run_batches(range(101), load, network, 3, 16, device):
        found |= dict(zip(rows, values.tolist(), strict=True))
    assert found == {item: item * (3.0 + item % 2) for item in range(101)}
    assert max(network.sizes) == 16
    assert max(network.sizes[-5:]) <= smallest  # later batches begin with the size that went well


@pytest.mark.parametrize(("device", "size", "other"), [("cuda", 8, "device, which is cuda"), ("cpu", 1, "threads, ")])
def test_memory_that_holds_no_recording(device, size, other):
    with pytest.raises(WheeltapperError, match=f"change embed.precision, which is bfloat16, to .*, or {other}"):
        list(run_batches(range(9), lambda item: torch.zeros(3), Memory(0), 2, size, device, "bfloat16"))


def test_other_errors_stay_what_they_are():
    def network(batch):
        raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another error"):
        list(run_batches(range(9), lambda item: torch.zeros(3), network, 2, 4))


def test_a_device_gets_the_next_batch_while_results_come_back(monkeypatch):
    """Two batches at once on a device, whatever the number of loading threads."""
    meet, most = threading.Barrier(batching.IN_TURN), []

    def network(batch):
        most.append(meet.wait(5))
        return batch

    assert len(list(run_batches(range(16), lambda item: torch.zeros(3), network, 5, 4, "cuda"))) == 4
    assert len(most) == 4
