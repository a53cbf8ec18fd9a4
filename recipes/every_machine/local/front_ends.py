"""What each front end leaves of a fault and of the noise, on mixtures whose parts are known.

near = machine + fault + noise. Gains and masks are found on the whole mixture and then applied to each part, so that
the parts of the output add up to it. Figures are means over 32 bands, evenly spaced in the logarithm of frequency, of
decibels: attenuation of the noise, loss of the fault, and their difference, the gain in fault-to-noise ratio.

With --layers also, for noise-aware layers of an encoder: the distance of the tokens from those of the signal without
noise, relative to that of the plain encoder; and the fault-to-noise ratio of mean tokens: their shift by the fault over
their spread by other noise, before and after.

Usage: front_ends.py --machines DIR --noise DIR --out FILE.csv [--clips N] [--layers FILE]
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from system import audio
from system.corpora.folder import write_rows
from system.corpora.simulation.acoustics import coloured_noise, draw_scene, generator, long_term_spectrum, power
from system.corpora.simulation.emulate import EmulateSettings, load_machine, render_parts
from system.corpora.simulation.machines import ringing
from system.corpora.simulation.noise import NoisePool
from system.errors import WheeltapperError
from system.frontends import farfield

RATE, SECONDS, BANDS = 16000, 6.0, 32
FAULT_DB = -6.0  # level relative to the machine
COLUMNS = ("front_end", "fault", "noise_db", "fault_db", "gain_db", "clips")
Parts = dict[str, np.ndarray]  # machine, fault, noise: (2, samples)


def faults(rng: np.random.Generator, samples: int) -> dict[str, np.ndarray]:
    """A tone, impacts on a resonance and steady noise in a band, each of unit power."""
    time = np.arange(samples) / RATE
    tone = np.sin(2 * np.pi * rng.uniform(300, 5000) * time)
    times = np.arange(rng.uniform(0, 0.2), time[-1], 1 / rng.uniform(3, 12))
    clicks = np.zeros(samples)
    clicks[(times * RATE).astype(int)] = rng.uniform(0.5, 1.0, len(times))
    hertz = rng.uniform(800, 5000, 2)
    impacts = np.convolve(clicks, ringing(hertz, np.array([0.01, 0.02]), np.ones(2), RATE))[:samples]
    centre = rng.uniform(500, 5000)
    shape = np.exp(-0.5 * (np.log2(np.maximum(np.linspace(0, RATE / 2, 513), 1) / centre) / 0.2) ** 2)
    band = coloured_noise(rng, samples, shape)[0]
    return {name: wave / np.sqrt(power(wave)) for name, wave in (("tone", tone), ("impacts", impacts), ("band", band))}


def mixtures(machines: list[Path], pool: NoisePool, clips: int, seed: int) -> list[tuple[str, Parts, np.ndarray]]:
    """Kind of fault, parts, and another noise (2, samples) of each clip; clips of a machine and fault share a room."""
    settings, samples = EmulateSettings(seed=seed, snr_low=-16, snr_high=-4), round(SECONDS * RATE)
    found = []
    for number in range(clips):
        rng = generator(seed, "front ends", number)
        scene = draw_scene(rng, RATE, settings.rt60, settings.sources)
        wave = np.resize(load_machine(machines[int(rng.integers(len(machines)))], RATE), samples)
        spectrum, snr_db = long_term_spectrum(wave, RATE), rng.uniform(settings.snr_low, settings.snr_high)

        def noisy() -> tuple[np.ndarray, np.ndarray]:
            waves, _ = pool.draw(rng, settings.sources, samples + scene.taps - 1, RATE)  # noqa: B023
            return render_parts(rng, settings, scene, spectrum, wave, waves, snr_db)  # noqa: B023

        machine, noise = noisy()
        _, other = noisy()
        level = 10 ** (FAULT_DB / 20) * np.sqrt(power(wave))
        for name, fault in faults(rng, samples).items():
            part = scene.render_machine(np.pad(level * fault, (scene.taps - 1, 0), mode="wrap"))
            found.append((name, {"machine": machine, "fault": part, "noise": noise}, other))
    return found


def least_squares(
    n_fft: int, stretch: float = 0.0, taps: int = 1, balance: float = 0.0, coherence: bool = False
) -> Callable[[Tensor, Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """See ``farfield.subtract_far``; of spectra near and far, a function that takes parts of them."""
    half = max(1, round(stretch * RATE / (n_fft // 2) / 2)) if stretch else None

    def fit(near: Tensor, far: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        gains = farfield.gains(near, far, taps, half, farfield._weights(far, balance))
        way = "ftk,fk->ft" if half is None else "ftk,ftk->ft"

        def part(far: Tensor) -> Tensor:
            return torch.einsum(way, farfield._shifted(far, taps), gains)

        share = farfield.explained_share(near, part(far), half) if coherence else 1.0
        return lambda near, far: near - share * part(far)

    return fit


def mask(n_fft: int, stretch: float | None) -> Callable[[Tensor, Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Magnitude subtraction, with a gain from ``stretch`` seconds (0: the clip), or without one (None)."""
    half = max(1, round(stretch * RATE / (n_fft // 2) / 2)) if stretch else None

    def fit(near: Tensor, far: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        noise = far.abs() if stretch is None else farfield.explained(near.abs(), far.abs(), 1, half)
        gain = (1.0 - noise / near.abs().clamp(min=farfield.EPSILON)).clamp(min=farfield.GAIN_FLOOR)
        return lambda near, far: gain * near

    return fit


FRONT_ENDS = {
    "least squares 1024": (1024, least_squares(1024)),
    "least squares 2048": (2048, least_squares(2048)),
    "least squares 2048, 3 s": (2048, least_squares(2048, 3.0)),
    "least squares 2048, 1 s": (2048, least_squares(2048, 1.0)),
    "least squares 2048, 3 s, balance 1": (2048, least_squares(2048, 3.0, balance=1.0)),
    "least squares 2048, 3 s, coherence": (2048, least_squares(2048, 3.0, coherence=True)),
    "least squares 512, 3 taps": (512, least_squares(512, taps=3)),
    "magnitude 2048": (2048, mask(2048, None)),
    "scaled magnitude 2048": (2048, mask(2048, 0.0)),
    "scaled magnitude 2048, 3 s": (2048, mask(2048, 3.0)),
}


def band_levels(spectrum: Tensor) -> Tensor:
    """Levels in dB (BANDS,) of a spectrum (bins, frames), 100 Hz to 7 kHz."""
    bins = len(spectrum)
    edges = np.geomspace(100, 7000, BANDS + 1) / (RATE / 2) * (bins - 1)
    low = np.floor(edges[:-1]).astype(int)
    high = np.maximum(np.ceil(edges[1:]).astype(int), low + 1)
    energy = spectrum.abs().square().mean(1)
    return torch.stack([10 * energy[a:b].mean().clamp(min=1e-20).log10() for a, b in zip(low, high, strict=True)])


def attenuations(n_fft: int, fit: Callable, parts: Parts) -> tuple[float, float]:
    """Changes in dB of noise and fault; of the fault in the bands that hold most of it."""
    spectra = {name: farfield._stft(torch.from_numpy(wave.astype(np.float64)), n_fft, n_fft // 2)
               for name, wave in parts.items()}  # fmt: skip
    near, far = sum(each[0] for each in spectra.values()), sum(each[1] for each in spectra.values())
    apply = fit(near, far)
    change = {name: band_levels(apply(*each)) - band_levels(each[0]) for name, each in spectra.items()}
    level = band_levels(spectra["fault"][0])
    audible = level > level.max() - 10
    return float(change["noise"].mean()), float(change["fault"][audible].mean())


@torch.inference_mode()
def token_rows(file: Path, clips: list[tuple[str, Parts, np.ndarray]]) -> list[tuple]:
    """Rows of COLUMNS for an encoder with and without layers: distances of tokens in place of levels."""
    from system.encoders import cards, noise_aware
    from system.encoders.fisher import Fisher

    encoder = noise_aware.load(Fisher.load(cards.find_checkpoint("default", "")), file)
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}

    def grid(wave: np.ndarray, aware: bool) -> Tensor:
        gain = 0.03 / np.sqrt(power(parts["machine"][0] + parts["noise"][0]))
        near, *far = (
            encoder.spectrogram(torch.from_numpy((gain * each)[None].astype(np.float32)), RATE) for each in wave
        )
        return encoder(near, None, far[0] if aware else None).grid[0]

    for name, parts, other in clips:
        good, bad = parts["machine"], parts["machine"] + parts["fault"]
        clean = grid(good[:1], False)
        for front, wave in (("plain encoder", False), ("noise-aware layers", True), ("residual", False)):

            def make(wave_: np.ndarray) -> np.ndarray:
                if front != "residual":  # noqa: B023
                    return wave_
                return farfield.subtract_far(wave_.astype(np.float32), n_fft=2048, stretch=3 * RATE)

            normal = grid(make(good + parts["noise"]), wave)
            faulty = grid(make(bad + parts["noise"]), wave)
            again = grid(make(good + other), wave)
            distance = 20 * float(torch.log10((normal - clean).norm() / (clean - clean.mean((0, 1))).norm()))
            shift, spread = (float((normal.mean(0) - each.mean(0)).norm()) for each in (faulty, again))
            found.setdefault((f"tokens, {front}", name), []).append((distance, 20 * np.log10(shift / spread), 0.0))
    return [(*key, *_rounded(rows)[:1], "", _rounded(rows)[1], len(rows)) for key, rows in found.items()]


def _rounded(rows: Sequence[tuple[float, ...]]) -> list[float]:
    return [round(float(value), 2) for value in np.mean(rows, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Fault retention and noise attenuation of front ends.")
    parser.add_argument("--machines", type=Path, required=True, metavar="DIR", help="recordings of normal machines")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="recordings of noise")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="table to write, CSV")
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="mixtures of each fault (default: 40)")
    parser.add_argument("--layers", type=Path, metavar="FILE", help="noise-aware layers of the default encoder")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the mixtures (default: 0)")
    args = parser.parse_args()
    try:
        machines = audio.list_files(args.machines)
        noise = tuple(path.relative_to(args.noise).as_posix() for path in audio.list_files(args.noise))
        clips = mixtures(machines, NoisePool(args.noise, noise), args.clips, args.seed)
        rows = []
        for front, (n_fft, fit) in FRONT_ENDS.items():
            by_fault: dict[str, list[tuple[float, float]]] = {}
            for name, parts, _ in clips:
                by_fault.setdefault(name, []).append(attenuations(n_fft, fit, parts))
            for name, values in by_fault.items():
                noise_db, fault_db = _rounded(values)
                rows.append((front, name, noise_db, fault_db, round(fault_db - noise_db, 2), len(values)))
        rows += token_rows(args.layers, clips) if args.layers else []
        write_rows(args.out, COLUMNS, rows)
    except WheeltapperError as error:
        parser.exit(1, f"front_ends: {error}\n")


if __name__ == "__main__":
    main()
