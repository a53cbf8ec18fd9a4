"""Benchmarks ``wheeltapper benchmark`` as a whole process against a plain computation, by the number of recordings.

Fixed split (10 runs) and multi split (19 x 10 runs) of RMIS on generated embeddings. For every run the plain
computation normalises both sides, multiplies, sorts and votes. The two alternate, so that other load on the machine
affects both, and must give the same macro accuracies to 0.01.

    python tools/bench_benchmarks.py [--rows 5000] [--dims 2000] [--runs 5] [--plain-runs 1]
                                     [--grow 1250 2500 5000 10000] [--json FILE]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES, CLIPS = 5, 2  # clips of one recording; few enough classes for splits of 5 % of some hundred recordings
SPREADS = (0.25, 0.7, 1.0)  # of classes, of recordings, of clips
LARGEST = 0.01  # difference that is let pass, in percent
TASKS = {"fixed": "rmis-fixed", "multi": "rmis-multisplit"}


def make(path: Path, rows: int, dims: int) -> None:
    """Writes embeddings of clips that differ by class, by recording and by chance."""
    import numpy as np

    generator = np.random.default_rng(rows)
    recording = np.arange(rows) // CLIPS
    label = recording % CLASSES
    embeddings = SPREADS[2] * generator.standard_normal((rows, dims), np.float32)
    embeddings += SPREADS[1] * generator.standard_normal((recording[-1] + 1, dims), np.float32)[recording]
    embeddings += SPREADS[0] * generator.standard_normal((CLASSES, dims), np.float32)[label]
    np.savez(
        path,
        embeddings=embeddings,
        label=label,
        class_names=np.array([f"class {number}" for number in range(CLASSES)]),
        ori=np.array([f"recording {number}" for number in recording]),
        file_name=np.array([f"{number}.wav" for number in range(rows)]),
    )


def plain(task: str, path: Path) -> list[float]:
    """Macro accuracy of every run in percent, as one would write it down at first."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    data = dict(np.load(path))
    embeddings, label, ori = data["embeddings"], data["label"], data["ori"]
    units = list(dict.fromkeys(ori.tolist()))
    found = []
    for size in [0.5] if task == "fixed" else [number / 20 for number in range(1, 20)]:
        for seed in range(111, 121):
            while True:
                test = np.isin(ori, train_test_split(units, test_size=size, random_state=seed)[1])
                if len(set(label[test])) == len(set(label[~test])) == CLASSES:
                    break
                seed += 100
            sides = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings[test], embeddings[~test])]
            similarity = sides[0] @ sides[1].T
            near = np.argsort(-similarity, axis=1)[:, :5]
            votes = np.zeros((len(near), CLASSES))
            rows = np.arange(len(near))[:, None]
            np.add.at(votes, (rows, label[~test][near]), similarity[rows, near])
            correct = votes.argmax(1) == label[test]
            found.append(100.0 * float(np.mean([correct[label[test] == c].mean() for c in range(CLASSES)])))
    return found


def ours(task: str, result: Path) -> list[float]:
    found = json.loads(result.read_text())
    parts = [found] if task == "fixed" else found["test_sizes"]
    return [value for part in parts for value in part["macro_accuracy_per_run"]]


def spend(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def verb(task: str, data: Path, result: Path) -> list[str]:
    options = ["--embeddings", str(data), "--protocol", "clean", "--json", str(result)]
    return [sys.executable, "-m", "system.bin", "benchmark", TASKS[task], *options]


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    walls = [wall for wall, _ in times]
    return {
        "median": statistics.median(walls),
        "least": min(walls),
        "most": max(walls),
        "cpu": statistics.median(cpu for _, cpu in times),
        "runs": len(times),
    }


def compare(task: str, data: Path, folder: Path, runs: int, plain_runs: int) -> dict:
    """Times of both, their ratio, and the largest difference of a run's macro accuracy."""
    results = {name: folder / f"{task}_{name}.json" for name in ("wheeltapper", "plain")}
    commands = {
        "wheeltapper": verb(task, data, results["wheeltapper"]),
        "plain": [sys.executable, __file__, "--plain", task, "--data", str(data), "--json", str(results["plain"])],
    }
    times: dict[str, list[tuple[float, float]]] = {"wheeltapper": [], "plain": []}
    for number in range(runs):
        times["wheeltapper"].append(spend(commands["wheeltapper"]))
        if number < plain_runs:
            times["plain"].append(spend(commands["plain"]))
    found = {name: summary(own) for name, own in times.items() if own}
    for name, own in found.items():
        print(
            f"{task:<6} {name:<12} median {own['median']:7.2f} s, {own['least']:.2f} to {own['most']:.2f} s, "
            f"{own['runs']} runs, CPU {own['cpu']:.2f} s",
            flush=True,
        )
    if times["plain"]:
        pairs = zip(ours(task, results["wheeltapper"]), json.loads(results["plain"].read_text()), strict=True)
        found["difference"] = max(abs(one - other) for one, other in pairs)
        found["ratio"] = found["plain"]["median"] / found["wheeltapper"]["median"]
        print(f"{task:<6} ratio of the medians {found['ratio']:.1f}, largest difference {found['difference']:.2g} %")
        if found["difference"] > LARGEST:
            sys.exit(f"{task}: the two differ by {found['difference']:.3g} %")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000, help="clips (default 5000)")
    parser.add_argument("--dims", type=int, default=2000, help="dimensions (default 2000)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of the command (default 5)")
    parser.add_argument("--plain-runs", type=int, default=1, help="of the plain computation, 0 for none (default 1)")
    parser.add_argument(
        "--grow", type=int, nargs="*", default=[1250, 2500, 5000, 10000], help="clips, one after another"
    )
    parser.add_argument("--json", type=Path, help="where to write the times")
    parser.add_argument("--plain", choices=TASKS, help="only run the plain computation on --data")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    if args.plain:
        args.json.write_text(json.dumps(plain(args.plain, args.data)))
        return
    found: dict = {"rows": args.rows, "dims": args.dims, "grow": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data.npz"
        make(data, args.rows, args.dims)
        spend(verb("fixed", data, folder / "warm.json"))  # warm the disk cache
        for task in TASKS:
            found[task] = compare(task, data, folder, args.runs, args.plain_runs)
        for rows in args.grow:
            make(data, rows, args.dims)
            found["grow"][rows] = {
                task: summary([spend(verb(task, data, folder / "grow.json")) for _ in range(args.runs)])
                for task in TASKS
            }
            texts = [
                f"{task} {own['median']:.2f} s (CPU {own['cpu']:.2f})" for task, own in found["grow"][rows].items()
            ]
            print(f"{rows:>6} clips: {', '.join(texts)}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
