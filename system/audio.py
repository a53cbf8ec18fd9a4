"""Reading, writing and resampling of sound files; no other module opens sound files.

A waveform is float32 (channels, samples) with a sampling rate in Hz. Channel 0 is the near microphone, and channel 1,
if present, the far microphone, unless the configuration names others (``system.waveforms``).
"""

import contextlib
import hashlib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import soundfile

from system import sound_headers
from system.errors import WheeltapperError
from system.files import open_atomic, remembered, walk
from system.resampling import official_resampler, resample, resampler

__all__ = [
    "EXTENSIONS",
    "AudioInfo",
    "SoundReader",
    "coding_loss",
    "digest",
    "list_files",
    "nothing_found",
    "official_resampler",
    "other_sounds",
    "probe",
    "read",
    "resample",
    "resampler",
    "warn_of_others",
    "write",
    "write_float",
]

log = logging.getLogger(__name__)

EXTENSIONS = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".bw64",
)  # fmt: skip
# What codings of libsndfile lose: those whose name starts, or ends, so.
COMPRESSED = {
    "MPEG_LAYER": "mp3", "VORBIS": "vorbis", "OPUS": "opus", "ULAW": "mu-law", "ALAW": "A-law", "GSM610": "gsm",
    "ADPCM": "ADPCM", "G721": "ADPCM", "G723": "ADPCM",
}  # fmt: skip
LOSSY = (".ogg", ".oga", ".opus", ".mp3")
EIGHT_BITS = ("PCM_U8", "PCM_S8", "DPCM_8")
# Sound that libsndfile cannot read.
OTHER_EXTENSIONS = (
    ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".amr", ".awb", ".3gp", ".3ga", ".ac3", ".ape", ".wv", ".tta", ".mpc",
    ".mp2", ".mka", ".webm", ".weba", ".ra", ".dsf", ".dff", ".pcm", ".raw", ".gsm",
)  # fmt: skip
HEADERLESS = (".pcm", ".raw")
TABLES = (".csv", ".tsv")
OF_TABLES = "; wheeltapper convert TABLES OUT --rate HZ makes recordings of tables of samples"
READABLE = "wav, flac, ogg, opus, mp3, aiff, au, caf, w64 or rf64"
SAMPLES_PER_BYTE = 8192  # of the densest compression: flac of silence has 65,535 samples in about 10 bytes
BLOCK = 1 << 20  # samples decoded at a time to count them
DIGEST = "blake2b-128"
HASHED = 1 << 20  # bytes hashed at a time
COUNTED = 4096  # numbers of samples kept of files that had to be counted
SHOWN = 3

_counts: dict[tuple[Path, int, int], int] = {}  # by path, size and time of modification


@dataclass(frozen=True)
class AudioInfo:
    """Header of a sound file: sampling rate in Hz, channels, samples per channel, and what is doubtful about it."""

    rate: int
    channels: int
    samples: int
    note: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


