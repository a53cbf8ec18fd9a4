"""How the stages of a run grow with the number of recordings, in one process: seconds of each, and from one size to the
next their ratio, which is 2 for twice the recordings where a stage is linear.

The recordings are noise of short clips, one machine set multiplied: more recordings are more machines, or with
``--one-machine`` more recordings of one. The encoder is tiny and trained for a few steps, so that the figures show what
is around it.

Usage: bench_scale.py [--clips 900 1800 3600 7200 14400] [--seconds 1] [--one-machine] [--stages data embed ...]
                      [--work DIR] [--json OUT]
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import soundfile
import yaml

from system.bin import main as wheeltapper
from system.experiment import STAGES
from system.record import run_record

RATE = 16000
PER_MACHINE = 150
SHARES = {("train", "source", "normal"): 90, ("train", "target", "normal"): 10} | {
    ("test", domain, label): count
    for domain, count in (("source", 13), ("target", 12))
    for label in ("normal", "anomaly")
}
LEFT_OUT = ("pretrain", "benchmark")  # whose work does not depend on the recordings
STEPS = {"steps": 3, "batch_size": 4, "warmup_steps": 1, "log_every": 3, "save_every": 3}
CONF = {
    "pretrain": {"loop": STEPS | {"steps": 0}, "crop_seconds": 1.0},
    "branches": {"main": {"crop_seconds": 1.0, "loop": STEPS, "scorer": {"name": "mahalanobis"}}},
    "evaluate": {"bootstrap": 100},
    "benchmark": {"runs": 1, "min_clips": 3},
    "systems": [
        {"name": "one", "abbreviation": "one", "view": "two_channel", "weights": {"main": 1.0}},
    ],
}


def write_recordings(folder: Path, count: int, seconds: float, machines: int) -> None:
    """Recordings of noise with a spectrum of the machine's own, in the layout of the challenge."""
    samples = round(seconds * RATE)
    for machine in range(machines):
        rng = np.random.default_rng(machine)
        response = np.fft.rfft(rng.normal(size=32) * np.exp(-np.arange(32) / 8), samples)
        for (split, domain, label), share in SHARES.items():
            place = folder / f"Machine{machine:03d}" / split
            place.mkdir(parents=True, exist_ok=True)
            for number in range(share * count // machines // PER_MACHINE):
                noise = np.fft.irfft(np.fft.rfft(rng.normal(size=samples)) * response, samples)
                wave = 0.02 * noise * (1.3 if label == "anomaly" else 1.0)
                name = f"section_00_{domain}_{split}_{label}_{number:06d}_noAttribute.wav"
                soundfile.write(place / name, wave.clip(-1, 1), RATE)


def measure(folder: Path, stages: list[str]) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each stage of a new run."""
    conf = folder / "scale.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    found = {}
    for number, name in enumerate(STAGES):
        arguments = ["run", "--exp", str(folder / "exp"), "--conf", str(conf), "--data", str(folder / "data")]
        begin, cpu, said = time.perf_counter(), _cpu(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = wheeltapper([*arguments, "--stage", str(number), "--stop-stage", str(number)])
        if status:
            raise SystemExit(f"stage {number} {name}: {said.getvalue()}")
        if name in stages:
            found[name] = (time.perf_counter() - begin, _cpu() - cpu)
    return found


def _cpu() -> float:
    """CPU seconds of this process and its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[900, 1800, 3600, 7200, 14400])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--one-machine", action="store_true")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=[s for s in STAGES if s not in LEFT_OUT])
    parser.add_argument("--work", type=Path, help="folder for the recordings and runs (default: a temporary one)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[int, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        for number, count in enumerate([PER_MACHINE * 2, *args.clips]):  # the first is for imports and caches
            folder = Path(work) / str(number)
            machines = 2 if args.one_machine else max(2, count // PER_MACHINE)
            write_recordings(folder / "data", count, args.seconds, machines)
            measured = measure(folder, args.stages)
            shutil.rmtree(folder)
            if number:
                results[count] = measured
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                text = ", ".join(f"{name} {cpu:.2f} ({wall:.2f})" for name, (wall, cpu) in measured.items())
                print(f"{count} clips: CPU s (wall s): {text}; peak {peak:.0f} MB", flush=True)
    print(f"\n{'stage':<10}{''.join(f'{count:>10}' for count in args.clips)}  ratio of CPU s from size to size")
    for name in args.stages:
        cpu = [results[count][name][1] for count in args.clips]
        ratios = " ".join(f"{later / earlier:.2f}" for earlier, later in itertools.pairwise(cpu))
        print(f"{name:<10}{''.join(f'{value:>10.2f}' for value in cpu)}  {ratios}")
    if args.json:
        args.json.write_text(json.dumps({"results": results, **run_record()}, indent=1))


if __name__ == "__main__":
    main()
