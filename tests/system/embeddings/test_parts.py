"""Rows of clips in parts: the same whoever computes them, none of them twice."""

from pathlib import Path

import numpy as np
import pytest

from system import processes
from system.config import SpectrumBranchConfig
from system.embeddings import parts
from system.embeddings.parts import describe_in_parts
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline.branches.spectrum import SpectrumBranch

CLIPS = [Clip("toy", machine, "00", "test", f"{number}.wav", "") for number in range(7) for machine in ("fan", "pump")]


def number(clip: Clip) -> int:
    return int(clip.file.removesuffix(".wav")) + 100 * (clip.machine == "pump")


class Describer:
    """Describes clips in batches of two, the last batch first; counts clips and stops after ``last`` of them."""

    def __init__(self, last: int = 100):
        self.last, self.seen = last, []

    def __call__(self, clips):
        for start in reversed(range(0, len(clips), 2)):
            own = clips[start : start + 2]
            if len(self.seen) >= self.last:
                raise KeyboardInterrupt
            self.seen += [number(clip) for clip in own]
            values = np.array([number(clip) for clip in own], np.float32)
            yield range(start, start + len(own)), {"row": values[:, None], "pair": np.stack([values, -values], 1)}


def assert_whole(columns) -> None:
    wanted = [number(clip) for clip in CLIPS]
    np.testing.assert_array_equal(columns["row"], np.array(wanted)[:, None])
    np.testing.assert_array_equal(columns["pair"][:, 1], np.negative(wanted))
    assert columns["pair"].dtype == np.float32


def test_what_is_finished_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SIZE", 3)
    first, done = Describer(last=10), []
    with pytest.raises(KeyboardInterrupt):
        describe_in_parts(CLIPS, tmp_path, first)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [*(f"fan-000{k}.npz" for k in range(3)), "pump-0002.npz"]
    (tmp_path / "fan-0001.npz").write_bytes(b"damaged")
    again = Describer()
    assert_whole(describe_in_parts(CLIPS, tmp_path, again, done.append))
    assert sorted(again.seen) == [3, 4, 100, 101, 102, 103, 104]
    assert sum(done) == len(CLIPS)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_parts(tmp_path, monkeypatch, count):
    monkeypatch.setattr(parts, "SIZE", 2)
    monkeypatch.setattr(parts, "PATIENCE", 0.0)
    monkeypatch.setattr(processes, "collect", lambda value: [value])
    monkeypatch.setenv("WORLD_SIZE", str(count))
    seen = []
    for rank in reversed(range(1, count)):
        monkeypatch.setenv("RANK", str(rank))
        describer = Describer()
        assert describe_in_parts(CLIPS, tmp_path, describer) == {}
        seen += describer.seen
    monkeypatch.setenv("RANK", "0")
    describer = Describer()
    assert_whole(describe_in_parts(CLIPS, tmp_path, describer))
    assert sorted(seen + describer.seen) == sorted(map(number, CLIPS))
    (tmp_path / "fan-0001.npz").unlink()
    with pytest.raises(WheeltapperError, match=r"fan-0001.npz: expected the rows that a process of this run wrote"):
        describe_in_parts(CLIPS, tmp_path, Describer())


def test_spectra_resume_from_what_is_finished(train_clips, tmp_path, monkeypatch):
    from system import config as configuration
    from system.pipeline.branches import spectrum

    config = configuration.Config(branches={"light": SpectrumBranchConfig()})
    run = Experiment(tmp_path, config)
    branch = SpectrumBranch(run, "light")
    Path(run.adapted("light")).mkdir(parents=True)
    branch.adapt(train_clips, 8000, "cpu")
    whole = dict(SpectrumBranch.embed(run, [branch], train_clips, 1, "cpu"))["light"]
    (run.parts / "light" / "pump-0000.npz").unlink()
    seen, usual = [], spectrum._describe
    monkeypatch.setattr(spectrum, "_describe", lambda run, rates, clip: seen.append(clip) or usual(run, rates, clip))
    again = dict(SpectrumBranch.embed(run, [branch], train_clips, 1, "cpu"))["light"]
    assert seen == [clip for clip in train_clips if clip.machine == "pump"]
    assert all(np.array_equal(again[view], rows) for view, rows in whole.items())
