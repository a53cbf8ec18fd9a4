"""A run on an accelerator, on a pretended one: tensors of two devices never meet, and a step waits once."""

import pytest
from pretended_device import pretended_device

from system.bin import main


def test_toy(tmp_path, monkeypatch, capsys):
    with pretended_device(monkeypatch) as device:
        status = main(["run","--exp",str(tmp_path/"e"),"--conf","toy.yaml","--data","synthetic","--set","device=cuda"])
    print(device.waits)
    assert status == 0, capsys.readouterr().err
