"""Headers as recorders, pipes and crashes leave them, and codings of wav files."""

import contextlib
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import NORMAL, no_traceback, well
from real_inputs.program import Judged, Row, run, score

KIND = "14 headers"
SPARE = 6 << 30  # bytes of memory that a bad header may ask for


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk of a RIFF file, padded to an even length; ``size`` is what its header says."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def fmt(rate: int = sounds.RATE, channels: int = 2, bits: int = 16, tag: int = 1) -> bytes:
    """The chunk that describes samples."""
    frame = channels * bits // 8
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHH", tag, channels & 0xFFFF, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits),
    )


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    """A file of chunks."""
    content = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(content) if size is None else size) + content


def samples(seed: object = "header") -> bytes:
    """16-bit samples of a healthy clip."""
    wave = sounds.machine(seed)
    return np.round(wave.T * 32767).astype("<i2").tobytes()


def rf64(name: bytes = b"RF64", cut: int = 0, size: int | None = None) -> bytes:
    """A file with sizes of 64 bits, whole or cut by so many bytes."""
    data = samples()
    length = len(data) if size is None else size
    sizes = chunk(b"ds64", struct.pack("<QQQI", length + 72, length, length // 4, 0))
    whole = riff(sizes, fmt(), chunk(b"data", data, 0xFFFFFFFF), name=name, size=0xFFFFFFFF)
    return whole[: len(whole) - cut]


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Limits what this process may ask for beyond what it has, so that a bad header cannot fill the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _judge(place: Place, content: bytes, name: str = "odd.wav") -> Judged:
    """A file between the same clip as an ordinary wav and another one."""
    (place / name).write_bytes(content)
    whole = place / "whole.wav"
    whole.write_bytes(riff(fmt(), chunk(b"data", samples())))
    other = sounds.put(place / "other.wav", sounds.machine("another"))
    with little_memory():
        found = score(place.bases.steady, [whole, place / name, other], place.folder)
    no_traceback(found.ended)
    expect(len(found.rows) == 3, "three rows", found.ended.text)
    for row in (found.row("whole.wav"), found.row("other.wav")):
        expect(row.decision == NORMAL and not row.remark, "the other files normal without a remark", row.values)
    return found


def _as_whole(found: Judged, name: str = "odd.wav", tolerance: float = 1e-6) -> Row:
    """Expects the decision and the score of the ordinary wav."""
    row, whole = found.row(name), found.row("whole.wav")
    expect(not row.error, "the file to be read", row.error)
    near = abs(row.deviations - whole.deviations) <= tolerance and row.decision == whole.decision
    expect(near, f"{whole.decision} at {whole.deviations:.4f} deviations", f"{row.decision} at {row.deviations:.4f}")
    return row


def _refused(found: Judged, name: str = "odd.wav") -> None:
    """Expects the file alone to be refused, by name."""
    row = found.row(name)
    expect(row.error and not row.decision, "an error of this file", row.values)
    expect(found.ended.status == 1, "exit status 1", found.ended.status)
    lines = [line for line in found.ended.err.splitlines() if name in line]
    expect(len(lines) == 1, "one line that names the file", found.ended.err)


OPEN = [0, 0x7FFF0000, 0x80000024, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x7FFFFFF0, 0xFFFFFFFF, 0xFFFFFF00]


@case(KIND, "data size {} in a file that goes on", {f"{size:#x}": size for size in OPEN})
def open_data_size(place: Place, size: int) -> None:
    row = _as_whole(_judge(place, riff(fmt(), chunk(b"data", samples(), size))))
    expect(row.remark or size == 0xFFFFFFFF, "a remark", row.values)


@case(KIND, "RIFF size {}", {f"{size:#x}": size for size in (0, 36, 0x7FFFF000, 0xFFFFFFFF)})
def open_riff_size(place: Place, size: int) -> None:
    _as_whole(_judge(place, riff(fmt(), chunk(b"data", samples()), size=size)))


@case(KIND, "both sizes 0, as a crash leaves them")
def both_sizes_zero(place: Place) -> None:
    row = _as_whole(_judge(place, riff(fmt(), chunk(b"data", samples(), 0), size=0)))
    expect(row.remark, "a remark", row.values)


@case(KIND, "data size {} with nothing behind it", {f"{size:#x}": size for size in (0, 0x7FFFF000, 0x80000000)})
def open_size_without_samples(place: Place, size: int) -> None:
    _refused(_judge(place, riff(fmt(), chunk(b"data", b"", size))))


CUT: dict[str, Callable[[], bytes]] = {
    "RIFF": lambda: riff(fmt(), chunk(b"data", samples()))[:100_000],
    "RF64": lambda: rf64(cut=100_000),
    "BW64": lambda: rf64(b"BW64", cut=100_000),
    "RF64 in its ds64": lambda: rf64()[:30],
    "RIFX": lambda: _rifx()[:100_000],
    "W64": lambda: sounds.wav_bytes(sounds.machine("header"), kind="W64")[:100_000],
    "AIFF": lambda: sounds.wav_bytes(sounds.machine("header"), kind="AIFF")[:100_000],
    "flac": lambda: sounds.wav_bytes(sounds.machine("header"), kind="FLAC")[:60_000],
    "caf": lambda: sounds.wav_bytes(sounds.machine("header"), kind="CAF")[:100_000],
    "au": lambda: sounds.wav_bytes(sounds.machine("header"), kind="AU")[:100_000],
}
SUFFIXES = {"W64": "w64", "AIFF": "aiff", "flac": "flac", "caf": "caf", "au": "au"}


def _rifx() -> bytes:
    """The clip with the numbers of a big-endian machine."""
    data = np.frombuffer(samples(), "<i2").astype(">i2").tobytes()
    form = b"fmt " + struct.pack(">IHHIIHH", 16, 1, 2, sounds.RATE, sounds.RATE * 4, 4, 16)
    content = b"WAVE" + form + b"data" + struct.pack(">I", len(data)) + data
    return b"RIFX" + struct.pack(">I", len(content)) + content


@case(KIND, "cut {} is refused", {name: name for name in CUT})
def cut_file(place: Place, name: str) -> None:
    file = f"odd.{SUFFIXES.get(name, 'wav')}"
    _refused(_judge(place, CUT[name](), file), file)


RATES = [2_147_483_647, 0xFFFFFFFF, 100_000_000, 1, 7, 0]


@case(KIND, "a rate of {} Hz", RATES)
def absurd_rate(place: Place, rate: int) -> None:
    _refused(_judge(place, riff(fmt(rate), chunk(b"data", samples()))))


@case(KIND, "{} channels", [0, 65535, 1000])
def absurd_channels(place: Place, channels: int) -> None:
    found = _judge(place, riff(fmt(channels=channels), chunk(b"data", samples())))
    row = found.row("odd.wav")
    expect(row.error or row.decision == "UNUSABLE", "an error, or a broken sensor", row.values)
    expect(found.ended.status in (1, 4), "exit status 1 or 4", found.ended.status)


@case(KIND, "0 bits")
def no_bits(place: Place) -> None:
    _refused(_judge(place, riff(fmt(bits=0), chunk(b"data", samples()))))


SUBTYPES = {
    "24 bits": ("PCM_24", "WAV", 0.1),
    "32 bits": ("PCM_32", "WAV", 0.1),
    "float": ("FLOAT", "WAV", 0.1),
    "float64": ("DOUBLE", "WAV", 0.1),
    "extensible": ("PCM_16", "WAVEX", 0.1),
    "extensible, 24 bits": ("PCM_24", "WAVEX", 0.1),
    "ADPCM of Microsoft": ("MS_ADPCM", "WAV", 1e9),
    "ADPCM of IMA": ("IMA_ADPCM", "WAV", 1e9),
    "A-law": ("ALAW", "WAV", 1e9),
    "mu-law": ("ULAW", "WAV", 1e9),
    "8 bits": ("PCM_U8", "WAV", 1e9),
}


@case(KIND, "coding {}", SUBTYPES)
def coding(place: Place, kind: tuple[str, str, float]) -> None:
    subtype, form, tolerance = kind
    found = _judge(place, sounds.wav_bytes(sounds.machine("header"), subtype=subtype, kind=form))
    row = found.row("odd.wav")
    expect(not row.error, "the file to be read", row.error)
    if tolerance < 1:
        _as_whole(found, tolerance=tolerance)
    else:
        expect(row.remark or row.decision == NORMAL, "a remark at an alarm", row.values)


@case(KIND, "mp3 in a file named {}", ["odd.wav", "odd.flac", "odd.raw"])
def mp3_by_another_name(place: Place, name: str) -> None:
    content = sounds.wav_bytes(sounds.machine("header"), subtype="MPEG_LAYER_III", kind="MP3")
    row = _judge(place, content, name).row(name)
    expect(row.error or "mp3" in row.remark, "a remark that it is mp3", row.values)


@case(KIND, "samples without a header, named {}", ["odd.raw", "odd.pcm", "odd.wav"])
def samples_without_a_header(place: Place, name: str) -> None:
    _refused(_judge(place, samples(), name), name)


@case(KIND, "left by a writer that has not closed it: {}", ["AIFF", "CAF", "W64", "RF64", "AU", "WAV"])
def unclosed_file(place: Place, kind: str) -> None:
    path = place / "left.bin"
    with soundfile.SoundFile(path, "w", sounds.RATE, 2, format=kind, subtype="PCM_16") as file:
        file.write(sounds.machine("header").T)
        file.flush()
        content = path.read_bytes()
    row = _as_whole(_judge(place, content, "odd.wav"), tolerance=0.01)
    expect(row.remark, "a remark", row.values)


def _info() -> bytes:
    return chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"recorder 1.0\0"))


