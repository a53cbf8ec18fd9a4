"""Procedural corpus for pre-training: thousands of short synthetic scenes without licence restrictions.

Every clip has one to four sources (procedural_sources.py, procedural_machines.py) with random parameters at random
relative levels; it may be filtered, band-limited and reverberant, and has a random level and one of six sampling rates.
A clip depends on the seed and its number only.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import fft

from system import audio, manifest
from system.corpora import folder as folders
from system.corpora.simulation import procedural_machines, procedural_sources
from system.corpora.simulation.acoustics import coloured_noise, generator, smooth_response
from system.corpora.simulation.procedural_parts import (
    GRID,
    body,
    draw_out,
    envelope,
    log_uniform,
    noise,
    resonate,
    unit,
)
from system.errors import WheeltapperError
from system.files import write_json
from system.manifest import Clip

RECORD = "procedural.json"
MANIFEST = "manifest.csv"
VERSION = 1  # raised if the same settings and seed give different sound
RATES = {12000: 0.1, 16000: 0.5, 25600: 0.1, 32000: 0.1, 44100: 0.1, 48000: 0.1}  # Hz -> probability
LAYERS = (0.42, 0.32, 0.18, 0.08)  # probabilities of one, two, three and four sources in a clip
Source = Callable[[np.random.Generator, int, int], tuple[np.ndarray, dict]]
SOURCES: dict[str, tuple[Source, float]] = {  # each with its relative frequency as the main source of a clip
    "calls": (procedural_sources.calls, 0.14),
    "tones": (procedural_sources.tones, 0.08),
    "chirps": (procedural_sources.chirps, 0.07),
    "noises": (procedural_sources.noises, 0.10),
    "bells": (procedural_sources.bells, 0.08),
    "knocks": (procedural_sources.knocks, 0.10),
    "grains": (procedural_sources.grains, 0.10),
    "drops": (procedural_sources.drops, 0.05),
    "friction": (procedural_sources.friction, 0.05),
    "engine": (procedural_machines.engine, 0.06),
    "rotor": (procedural_machines.rotor, 0.06),
    "vibration": (procedural_machines.vibration, 0.07),
    "machine": (procedural_machines.machine, 0.05),
    "electric": (procedural_machines.electric, 0.04),
}
STRUCTURE_BORNE = ("vibration", "electric", "noises", "grains", "tones")  # sources that an accelerometer also picks up
QUIETEST, LOUDEST = -50.0, -3.0  # dB full scale, peak


@dataclass(frozen=True)
class ProceduralSettings:
    """Size of the corpus."""

    clips: int = 3000
    seconds: float = 5.0  # length of each clip


def synthesize_procedural(
    folder: str | Path,
    settings: ProceduralSettings,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the corpus: clips ``<kind>/clip_000000.wav`` (16 bit, one channel), manifest.csv and a record.

    The kind of the first source is the machine in the manifest; all clips are normal and for training. Clip k depends
    on the seed and k only. If the folder already contains the same corpus, nothing is done.

    Args:
        folder: missing, empty or written by an earlier call; in the last case it is replaced.
        settings: size of the corpus.
        seed: random seed.
        workers: number of threads; the result does not depend on it.
        progress: called with (clips done, total).

    Raises:
        WheeltapperError: setting out of range, or a folder with other content.
    """
    folder = Path(folder)
    _check(settings)
    identity = {"program": "procedural", "version": VERSION, "seed": seed, "settings": asdict(settings)}
    if (folder / MANIFEST).is_file() and folders.is_complete(folder, RECORD, identity):
        return
    with folders.replacing(folder, RECORD) as place:
        for kind in SOURCES:
            (place / kind).mkdir()

        def work(number: int) -> tuple[Clip, dict]:
            wave, rate, facts = render(seed, number, settings.seconds)
            kind = facts["kinds"][0]
            name = f"{kind}/clip_{number:06d}.wav"
            audio.write(place / name, wave, rate)
            return Clip(
                corpus="procedural",
                machine=kind,
                section="00",
                split="train",
                file=name,
                path=str(place / name),
                label="normal",
                channels=1,
                rate=rate,
                samples=len(wave),
                digest=audio.digest(place / name),
            ), facts

        clips, records = [], {}
        for number, (clip, facts) in folders.run_all(work, range(settings.clips), workers):
            clips.append(clip)
            records[clip.file] = facts
            if progress:
                progress(number + 1, settings.clips)
        manifest.write(place / MANIFEST, clips)
        write_json(place / RECORD, {"identity": identity, "clips": records})


def _check(settings: ProceduralSettings) -> None:
    if not 1 <= settings.clips <= 1_000_000:
        raise WheeltapperError(f"clips: expected 1 to 1000000, found {settings.clips}")
    if not 1 <= settings.seconds <= 60:
        raise WheeltapperError(f"seconds: expected 1 to 60, found {settings.seconds}")


