"""Benchmarks ``wheeltapper evaluate`` as a whole process against a plain evaluation with scikit-learn; prints the
ratio.

Both read the same challenge CSVs and truth and compute the official score and the evaluator's jackknife. The plain
evaluation calls roc_auc_score again for every clip left out and has no bootstrap, while ours includes its bootstrap of
1000. The two alternate, so that other load on the machine affects both.

    python tools/bench_evaluate.py [--runs 5] [--scores DIR --truth FILE] [--json FILE]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASE = Path(__file__).resolve().parent.parent / "tests/fixtures/metrics/case1"


def plain(scores: Path, truth: Path) -> dict[str, float]:
    """Official score (rule of 2022 and later) and legacy interval, as one would write them down at first."""
    import numpy as np
    import pandas as pd
    from scipy.stats import hmean, t
    from sklearn.metrics import roc_auc_score

    frame = pd.read_csv(truth, dtype=str)
    parts = []
    values = []
    for (machine, section), part in frame.groupby(["machine", "section"]):
        file = scores / f"anomaly_score_{machine}_section_{section}_test.csv"
        part = part.merge(pd.read_csv(file, names=["file", "score"]), on="file", validate="one_to_one")
        anomalous = part.label == "anomaly"
        for domain in ("source", "target"):
            chosen = anomalous | (part.domain == domain)
            values.append(roc_auc_score(anomalous[chosen], part.score[chosen]))
        values.append(roc_auc_score(anomalous, part.score, max_fpr=0.1))
        parts.append(part)
    pooled = pd.concat(parts)
    score, anomalous = pooled.score.to_numpy(), (pooled.label == "anomaly").to_numpy()
    count = len(score)
    widths = []
    for max_fpr in (None, 0.1):
        kept = [np.delete(np.arange(count), index) for index in range(count)]
        thetas = np.array([roc_auc_score(anomalous[index], score[index], max_fpr=max_fpr) for index in kept])
        spread = math.sqrt(((thetas - thetas.mean()) ** 2).sum() / (count * (count - 1)))
        widths.append(t.ppf(0.975, count - 1) * spread)
    return {"official_score": float(hmean(values)), "legacy_ci95": float(np.mean(widths))}


def seconds(command: list[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, default=CASE / "system")
    parser.add_argument("--truth", type=Path, default=CASE / "truth.csv")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each (default 5)")
    parser.add_argument("--json", type=Path, help="where to write the times")
    parser.add_argument(
        "--plain", type=Path, metavar="FILE", help="only run the plain evaluation, and write its result"
    )
    args = parser.parse_args()
    if args.plain:
        args.plain.write_text(json.dumps(plain(args.scores, args.truth)))
        return
    inputs = ["--scores", str(args.scores), "--truth", str(args.truth)]
    with tempfile.TemporaryDirectory() as folder:
        results = {"plain": Path(folder) / "plain.json", "wheeltapper": Path(folder) / "wheeltapper.json"}
        commands = {
            "plain": [sys.executable, __file__, *inputs, "--plain", str(results["plain"])],
            "wheeltapper": [
                sys.executable,
                "-m",
                "system.bin",
                "evaluate",
                *inputs,
                "--json",
                str(results["wheeltapper"]),
            ],
        }
        for command in commands.values():
            seconds(command)  # warm the disk cache
        times = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                times[name].append(seconds(command))
        found = {name: json.loads(path.read_text()) for name, path in results.items()}
    for key in ("official_score", "legacy_ci95"):
        difference = abs(found["plain"][key] - found["wheeltapper"][key])
        if difference > 1e-9:
            sys.exit(f"{key}: the two differ by {difference:.3g}")
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:<12} median {middle[name]:.3f} s, {min(values):.3f} to {max(values):.3f} s, {len(values)} runs")
    ratio = middle["plain"] / middle["wheeltapper"]
    print(f"ratio of the medians {ratio:.1f}")
    if args.json:
        args.json.write_text(json.dumps({"seconds": times, "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
