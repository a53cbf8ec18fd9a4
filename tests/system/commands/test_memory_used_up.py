"""Memory that is used up in a run: what to change is said, what is finished stays, and training goes on from there."""

import pytest
import torch

from system.adaptation.model import AdaptationTask
from system.bin import main
from system.embeddings import embed
from system.files import file_hash

LOOP = "loop={steps: 3, batch_size: 4, warmup_steps: 1, save_every: 1, precision: no}"
SMALL = [f"branches.{name}.{key}" for name in ("main", "aux") for key in ("crop_seconds=0.5", LOOP)]


@pytest.fixture
def run(recordings, tmp_path, capsys):
    """Runs stages 0 to 3 of a small recipe; returns the status and what was printed."""

    def start(*settings: str) -> tuple[int, str]:
        command = ["run", "--exp", str(tmp_path / "exp"), "--conf", "toy.yaml", "--data", str(recordings)]
        for setting in ("device=cpu", "pretrain.loop.steps=0", *SMALL, *settings):
            command += ["--set", setting]
        status = main([*command, "--stop-stage", "3"])
        return status, "".join(capsys.readouterr())

    return start


def test_a_run(run, tmp_path, monkeypatch):
    exp, usual, calls = tmp_path / "exp", AdaptationTask.forward, []

    def full(task, batch):
        calls.append(len(batch["wave"]))
        if len(calls) > 8 and len(batch["wave"]) > 1:  # in the second step, in halves, of the second branch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return usual(task, batch)

    monkeypatch.setattr(AdaptationTask, "forward", full)
    status, said = run()
    assert status != 0
    assert "Traceback" not in said
    line = next(line for line in said.splitlines() if "out of memory" in line)
    assert "raise branches.aux.loop.accumulate, which is 1, " in line
    assert "or lower branches.aux.loop.batch_size, which is 4; " in line
    assert line.endswith("aux/state.pt holds 1 steps; the same command resumes there")
    finished = file_hash(exp / "adapt" / "main" / "adapter.safetensors")
    calls[:] = [0] * 9

    with monkeypatch.context() as patch:
        patch.setattr(embed, "to_host", lambda values: (_ for _ in ()).throw(MemoryError))
        status, said = run("branches.aux.loop.accumulate=2")
    assert calls[9:] == [1] * 8  # two steps in quarters: neither the first branch nor the first step again
    assert file_hash(exp / "adapt" / "main" / "adapter.safetensors") == finished
    assert status != 0
    assert "Traceback" not in said
    assert "out of memory on cpu in embedding" in said
    assert "embed.precision, which is float32, to bf16, or threads, which is " in said