def render(seed: int, number: int, seconds: float = 5.0) -> tuple[np.ndarray, int, dict]:
    """Renders a clip of the corpus.

    Args:
        seed: random seed.
        number: number of the clip.
        seconds: length.

    Returns:
        Float32 (samples,) within [-1, 1], sampling rate in Hz, and the random parameters: ``kinds`` of its sources,
        ``sources`` (facts about each), ``peak_db`` (dB full scale), ``reverb`` (seconds, 0 for none), ``clipped``.
    """
    rng = generator(seed, "procedural", number)
    rate = int(rng.choice(list(RATES), p=list(RATES.values())))
    samples = round(seconds * rate)
    kinds = _draw_kinds(rng)
    wave, sources = np.zeros(samples, dtype=np.float32), []
    for place, kind in enumerate(kinds):
        layer, facts = SOURCES[kind][0](rng, samples, rate)
        level = 1.0 if place == 0 else 10 ** (rng.uniform(-25, 3) / 20)
        if rng.random() < 0.35 and kinds[0] != "vibration":  # moving, switched or gusty sources
            layer = layer * draw_out(np.minimum(envelope(rng, seconds), 4), samples)
        wave += np.float32(level) * unit(layer)
        sources.append({name: round(v, 4) if isinstance(v, float) else v for name, v in facts.items()})
    if rng.random() < 0.06:  # begins and ends within the clip
        wave *= draw_out(np.minimum(envelope(rng, seconds), 3), samples)
    if rng.random() < 0.6:
        wave += np.float32(log_uniform(rng, 1e-4, 0.1)) * noise(rng, samples, rate)
    wave, reverb = _transmit(rng, wave, rate, structure=kinds[0] == "vibration")
    wave, peak_db, clipped = _record(rng, wave)
    facts = {"kinds": kinds, "sources": sources, "reverb": round(reverb, 3), "peak_db": round(peak_db, 2)}
    return wave, rate, facts | {"clipped": clipped}


def _draw_kinds(rng: np.random.Generator) -> list[str]:
    names = list(SOURCES)
    weights = np.array([weight for _, weight in SOURCES.values()])
    first = str(rng.choice(names, p=weights / weights.sum()))
    others = STRUCTURE_BORNE if first == "vibration" else names
    return [first, *(str(name) for name in rng.choice(others, rng.choice(len(LAYERS), p=LAYERS)))]


def _transmit(rng: np.random.Generator, wave: np.ndarray, rate: int, structure: bool) -> tuple[np.ndarray, float]:
    """Path from the sources to the recorder: structure or room, spectral tilt and colour, limits of the bandwidth.

    Returns:
        The waveform, and the reverberation time in seconds, 0 for none.
    """
    reverb = 0.0
    if structure and rng.random() < 0.6:
        modes = body(rng, rate, (3, 10), (200, 4000), (0.0005, 0.008))
        wave = unit(wave) + log_uniform(rng, 0.1, 5) * unit(resonate(wave, modes, rate))
    elif not structure and rng.random() < 0.5:
        reverb = log_uniform(rng, 0.05, 3.0)
    f = np.maximum(np.linspace(0, rate / 2, GRID), 10.0)
    gain = smooth_response(rng, rng.uniform(0, 8), GRID, rate)
    gain = gain * (f / 1000) ** (rng.normal(0, 2.5) / 6.02)
    if rng.random() < 0.4:
        gain = gain * (1 + (log_uniform(rng, 15, 600) / f) ** 4) ** -0.5
    if rng.random() < 0.25:  # bandwidth below that of the file
        edge = log_uniform(rng, 2000, rate / 2)
        gain = gain / (1 + np.minimum(f / edge, 10) ** log_uniform(rng, 4, 100))
    response = _room(rng, reverb, rate) if reverb else np.zeros(0, dtype=np.float32)
    size = fft.next_fast_len(len(wave) + len(response), real=True)
    spectrum = fft.rfft(wave, size)
    if reverb:
        spectrum *= 1 + fft.rfft(response, size)
    return fft.irfft(spectrum * draw_out(gain, len(spectrum)), size)[: len(wave)], reverb


def _room(rng: np.random.Generator, rt60: float, rate: int) -> np.ndarray:
    """Reverberation tail: decaying noise, faster at high frequencies, and some early echoes.

    The image-source method (acoustics.py) would cost more than the rest of the clip.
    """
    samples = int(rt60 * rate)
    t = np.arange(samples, dtype=np.float32) / rate
    low = coloured_noise(rng, samples, (1 + np.linspace(0, 10, 65) ** 2) ** -1.0)[0] * np.exp(-6.9 / rt60 * t)
    high = coloured_noise(rng, samples, np.ones(65))[0] * np.exp(-6.9 / rt60 * rng.uniform(1, 4) * t)
    echoes = rng.integers(0, max(2, int(min(rt60, 0.08) * rate)), 6)
    tail = low + rng.uniform(0.1, 1) * high
    tail /= np.sqrt(np.square(tail).sum())
    tail[echoes] += 0.3 * rng.standard_normal(6)
    tail[: int(rng.uniform(0, 0.02) * rate)] = 0
    return (log_uniform(rng, 0.05, 2.5) * tail).astype(np.float32)


def _record(rng: np.random.Generator, wave: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Sets the level; sometimes adds clipping or a section of digital silence.

    Returns:
        The waveform, its peak in dB full scale, and whether it clips.
    """
    peak = float(np.abs(wave).max())
    wave = wave / np.float32(max(peak, 1e-12))
    if peak < 1e-9 or rng.random() < 0.75:  # noise of the recorder
        wave = wave + log_uniform(rng, 3e-6, 3e-3) * rng.standard_normal(len(wave), dtype=np.float32)
        wave /= np.abs(wave).max()
    clipped = bool(rng.random() < 0.05)
    if clipped:
        wave = np.clip(wave * log_uniform(rng, 1.3, 8), -1, 1)
    if rng.random() < 0.06:
        start, stop = np.sort(rng.uniform(0, 1, 2))
        if rng.random() < 0.5:
            start = 0.0
        silent = slice(int(start * len(wave)), int(min(stop, start + 0.7) * len(wave)))
        if np.abs(np.delete(wave, silent)).max(initial=0.0) > 0.1:
            wave[silent] = 0
    peak_db = LOUDEST - (LOUDEST - QUIETEST) * rng.random() ** 1.5
    wave = wave * np.float32(10 ** (peak_db / 20) / np.abs(wave).max())
    return wave, peak_db, clipped
