"""Compares frozen encoders block by block on the development sets of make_sets.py, with equal pooling and scorers.

Embeddings are the means over time of a block's tokens, frequency kept. Scorers are the cosine distance to the nearest
reference and the Mahalanobis distance, of all references of a machine in one bank. A row of the table is the official
score of a kind of machine (without a target domain the harmonic mean of AUC and partial AUC), in percent.

Usage: encoder_blocks.py --sets SEED_DIR [--sets ...] --encoder NAME [--checkpoint FILE] --out CSV
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from system import audio, scoring
from system.config import EncoderConfig
from system.corpora.folder import write_rows
from system.encoders import load_encoder
from system.encoders.base import Encoder
from system.evaluation.metrics import harmonic_mean
from system.evaluation.roc import auc, partial_auc
from system.frontends.farfield import subtract_far

COLUMNS = ("encoder", "block", "scorer", "input", "kind", "seed", "score")
INPUTS = (("clean", "clean"), ("noisy", "near"), ("noisy", "residual"))  # folder, input
KINDS = {"cw": "propellers", "ccw": "propellers"}  # machines of one kind; others are kinds of their own
SCORERS = {"1-NN": ("knn", {"k": 1}), "Mahalanobis": ("mahalanobis", {})}


def read_input(path: Path, which: str) -> tuple[np.ndarray, int]:
    """Wave (1, samples) of an input, and its rate in Hz: the first channel, or what the far microphone leaves of it."""
    wave, rate = audio.read(path)
    if which == "residual":
        return subtract_far(wave, "least_squares", 2048, None, 1, 3 * rate), rate
    return wave[:1], rate


@torch.no_grad()
def embed(encoder: Encoder, files: Sequence[Path], which: str) -> dict[int, np.ndarray]:
    """Block to embeddings (files, bands * D)."""
    found: dict[int, list[np.ndarray]] = {block: [] for block in range(1, encoder.depth + 1)}
    for path in files:
        wave, rate = read_input(path, which)
        spectrogram = encoder.spectrogram(torch.from_numpy(np.ascontiguousarray(wave)), rate)
        for block, rows in found.items():
            rows.append(encoder(spectrogram, block).grid.mean(1).flatten().numpy())
    return {block: np.stack(rows) for block, rows in found.items()}


def measures(scores: np.ndarray, anomalous: np.ndarray, domains: np.ndarray) -> list[float]:
    """Partial AUC, and the AUC of the normal clips of each domain against all anomalous clips."""
    own = [auc(scores[keep], anomalous[keep]) for keep in (anomalous | (domains == d) for d in np.unique(domains))]
    return [partial_auc(scores, anomalous), *own]


def evaluate(encoder: Encoder, folder: Path, which: str) -> Iterator[tuple[int, str, str, float]]:
    """Block, scorer, kind and score of the machines of a folder in the challenge's layout."""
    with open(folder / "truth.csv", newline="", encoding="utf-8") as file:
        truth = {(row["machine"], row["file"]): row for row in csv.DictReader(file)}
    values: dict[tuple[int, str, str], list[float]] = {}
    for machine in sorted({machine for machine, _ in truth}):
        train, test = (sorted((folder / machine / split).glob("*.wav")) for split in ("train", "test"))
        references, embeddings = embed(encoder, train, which), embed(encoder, test, which)
        rows = [truth[machine, path.name] for path in test]
        anomalous = np.array([row["label"] == "anomaly" for row in rows])
        domains = np.array([row["domain"] for row in rows])
        for block, bank in references.items():
            for label, (name, settings) in SCORERS.items():
                scorer = scoring.build(name, **settings)
                scorer.fit(bank, np.full(len(bank), "source"))
                found = measures(scorer.score(embeddings[block]), anomalous, domains)
                values.setdefault((block, label, KINDS.get(machine, machine)), []).extend(found)
    for key, found in values.items():
        yield *key, 100.0 * float(harmonic_mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description="Frozen encoders block by block on the development sets.")
    parser.add_argument("--sets", type=Path, action="append", required=True, help="folder of a seed: clean/ and noisy/")
    parser.add_argument("--encoder", default="fisher-nano", help="FAMILY-SIZE")
    parser.add_argument("--checkpoint", default="", help="weights; without them random ones of --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    family, _, size = args.encoder.partition("-")
    encoder = load_encoder(EncoderConfig(family, size, args.checkpoint), args.seed)
    name = Path(args.checkpoint).stem or f"{args.encoder} random"
    rows = [
        (name, str(block), scorer, which, kind, sets.name, f"{score:.2f}")
        for sets in args.sets
        for part, which in INPUTS
        for block, scorer, kind, score in evaluate(encoder, sets / part, which)
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(args.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
