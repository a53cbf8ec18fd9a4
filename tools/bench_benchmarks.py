"""Benchmarks ``wheeltapper benchmark`` as a whole process against a plain computation, and against the official program
where a copy of it is at hand, by the number of recordings.

Fixed split (10 runs) and multi split (19 x 10 runs) of RMIS on generated embeddings. For every run the plain
computation normalises both sides, multiplies, sorts and votes. They alternate, so that other load on the machine
affects all, and must give the same macro accuracies to 0.01.

    python tools/bench_benchmarks.py [--rows 5000] [--dims 2000] [--runs 5] [--plain-runs 1] [--official DIR]
                                     [--grow 1250 2500 5000 10000] [--json FILE]

DIR is a checkout of the repository RMIS; its requirements (faiss, omegaconf) must be importable.
"""

import argparse
import csv
import json
import os
import re
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
OFFICIAL = "wt_plane_gearbox"  # a data set of five classes that the official program knows
NAMES = ("broken", "healthy", "missing_tooth", "root_crack", "wear")
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


def official(task: str, program: Path, data: Path, folder: Path) -> list[str]:
    """Writes tables, embeddings and configuration as the official program reads them; returns its command, which runs
    in ``program``. It writes its results anew each time."""
    import numpy as np

    content, meta, exp = dict(np.load(data)), folder / "meta" / OFFICIAL, folder / task
    meta.mkdir(parents=True, exist_ok=True)
    with open(meta / "all.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "scene", "ori"))
        label = [NAMES[number] for number in content["label"]]
        writer.writerows(zip(content["file_name"], label, content["ori"], strict=True))
    place = exp / "emb" / OFFICIAL
    place.mkdir(parents=True)
    np.savez(place / "all.npz", **dict(zip(content["file_name"], content["embeddings"], strict=True)))
    sizes = {"min_test_size": 0.05, "max_test_size": 0.95, "delta": 0.05}
    settings = {"meta_data_dir": str(meta.parent), "detect_conf_dir": "uni_detect/conf/", "downstream": OFFICIAL}
    settings |= {"test_size": 0.5, "split_level": "ori", "save_format": "npz", "detect": {"k": 5}}
    settings |= {} if task == "fixed" else {"multi_split_conf": sizes}
    (folder / f"{task}.yaml").write_text(json.dumps(settings))  # JSON is YAML
    (folder / "basic.yaml").write_text(json.dumps({"meta_data_dir": str(meta.parent)}))
    module = "cls_reg_nrun" if task == "fixed" else "multi_split_reg_nrun"
    options = [
        "--conf",
        str(folder / f"{task}.yaml"),
        "--basic_conf",
        str(folder / "basic.yaml"),
        "--exp_dir",
        str(exp),
    ]
    processes = [] if task == "fixed" else ["--nproc", str(os.cpu_count() or 1)]
    return [sys.executable, "-m", f"runner.cls.{module}", *options, *processes]


def official_result(task: str, folder: Path) -> list[float]:
    exp = folder / task
    parts = [exp] if task == "fixed" else [exp / str(number / 20) for number in range(1, 20)]
    texts = [(part / f"r{run}/knn/acc.csv").read_text() for part in parts for run in range(10)]
    return [float(re.search(r"macro-acc: ([\d.]+)", text)[1]) for text in texts]


def spend(command: list[str], folder: Path | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the program starts ``python``
    quiet = subprocess.DEVNULL if folder else None
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=quiet, cwd=folder, env={**os.environ, "PATH": path}
    )
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


def compare(task: str, data: Path, folder: Path, args: argparse.Namespace) -> dict:
    """Times of all, their ratios, and the largest difference of a run's macro accuracy."""
    results = {name: folder / f"{task}_{name}.json" for name in ("wheeltapper", "plain")}
    slow = [sys.executable, __file__, "--plain", task, "--data", str(data), "--json", str(results["plain"])]
    commands: dict[str, tuple[list[str], Path | None, int]] = {
        "wheeltapper": (verb(task, data, results["wheeltapper"]), None, args.runs),
        "plain": (slow, None, args.plain_runs),
    }
    if args.official:
        runs = args.runs if task == "fixed" else args.plain_runs
        commands["official"] = (official(task, args.official, data, folder), args.official, runs)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(args.runs):
        for name, (command, place, runs) in commands.items():
            if number < runs:
                times[name].append(spend(command, place))
    found: dict = {name: summary(own) for name, own in times.items() if own}
    for name, own in found.items():
        print(
            f"{task:<6} {name:<12} median {own['median']:7.2f} s, {own['least']:.2f} to {own['most']:.2f} s, "
            f"{own['runs']} runs, CPU {own['cpu']:.2f} s",
            flush=True,
        )
    fast = ours(task, results["wheeltapper"])
    for name in [name for name in ("plain", "official") if times.get(name)]:
        theirs = json.loads(results["plain"].read_text()) if name == "plain" else official_result(task, folder)
        difference = max(abs(one - other) for one, other in zip(fast, theirs, strict=True))
        clock, cpu = (found[name][key] / found["wheeltapper"][key] for key in ("median", "cpu"))
        found[name] |= {"difference": difference, "ratio": clock, "cpu_ratio": cpu}
        print(
            f"{task:<6} {name} over ours: {clock:.1f} by the clock, {cpu:.1f} by processor time, largest difference "
            f"{difference:.2g} %",
            flush=True,
        )
        if difference > LARGEST:
            sys.exit(f"{task}: {name} and ours differ by {difference:.3g} %")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000, help="clips (default 5000)")
    parser.add_argument("--dims", type=int, default=2000, help="dimensions (default 2000)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of the command (default 5)")
    parser.add_argument(
        "--plain-runs",
        type=int,
        default=1,
        help="of the plain computation, and of the official multi split, 0 for none (default 1)",
    )
    parser.add_argument("--official", type=Path, metavar="DIR", help="copy of the official program")
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
            found[task] = compare(task, data, folder, args)
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
