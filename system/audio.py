"""Reading, writing and resampling of sound files; no other module opens sound files.

A waveform is float32 (channels, samples) with a sampling rate in Hz. Channel 0 is the near microphone, and channel 1,
if present, the far microphone.
"""

import hashlib
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from system.errors import WheeltapperError
from system.files import open_atomic
from system.resampling import official_resampler, resample, resampler

MAX_CHUNKS = 10_000  # chunks of a wav to read; real files have a few, zeros after a header look like one per 8 bytes
EXTENSIONS = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class AudioInfo:
    """Header of a sound file: sampling rate in Hz, channels, samples per channel."""

    rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def probe(path: str | os.PathLike) -> AudioInfo:
    """Reads the header of a sound file.

    Raises:
        WheeltapperError: the file is missing, empty, not a sound file, or (wav) shorter than its header says.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a sound file, found {'a folder' if path.is_dir() else 'nothing'}")
    size = path.stat().st_size
    if size == 0:
        raise WheeltapperError(f"{path}: expected a sound file, found an empty file (0 bytes)")
    missing = _missing_wav_bytes(path, size)
    if missing:
        raise WheeltapperError(
            f"{path}: truncated, the header promises {size + missing} bytes of file or more, found {size}"
        )
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error).splitlines()[0].split(": ")[-1].rstrip(".")
        raise WheeltapperError(
            f"{path}: expected a readable wav, flac or ogg file, found {size} bytes that are not ({reason})"
        ) from error
    if info.frames <= 0:
        raise WheeltapperError(f"{path}: expected sound, found a file of 0 samples")
    return AudioInfo(rate=int(info.samplerate), channels=int(info.channels), samples=int(info.frames))


def read(path: str | os.PathLike, start: int = 0, samples: int = -1) -> tuple[np.ndarray, int]:
    """Reads (part of) a sound file.

    Args:
        path: wav, flac or ogg file.
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
    info = probe(path)
    expected = info.samples - start if samples < 0 else samples
    try:
        with soundfile.SoundFile(str(path)) as file:
            if start:
                file.seek(start)
            wave = file.read(frames=expected, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise WheeltapperError(f"{path}: damaged, reading sample {start} and on failed ({error})") from error
    if len(wave) != expected:
        raise WheeltapperError(f"{path}: truncated, expected {expected} samples from {start}, found {len(wave)}")
    wave = np.ascontiguousarray(wave.T)
    bad = wave.size - int(np.isfinite(wave).sum())
    if bad:
        raise WheeltapperError(f"{path}: expected finite samples, found {bad} that are NaN or infinite")
    return wave, info.rate


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


def digest(path: str | os.PathLike) -> str:
    """128-bit hash of a file's content, as 32 hexadecimal digits; raises WheeltapperError if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file, found nothing") from error


def list_files(folder: str | os.PathLike) -> list[Path]:
    """Lists sound files in a folder and its subfolders, sorted by path, without hidden files."""
    folder = Path(folder)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )


def _missing_wav_bytes(path: Path, size: int) -> int:
    """Number of bytes missing at the end of a RIFF file according to its chunks; 0 for other formats.

    Checked here because libsndfile reads a truncated wav as a shorter clip, without an error.
    """
    with open(path, "rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        position = 12
        for _ in range(MAX_CHUNKS):
            if position + 8 > size:
                break
            file.seek(position)
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                # Streaming writers store 0 or 0xFFFFFFFF if the length is unknown.
                return 0 if length in (0, 0xFFFFFFFF) else max(0, position + 8 + length - size)
            position += 8 + length + length % 2
    return 0
