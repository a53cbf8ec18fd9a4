"""What the stage verbs share: options, the experiment, progress on the terminal."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from system import manifest
from system.config import EncoderConfig
from system.errors import WheeltapperError
from system.experiment import Experiment, open_experiment
from system.manifest import Clip
from system.stage import Stage, lock

CHECKPOINTS = "checkpoints"  # folder of downloaded weights, within the data folder


def add_experiment_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--exp, --conf and --set, as run.sh passes them to every stage."""
    parser.add_argument("--exp", required=required, help="experiment folder of a recipe's run")
    parser.add_argument("--conf", help="yaml of the recipe; default: the one saved in the experiment folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")


@contextlib.contextmanager
def experiment(args: argparse.Namespace) -> Iterator[Experiment]:
    """The experiment that the options name, held against a second process."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    with lock(args.exp):
        yield open_experiment(args.exp, args.conf, [s for given in args.set for s in given.split()])


def run_stage(stage: Stage, work: Callable[[], Iterable[Path]]) -> None:
    """Runs a stage, its messages on standard output."""
    stage.run(work, lambda text: print(text, flush=True))


def prepare_torch(run: Experiment) -> str:
    """Sets torch's threads as configured and returns the device; WheeltapperError where there is no such device."""
    import torch

    torch.set_num_threads(run.config.threads or os.cpu_count() or 1)
    check_device(run.config.device)
    return run.config.device


def check_device(device: str) -> None:
    """Raises WheeltapperError unless torch can compute there."""
    import torch

    if device not in ("cpu", "cuda"):
        raise WheeltapperError(f"device: expected cpu or cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise WheeltapperError("device: cuda was asked for, torch finds no CUDA device on this machine")


def training_clips(run: Experiment) -> list[Clip]:
    """The training clips alone: a stage that learns from them must not run anew when test clips arrive."""
    return [clip for clip in manifest.read(run.manifest) if clip.split == "train"]


def one_thread_each(threads: int = 0) -> int:
    """Workers for recordings that are embedded side by side, with one thread inside torch each."""
    import torch

    torch.set_num_threads(1)
    return threads or os.cpu_count() or 1


def checkpoint_file(config: EncoderConfig, folder: str) -> Path | None:
    """The file of an encoder's checkpoint: a path, or a name that download-checkpoint knows; None for untrained."""
    if not config.checkpoint:
        return None
    from system.encoders import cards

    return cards.find(config.checkpoint, Path(folder) / CHECKPOINTS)


def configured_encoder(run: Experiment, config: EncoderConfig):
    """The encoder that a configuration describes, from its checkpoint or untrained."""
    from system.encoders import load_encoder

    return load_encoder(config, run.config.seed, checkpoint_file(config, run.config.data.folder))


def base_encoder(run: Experiment, branch: str):
    """The network a branch starts from: its own encoder, or what the pre-training stage left."""
    from system.encoders import load_encoder

    own = run.config.branches[branch].encoder
    return configured_encoder(run, own) if own else load_encoder(run.config.encoder, run.config.seed, run.encoder)


@contextlib.contextmanager
def progress_bar(total: int, text: str) -> Iterator:
    """A bar with the time left on a terminal; in a log a line now and then. ``bar.to(done, total)`` sets both."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    with tqdm(total=total, desc=text, mininterval=20 if quiet else 0.2, leave=False, dynamic_ncols=True) as bar:

        def to(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        bar.to = to
        yield bar


class DownloadBars:
    """One progress bar per file that is fetched, on a terminal only."""

    def __init__(self) -> None:
        self.bar = None

    def __enter__(self) -> "DownloadBars":
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def show(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(desc=name, total=total or None, unit="B", unit_scale=True, disable=None)
        self.bar.update(done - self.bar.n)

    def say(self, line: str) -> None:
        self.__exit__()
        print(line, flush=True)
