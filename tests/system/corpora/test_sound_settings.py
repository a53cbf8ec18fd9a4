"""Rates and channels that a run asks of its recordings, and what a new recording at another rate is told."""

import logging

import numpy as np
import pytest
import soundfile

from system.corpora.sound_settings import check_rate, choose_channels, coding_remark, common_rate, rate_remark
from system.errors import WheeltapperError
from system.manifest import Clip


def clip(number: int = 0, channels: int = 2, rate: int = 16000, choice: str = "") -> Clip:
    return Clip(
        "c", "Fan", "00", "train", f"{number}.wav", f"/d/{number}.wav",
        channels=channels, rate=rate, samples=16000, channel_choice=choice,
    )  # fmt: skip


def test_one_rate_where_recordings_keep_their_own():
    assert common_rate([clip(), clip(1)]) == 16000
    check_rate([clip(rate=8000), clip(1, rate=48000)], 16000)
    with pytest.raises(
        WheeltapperError, match=r"one rate in all .* found \[8000, 16000\] Hz \(8000 Hz: /d/1.wav; 16000"
    ):
        check_rate([clip(), clip(1, rate=8000), clip(2)], 0)


def test_a_rate_that_would_fill_the_memory_is_refused_by_name():
    with pytest.raises(
        WheeltapperError, match=r"/d/1.wav: rate: expected at least 32 Hz to resample to 16000 Hz, found 20"
    ):
        check_rate([clip(), clip(1, rate=20)], 16000)


def test_channels_are_chosen_for_every_clip():
    clips = [clip(number, channels=8) for number in range(3)]
    assert {each.channel_choice for each in choose_channels(clips, "3,8")} == {"3,8"}
    assert {each.model_channels for each in choose_channels(clips, "3,8")} == {2}
    assert {each.model_channels for each in choose_channels(clips, "mean")} == {1}
    assert choose_channels([clip(choice="2")], "") == [clip(choice="2")]


def test_a_recording_without_the_channel_is_named():
    clips = [clip(0, 8), clip(1, 2), clip(2, 2)]
    with pytest.raises(
        WheeltapperError, match=r"/d/1.wav: .* 3 channels for data.channels=1,3, .* 2 channels \(and 1 more"
    ):
        choose_channels(clips, "1,3")


def test_that_others_than_the_first_two_are_left_out_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_channels([clip()], "") == [clip()]
        assert not caplog.records
        choose_channels([clip(0, 8), clip(1, 8)], "")
    assert "2 recordings of 8 channels (/d/0.wav): the first two are used, as near and far" in caplog.text


@pytest.mark.parametrize(
    ("rate", "references", "used", "expected"),
    [
        (16000, {16000}, 16000, ""),
        (48000, {16000, 48000}, 16000, ""),
        (
            8000,
            {16000},
            16000,
            "8000 Hz, the references have 16000 Hz: no sound between 4000 and 8000 Hz, where they have",
        ),
        (
            8000,
            {44100, 48000},
            16000,
            "8000 Hz, the references have 44100 Hz and 48000 Hz: no sound between 4000 and 8000",
        ),
        (8000, {44100}, 0, "8000 Hz, the references have 44100 Hz: no sound between 4000 and 22050 Hz"),
        (
            48000,
            {8000},
            16000,
            "48000 Hz, the references have 8000 Hz: sound between 4000 and 8000 Hz, where they have none",
        ),
        (
            16000,
            {44100},
            16000,
            "16000 Hz, the references have 44100 Hz: just below 8000 Hz, the filter of the lower rate",
        ),
        (
            48000,
            {16000},
            16000,
            "48000 Hz, the references have 16000 Hz: just below 8000 Hz, the filter of the lower rate",
        ),
    ],
)
def test_the_band_that_another_rate_lacks(rate, references, used, expected):
    found = rate_remark(rate, references, used)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


@pytest.mark.parametrize(
    ("kind", "subtype", "lost"),
    [
        ("MP3", "MPEG_LAYER_III", "mp3, compressed with loss"),
        ("OGG", "VORBIS", "vorbis, compressed with loss"),
        ("WAV", "ALAW", "A-law, compressed with loss"),
        ("WAV", "IMA_ADPCM", "ADPCM, compressed with loss"),
        ("WAV", "PCM_U8", "8 bits a sample"),
        ("AU", "PCM_S8", "8 bits a sample"),
        ("FLAC", "PCM_S8", "8 bits a sample"),
        ("FLAC", "PCM_24", ""),
        ("WAV", "PCM_16", ""),
    ],
)
def test_what_a_coding_lost_whatever_the_name(tmp_path, kind, subtype, lost):
    wave = np.random.default_rng(0).normal(0, 0.1, 4000)
    coded, plain, gone = tmp_path / "coded.wav", tmp_path / "plain.wav", tmp_path / "gone.wav"
    with open(coded, "wb") as file:
        soundfile.write(file, wave, 16000, format=kind, subtype=subtype)
    soundfile.write(plain, wave, 16000)
    assert coding_remark(coded, [plain, gone]) == (f"{lost}, the references are not" if lost else "")
    assert coding_remark(coded, [plain, coded]) == coding_remark(coded, [tmp_path / "gone.mp3"]) == ""
