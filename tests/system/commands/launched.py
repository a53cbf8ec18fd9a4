"""The command line with one verb more, ``toy``: a stage that trains the small network in all processes."""

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import training_runs

import system.bin
from system import processes
from system.bin import launch, options
from system.pipeline.session import execute, session
from system.stage import Stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    parser.add_argument("--die", type=int, default=-1, help="process that kills itself at step 9")
    parser.add_argument("--poison", type=int, help="step of a loss of NaN in one process")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds that each step takes longer")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set, several=True) as run:
        stage = Stage(1, "toy", run.folder, {}, [], owns=["pretrain"])
        execute(stage, lambda: work(args, run.folder / "pretrain"))


def work(args: argparse.Namespace, folder: Path) -> list[Path]:
    def watch(step: int, values: dict) -> None:
        time.sleep(args.wait)
        if step == 9 and args.die == int(os.environ.get("RANK", "0")):
            os.kill(os.getpid(), signal.SIGKILL)

    config = replace(training_runs.CONFIG, save_every=4)
    training_runs.train(folder, config, watch, args.poison)
    print(f"process {os.environ.get('RANK', '0')} is done", flush=True)
    return [folder / "curve.csv"] if processes.is_main() else []


if __name__ == "__main__":
    system.bin.COMMANDS["toy"] = "train the small network"
    sys.modules["system.bin.toy"] = sys.modules["__main__"]
    launch.MODULE = "launched"
    launch.COMMANDS.append("toy")
    sys.exit(system.bin.main())
