"""Headers made by hand: lengths that recorders never wrote, cut files of all kinds, impossible formats."""

import struct

import numpy as np
import pytest
import soundfile

from system import audio
from system.errors import WheeltapperError

RATE = 16000
PLACEHOLDERS = [
    0,
    0x7FFF0000,
    0x7FFFF000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x7FFFF000 - 36,
    0x7FFFFFFF - 36,
    0xFFFFFFFF - 44,
    0x80000024,
]
NOTE = "the header does not say the length"


@pytest.fixture
def samples() -> np.ndarray:
    return (np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 2)) * 32768).astype("<i2")


def wav(data: bytes, declared: int, riff: int | None = None, form: bytes | None = None, magic=b"RIFF") -> bytes:
    form = form or struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", declared) + data
    return magic + struct.pack("<I", len(body) if riff is None else riff) + body


def form(tag=1, channels=2, rate=RATE, block=4, bits=16) -> bytes:
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block & 0xFFFFFFFF, block, bits)


def put(tmp_path, content: bytes, name: str = "x.wav"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def check_equal(path, samples, note: str = "") -> None:
    """Header and content are those of the samples; parts are read as well as the whole."""
    info = audio.probe(path)
    assert (info.rate, info.channels, info.samples) == (RATE, 2, len(samples))
    assert note in info.note
    assert bool(note) == bool(info.note)
    expected = samples.T / 32768
    np.testing.assert_allclose(audio.read(path)[0], expected, atol=1e-7)
    np.testing.assert_allclose(audio.read(path, 1000, 50)[0], expected[:, 1000:1050], atol=1e-7)


def made(tmp_path, kind: str, samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    path = tmp_path / f"made.{kind.lower()}"
    soundfile.write(path, samples, RATE, format=kind, subtype=subtype)
    return path.read_bytes()


@pytest.mark.parametrize("riff", [None, 0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("declared", PLACEHOLDERS)
def test_a_wav_without_its_length_is_read_to_the_end(tmp_path, samples, declared, riff):
    check_equal(put(tmp_path, wav(samples.tobytes(), declared, riff)), samples, NOTE)


@pytest.mark.parametrize("riff", [0, 36, 100, 0x7FFFFFFF, 0xFFFFFFFF])
def test_the_length_of_the_whole_does_not_matter(tmp_path, samples, riff):
    check_equal(put(tmp_path, wav(samples.tobytes(), samples.nbytes, riff)), samples)


@pytest.mark.parametrize("declared", [0, 16003])
def test_a_part_of_a_sample_is_left_out_and_said(tmp_path, samples, declared):
    path = put(tmp_path, wav(samples.tobytes() + b"abc", declared))
    check_equal(path, samples, "a part of a sample at its end (3 of 4 bytes) is left out")


def test_samples_behind_a_header_that_was_written_too_early_are_said(tmp_path, samples):
    path = put(tmp_path, wav(samples.tobytes(), 4 * 1500))
    assert audio.probe(path).note == "10000 bytes behind the samples are not read"
    np.testing.assert_allclose(audio.read(path)[0], samples[:1500].T / 32768, atol=1e-7)


@pytest.mark.parametrize("tail", [b"LIST\x04\0\0\0abcd", b"id3 \x03\0\0\0abc\0cue \0\0\0\0", bytes(512), b"xyz"])
def test_chunks_and_filling_behind_the_samples_are_no_samples(tmp_path, samples, tail):
    check_equal(put(tmp_path, wav(samples.tobytes(), samples.nbytes) + tail), samples)


def test_an_empty_wav_with_chunks_stays_empty(tmp_path):
    with pytest.raises(WheeltapperError, match="0 samples"):
        audio.probe(put(tmp_path, wav(b"", 0) + b"LIST\x04\0\0\0abcd"))


def test_a_list_behind_samples_without_length_is_taken_for_samples(tmp_path, samples):
    path = put(tmp_path, wav(samples.tobytes() + b"LIST\x04\0\0\0abcd", 0xFFFFFFFF))
    assert audio.probe(path).samples == len(samples) + 3  # 12 bytes that nothing tells from samples


@pytest.mark.parametrize("declared", [16004, 20000, 0x40000000, 0x7FFE0000, 0xF0000000])
def test_a_length_that_is_none_of_these_is_a_cut_file(tmp_path, samples, declared):
    with pytest.raises(WheeltapperError, match=f"truncated, the header promises {44 + declared} bytes of file"):
        audio.probe(put(tmp_path, wav(samples.tobytes(), declared)))


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"])
def test_cut_files_are_refused(tmp_path, samples, kind):
    content = made(tmp_path, kind, samples)
    check_equal(put(tmp_path, content, f"x.{kind.lower()}"), samples)
    for size in (len(content) - 500, len(content) // 2, len(content) // 3):
        with pytest.raises(WheeltapperError, match=r"x\.\w+: (truncated|damaged)"):
            audio.read(put(tmp_path, content[:size], f"x.{kind.lower()}"))


def test_cut_rf64_under_its_second_name(tmp_path, samples):
    content = b"BW64" + made(tmp_path, "RF64", samples)[4:]
    check_equal(put(tmp_path, content, "x.bw64"), samples)
    with pytest.raises(WheeltapperError, match="truncated, the header promises"):
        audio.probe(put(tmp_path, content[:-4], "x.bw64"))


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_cut_compressed_files_are_refused(tmp_path, kind, subtype):
    tone = 0.3 * np.sin(np.arange(6 * RATE) * 0.1) + np.random.default_rng(0).normal(0, 0.05, 6 * RATE)
    content = made(tmp_path, kind, tone, subtype)
    wave, rate = audio.read(put(tmp_path, content, f"x.{kind.lower()}"))
    assert rate == RATE
    assert np.corrcoef(wave[0, RATE:-RATE], tone[RATE:-RATE])[0, 1] > 0.9
    for share in (0.99, 0.8, 0.5):
        with pytest.raises(WheeltapperError, match="truncated"):
            audio.read(put(tmp_path, content[: int(share * len(content))], f"x.{kind.lower()}"))


def test_an_ogg_that_ends_with_a_whole_page_is_cut_too(tmp_path):
    content = made(tmp_path, "OGG", np.random.default_rng(0).normal(0, 0.1, 6 * RATE), "VORBIS")
    last = content.rfind(b"OggS")
    with pytest.raises(WheeltapperError, match="truncated, expected a page marked as the last one"):
        audio.probe(put(tmp_path, content[:last], "x.ogg"))


@pytest.mark.parametrize(
    ("kind", "place", "pack", "values"),
    [
        ("RF64", lambda content: 28, "<Q", [0, 0x7FFFFFFF, (1 << 63) - 1, (1 << 64) - 1]),
        ("W64", lambda content: content.index(b"data\xf3") + 16, "<Q", [0, 24, (1 << 63) - 1, (1 << 64) - 1]),
        ("AIFF", lambda content: content.index(b"SSND") + 4, ">I", [0, 8, 0x7FFFFFFF, 0xFFFFFFFF]),
        ("AU", lambda content: 8, ">I", [0, 0x7FFFFFFF, 0xFFFFFFFF]),
        ("CAF", lambda content: content.index(b"data") + 4, ">q", [0, 4, -1]),
    ],
)
def test_other_kinds_without_their_length(tmp_path, samples, kind, place, pack, values):
    content = made(tmp_path, kind, samples)
    for value in values:
        changed = bytearray(content)
        struct.pack_into(pack, changed, place(content), value)
        check_equal(put(tmp_path, bytes(changed), f"x.{kind.lower()}"), samples, NOTE)


def test_an_aiff_without_its_number_of_frames(tmp_path, samples):
    changed = bytearray(made(tmp_path, "AIFF", samples))
    struct.pack_into(">I", changed, changed.index(b"COMM") + 10, 0)
    struct.pack_into(">I", changed, changed.index(b"SSND") + 4, 0)
    check_equal(put(tmp_path, bytes(changed), "x.aiff"), samples, NOTE)


@pytest.mark.parametrize("kind", ["AIFF", "CAF", "W64", "RF64"])
def test_a_file_that_its_writer_has_not_closed(tmp_path, samples, kind):
    path = tmp_path / f"x.{kind.lower()}"
    with soundfile.SoundFile(path, "w", RATE, 2, format=kind, subtype="PCM_16") as file:
        file.write(samples)
        file.flush()
        left = path.read_bytes()
    check_equal(put(tmp_path, left, "left.wav"), samples, NOTE)


def test_a_flac_from_a_pipe(tmp_path, samples):
    content = bytearray(made(tmp_path, "FLAC", samples))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    check_equal(put(tmp_path, bytes(content), "x.flac"), samples, NOTE)
    with pytest.raises(WheeltapperError, match="damaged"):
        audio.probe(put(tmp_path, bytes(content[:-700]), "cut.flac"))
    content[21:26] = bytes([content[21] | 15]) + b"\xff" * 4
    with pytest.raises(WheeltapperError, match="the header promises 68719476735 samples"):
        audio.probe(put(tmp_path, bytes(content), "much.flac"))


@pytest.mark.parametrize(
    ("rate", "said"),
    [(0, "0 Hz"), (1, "1 Hz"), (9, "9 Hz"), (4_000_000_000, "4,000,"), (10_000_001, "10,000,"), (2147483647, "2,147")],
)
def test_impossible_rates_are_refused_before_anything_is_allocated(tmp_path, samples, rate, said):
    path = put(tmp_path, wav(samples.tobytes(), samples.nbytes, form=form(rate=rate)))
    with pytest.raises(WheeltapperError, match=f"expected a sampling rate of 10 to 10,000,000 Hz, found {said}"):
        audio.read(path)


@pytest.mark.parametrize("rate", [10, 200, 1_000_000, 10_000_000])
def test_slow_and_fast_sensors_are_read(tmp_path, samples, rate):
    assert audio.read(put(tmp_path, wav(samples.tobytes(), samples.nbytes, form=form(rate=rate))))[1] == rate


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": 0},
        {"rate": 3_000_000_000},
        {"channels": 0},
        {"channels": 65535},
        {"channels": 2, "block": 2},
        {"block": 0},
        {"block": 7},
        {"bits": 0},
        {"bits": 24, "block": 8},
        {"bits": 65},
        {"bits": 64, "block": 16},
        {"tag": 0},
        {"tag": 2, "bits": 4, "block": 256},
        {"tag": 3},
        {"tag": 0x55},
        {"tag": 0x1234},
        {"tag": 0xFFFE},
        {"tag": 0xFFFF},
    ],
    ids=str,
)
def test_impossible_formats_are_refused_in_one_line(tmp_path, samples, fields):
    with pytest.raises(WheeltapperError, match=r"x\.wav: expected") as caught:
        audio.read(put(tmp_path, wav(samples.tobytes(), samples.nbytes, form=form(**fields))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize(("kind", "endian"), [("WAV", "LITTLE"), ("WAV", "BIG"), ("WAVEX", "LITTLE")])
def test_formats_of_wav(tmp_path, samples, kind, endian, subtype):
    path = tmp_path / "x.wav"
    soundfile.write(path, samples / 32768, RATE, format=kind, subtype=subtype, endian=endian)
    tolerance = {"PCM_U8": 1e-2, "ULAW": 2e-2, "ALAW": 2e-2}.get(subtype, 1e-4)
    np.testing.assert_allclose(audio.read(path)[0], samples.T / 32768, atol=tolerance)
    assert not audio.probe(path).note


def mp3_frames(content: bytes) -> list[bytes]:
    """Frames of an mp3 of version 2 at 16 kHz."""
    kilobits, frames, place = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160), [], 0
    while place + 4 <= len(content):
        length = 72 * 1000 * kilobits[content[place + 2] >> 4] // RATE + (content[place + 2] >> 1 & 1)
        frames.append(content[place : place + length])
        place += length
    return frames


def test_an_mp3_whose_length_cannot_be_known(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, RATE) * np.linspace(0, 1, RATE) ** 4
    path = tmp_path / "x.mp3"
    for mode in ("CONSTANT", "VARIABLE"):
        soundfile.write(path, noise, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
        assert audio.probe(path).samples == RATE
        frames = mp3_frames(path.read_bytes())
        path.write_bytes(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"".join(frames[1:]))  # the first holds the table
        if mode == "CONSTANT":
            assert audio.read(path)[0].shape[1] == pytest.approx(576 * (len(frames) - 1), abs=64)
        else:
            with pytest.raises(WheeltapperError, match="expected an mp3 of constant bit rate"):
                audio.probe(path)
