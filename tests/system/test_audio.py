"""Sound files: complete and damaged ones, lists, writing."""

import hashlib
import struct

import numpy as np
import pytest
import soundfile

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


def test_names_of_samples_without_a_header(wav, tmp_path, stereo):
    (tmp_path / "x.raw").write_bytes(wav.read_bytes())
    np.testing.assert_array_equal(audio.read(tmp_path / "x.raw")[0], audio.read(wav)[0])
    (tmp_path / "y.RAW").write_bytes(stereo.tobytes())
    with pytest.raises(WheeltapperError, match=r"y.RAW: expected a readable .*ffmpeg -f s16le -ar HZ -ac CHANNELS -i"):
        audio.read(tmp_path / "y.RAW")


@pytest.mark.parametrize("content", [b"hello" * 100, b"RIFFxxxxWAVE" + b"\0" * 100, b"\0" * 5000])
def test_garbage(tmp_path, content):
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(WheeltapperError, match=f"expected a readable wav, flac, .* file, found {len(content)} bytes"):
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