class SoundReader:
    """A sound file that is opened once: what its header says, its samples, and the hash of its content.

    Example:
        >>> with audio.SoundReader("clip.wav") as sound:
        ...     wave, digest = sound.read(), sound.digest()
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Reads the header; nothing is allocated that depends on its numbers.

        Raises:
            WheeltapperError: see ``probe``.
        """
        self.path = path = Path(path)
        if not path.is_file():
            raise WheeltapperError(f"{path}: expected a sound file, found {'a folder' if path.is_dir() else 'nothing'}")
        if path.stat().st_size == 0:
            raise WheeltapperError(f"{path}: expected a sound file, found an empty file (0 bytes)")
        with contextlib.ExitStack() as held:
            self._file: BinaryIO = held.enter_context(open(path, "rb"))
            self._about = os.fstat(self._file.fileno())
            self._header, counted = self._read_header()
            self._decoder = held.enter_context(self._decode())
            self._next = 0  # sample that the decoder is at
            self.info = self._checked(counted)
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def read(self, start: int = 0, samples: int = -1) -> np.ndarray:
        """Part of the samples, float32 (channels, samples); see ``audio.read``."""
        expected = self.info.samples - start if samples < 0 else samples
        try:
            if start != self._next:
                self._decoder.seek(start)
            self._next = start + expected
            wave = self._decoder.read(frames=expected, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise WheeltapperError(f"{self.path}: damaged, reading sample {start} and on failed ({error})") from error
        if len(wave) != expected:
            raise WheeltapperError(
                f"{self.path}: truncated, expected {expected} samples from {start}, found {len(wave)}"
            )
        wave = np.ascontiguousarray(wave.T)
        bad = wave.size - int(np.count_nonzero(np.isfinite(wave)))
        if bad:
            raise WheeltapperError(f"{self.path}: expected finite samples, found {bad} that are NaN or infinite")
        return wave

    def digest(self) -> str:
        """See ``audio.digest``."""
        return remembered(self._file, DIGEST, self._digest) if hasattr(os, "pread") else digest(self.path)

    def _digest(self) -> str:
        hasher, position = _hasher(), 0
        while block := os.pread(self._file.fileno(), HASHED, position):  # the decoder keeps its place in the file
            hasher.update(block)
            position += len(block)
        return hasher.hexdigest()

    def _read_header(self) -> tuple[sound_headers.Header, int | None]:
        """The header, and the number of samples where only counting tells it."""
        header = sound_headers.check(self.path, self._about.st_size, self._file)
        if not header.counted:
            return header, None
        key = (self.path, self._about.st_size, self._about.st_mtime_ns)
        if key not in _counts:
            _counts[key] = self._count()
        while len(_counts) > COUNTED:
            _counts.pop(next(iter(_counts)), None)
        return sound_headers.with_total(header, _counts[key]), _counts[key]

    def _count(self) -> int:
        """Samples of a file whose header does not say their number."""
        total = 0
        try:
            with _opened(self.path, self._file, _Stream) as file:
                while found := len(file.read(BLOCK, dtype="float32")):
                    total += found
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise WheeltapperError(f"{self.path}: damaged, reading sample {total} and on failed ({error})") from error
        return total

    def _decode(self) -> soundfile.SoundFile:
        try:
            return _opened(self.path, self._file, patches=self._header.patches)
        except (soundfile.SoundFileError, RuntimeError) as error:
            reason = str(error).splitlines()[0].split(": ")[-1].rstrip(".")
            reason = f" ({reason})" * bool(reason)
            raise WheeltapperError(
                f"{self.path}: expected a readable {READABLE} file, found {self._about.st_size} bytes that are "
                f"not{reason}{_advice(self.path)}"
            ) from error

    def _checked(self, counted: int | None) -> AudioInfo:
        rate, channels, samples = (int(getattr(self._decoder, name)) for name in ("samplerate", "channels", "frames"))
        sound_headers.check_rate(self.path, rate)
        samples = samples if counted is None else counted
        if samples <= 0:
            raise WheeltapperError(f"{self.path}: expected sound, found a file of 0 samples")
        if samples > SAMPLES_PER_BYTE * self._about.st_size:
            raise WheeltapperError(
                f"{self.path}: truncated, the header promises {samples} samples, found {self._about.st_size} bytes of "
                "file"
            )
        return AudioInfo(rate, channels, samples, self._header.note)


def _opened(
    path: Path,
    file: BinaryIO,
    kind: type[soundfile.SoundFile] = soundfile.SoundFile,
    patches: sound_headers.Patches = (),
) -> soundfile.SoundFile:
    """A decoder of an open file, in which some bytes are mended.

    It is opened by its name where the content does not say what it is, or the system has no other way.
    """
    file.seek(0)
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # beneath the buffer too
    if patches or path.suffix.lower() == ".raw":  # which soundfile takes for samples without a header
        return kind(sound_headers.PatchedFile(file, patches))
    if os.name != "nt":
        with contextlib.suppress(soundfile.SoundFileError):
            return kind(file.fileno(), closefd=False)
    return kind(_name(path))


def probe(path: str | os.PathLike) -> AudioInfo:
    """Reads the header of a sound file; nothing is allocated that depends on its numbers.

    Raises:
        WheeltapperError: the file is missing, empty, not a sound file, shorter than its header says, or its sampling
            rate is impossible.
    """
    with SoundReader(path) as sound:
        return sound.info


def coding_loss(path: str | os.PathLike) -> str:
    """What the coding of a sound file lost, in words; empty for nothing. Of a file that is gone the name tells it."""
    path = Path(path)
    if not path.is_file():
        return f"{path.suffix[1:].lower()}, compressed with loss" * (path.suffix.lower() in LOSSY)
    try:
        with open(path, "rb") as file, _opened(path, file) as sound:
            subtype = sound.subtype
    except (soundfile.SoundFileError, RuntimeError, OSError):
        return ""
    if subtype in EIGHT_BITS:
        return "8 bits a sample"
    name = next((name for part, name in COMPRESSED.items() if part in subtype), "")
    return f"{name}, compressed with loss" * bool(name)


def _advice(path: Path) -> str:
    if path.suffix.lower() in TABLES:
        return OF_TABLES
    return f"; convert it: {_conversion(path.name)}" if path.suffix.lower() in OTHER_EXTENSIONS else ""


def _conversion(name: str) -> str:
    form = "-f s16le -ar HZ -ac CHANNELS " * (Path(name).suffix.lower() in HEADERLESS)
    return f"ffmpeg {form}-i {name} {Path(name).stem}.wav"


class _Stream(soundfile.SoundFile):
    """A sound file that is read from its start to its end: without a length there is no seeking."""

    def seekable(self) -> bool:
        """False."""
        return False


def read(path: str | os.PathLike, start: int = 0, samples: int = -1) -> tuple[np.ndarray, int]:
    """Reads (part of) a sound file.

    Args:
        path: file of one of ``EXTENSIONS``, whatever its name.
        start: first sample.
        samples: number of samples to read, -1 for all.

    Returns:
        Waveform, float32 (channels, samples), in [-1, 1) for integer formats, and sampling rate in Hz.

    Raises:
        WheeltapperError: the file is missing, empty, damaged or too short, or contains NaN or infinity.

    Example:
        >>> wave, rate = audio.read("clip.wav")
        >>> near = wave[:1]
    """
    with SoundReader(path) as sound:
        return sound.read(start, samples), sound.info.rate


def write(path: str | os.PathLike, wave: np.ndarray, rate: int) -> None:
    """Writes a waveform as 16-bit PCM wav, atomically.

    Args:
        path: file to write.
        wave: (channels, samples) or (samples,) within [-1, 1].
        rate: sampling rate in Hz.

    Raises:
        WheeltapperError: a sample outside [-1, 1], which would be clipped.
    """
    path = Path(path)
    wave = np.atleast_2d(wave)
    peak = float(np.abs(wave).max(initial=0.0))
    if not peak <= 1.0:
        raise WheeltapperError(f"{path}: expected samples within [-1, 1], found a peak of {peak:.3g}")
    # 32768 would overflow int16 at exactly +1. Encoded in memory, because libsndfile would hide errors of the disk.
    encoded = io.BytesIO()
    soundfile.write(encoded, np.round(wave.T * 32767.0).astype(np.int16), rate, format="WAV", subtype="PCM_16")
    with open_atomic(path, "wb", durable=False) as file:
        file.write(encoded.getbuffer())


def write_float(path: str | os.PathLike, wave: np.ndarray, rate: int) -> None:
    """Writes a waveform (channels, samples) as float32 wav without scaling, atomically.

    Uses SciPy, because libsndfile would store the time of day in the file and so change its hash.
    """
    from scipy.io import wavfile

    encoded = io.BytesIO()
    wavfile.write(encoded, rate, np.ascontiguousarray(wave.T, np.float32))
    with open_atomic(path, "wb", durable=False) as file:
        file.write(encoded.getbuffer())


def digest(path: str | os.PathLike) -> str:
    """128-bit hash of a file's content, as 32 hexadecimal digits; raises WheeltapperError if there is no file."""
    try:
        with open(path, "rb") as file:
            return remembered(file, DIGEST, lambda: hashlib.file_digest(file, _hasher).hexdigest())
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file, found nothing") from error


def _hasher() -> Any:
    return hashlib.blake2b(digest_size=16)


def list_files(folder: str | os.PathLike) -> list[Path]:
    """Lists sound files in a folder and its subfolders, linked ones too, sorted by path, without hidden files.

    A warning through ``logging`` counts and names sound files of kinds that cannot be read.
    """
    paths = _visible(folder)
    warn_of_others(folder, paths)
    return sorted(path for path in paths if path.suffix.lower() in EXTENSIONS)


def _visible(folder: str | os.PathLike) -> list[Path]:
    """Files below a folder, without hidden ones. Links to nothing are among them: somebody misses what they led to."""
    found = (Path(root) / name for root, _, names in walk(folder) for name in names if not name.startswith("."))
    return [path for path in found if path.is_file() or not path.exists()]


def warn_of_others(folder: str | os.PathLike, paths: Iterable[Path]) -> None:
    """Logs a warning of the sound files among ``paths`` that no reader knows, if there are any."""
    if text := other_sounds(paths):
        log.warning("%s: %s", folder, text)


def nothing_found(folder: str | os.PathLike) -> WheeltapperError:
    """Exception for a folder without a sound file that can be read; says what else it holds."""
    inside = _visible(folder)
    kinds = Counter(path.suffix.lower() or "without extension" for path in inside).most_common(SHOWN)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds)
    advice = OF_TABLES if any(path.suffix.lower() in TABLES for path in inside) else ""
    return WheeltapperError(
        f"{folder}: expected {READABLE} files, found none{f' (but {found})' * bool(found)}"
        f"{f'; {other_sounds(inside)}' * bool(other_sounds(inside))}{advice}"
    )


def _name(path: str | os.PathLike) -> str | bytes:
    """The name as soundfile opens it: where names are bytes they need not be UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def other_sounds(paths: Iterable[Path]) -> str:
    """Counts and names the files of other kinds, with advice; empty if there are none."""
    names = sorted(path.name for path in paths if path.suffix.lower() in OTHER_EXTENSIONS)
    if not names:
        return ""
    more = ", ..." if len(names) > SHOWN else ""
    return (
        f"{len(names)} file{'s' * (len(names) > 1)} of other kinds left out: {', '.join(names[:SHOWN])}{more}; convert "
        f"them to wav or flac, such as: {_conversion(names[0])}"
    )
