"""Rows of embeddings that stay on disk, against the arrays that were written."""

import numpy as np
import pytest

from system.embeddings import files
from system.manifest import Clip


def test_rows_are_right_whenever_their_pages_are_let_go(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    clips = [Clip("t", "Fan", "00", "train", f"{number}.wav", f"{number}.wav") for number in range(len(values))]
    files.write_index(tmp_path / "index.csv", clips)
    files.write_array(tmp_path / "rows.npy", values)
    monkeypatch.setattr(files, "RESIDENT", 10_000)
    rows = files.read_rows(tmp_path / "index.csv", tmp_path / "rows.npy")
    held = [rows[clip.row] for clip in clips]
    np.testing.assert_array_equal(held, values)
    assert list(rows) == [clip.row for clip in clips]
    assert rows.get(("Fan", "00", "train", "no.wav")) is None


@pytest.mark.parametrize(
    "values", [np.zeros((0, 3), np.float32), np.arange(6.0).reshape(3, 2).T, np.float16([[1], [2]])]
)
def test_arrays_are_written_as_numpy_writes_them(tmp_path, values):
    np.save(tmp_path / "expected.npy", np.ascontiguousarray(values))
    files.write_array(tmp_path / "found.npy", values)
    assert (tmp_path / "found.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
