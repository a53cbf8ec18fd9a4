"""Machines that hum, drift and break, made by formulas of their own: independent of the program's simulation."""

import io
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample

RATE = 16000
SECONDS = 4.0  # of a reference
PAD = 1.0  # seconds by which a wave is mirrored before it is resampled by FFT, which takes it for periodic
# Speed in Hz, level of the noise and its corner frequency, of a machine in both domains.
MACHINES = {
    ("mill", "source"): (58.0, 0.030, 1500.0),
    ("mill", "target"): (71.0, 0.045, 1900.0),
    ("saw", "source"): (113.0, 0.020, 2600.0),
    ("saw", "target"): (131.0, 0.028, 2200.0),
}


def machine(
    seed: object,
    seconds: float = SECONDS,
    name: str = "mill",
    domain: str = "source",
    fault: bool | tuple[float, float] = False,
    channels: int = 2,
    rate: int = RATE,
) -> np.ndarray:
    """A recording: harmonics of a speed, coloured noise that breathes, another noise that the far channel hears more.

    Args:
        seed: anything with a text.
        seconds: length.
        name, domain: key of ``MACHINES``; digits after the name make another machine of the kind.
        fault: whether a damaged bearing rings, or from when to when in seconds.
        channels: near, far, and further copies of the room.
        rate: sampling rate in Hz; there is sound up to half of it.

    Returns:
        (channels, samples), float64, peak below 0.9.
    """
    dice = np.random.default_rng(list(f"{seed} {name} {domain}".encode()))
    count = round(seconds * rate)
    time = np.arange(count) / rate
    speed, level, corner = MACHINES[name.rstrip("0123456789"), domain]
    speed *= 1 + 0.002 * dice.standard_normal()
    hum = sum(
        _decibels(dice, 0.5) * 0.04 / order**0.8 * np.sin(2 * np.pi * order * speed * time + dice.uniform(0, 2 * np.pi))
        for order in range(1, 13)
    )
    level *= _decibels(dice, 0.3)
    breath = 1 + 0.2 * np.sin(2 * np.pi * 3.1 * time + dice.uniform(0, 2 * np.pi))
    near = hum + level * breath * _noise(dice, count, rate, corner)
    if fault is not False:
        near += _fault(dice, time, (0.0, seconds) if fault is True else fault)
    rooms = [0.015 * _noise(dice, count, rate, 700.0) for _ in range(max(1, channels - 1))]
    waves = [near + 0.3 * rooms[0], *(room + 0.1 * near for room in rooms)]
    return _decibels(dice, 0.2) * np.stack(waves[:channels])


def _decibels(dice: np.random.Generator, spread: float) -> float:
    """A random factor whose deviation is so many decibels."""
    return 10 ** (spread * dice.standard_normal() / 20)


def _noise(dice: np.random.Generator, count: int, rate: int, corner: float) -> np.ndarray:
    """Noise of deviation 1 that falls by 6 dB an octave above a corner, never by more than 24 dB."""
    spectrum = np.fft.rfft(dice.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    wave = np.fft.irfft(spectrum * (0.06 + 1 / np.sqrt(1 + (frequency / corner) ** 2)), count)
    return wave / wave.std()


def _fault(dice: np.random.Generator, time: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Blows of a damaged bearing: 23 a second, each a ringing at 3.3 kHz that dies within 5 ms."""
    phase = np.mod(time * 23 + dice.uniform(), 1) / 23
    wave = 0.12 * np.exp(-phase / 0.005) * np.sin(2 * np.pi * 3300 * phase)
    return wave * ((time >= span[0]) & (time < span[1]))


def at_rate(wave: np.ndarray, new_rate: int, rate: int = RATE) -> np.ndarray:
    """A wave (channels, samples) brought to another rate by FFT, mirrored at its ends; nothing is lost."""
    pad = min(round(PAD * rate), wave.shape[1] - 1)
    whole = np.pad(wave, ((0, 0), (pad, pad)), mode="reflect")
    count = round(whole.shape[1] * new_rate / rate)
    start = round(pad * new_rate / rate)
    return resample(whole, count, axis=1)[:, start : start + round(wave.shape[1] * new_rate / rate)]


def put(path: Path, wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", kind: str | None = None) -> Path:
    """Writes a wave (channels, samples); the format follows the name, or ``kind``, of libsndfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"format": kind} if kind else {}
    soundfile.write(path, np.ascontiguousarray(wave.T), rate, subtype=subtype, **options)
    return path


def wav_bytes(wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    """A wave (channels, samples) as the bytes of a file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.ascontiguousarray(wave.T), rate, subtype=subtype, format=kind)
    return buffer.getvalue()


def corpus(
    folder: Path,
    machines: dict[str, tuple[int, int, int, int]],
    seconds: float = SECONDS,
    domains: tuple[str, ...] = ("source", "target"),
    attributes: str = "load_1",
    **options: object,
) -> Path:
    """Recordings in the challenge's layout.

    Args:
        folder: where the machines' folders go.
        machines: name to training clips of source and of target, and normal and anomalous test clips of each domain.
        seconds: length of a clip.
        domains: those recorded.
        attributes: last part of the names.
        options: of ``machine``.
    """
    for name, (source, target, normal, anomaly) in machines.items():
        for domain in domains:
            counts = {"train_normal": {"source": source, "target": target}[domain]}
            counts |= {"test_normal": normal, "test_anomaly": anomaly}
            for kind, count in counts.items():
                for number in range(count):
                    wave = machine(
                        f"{kind}{number}",
                        seconds,
                        name,
                        domain,
                        fault=kind == "test_anomaly",
                        **options,  # type: ignore
                    )
                    file = f"section_00_{domain}_{kind}_{number:04d}_{attributes}.wav"
                    put(folder / name / kind.partition("_")[0] / file, wave, int(options.get("rate", RATE)))  # type: ignore
    return folder
