"""Benchmarks the scorers for one machine, relative to nearest neighbours (knn), in one run.

Random rows with the numbers of references, tests, bands and dimensions of a machine of the challenge with band-wise
embeddings of a published encoder. A time includes fitting, the references' leave-one-out scores and the tests' scores.
The scorers alternate, so that other load on the machine affects all; the result is the median.

    python tools/bench_scorers.py [--references 1000] [--tests 200] [--bands 8] [--dim 768] [--rounds 3]
                                  [--scorers knn beam ...] [--json FILE]
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from system import scoring
from system.files import write_json
from system.machine import peak_memory_mb
from system.record import run_record

TARGETS = 10
AUGMENTED = {"smote": 0.2, "memmixup": 0.1}
BY_DOMAIN = {"bank": "domain", "standardize": True}
CASES = {
    "knn": ("knn", {"k": 1}),
    "knn by domain": ("knn", {"k": 1, **BY_DOMAIN}),
    "knn + made rows": ("knn", {"k": 1, **AUGMENTED}),
    "beam": ("beam", {}),
    "beam + VarMin": ("beam", {"varmin": 4}),
    "beam + VarMin + made rows": ("beam", {"varmin": 4, **AUGMENTED}),
    "ldn": ("ldn", {}),
    "ldn in bands": ("ldn", {"bands": True}),
    "lof": ("lof", {}),
    "mahalanobis": ("mahalanobis", BY_DOMAIN),
    "conditional_mahalanobis": ("conditional_mahalanobis", BY_DOMAIN),
}


def seconds(case: str, references: np.ndarray, domains: np.ndarray, tests: np.ndarray) -> float:
    """Of fitting a scorer and taking all scores."""
    name, settings = CASES[case]
    begin = time.perf_counter()
    scorer = scoring.build(name, **settings)
    scorer.fit(references, domains)
    scorer.reference_scores()
    scorer.score(tests)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scorers", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(args.references + args.tests, args.bands, args.dim)).astype(np.float32)
    references, tests = rows[: args.references], rows[args.references :]
    domains = np.where(np.arange(args.references) < TARGETS, "target", "source")
    cases = list(dict.fromkeys(["knn", *args.scorers]))
    times: dict[str, list[float]] = {case: [] for case in cases}
    peaks: dict[str, float] = {}
    for _ in range(args.rounds):
        for case in cases:
            times[case].append(seconds(case, references, domains, tests))
            peaks.setdefault(case, peak_memory_mb())
    reference = statistics.median(times["knn"])
    print(f"{'scorer':28s} {'s':>8s} {'(least to most)':>18s} {'times knn':>10s} {'peak MB so far':>15s}")
    for case, taken in times.items():
        middle = statistics.median(taken)
        spread = f"({min(taken):.2f} to {max(taken):.2f})"
        print(f"{case:28s} {middle:8.2f} {spread:>18s} {middle / reference:10.1f} {peaks[case]:15.0f}")
    if args.json:
        ratios = {case: statistics.median(taken) / reference for case, taken in times.items()}
        settings = {name: getattr(args, name) for name in ("references", "tests", "bands", "dim")}
        write_json(args.json, {**settings, "seconds": times, "ratio": ratios, "record": run_record()})


if __name__ == "__main__":
    main()