WITH_CHUNKS: dict[str, Callable[[], bytes]] = {
    "an odd chunk with its pad": lambda: riff(fmt(), chunk(b"note", b"odd"), chunk(b"data", samples())),
    "junk before fmt": lambda: riff(chunk(b"JUNK", bytes(28)), fmt(), chunk(b"data", samples())),
    "LIST after data": lambda: riff(fmt(), chunk(b"data", samples()), _info()),
    "LIST before data": lambda: riff(fmt(), _info(), chunk(b"data", samples())),
    "bext of a broadcaster": lambda: riff(chunk(b"bext", bytes(602)), fmt(), chunk(b"data", samples())),
    "fact and cue": lambda: riff(fmt(), chunk(b"fact", bytes(4)), chunk(b"cue ", bytes(4)), chunk(b"data", samples())),
    "rubbish behind the end": lambda: riff(fmt(), chunk(b"data", samples())) + b"rubbish" * 11,
    "fmt of 18 bytes": lambda: riff(chunk(b"fmt ", fmt()[8:] + bytes(2)), chunk(b"data", samples())),
    "a wrong byte rate": lambda: riff(fmt()[:16] + b"\1\0\0\0" + fmt()[20:], chunk(b"data", samples())),
    "numbers of a big-endian machine": _rifx,
    "RF64": rf64,
    "BW64": lambda: rf64(b"BW64"),
}


