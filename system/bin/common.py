"""What the stage commands share: options, the experiment, progress on the terminal."""

import argparse
import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from system import config as configuration
from system import manifest, processes
from system.config import EncoderConfig
from system.encoders.cards import checkpoint_file
from system.errors import WheeltapperError
from system.experiment import Experiment, read_configuration
from system.files import lock
from system.machine import check_device, threads
from system.manifest import Clip
from system.stage import Stage

MEASURED = ("pretrain", "adapt", "embed", "score", "fuse", "evaluate")  # commands from a manifest to metrics
LAUNCHED = "WHEELTAPPER_LAUNCHED"  # set in the environment of processes that ``wheeltapper launch`` started
LOST = 75  # exit status of such a process that stops because another one is gone


def add_experiment_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--exp, --conf and --set, as run.sh passes them to every stage."""
    parser.add_argument("--exp", required=required, help="experiment folder of a recipe's run")
    parser.add_argument(
        "--conf", help="yaml of the recipe, a file or a name such as default.yaml; default: the one saved in --exp"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; may be given several times"
    )


class _Asked(Exception):
    """Carries the stage of a command to ``stage_of``."""

    def __init__(self, stage: Stage):
        super().__init__(stage.name)
        self.stage = stage


_asking: ContextVar[Experiment | None] = ContextVar("asking", default=None)
_held: ContextVar[str | None] = ContextVar("held", default=None)


@contextlib.contextmanager
def held(folder: str) -> Iterator[None]:
    """Holds an experiment folder for all commands that are called in the block; another process is refused at once."""
    with lock(folder):
        token = _held.set(folder)
        try:
            yield
        finally:
            _held.reset(token)


def stage_of(run: Experiment, verb: str, *options: str) -> Stage:
    """The stage that a command would run in an experiment, settings and inputs as they are now; nothing is run.

    Raises WheeltapperError where an input is missing.
    """
    module = importlib.import_module(f"system.bin.{verb}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    token = _asking.set(run)
    try:
        module.main(parser.parse_args(["--exp", str(run.folder), *options]))
    except _Asked as answer:
        return answer.stage
    finally:
        _asking.reset(token)
    raise ValueError(f"{verb} runs no stage")


@contextlib.contextmanager
def experiment(args: argparse.Namespace, several: bool = False) -> Iterator[Experiment]:
    """The experiment that the options name, held against a second command.

    Args:
        several: the command may run in several processes, as torchrun starts them: they connect to one another here,
            the main one holds the folder for all, and when they stop for an error one of them says so.
    """
    if asked := _asking.get():
        yield asked
        return
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if processes.count() > 1 and not several:
        raise WheeltapperError(f"runs in one process, found {processes.count()} (pretrain runs in several)")
    folder, main = Path(args.exp), processes.is_main()
    with _one_voice(), contextlib.ExitStack() as stack:
        # Before anything is made, so that a mistyped folder is not.
        if main:
            config = read_configuration(folder, args.conf, args.set)
        else:
            config = configuration.load(args.conf or folder / "config.yaml", args.set)
        if main and _held.get() != args.exp:
            stack.enter_context(lock(folder))
        if main:
            configuration.save(folder / "config.yaml", config)
        run = Experiment(folder, config)
        if processes.count() > 1:
            check_device(run.config.device)
            processes.join(run.config.device)
        yield run
        processes.leave()


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes that stop for one reason, or for another one's end, lets one say so."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if processes.count() == 1:
            raise
        if LAUNCHED in os.environ and isinstance(error, processes.LostPeer | KeyboardInterrupt):
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)
            raise SystemExit(LOST) from None  # the launcher may know more of it
        if not processes.is_first_to_report() and isinstance(error, WheeltapperError | OSError | KeyboardInterrupt):
            raise SystemExit(1) from None
        raise


def run_stage(stage: Stage, work: Callable[[], Iterable[Path]]) -> None:
    """Runs a stage, its messages on standard output.

    Of several processes the main one decides whether there is anything to do and keeps the records; then all work.
    """

    if _asking.get():
        raise _Asked(stage)

    def together() -> Iterable[Path]:
        processes.broadcast(True)
        return work()

    if not processes.is_main():
        if processes.broadcast(None):
            work()
    elif not stage.run(together, lambda text: print(text, flush=True)):
        processes.broadcast(False)


def prepare_torch(run: Experiment) -> str:
    """Sets torch's threads as configured and returns the device; WheeltapperError where there is no such device."""
    import torch

    torch.set_num_threads(threads(run.config.threads))
    check_device(run.config.device)
    return run.config.device


def training_clips(run: Experiment) -> list[Clip]:
    """The training clips alone: a stage that learns from them must not run anew when test clips arrive."""
    return [clip for clip in manifest.read(run.manifest) if clip.split == "train"]


def one_thread_each(workers: int = 0) -> int:
    """Workers for recordings that are embedded side by side, with one thread inside torch each."""
    import torch

    torch.set_num_threads(1)
    return threads(workers)


def configured_encoder(run: Experiment, config: EncoderConfig):
    """The encoder that a configuration describes, from its checkpoint or untrained."""
    from system.encoders import load_encoder

    return load_encoder(for_all_machines(config), run.config.seed, checkpoint_file(config, run.config.data.folder))


def base_encoder(run: Experiment, branch: str):
    """The network a branch starts from: its own encoder, or what the pre-training stage left."""
    from system.encoders import load_encoder

    own = run.config.branches[run.owner(branch)].encoder
    if own:
        return configured_encoder(run, own)
    return load_encoder(for_all_machines(run.config.encoder), run.config.seed, run.encoder)


def for_all_machines(config: EncoderConfig) -> EncoderConfig:
    """What of an encoder's settings holds for all machines: SimAM that differs between them is their branch's task."""
    return replace(config, simam="none", simam_machines={}) if config.per_machine else config
