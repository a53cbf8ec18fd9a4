"""An experiment that a command works on: opened, locked, and its stages executed."""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from system import config as configuration
from system import processes
from system.errors import WheeltapperError
from system.experiment import STAGES, Experiment
from system.files import lock
from system.machine import choose_device
from system.pipeline import stages
from system.pipeline.settings import load_configuration, read_configuration
from system.stage import Stage

log = logging.getLogger(__name__)

LAUNCHED = "WHEELTAPPER_LAUNCHED"  # set in the environment of processes that ``wheeltapper launch`` started
LOST = 75  # exit status of such a process that stops because another one is gone
TOGETHER = ("pretrain", "adapt", "embed")  # stages that run in all processes; the main one alone runs the others


@contextlib.contextmanager
def session(
    exp: str | os.PathLike, conf: str | os.PathLike | None = None, overrides: Sequence[str] = (), several: bool = False
) -> Iterator[Experiment]:
    """Opens an experiment and holds its folder against other processes while the block runs.

    Args:
        exp: experiment folder. The resolved configuration is written to its config.yaml. Where a run is on a disk that
            cannot be written to, its complete stages are found complete.
        conf: configuration; None for the one saved in the folder.
        overrides: texts of --set.
        several: whether the block may run in several processes, as torchrun starts them. They connect to one another
            here; the main process holds the folder for all of them.

    Raises:
        WheeltapperError: the configuration is wrong, or another process holds the folder.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if processes.count() > 1 and not several:
        several_run = f"{', '.join(TOGETHER)}, run and benchmark run in several"
        raise WheeltapperError(f"runs in one process, found {processes.count()} ({several_run})")
    folder, main = Path(exp), processes.is_main()
    with one_voice(), contextlib.ExitStack() as stack:
        # The configuration is read before the folder is made, so that a mistyped folder is not made.
        if main:
            config = read_configuration(folder, conf, list(overrides))
            if _take(stack, folder):
                configuration.save(folder / "config.yaml", config)
        else:
            config = load_configuration(conf or folder / "config.yaml", list(overrides))
        if processes.count() > 1:
            processes.join(choose_device(config.device))
        yield Experiment(folder, config)
        processes.leave()


def _take(stack: contextlib.ExitStack, folder: Path) -> bool:
    """Holds a folder; False, after a note, for the folder of a run that cannot be written to."""
    try:
        stack.enter_context(lock(folder))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not (folder / "config.yaml").is_file():
            raise
        if os.access(folder, os.W_OK):
            raise
        log.warning("note: %s: %s: nothing is written there", folder, error.strerror)
        return False
    return True


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Lets one process speak when several stop for the same reason, or because another one ended."""
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


def run_stage(run: Experiment, name: str, **given: Any) -> None:
    """Runs one stage of an experiment unless it is complete; its messages go to standard output.

    Args:
        name: of the stage (``experiment.STAGES``).
        given: arguments of the stage beside the experiment, as ``data`` for stage 0.
    """
    module = stages.module(name)
    with _noted(STAGES.index(name), name):
        if name in TOGETHER:
            _together(lambda: module.stage(run, **given), lambda: module.work(run, **given))
        elif processes.is_main():
            module.stage(run, **given).run(lambda: module.work(run, **given), processes.say)


def run_data(run: Experiment, data: str | None = "") -> None:
    """Runs stage 0 unless it is complete, with what ``data`` names; without it with that of the last start."""
    from system.pipeline.stages import data as module

    if processes.is_main():
        run_stage(run, "data", data=module.start(run, data or ""))


def execute(stage: Stage, work: Callable[[], Iterable[Path]]) -> None:
    """Runs ``work`` for a stage unless the stage is complete; an error that ends it carries the stage in a note.

    Of several processes the main one decides whether there is anything to do and keeps the records; then all work.
    """
    with _noted(stage.number, stage.name):
        _together(lambda: stage, work)


def _together(stage: Callable[[], Stage], work: Callable[[], Iterable[Path]]) -> None:
    """``execute``; only the main process makes the stage, whose inputs may not be there yet when the others come."""

    def lead() -> Iterable[Path]:
        processes.broadcast(True)
        return work()

    if not processes.is_main():
        if processes.broadcast(None):
            work()
    elif not stage().run(lead, processes.say):
        processes.broadcast(False)


@contextlib.contextmanager
def _noted(number: int, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"stage {number} {name}")
        raise
