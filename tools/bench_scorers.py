"""Benchmarks the scorers for one machine, relative to nearest neighbours (knn), in one run.

Random rows with the numbers of references, tests, bands and dimensions of a machine of the challenge with band-wise
embeddings of a published encoder. A time includes fitting, the references' leave-one-out scores and the tests' scores;
where a name ends in "fit and score" it is without the leave-one-out scores, as those of others are: scikit-learn's
Ledoit-Wolf covariance with a Cholesky factor for each domain, its nearest neighbours, and faiss if it is importable.
All alternate, so that other load on the machine affects all; the result is the median, by processor time.

    python tools/bench_scorers.py [--references 1000] [--tests 200] [--bands 8] [--dim 768] [--rounds 3]
                                  [--scorers knn beam ...] [--json FILE]
"""

import argparse
import importlib.util
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
from system.scoring.banks import flat

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
ALONE = {
    "knn, fit and score": ("knn", {"k": 1}),
    "mahalanobis, fit and score": ("mahalanobis", {"bank": "domain"}),
}


def cholesky(references: np.ndarray, domains: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Mahalanobis distances by scikit-learn's covariance and SciPy's Cholesky factor."""
    from scipy.linalg import cholesky, solve_triangular
    from sklearn.covariance import LedoitWolf

    found = []
    for name in np.unique(domains):
        fitted = LedoitWolf(store_precision=False).fit(flat(references[domains == name]).astype(np.float64))
        factor = cholesky(fitted.covariance_, lower=True)
        solved = solve_triangular(factor, (flat(tests) - fitted.location_).T, lower=True)
        found.append(np.sqrt(np.einsum("dm,dm->m", solved, solved)))
    return np.min(found, axis=0)


def scikit_neighbours(references: np.ndarray, domains: np.ndarray, tests: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1, metric="cosine").fit(flat(references)).kneighbors(flat(tests))[0][:, 0]


def faiss_neighbours(references: np.ndarray, domains: np.ndarray, tests: np.ndarray) -> np.ndarray:
    import faiss

    references, tests = flat(references).copy(), flat(tests).copy()
    faiss.normalize_L2(references)
    faiss.normalize_L2(tests)
    index = faiss.IndexFlatIP(references.shape[1])
    index.add(references)
    return 1.0 - index.search(tests, 1)[0][:, 0]


OTHERS = {"scikit-learn, Cholesky": cholesky, "scikit-learn, neighbours": scikit_neighbours}
if importlib.util.find_spec("faiss"):
    OTHERS["faiss, neighbours"] = faiss_neighbours
SAME = {  # others by ours
    "scikit-learn, Cholesky": "mahalanobis, fit and score",
    "scikit-learn, neighbours": "knn, fit and score",
    "faiss, neighbours": "knn, fit and score",
}


def run(case: str, references: np.ndarray, domains: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Scores of the tests after fitting, and those of the references where the case asks for them."""
    if case in OTHERS:
        return OTHERS[case](references, domains, tests)
    name, settings = ALONE.get(case) or CASES[case]
    scorer = scoring.build(name, **settings)
    scorer.fit(references, domains)
    if case in CASES:
        scorer.reference_scores()
    return scorer.score(tests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scorers", nargs="+", choices=[*CASES, *ALONE, *OTHERS], default=[*CASES, *ALONE, *OTHERS])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(args.references + args.tests, args.bands, args.dim)).astype(np.float32)
    references, tests = rows[: args.references], rows[args.references :]
    domains = np.where(np.arange(args.references) < TARGETS, "target", "source")
    cases = list(dict.fromkeys(["knn", *args.scorers]))
    times: dict[str, list[float]] = {case: [] for case in cases}
    peaks: dict[str, float] = {}
    found = {case: run(case, references, domains, tests) for case in cases}  # warms up
    for other, own in SAME.items():
        if other in found and own in found:
            np.testing.assert_allclose(found[own], found[other], rtol=1e-5)
    for _ in range(args.rounds):
        for case in cases:
            begin = time.process_time()
            run(case, references, domains, tests)
            times[case].append(time.process_time() - begin)
            peaks.setdefault(case, peak_memory_mb())
    reference = statistics.median(times["knn"])
    print(f"{'scorer':28s} {'CPU s':>8s} {'(least to most)':>18s} {'times knn':>10s} {'peak MB so far':>15s}")
    for case, taken in times.items():
        middle = statistics.median(taken)
        spread = f"({min(taken):.3f} to {max(taken):.3f})"
        print(f"{case:28s} {middle:8.3f} {spread:>18s} {middle / reference:10.1f} {peaks[case]:15.0f}")
    if args.json:
        ratios = {case: statistics.median(taken) / reference for case, taken in times.items()}
        settings = {name: getattr(args, name) for name in ("references", "tests", "bands", "dim")}
        write_json(args.json, {**settings, "seconds": times, "ratio": ratios, "record": run_record()})


if __name__ == "__main__":
    main()
