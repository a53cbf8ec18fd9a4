"""Official scores of frozen encoders by the precision in which they compute.

Near channel, last block, no adaptation. Tokens are averaged over time, in bands or in all; those of bands are projected
as a branch is before its adaptation: to 256 principal directions of the normal clips, in single precision the same for
every precision. Each is scored by the scorers of the default run, Mahalanobis (domain banks, standardised) and nearest
neighbours (k=3), with a threshold from the references. Random weights, unless a checkpoint follows the size.

Prints for every set, encoder and precision the official scores, how far they are from those of fp32 (mean and the
farthest) and how many decisions differ.

Usage: bench_precision.py --set NAME=MANIFEST ... [--encoders fisher-tiny echo-small beats-base[=FILE] ...]
                          [--precisions bf16 int8] [--seconds 3] [--machines 2] [--seeds 0] [--json OUT]
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from system import fused_scores, machine_scores, manifest
from system.adaptation.model import AdaptedEncoder
from system.config import EncoderBranchConfig, EncoderConfig, ScorerConfig, SystemConfig
from system.embeddings.embed import embed_machine
from system.embeddings.precision import LONG_NAMES, set_precision
from system.encoders import load_encoder
from system.evaluation import available
from system.evaluation.truth import Truth
from system.files import write_json
from system.machine import threads
from system.manifest import Clip, Row
from system.record import run_record

BRANCH = EncoderBranchConfig(inputs=["near"], pool="band", tune="frozen")
SYSTEM = SystemConfig(view="near_only", weights={"main": 1.0})
FALSE_POSITIVE_RATE = 0.1
SCORERS = {
    "Mahalanobis": ScorerConfig("mahalanobis", {"bank": "domain", "standardize": True}),
    "3-NN": ScorerConfig("knn", {"k": 3, "bank": "global"}),
}


@dataclass(frozen=True)
class Judged:
    """What one system says: official score of all machines and of each in percent, and decisions by recording."""

    score: float
    machines: dict[str, float]
    decisions: dict[Row, bool]


def embed(model: AdaptedEncoder, clips: Sequence[Clip], precision: str, seconds: float) -> np.ndarray:
    """Mean tokens of the near channel's beginning by bands, (N, bands, D)."""
    own = [replace(clip, window=int(min(seconds, clip.seconds) * clip.rate)) for clip in clips] if seconds else clips
    set_precision(model.encoder, precision)
    return embed_machine(model, own, threads(), readouts={"band": ("band", 0.0)})["band.near_only"]


def judge(clips: Sequence[Clip], rows: np.ndarray, scorer: ScorerConfig) -> Judged:
    """Scores clips by embeddings (N, ...) and decides as a run does."""
    embeddings = dict(zip((clip.row for clip in clips), rows, strict=True))
    scored = machine_scores.score_machines(clips, embeddings, scorer, 0)
    fused, limits = fused_scores.fuse_system({"main": scored}, SYSTEM, FALSE_POSITIVE_RATE)
    tests = [row for row in fused if row.split == "test"]
    table: dict[tuple[str, str], dict[str, float]] = {}
    for row in tests:
        table.setdefault((row.machine, row.section), {})[row.file] = row.score
    truth = [Truth(c.machine, c.section, c.file, c.domain, c.label) for c in clips if c.split == "test"]
    found = available.evaluate(table, None, truth, replicates=0)
    machines = {name: 100.0 * values["hmean"] for name, values in found["per_machine"].items()}
    decisions = {row.row: row.score > limits[row.machine, row.section] for row in tests}
    return Judged(100.0 * found["official_score"], machines, decisions)


def compare(exact: Mapping[str, Judged], other: Mapping[str, Judged]) -> dict[str, object]:
    """Differences of systems by name from those in single precision."""
    far = {name: other[name].score - found.score for name, found in exact.items()}
    machines = [other[name].machines[m] - value for name, found in exact.items() for m, value in found.machines.items()]
    changed = sum(
        other[name].decisions[row] != value for name, found in exact.items() for row, value in found.decisions.items()
    )
    return {
        "scores": {name: found.score for name, found in other.items()},
        "differences": far,
        "mean": float(np.mean(list(far.values()))),
        "farthest": max(far.values(), key=abs),
        "farthest_machine": max(machines, key=abs),
        "decisions_changed": changed,
        "decisions": sum(len(found.decisions) for found in exact.values()),
    }


def study(clips: Sequence[Clip], name: str, precisions: Sequence[str], seconds: float, seed: int) -> dict[str, dict]:
    """Precision to ``compare``, for one encoder on one set."""
    sized, _, checkpoint = name.partition("=")
    family, _, size = sized.partition("-")
    rate, normal = clips[0].rate, [clip.split == "train" for clip in clips]
    judged: dict[str, dict[str, Judged]] = {}
    found, projection = {}, None
    for precision in ("fp32", *precisions):
        torch.manual_seed(seed)
        model = AdaptedEncoder(load_encoder(EncoderConfig(family, size, checkpoint), seed), BRANCH, rate).eval()
        start = time.perf_counter()
        rows = embed(model, clips, precision, seconds)
        wall = time.perf_counter() - start
        if projection is None:
            model.align_projection(torch.from_numpy(rows[normal]).flatten(1))
            projection = model.projection
            exact = rows
        with torch.inference_mode():
            projected = projection(torch.from_numpy(rows).flatten(1)).numpy()
        judged[precision] = {
            f"{kind}, {scorer}": judge(clips, values, how)
            for kind, values in (("bands", projected), ("mean", rows.mean(1)))
            for scorer, how in SCORERS.items()
        }
        a, b = exact.reshape(len(rows), -1).astype(np.float64), rows.reshape(len(rows), -1).astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        found[precision] = compare(judged["fp32"], judged[precision]) | {"cosine": float(cosine.min()), "seconds": wall}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Official scores of frozen encoders by precision.")
    parser.add_argument("--set", dest="sets", action="append", required=True, metavar="NAME=MANIFEST")
    parser.add_argument("--encoders", nargs="+", default=["fisher-tiny", "echo-tiny"])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "int8"], choices=list(LONG_NAMES))
    parser.add_argument("--seconds", type=float, default=0.0, help="beginning of each recording; 0: all of it")
    parser.add_argument("--machines", type=int, default=0, help="the first ones of each set; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    print(
        "set, encoder, seed, precision: official scores | mean difference, farthest, of a machine | decisions changed"
    )
    for encoder in args.encoders:
        for name, _, path in (text.partition("=") for text in args.sets):
            clips = [clip for clip in manifest.read(path) if clip.split in ("train", "test")]
            kept = sorted({clip.machine for clip in clips})[: args.machines or None]
            clips = [clip for clip in clips if clip.machine in kept]
            for seed in args.seeds:
                for precision, found in study(clips, encoder, args.precisions, args.seconds, seed).items():
                    results.append({"set": name, "encoder": encoder, "seed": seed, "precision": precision, **found})
                    scores = " ".join(f"{value:.2f}" for value in found["scores"].values())
                    print(
                        f"{name}, {encoder}, {seed}, {precision}: {scores} | {found['mean']:+.3f}, "
                        f"{found['farthest']:+.3f}, {found['farthest_machine']:+.2f} | {found['decisions_changed']} of "
                        f"{found['decisions']} | cosine {found['cosine']:.6f}, {found['seconds']:.1f} s",
                        flush=True,
                    )
                if args.json:
                    write_json(args.json, {"record": run_record(), "settings": asdict(BRANCH), "results": results})


if __name__ == "__main__":
    main()