@case(KIND, "with {}", {name: name for name in WITH_CHUNKS})
def with_chunks(place: Place, name: str) -> None:
    _as_whole(_judge(place, WITH_CHUNKS[name]()))


@case(KIND, "an open data size before a LIST chunk")
def open_size_before_list(place: Place) -> None:
    found = _judge(place, riff(fmt(), chunk(b"data", samples(), 0x7FFFF000), _info()))
    _as_whole(found, tolerance=2.0)  # the few bytes of the list may sound as a click


@case(KIND, "training clips with an open data size")
def open_size_in_training(place: Place) -> None:
    for number in range(4):
        file = f"mill/train/section_00_source_train_normal_{number:04d}_load_1.wav"
        (place / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (place / "data" / file).write_bytes(riff(fmt(), chunk(b"data", samples(number), 0x7FFFF000)))
    sounds.put(place / "data/mill/test/section_00_0000.wav", sounds.machine("x"))
    ended = run("prepare", place / "data", "--out", place / "manifest.csv")
    well(ended)
    rows = (place / "manifest.csv").read_text()
    expect(rows.count(",64000,") == 5, "five whole clips in the manifest", rows)


@case(KIND, "a training clip with a rate of {} Hz", [2_147_483_647, 1])
def absurd_rate_in_training(place: Place, rate: int) -> None:
    sounds.corpus(place / "data", {"mill": (3, 0, 1, 1)}, 1.0, ("source",))
    odd = place / "data/mill/train/section_00_source_train_normal_0009_load_1.wav"
    odd.write_bytes(riff(fmt(rate), chunk(b"data", samples())))
    with little_memory():
        ended = run("run", "--exp", place / "exp", "--conf", place.bases.conf(), "--data", place / "data")
    no_traceback(ended)
    expect(ended.status == 1 and odd.name in ended.err, "a line that names the file", ended.err)
    expect(not (place / "exp/stages/0_data.json").is_file(), "the refusal at stage 0", ended.text)
