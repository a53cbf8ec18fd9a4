"""Benchmarks ``wheeltapper evaluate`` as a whole process against a plain evaluation with scikit-learn, and against the
official evaluator where a copy of it is at hand; prints the ratios.

All read the same challenge CSVs and truth and compute the official score and the evaluator's jackknife. The others call
roc_auc_score again for every clip left out and have no bootstrap, while ours includes its bootstrap of 1000. They
alternate, so that other load on the machine affects all; processor time depends less on it than the clock.

    python tools/bench_evaluate.py [--runs 5] [--scores DIR --truth FILE] [--official DIR] [--json FILE]

DIR is a checkout of the repository dcase2024_task2_evaluator (or that of another year with the same rule).
"""

import argparse
import csv
import json
import math
import os
import resource
import shutil
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


def official(program: Path, scores: Path, truth: Path, folder: Path) -> list[str]:
    """Prepares a folder as the official evaluator expects it; returns its command, which runs in that folder."""
    (name,) = program.glob("*_evaluator.py")
    shutil.copy(name, folder)
    shutil.copytree(program / "tools", folder / "tools")
    with open(truth, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        values = {"data": int(row["label"] == "anomaly"), "domain": int(row["domain"] == "target")}
        for kind in ("data", "domain", "attributes"):  # without attributes files keep their names
            place = folder / f"ground_truth_{kind}"
            place.mkdir(exist_ok=True)
            with open(place / f"ground_truth_{row['machine']}_section_{row['section']}_test.csv", "a") as file:
                file.write(f"{row['file']},{values[kind]}\n" if kind in values else "")
    (folder / "teams/team").mkdir(parents=True)
    (folder / "teams/team/system").symlink_to(scores.resolve(), target_is_directory=True)
    return [sys.executable, name.name]


def official_result(folder: Path) -> dict[str, float]:
    names = {"official score": "official_score", "official score ci95": "legacy_ci95"}
    with open(folder / "teams_result/system_result.csv", newline="") as file:
        return {names[row[0]]: float(row[2]) for row in csv.reader(file) if row and row[0] in names}


def spend(command: list[str], folder: Path | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=folder
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, default=CASE / "system")
    parser.add_argument("--truth", type=Path, default=CASE / "truth.csv")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each (default 5)")
    parser.add_argument("--official", type=Path, metavar="DIR", help="copy of the official evaluator")
    parser.add_argument("--json", type=Path, help="where to write the times")
    parser.add_argument(
        "--plain", type=Path, metavar="FILE", help="only run the plain evaluation, and write its result"
    )
    args = parser.parse_args()
    if args.plain:
        args.plain.write_text(json.dumps(plain(args.scores, args.truth)))
        return
    inputs = ["--scores", str(args.scores.resolve()), "--truth", str(args.truth.resolve())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {"plain": folder / "plain.json", "wheeltapper": folder / "wheeltapper.json"}
        verb = [sys.executable, "-m", "system.bin", "evaluate", *inputs, "--json", str(results["wheeltapper"])]
        commands: dict[str, tuple[list[str], Path | None]] = {
            "plain": ([sys.executable, __file__, *inputs, "--plain", str(results["plain"])], None),
            "wheeltapper": (verb, None),
        }
        place = folder / "official"
        if args.official:
            place.mkdir()
            commands["official"] = official(args.official, args.scores, args.truth, place), place
        for command in commands.values():
            spend(*command)  # warm the disk cache
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                times[name].append(spend(*command))
        found = {name: json.loads(path.read_text()) for name, path in results.items()}
        if args.official:
            found["official"] = official_result(place)
    for name, values in found.items():
        for key in ("official_score", "legacy_ci95"):
            if abs(values[key] - found["wheeltapper"][key]) > 1e-9:
                sys.exit(f"{key}: {name} and ours differ by {abs(values[key] - found['wheeltapper'][key]):.3g}")
    ratios = report(times)
    if args.json:
        args.json.write_text(json.dumps({"seconds": times, "ratios": ratios}, indent=1) + "\n")


def report(times: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """Prints medians and spreads of wall and CPU seconds; returns the ratios of the others to ours."""
    middle = {}
    for name, values in times.items():
        walls, cpu = zip(*values, strict=True)
        middle[name] = {"clock": statistics.median(walls), "processor": statistics.median(cpu)}
        print(
            f"{name:<12} median {statistics.median(walls):.3f} s, {min(walls):.3f} to {max(walls):.3f} s, "
            f"{len(values)} runs, CPU {statistics.median(cpu):.3f} s, {min(cpu):.3f} to {max(cpu):.3f} s"
        )
    ours, ratios = times["wheeltapper"], {}
    for name in times:
        if name != "wheeltapper":
            ratios[name] = {key: middle[name][key] / middle["wheeltapper"][key] for key in middle[name]}
            rounds = [other[1] / own[1] for other, own in zip(times[name], ours, strict=True)]
            print(
                f"{name} over ours: {ratios[name]['clock']:.1f} by the clock, {ratios[name]['processor']:.1f} by "
                f"processor time ({min(rounds):.1f} to {max(rounds):.1f})"
            )
    return ratios


if __name__ == "__main__":
    main()
