"""Channels of recordings with several: how a choice is written, and what it takes."""

from dataclasses import replace

import numpy as np
import pytest

from system import channel_choice, config, manifest
from system.errors import WheeltapperError
from system.manifest import Clip


@pytest.fixture
def wave() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (8, 50)).astype(np.float32)


@pytest.mark.parametrize(
    ("given", "written"),
    [("1,3", "1,3"), ("[1, 3]", "1,3"), ("'2 , 8'", "2,8"), ("5", "5"), ("mean", "mean"), ("", "")],
)
def test_a_setting_may_be_written_in_several_ways(tmp_path, given, written):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    assert config.load(path, [f"data.channels={given}"]).data.channels == written
    path.write_text(f"data: {{channels: {given if ',' not in given or given[0] in '[' + chr(39) else repr(given)}}}\n")
    if given:
        assert config.load(path).data.channels == written


@pytest.mark.parametrize("given", ["0", "-1", "1,2,3", "[1,2,3]", "first", "1;2", "1.5", "mean,1", "123456"])
def test_what_is_no_choice_is_refused(tmp_path, given):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(WheeltapperError, match=r"data.channels: expected the number of a channel from 1, two with"):
        config.load(path, [f"data.channels={given}"])


def test_channels_are_taken_as_chosen(wave):
    np.testing.assert_array_equal(channel_choice.select("", wave, "x"), wave[:2])
    np.testing.assert_array_equal(channel_choice.select("", wave[:1], "x"), wave[:1])
    np.testing.assert_array_equal(channel_choice.select("3", wave, "x"), wave[2:3])
    np.testing.assert_array_equal(channel_choice.select("8,1", wave, "x"), np.stack([wave[7], wave[0]]))
    np.testing.assert_allclose(channel_choice.select("mean", wave, "x"), [sum(wave) / 8], atol=1e-7)
    with pytest.raises(
        WheeltapperError, match=r"x.wav: expected at least 9 channels for data.channels=1,9, found 8 ch"
    ):
        channel_choice.select("1,9", wave, "x.wav")


@pytest.mark.parametrize(
    ("choice", "channels", "count"), [("", 1, 1), ("", 8, 2), ("3", 8, 1), ("1,3", 8, 2), ("mean", 8, 1)]
)
def test_number_of_channels(choice, channels, count, wave):
    assert channel_choice.count(choice, channels) == count
    assert len(channel_choice.select(choice, wave[:channels], "x")) == count


def test_the_manifest_keeps_the_choice(tmp_path):
    path = tmp_path / "m.csv"
    clips = [
        Clip("c", "Fan", "00", "train", f"{n}.wav", str(tmp_path / f"{n}.wav"), channels=8, rate=16000, samples=5)
        for n in range(2)
    ]
    manifest.write(path, clips)
    assert path.read_text().splitlines()[0].endswith("samples,digest")  # as before the choice existed
    assert manifest.read(path) == clips
    before = manifest.fingerprint(clips)
    chosen = [replace(clip, channel_choice=choice) for clip, choice in zip(clips, ("1,3", "mean"), strict=True)]
    manifest.write(path, chosen)
    assert manifest.read(path) == chosen
    assert manifest.fingerprint(chosen) != before
    path.write_text(path.read_text().replace("mean", "none"))
    with pytest.raises(WheeltapperError, match="line 3: channel_choice: expected the number of a channel from 1"):
        manifest.read(path)
