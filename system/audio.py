"""The only place that opens sound files.

A waveform is float32 (channels, samples) with its own rate in Hz; channel 0 is the near microphone, channel 1, where
there is one, the far microphone.
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
from system.files import open_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

LARGEST_RATIO = 2_000_000  # of new_rate * rate / gcd^2, beyond which torchaudio's kernel takes too much memory
MAX_CHUNKS = 10_000  # of a wav looked at; real ones have a handful, zeros after a header would be one every 8 bytes
EXTENSIONS = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file declares: rate in Hz, channels, samples per channel."""

    rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def probe(path: str | os.PathLike) -> AudioInfo:
    """Reads the header of a sound file.

    Raises WheeltapperError where the file is missing, empty, not sound, or (wav) shorter than its header says.
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
        path: wav, flac or ogg.
        start: first sample.
        samples: number of samples to read, -1 for all.

    Returns:
        waveform float32 (channels, samples) in [-1, 1) for integer formats, and its rate in Hz.

    Raises WheeltapperError where the file is missing, empty, damaged, shorter than asked, or holds NaN or infinity.
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
    """Writes a waveform (channels, samples) as 16-bit PCM wav, whole or not at all.

    Raises WheeltapperError where a sample lies outside [-1, 1]: clipping silently would change the recording.
    """
    path = Path(path)
    wave = np.atleast_2d(wave)
    peak = float(np.abs(wave).max(initial=0.0))
    if not peak <= 1.0:
        raise WheeltapperError(f"{path}: expected samples within [-1, 1], found a peak of {peak:.3g}")
    # 32768 would overflow int16 at exactly +1. Encoded in memory: libsndfile would hide why a disk refuses.
    encoded = io.BytesIO()
    soundfile.write(encoded, np.round(wave.T * 32767.0).astype(np.int16), rate, format="WAV", subtype="PCM_16")
    with open_atomic(path, "wb", durable=False) as file:
        file.write(encoded.getbuffer())


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Band-limited resampling (windowed sinc, torchaudio's defaults) with one cached kernel per pair of rates.

    Args:
        wave: float32 (channels, samples).
        rate, new_rate: Hz.

    Returns:
        float32 (channels, ceil(samples * new_rate / rate)).

    Raises WheeltapperError for a rate below 1 Hz.
    """
    if rate == new_rate:
        return wave
    import torch

    with torch.inference_mode():
        return resampler(rate, new_rate)(torch.from_numpy(wave)).numpy()


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> "Callable[[torch.Tensor], torch.Tensor]":
    """What ``resample`` does as a function of tensors (..., samples), its kernel kept.

    Rates with a large least common multiple (44,101 and 16,000 Hz) would need a kernel of gigabytes and go through
    SciPy's polyphase filter instead (Kaiser window); no gradients flow through that.

    Raises WheeltapperError for a rate below 1 Hz.
    """
    if min(rate, new_rate) < 1:
        raise WheeltapperError(f"rate: expected a number of Hz above zero, found {min(rate, new_rate)}")
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    if up * down <= LARGEST_RATIO:
        return lambda wave: _windowed_sinc(rate, new_rate, wave.device)(wave)

    import torch
    from scipy.signal import firwin, resample_poly

    # SciPy's own low-pass for these factors, which it would otherwise design anew at every call.
    taps = firwin(20 * max(up, down) + 1, 1.0 / max(up, down), window=("kaiser", 5.0)).astype(np.float32)

    def polyphase(wave: torch.Tensor) -> torch.Tensor:
        resampled = resample_poly(wave.detach().cpu().numpy(), up, down, axis=-1, window=taps)
        return torch.from_numpy(resampled).to(wave.device, wave.dtype)

    return polyphase


@lru_cache(maxsize=32)
def _windowed_sinc(rate: int, new_rate: int, device: "torch.device") -> "torch.nn.Module":
    import torch
    import torchaudio

    with torch.inference_mode(False):  # what is cached must serve training too
        return torchaudio.transforms.Resample(rate, new_rate).to(device)


def digest(path: str | os.PathLike) -> str:
    """128-bit content hash of a file, as 32 hexadecimal digits; WheeltapperError where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file, found nothing") from error


def list_files(folder: str | os.PathLike) -> list[Path]:
    """Sound files directly in or anywhere below a folder, sorted by path; hidden files are passed over."""
    folder = Path(folder)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )


def _missing_wav_bytes(path: Path, size: int) -> int:
    """How many bytes the chunks of a RIFF file promise beyond its end; 0 for other formats and whole files.

    libsndfile reads a cut wav as a shorter clip without a word, so the chunk sizes are compared here.
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
                # Streaming writers leave 0 or 0xFFFFFFFF where the length was not known.
                return 0 if length in (0, 0xFFFFFFFF) else max(0, position + 8 + length - size)
            position += 8 + length + length % 2
    return 0
