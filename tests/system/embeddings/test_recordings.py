"""``wheeltapper embed --audio``: recordings that can be embedded are, and all others are named."""

import numpy as np
import pytest
import soundfile

from system.bin import main
from system.embeddings.recordings import choose_usable

RATE = 16000
OPTIONS = ["--encoder", "fisher-nano", "--checkpoint", "random"]


@pytest.fixture
def folder(tmp_path):
    """Four good recordings, six bad ones, and one of a kind that nothing reads."""
    place = tmp_path / "in"
    (place / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, rate in (("a.wav", RATE), ("deep/b.flac", RATE), ("c.aiff", RATE), ("d.wav", RATE), ("other.wav", 8000)):
        soundfile.write(place / name, generator.normal(0, 0.1, (rate, 2)), rate)
    whole = (place / "a.wav").read_bytes()
    (place / "cut.wav").write_bytes(whole[:9000])
    (place / "text.wav").write_text("no sound")
    (place / "empty.mp3").touch()
    (place / "rate.wav").write_bytes(whole[:24] + (2**31 - 1).to_bytes(4, "little") + whole[28:])
    soundfile.write(place / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    (place / "phone.m4a").write_bytes(b"sound")
    return place


BAD = ["cut.wav", "empty.mp3", "nan.wav", "rate.wav", "text.wav"]


def embed(folder, out, *options) -> int:
    return main(["embed", "--audio", str(folder), "--out", str(out), *OPTIONS, *options])


def test_good_ones_are_written_and_bad_ones_named(folder, tmp_path, capsys, caplog):
    assert embed(folder, tmp_path / "x.npz", "--rate", str(RATE)) == 1
    told = capsys.readouterr()
    named = [line.split(": ")[1] for line in told.err.splitlines() if line.startswith("wheeltapper embed: ")]
    assert named == [str(folder / name) for name in BAD]
    assert "5 of 10 recordings are left out" in told.err
    assert "1 file of other kinds left out: phone.m4a" in told.err + caplog.text
    found = np.load(tmp_path / "x.npz")
    assert found["files"].tolist() == ["a.wav", "c.aiff", "d.wav", "deep/b.flac", "other.wav"]
    for name in BAD:
        (folder / name).unlink()
    assert embed(folder, tmp_path / "good.npz", "--rate", str(RATE)) == 0
    good = np.load(tmp_path / "good.npz")
    assert good["files"].tolist() == found["files"].tolist()
    np.testing.assert_array_equal(good["embeddings"], found["embeddings"])


def test_where_none_is_good_nothing_is_written(folder, tmp_path, capsys):
    for name in ("a.wav", "c.aiff", "d.wav", "deep/b.flac", "other.wav"):
        (folder / name).unlink()
    assert embed(folder, tmp_path / "x.npz") == 1
    assert "expected a recording that can be embedded, found 5 others" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()


def test_a_rate_that_most_do_not_have_is_named_where_rates_are_kept(folder):
    paths = [folder / name for name in ("other.wav", "a.wav", "d.wav")]
    usable, problems = choose_usable(paths, 0)
    assert usable == paths[1:]
    assert problems[0].startswith(f"{paths[0]}: expected 16000 Hz like most recordings, found 8000 Hz")
    assert choose_usable(paths, RATE) == (paths, [])
    soundfile.write(folder / "slow.wav", np.ones(20), 20)
    _, problems = choose_usable([folder / "slow.wav"], RATE)
    assert "expected at least 32 Hz to resample" in problems[0]
