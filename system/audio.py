"""Reading, writing and resampling of sound files; no other module opens sound files.

A waveform is float32 (channels, samples) with a sampling rate in Hz. Channel 0 is the near microphone, and channel 1,
if present, the far microphone.
"""

import hashlib
import io
import math
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from system.errors import WheeltapperError
from system.files import open_atomic, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

LARGEST_RATIO = 2_000_000  # of new_rate * rate / gcd^2; above, torchaudio's kernel takes too much memory
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


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples a waveform (windowed sinc with torchaudio's defaults; kernels are cached).

    Args:
        wave: float32 (channels, samples).
        rate: sampling rate in Hz.
        new_rate: sampling rate in Hz of the result.

    Returns:
        Float32 (channels, ceil(samples * new_rate / rate)).

    Raises:
        WheeltapperError: a sampling rate below 1 Hz.
    """
    if rate == new_rate:
        return wave
    import torch

    with torch.inference_mode():
        return resampler(rate, new_rate)(torch.from_numpy(wave)).numpy()


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Function that resamples tensors (..., samples), with a cached kernel.

    Sampling rates with a large least common multiple (44,101 and 16,000 Hz) would need a kernel of gigabytes. They use
    SciPy's polyphase filter (Kaiser window) instead, without gradients.

    Raises:
        WheeltapperError: a sampling rate below 1 Hz.
    """
    if min(rate, new_rate) < 1:
        raise WheeltapperError(f"rate: expected a number of Hz above zero, found {min(rate, new_rate)}")
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    if up * down <= LARGEST_RATIO:
        return lambda wave: _windowed_sinc(rate, new_rate, wave.device)(wave)

    import torch
    from scipy.signal import firwin, resample_poly

    # SciPy's default low-pass filter for these factors, which it would otherwise design at every call.
    taps = firwin(20 * max(up, down) + 1, 1.0 / max(up, down), window=("kaiser", 5.0)).astype(np.float32)

    def polyphase(wave: torch.Tensor) -> torch.Tensor:
        resampled = resample_poly(wave.detach().cpu().numpy(), up, down, axis=-1, window=taps)
        return torch.from_numpy(resampled).to(wave.device, wave.dtype)

    return polyphase


@lru_cache(maxsize=32)
def _windowed_sinc(rate: int, new_rate: int, device: "torch.device") -> "torch.nn.Module":
    import torch
    import torchaudio

    with torch.inference_mode(False):  # cached tensors are used in training too
        return torchaudio.transforms.Resample(rate, new_rate).to(device)


def digest(path: str | os.PathLike) -> str:
    """128-bit hash of a file's content, as 32 hexadecimal digits; raises WheeltapperError if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file, found nothing") from error


def list_files(folder: str | os.PathLike) -> list[Path]:
    """Lists sound files in a folder and its subfolders, linked ones too, sorted by path, without hidden files."""
    return sorted(
        Path(root) / name
        for root, _, names in walk(folder)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS
        and not name.startswith(".")
        and os.path.isfile(os.path.join(root, name))
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
