"""Sound files: complete and damaged ones, resampling, writing."""

import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
import torchaudio

from system import audio
from system.errors import WheeltapperError


@pytest.fixture
def stereo() -> np.ndarray:
    wave = np.sin(np.arange(3200) * 0.3).astype(np.float32) * 0.5
    return np.stack([wave, -wave])


@pytest.fixture
def wav(tmp_path, stereo):
    path = tmp_path / "x.wav"
    audio.write(path, stereo, 16000)
    return path


def riff(chunks: list[tuple[bytes, bytes]], data: bytes, declared: int) -> bytes:
    """A RIFF file of chunks, then a data chunk that declares any length."""
    body = b"".join(n + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for n, c in chunks)
    body += b"data" + struct.pack("<I", declared) + data
    return b"RIFF" + struct.pack("<I", min(len(body) + 4, 0xFFFFFFFF)) + b"WAVE" + body


def test_write_and_read_back(wav, stereo):
    wave, rate = audio.read(wav)
    assert rate == 16000
    assert wave.dtype == np.float32
    assert wave.shape == (2, 3200)
    assert wave.flags.c_contiguous
    np.testing.assert_allclose(wave, stereo, atol=1.0 / 32767)
    info = audio.probe(wav)
    assert (info.rate, info.channels, info.samples) == (16000, 2, 3200)
    assert info.seconds == pytest.approx(0.2)


def test_part_of_a_file(wav):
    whole, _ = audio.read(wav)
    part, _ = audio.read(wav, start=100, samples=50)
    np.testing.assert_array_equal(part, whole[:, 100:150])
    np.testing.assert_array_equal(audio.read(wav, start=3000)[0], whole[:, 3000:])


@pytest.mark.parametrize(("start", "samples"), [(3000, 500), (5000, -1), (5000, 10)])
def test_more_than_there_is(wav, start, samples):
    with pytest.raises(WheeltapperError, match=r"x\.wav"):
        audio.read(wav, start, samples)


def test_full_scale_survives(tmp_path):
    path = tmp_path / "full.wav"
    audio.write(path, np.array([[1.0, -1.0, 0.0]]), 8000)
    np.testing.assert_allclose(audio.read(path)[0], [[1.0, -1.0, 0.0]], atol=4e-5)


@pytest.mark.parametrize("peak", [1.001, -1.5, np.nan, np.inf])
def test_write_refuses_what_would_clip(wav, peak):
    before = wav.read_bytes()
    with pytest.raises(WheeltapperError, match="within"):
        audio.write(wav, np.array([[0.0, peak]]), 8000)
    assert wav.read_bytes() == before
    assert [path.name for path in wav.parent.iterdir()] == ["x.wav"]


def test_write_where_nothing_can_be_written(tmp_path):
    (tmp_path / "no").write_text("a file, not a folder")
    with pytest.raises(OSError, match="no"):
        audio.write(tmp_path / "no" / "x.wav", np.zeros((1, 10)), 8000)


@pytest.mark.parametrize("size", [0, 1, 11, 12, 20, 36, 43, 44, 46, 1000, 12843])
def test_truncated_wav(wav, size):
    wav.write_bytes(wav.read_bytes()[:size])
    with pytest.raises(WheeltapperError, match=r"x\.wav: (expected|truncated)") as caught:
        audio.read(wav)
    assert "\n" not in str(caught.value)


