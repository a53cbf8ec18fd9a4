"""Anomalous sound detection for one machine in one file: what the main recipe does in ten stages, without stages.

    python recipes/one_machine/one_machine.py NORMAL_FOLDER RECORDING... [--false-alarms 0.1]

NORMAL_FOLDER holds at least ten recordings of the machine running well; each RECORDING is then scored and judged.

Read the file from top to bottom. Every step is the plain form of what the library does faster, for many machines, with
domains, adaptation and two microphones; docs/formulas.md has the library's function for each formula.
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
MIN_RECORDINGS = 10  # fewer give no meaningful threshold
LOG_FLOOR = 1e-10  # keeps the logarithm of digital silence finite


# 1. Read: one channel, at one rate.


def read_wave(path: Path) -> np.ndarray:
    """The first channel of a recording at ``RATE``, float32 (samples,)."""
    wave, rate = audio.read(path)
    return audio.resample(wave[:1], rate, RATE)[0]


# 2. Describe: one vector per recording, in two ways that miss different faults.


@cache
def mel_filters() -> np.ndarray:
    """Triangular filters (BANDS, WINDOW // 2 + 1) with centres evenly spaced in mel: narrow at low frequencies."""
    top = 2595.0 * np.log10(1.0 + RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, BANDS + 2) / 2595.0) - 1.0)
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def spectrum(wave: np.ndarray) -> np.ndarray:
    """The mean over time of the log-mel spectrogram (BANDS,): steady tones and hiss."""
    wave = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(power @ mel_filters().T + LOG_FLOOR).mean(axis=0)


def make_embedder():
    """The pre-trained encoder of the project, as a function from a wave to the mean over time of its tokens (dim,)."""
    encoder = Fisher.load(cards.find_checkpoint("default", Path("checkpoints")))

    @torch.inference_mode()
    def embed(wave: np.ndarray) -> np.ndarray:
        tokens = encoder(encoder.spectrogram(torch.from_numpy(wave)[None], RATE))
        return tokens.grid[0].mean(0).flatten().numpy().astype(np.float64)  # frequencies apart

    return embed


# 3. Score: the distance to the normal recordings.


def mahalanobis(x: np.ndarray, normal: np.ndarray) -> float:
    """sqrt((x - mean)' C^-1 (x - mean)); C is the covariance of Ledoit and Wolf, made for few clips of many numbers."""
    fitted = LedoitWolf().fit(normal)
    difference = x - fitted.location_
    return float(np.sqrt(difference @ fitted.precision_ @ difference))


def nearest(x: np.ndarray, normal: np.ndarray) -> float:
    """1 - cosine similarity to the most similar normal recording."""
    cosines = normal @ x / (np.linalg.norm(normal, axis=1) * np.linalg.norm(x))
    return float(1.0 - cosines.max())


def leave_one_out(score, normal: np.ndarray) -> np.ndarray:
    """Score of each normal recording against the others (N,); with itself among them its score would be too low."""
    return np.array([score(row, np.delete(normal, i, axis=0)) for i, row in enumerate(normal)])


# 4. Calibrate: put both scores on one scale, by normal recordings alone.


def robust_z(reference: np.ndarray):
    """(s - median) / (1.4826 MAD) as a function of s; a few outliers among the references do not change it."""
    median = np.median(reference)
    deviation = 1.4826 * np.median(np.abs(reference - median))
    return lambda s: (s - median) / max(deviation, 0.01 * abs(median), np.finfo(float).tiny)


# 5. Fuse and decide.


class Detector:
    """Fitted to the waves of normal recordings; has a ``threshold`` for the results of ``score``."""

    def __init__(self, normal: list[np.ndarray], false_alarms: float):
        branches = [(spectrum, mahalanobis), (make_embedder(), nearest)]
        self.branches, fused = [], np.zeros(len(normal))
        for describe, score in branches:
            rows = np.stack([describe(wave) for wave in normal])
            reference = leave_one_out(score, rows)
            z = robust_z(reference)
            self.branches.append((describe, score, rows, z))
            fused += z(reference) / len(branches)
        # The share ``false_alarms`` of normal recordings scores above the threshold.
        self.threshold = float(np.quantile(fused, 1.0 - false_alarms))

    def score(self, wave: np.ndarray) -> float:
        """Mean of the branches' z-scores: about 0 for a usual recording, above 3 for a very unusual one."""
        return float(np.mean([z(score(describe(wave), rows)) for describe, score, rows, z in self.branches]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Judges recordings of one machine.")
    parser.add_argument("normal", type=Path, help="folder of recordings of the machine running well")
    parser.add_argument("recordings", type=Path, nargs="+", help="recordings to be judged")
    parser.add_argument("--false-alarms", type=float, default=0.1, help="share of normal recordings (0.1)")
    args = parser.parse_args()
    try:
        paths = sorted(path for path in args.normal.iterdir() if path.suffix.lower() in audio.EXTENSIONS)
        if len(paths) < MIN_RECORDINGS:
            raise WheeltapperError(f"{args.normal}: expected at least {MIN_RECORDINGS} recordings, found {len(paths)}")
        detector = Detector([read_wave(path) for path in paths], args.false_alarms)
        for path in args.recordings:
            score = detector.score(read_wave(path))
            print(f"{path}\t{score:.3f}\t{'ANOMALY' if score > detector.threshold else 'normal'}")
    except (WheeltapperError, OSError) as error:
        print(f"one_machine.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
