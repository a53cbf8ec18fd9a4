"""One machine from sound to decision, in one file: what the recipes do in ten stages, without stages.

    python recipes/one_machine/one_machine.py NORMAL_FOLDER RECORDING... [--false-alarms 0.1]

NORMAL_FOLDER holds recordings of the machine running well, at least ten; each RECORDING is then judged. Read it from
top to bottom: every step is the plain form of what the library does faster, for many machines, with domains and
adaptation.
The distance, for example, is system/scoring/mahalanobis.py, which leaves each recording out without a new fit.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.covariance import LedoitWolf

from system import audio
from system.encoders import cards
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

RATE = 16000  # Hz
WINDOW, HOP, BANDS = 1024, 512, 128  # samples, samples, mel bands
FEWEST = 10  # recordings from which a threshold means anything
EVERY_SOUND = 1e-10  # keeps the logarithm of digital silence finite


# 1. Hear: the near microphone, at one rate.


def listen(path: Path) -> np.ndarray:
    """The first channel of a recording at ``RATE``, float32 (samples,)."""
    wave, rate = audio.read(path)
    return audio.resample(wave[:1], rate, RATE)[0]


# 2. Describe: one vector per recording, in two ways that fail on different faults.


@cache
def mel_filters() -> np.ndarray:
    """Triangles (BANDS, WINDOW // 2 + 1) whose centres are evenly spaced in mel: narrow where hearing is sharp."""
    top = 2595.0 * np.log10(1.0 + RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, BANDS + 2) / 2595.0) - 1.0)
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def spectrum(wave: np.ndarray) -> np.ndarray:
    """The mean log-mel spectrum (BANDS,): what the machine sounds like on average. Hears steady tones and hiss."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(power @ mel_filters().T + EVERY_SOUND).mean(axis=0)


def embedder():
    """The encoder that ships with the project, as a function of a wave: its summary of the clip (dim,)."""
    encoder = Fisher.load(cards.find_checkpoint("default", Path("checkpoints")))

    @torch.inference_mode()
    def embed(wave: np.ndarray) -> np.ndarray:
        return encoder.embed(torch.from_numpy(wave)[None], RATE)[0].numpy().astype(np.float64)

    return embed


# 3. Score: how far from the normal recordings, in units of their own spread.


def mahalanobis(x: np.ndarray, normal: np.ndarray) -> float:
    """sqrt((x - mean)' C^-1 (x - mean)), the covariance C by Ledoit and Wolf: few clips, many numbers."""
    fitted = LedoitWolf().fit(normal)
    difference = x - fitted.location_
    return float(np.sqrt(difference @ fitted.precision_ @ difference))


def nearest(x: np.ndarray, normal: np.ndarray) -> float:
    """1 - cosine to the most similar normal recording."""
    cosines = normal @ x / (np.linalg.norm(normal, axis=1) * np.linalg.norm(x))
    return float(1.0 - cosines.max())


def without_each(score, normal: np.ndarray) -> np.ndarray:
    """Scores of the normal recordings (N,), each against the others: against itself it would look too good."""
    return np.array([score(row, np.delete(normal, i, axis=0)) for i, row in enumerate(normal)])


# 4. Calibrate: scores of different kinds become comparable, by normal recordings alone.


def robust_z(reference: np.ndarray):
    """(s - median) / (1.4826 MAD) as a function of s: a few odd references do not move it."""
    median = np.median(reference)
    deviation = 1.4826 * np.median(np.abs(reference - median))
    return lambda s: (s - median) / max(deviation, 0.01 * abs(median), np.finfo(float).tiny)


# 5. Decide.


class Detector:
    """Learns one machine from normal recordings, waves of ``listen``; then ``score`` and ``threshold``."""

    def __init__(self, normal: list[np.ndarray], false_alarms: float):
        ways = {"spectrum": (spectrum, mahalanobis), "encoder": (embedder(), nearest)}
        self.branches, fused = [], np.zeros(len(normal))
        for describe, score in ways.values():
            rows = np.stack([describe(wave) for wave in normal])
            reference = without_each(score, rows)
            z = robust_z(reference)
            self.branches.append((describe, score, rows, z))
            fused += z(reference) / len(ways)
        # Of ten normal recordings about one may raise an alarm, if that is asked for.
        self.threshold = float(np.quantile(fused, 1.0 - false_alarms))

    def score(self, wave: np.ndarray) -> float:
        """The mean of the branches' z-scores: 0 is a usual recording, 3 a very unusual one."""
        return float(np.mean([z(score(describe(wave), rows)) for describe, score, rows, z in self.branches]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Judges recordings of one machine.")
    parser.add_argument("normal", type=Path, help="folder of recordings of the machine running well")
    parser.add_argument("recordings", type=Path, nargs="+", help="recordings to be judged")
    parser.add_argument("--false-alarms", type=float, default=0.1, help="share of normal recordings (0.1)")
    args = parser.parse_args()
    try:
        paths = sorted(path for path in args.normal.iterdir() if path.suffix.lower() in audio.EXTENSIONS)
        if len(paths) < FEWEST:
            raise WheeltapperError(f"{args.normal}: expected at least {FEWEST} recordings, found {len(paths)}")
        detector = Detector([listen(path) for path in paths], args.false_alarms)
        for path in args.recordings:
            score = detector.score(listen(path))
            print(f"{path}\t{score:.3f}\t{'ANOMALY' if score > detector.threshold else 'normal'}")
    except (WheeltapperError, OSError) as error:
        print(f"one_machine.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