def test_truncated_wav_says_how_much_is_missing(wav):
    wav.write_bytes(wav.read_bytes()[:5000])
    with pytest.raises(WheeltapperError, match="promises 12844 bytes of file or more, found 5000"):
        audio.probe(wav)


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_other_formats(tmp_path, stereo, suffix):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, stereo.T, 16000)
    wave, rate = audio.read(path)
    assert rate == 16000
    assert wave.shape == stereo.shape
    assert np.corrcoef(wave[0], stereo[0])[0, 1] > 0.95
    content = path.read_bytes()
    for size in (10, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(WheeltapperError, match=rf"x\.{suffix}"):
            audio.read(path)


@pytest.mark.parametrize("content", [b"hello" * 100, b"RIFFxxxxWAVE" + b"\0" * 100, b"\0" * 5000])
def test_garbage(tmp_path, content):
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(
        WheeltapperError, match=f"expected a readable wav, flac or ogg file, found {len(content)} bytes"
    ):
        audio.read(path)


def test_missing_folder_and_empty(tmp_path):
    with pytest.raises(WheeltapperError, match="found nothing"):
        audio.read(tmp_path / "no.wav")
    with pytest.raises(WheeltapperError, match="found a folder"):
        audio.read(tmp_path)
    (tmp_path / "e.wav").touch()
    with pytest.raises(WheeltapperError, match=r"0 bytes"):
        audio.read(tmp_path / "e.wav")
    soundfile.write(tmp_path / "z.wav", np.zeros((0, 2)), 8000)
    with pytest.raises(WheeltapperError, match="0 samples"):
        audio.read(tmp_path / "z.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, bad):
    samples = np.zeros((100, 2), np.float32)
    samples[7, 1] = bad
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(WheeltapperError, match="found 1 that are NaN or infinite"):
        audio.read(tmp_path / "x.wav")


def test_odd_chunk_before_the_data(wav, stereo):
    content = wav.read_bytes()
    wav.write_bytes(riff([(b"fmt ", content[20:36]), (b"LIST", b"abcde")], content[44:], len(content) - 44))
    np.testing.assert_allclose(audio.read(wav)[0], stereo, atol=1e-4)
    wav.write_bytes(riff([(b"fmt ", content[20:36]), (b"LIST", b"abcde")], content[44:], len(content) - 40))
    with pytest.raises(WheeltapperError, match="truncated"):
        audio.read(wav)


def test_streamed_wav_declares_no_length(wav, stereo):
    content = wav.read_bytes()
    wav.write_bytes(riff([(b"fmt ", content[20:36])], content[44:], 0xFFFFFFFF))
    np.testing.assert_allclose(audio.read(wav)[0], stereo, atol=1e-4)


def test_chunks_behind_the_data(wav, stereo):
    content = wav.read_bytes()
    wav.write_bytes(riff([(b"fmt ", content[20:36])], content[44:], len(content) - 44) + b"LIST\x04\0\0\0abcd")
    np.testing.assert_allclose(audio.read(wav)[0], stereo, atol=1e-4)


@pytest.mark.parametrize(("rate", "new"), [(16000, 8000), (44100, 16000), (8000, 16000), (48000, 12000)])
def test_resample(rate, new):
    samples = rate // 5 + 1
    wave = np.sin(2 * np.pi * 440.0 * np.arange(samples) / rate).astype(np.float32)[None]
    found = audio.resample(wave, rate, new)
    assert found.shape == (1, -(-samples * new // rate))
    assert found.dtype == np.float32
    expected = np.sin(2 * np.pi * 440.0 * np.arange(found.shape[1]) / new)
    np.testing.assert_allclose(found[0, 50:-50], expected[50:-50], atol=5e-3)


def test_resample_removes_what_would_alias():
    wave = np.sin(2 * np.pi * 6000.0 * np.arange(16000) / 16000).astype(np.float32)[None]
    assert np.abs(audio.resample(wave, 16000, 8000)[0, 100:-100]).max() < 0.02


def test_resample_to_the_same_rate_is_nothing():
    wave = np.ones((2, 10), np.float32)
    assert audio.resample(wave, 8000, 8000) is wave


@pytest.mark.parametrize("rate", [0, -8000])
def test_resample_to_an_impossible_rate(rate):
    with pytest.raises(WheeltapperError, match=f"rate: expected a number of Hz above zero, found {rate}"):
        audio.resample(np.ones((1, 10), np.float32), 8000, rate)


def test_digest(wav):
    assert audio.digest(wav) == hashlib.blake2b(wav.read_bytes(), digest_size=16).hexdigest()
    assert len(audio.digest(wav)) == 32


def test_list_files(tmp_path):
    for name in ("b/2.WAV", "a.flac", "b/1.ogg", ".hidden.wav", "b/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.wav").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in audio.list_files(tmp_path)]
    assert names == ["a.flac", "b/1.ogg", "b/2.WAV"]


# 44,101 and 12,001 Hz share no factor with 16 kHz worth mentioning.
AWKWARD = [(44101, 16000), (12001, 16000), (16000, 44101)]


@pytest.mark.parametrize(("rate", "new"), AWKWARD)
def test_awkward_rates_keep_frequency_and_level(rate, new):
    hz = 1000.0
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(rate) / rate + 0.7)
    found = audio.resample(wave.astype(np.float32)[None], rate, new)
    assert found.shape == (1, new)
    assert found.dtype == np.float32
    time = np.arange(new) / new
    expected = 0.5 * np.sin(2 * np.pi * hz * time + 0.7)
    np.testing.assert_allclose(found[0, 200:-200], expected[200:-200], atol=2e-3)
    for other in (hz - 3.0, hz + 3.0):  # what is found is not near another frequency as well
        assert np.abs(found[0] - 0.5 * np.sin(2 * np.pi * other * time + 0.7)).max() > 0.5


def test_awkward_rates_remove_what_would_alias():
    wave = np.sin(2 * np.pi * 15000.0 * np.arange(44101) / 44101).astype(np.float32)[None]
    assert np.abs(audio.resample(wave, 44101, 16000)[0, 200:-200]).max() < 5e-3


def test_awkward_rates_treat_every_channel_alone():
    wave = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)
    both = audio.resample(wave, 12001, 16000)
    for channel in range(2):
        np.testing.assert_array_equal(both[channel], audio.resample(wave[channel : channel + 1], 12001, 16000)[0])


def test_awkward_rates_need_little_memory():
    audio.resampler.cache_clear()
    wave = np.zeros((1, 44101), np.float32)
    tracemalloc.start()
    audio.resample(wave, 44101, 16000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A kernel with a row for each of the 16,000 phases would take 2.8 GB.
    assert peak < 100e6


@pytest.mark.parametrize(("rate", "new"), [(44100, 16000), (48000, 16000), (8000, 16000), (25600, 16000), (200, 16000)])
def test_usual_rates_equal_torchaudio(rate, new):
    wave = np.random.default_rng(0).normal(0, 0.1, (2, rate // 2)).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(wave).double(), rate, new).numpy()
    np.testing.assert_allclose(audio.resample(wave, rate, new), expected, atol=2e-6)


@pytest.mark.parametrize(("rate", "new"), [(44100, 16000), (44101, 16000)])
def test_the_kernel_is_made_once(monkeypatch, rate, new):
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 3000)).astype(np.float32)
    first = audio.resample(wave, rate, new)
    assert audio.resampler(rate, new) is audio.resampler(rate, new)

    def again(*args, **kwargs):
        raise AssertionError("a second kernel")

    monkeypatch.setattr(scipy.signal, "firwin", again)
    monkeypatch.setattr(scipy.signal._signaltools, "firwin", again, raising=False)  # where resample_poly has it from
    monkeypatch.setattr(torchaudio.transforms, "Resample", again)
    np.testing.assert_array_equal(audio.resample(wave, rate, new), first)


def test_gradients_after_a_first_call_without():
    audio.resampler.cache_clear()
    audio._windowed_sinc.cache_clear()
    audio.resample(np.zeros((1, 4800), np.float32), 48000, 16000)  # in inference mode, fills the cache
    wave = torch.randn(1, 4800, generator=torch.Generator().manual_seed(0), requires_grad=True)
    audio.resampler(48000, 16000)(wave).square().sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.abs().max() > 0
