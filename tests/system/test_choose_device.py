"""Which device is chosen where torch has one, has none, or has one that it cannot compute on."""

import logging

import pytest
import torch

from system import machine
from system.errors import WheeltapperError
from system.machine import choose_device


@pytest.fixture
def devices(monkeypatch):
    """Sets what torch finds, and which devices fail at their first operation."""
    real = torch.ones

    def find(*there: str, broken: tuple[str, ...] = (), count: int = 1) -> None:
        def ones(*size, device="cpu"):
            kind = str(device).partition(":")[0]
            if kind in broken:
                raise RuntimeError("CUDA error: no kernel image is available for execution\nmore lines")
            return real(*size)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA X")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(machine, "_said", set())
        monkeypatch.setattr(machine, "_chosen", {})

    return find


@pytest.mark.parametrize(
    ("there", "broken", "chosen"),
    [
        ((), (), "cpu"),
        (("cuda",), (), "cuda"),
        (("mps",), (), "mps"),
        (("cuda", "mps"), (), "cuda"),
        (("cuda", "mps"), ("cuda",), "mps"),
        (("cuda",), ("cuda",), "cpu"),
    ],
)
def test_auto_takes_the_first_that_works(devices, caplog, there, broken, chosen):
    devices(*there, broken=broken)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == choose_device() == chosen
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(broken)  # once, whoever asks again
    for text in said:
        assert "expected a CUDA device that works for cuda, its first operation fails" in text
        assert text.endswith(f"no kernel image is available for execution; {chosen} computes instead")
    assert machine.device_record()["device"] == chosen


@pytest.mark.parametrize(
    ("wanted", "there", "broken", "said"),
    [
        ("cuda", (), (), "expected a CUDA device for cuda, torch finds none on this machine"),
        ("mps", ("cuda",), (), "expected a Metal device for mps, torch finds none on this machine"),
        ("cuda", ("cuda",), ("cuda",), "its first operation fails with torch .*: CUDA error: no kernel image"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had_is_said(devices, wanted, there, broken, said):
    devices(*there, broken=broken)
    with pytest.raises(WheeltapperError, match=said):
        choose_device(wanted)


def test_each_process_of_a_machine_gets_its_own(devices, monkeypatch):
    chosen: list[int] = []
    devices("cuda", count=2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == "cuda:1"
    assert chosen == [1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(WheeltapperError, match="for each of the 3 processes on this machine, found 2"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"


def test_a_driver_that_torch_cannot_use_is_said(devices, monkeypatch, caplog):
    def warn() -> bool:
        import warnings

        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    devices()
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    with caplog.at_level(logging.WARNING):
        assert choose_device() == "cpu"
    assert "none on this machine: The NVIDIA driver on your system is too old; cpu" in caplog.text
