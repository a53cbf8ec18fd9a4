"""Where a run is killed: its renamings and removals below the experiment folder, counted within each stage.

Every file of a run is written to a temporary neighbour and renamed, so that these are the moments at which what is on
disk changes.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toy_runs import Reference, copy

STAGES = range(10)
MOMENTS = ("before the first write", "in the middle of a write", "between two writes", "before the marker", "after it")
REMOVAL = "at a removal"
TEMPORARY = shutil.ignore_patterns(".*.tmp")
# What is done at an event before the process kills itself.
TORN, WHOLE, DONE = "torn", "whole", "done"


@dataclass(frozen=True)
class Event:
    """The ``number``-th change on disk in a stage: a file or folder that gets its name, or goes."""

    stage: int
    number: int
    name: str
    removal: bool

    @property
    def is_start(self) -> bool:
        return self.name.endswith(".started") and not self.removal

    @property
    def is_marker(self) -> bool:
        return self.name.startswith("stages/") and self.name.endswith(".json") and not self.removal


@dataclass(frozen=True)
class Point:
    """A moment of a stage: at an event, before, while or after it; or a share of the stage's time."""

    stage: int
    moment: str
    event: Event | None = None
    mode: str = ""
    share: float = 0.0

    def __str__(self) -> str:
        if self.event is None:
            return f"stage {self.stage}, {self.moment}: after {self.share:.2f} of its time"
        return f"stage {self.stage}, {self.moment}: {self.event.name} {self.mode}"


def install(exp: str, record: str = "", keep: str = "", kill: list | None = None) -> Callable[[], None]:
    """Watches this process; kills it at the event ``kill`` = [stage, number, mode].

    Args:
        exp: experiment folder. record: file for the events, written by the function returned. keep: where a copy of the
            experiment folder is kept before each stage, ``{}`` for the stage's number.
    """
    from system.stage import Stage

    # The configuration is saved before the first stage begins, in none.
    state, events, run = {"stage": -1, "number": 0}, [], Stage.run

    def enter(self, *arguments, **options):
        state.update(stage=self.number, number=0)
        return run(self, *arguments, **options)

    def watched(function: Callable, removal: bool, path_of: Callable) -> Callable:
        def wrapped(*arguments, **options):
            path = os.path.abspath(os.fsdecode(path_of(arguments)))
            counts = path.startswith(exp + os.sep) and not (
                removal and (path.endswith(".tmp") or not os.path.lexists(path))
            )
            if not counts:
                return function(*arguments, **options)
            here = [state["stage"], state["number"]]
            state["number"] += 1
            events.append([*here, os.path.relpath(path, exp), removal])
            if keep and path.endswith(".started") and not removal:
                shutil.copytree(exp, keep.format(here[0]), copy_function=shutil.copy2, ignore=TEMPORARY)
            mode = kill[2] if kill and here == kill[:2] else ""
            if mode == TORN:
                _tear(Path(arguments[0]))
            if mode in (TORN, WHOLE):
                _die()
            result = function(*arguments, **options)
            if mode == DONE:
                _die()
            return result

        return wrapped

    Stage.run = enter
    os.replace = watched(os.replace, False, lambda arguments: arguments[1])
    for name in ("unlink", "rmdir"):
        setattr(os, name, watched(getattr(os, name), True, lambda arguments: arguments[0]))
    return lambda: Path(record).write_text(json.dumps(events)) if record else None


def _die() -> None:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _tear(path: Path) -> None:
    """Leaves the first half of a file, or of the files of a folder."""
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)
        return
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for file in files[len(files) // 2 :]:
        os.truncate(file, 0)


class Matrix(Reference):
    """Runs that are killed and started again."""

    def all_events(self) -> list[Event]:
        return [Event(*event) for event in json.loads(self.events.read_text())]

    def points(self, seed: int, timed: int = 1) -> Iterator[Point]:
        """Every moment of every stage, the event drawn by ``seed``, and ``timed`` random times within each."""
        dice = random.Random(seed)
        for stage in STAGES:
            changes = [event for event in self.all_events() if event.stage == stage]
            own, gone = ([event for event in changes if event.removal == removal] for removal in (False, True))
            start = next(number for number, event in enumerate(own) if event.is_start)
            marker = next(number for number, event in enumerate(own) if event.is_marker)
            writes = own[start + 1 : marker] or [own[marker]]
            yield Point(stage, MOMENTS[0], own[start], dice.choice((WHOLE, DONE)))
            yield Point(stage, MOMENTS[1], dice.choice(writes), TORN)
            yield Point(stage, MOMENTS[2], dice.choice(writes), dice.choice((WHOLE, DONE)))
            yield Point(stage, MOMENTS[3], own[marker], dice.choice((TORN, WHOLE)))
            yield Point(stage, MOMENTS[4], own[marker], DONE)
            if gone:
                yield Point(stage, REMOVAL, dice.choice(gone), dice.choice((WHOLE, DONE)))
            for _ in range(timed):
                yield Point(stage, "at a random time", share=dice.random())

    def attempt(self, point: Point) -> list[str]:
        """Kills a run at a point, starts it again; how its results differ from the uninterrupted run's."""
        copy(self.before(point.stage), self.exp)
        if point.event is not None:
            kill = [point.stage, point.event.number, point.mode]
            options = {"hook": ["kill_points", {"exp": str(self.exp), "kill": kill}]}
        else:
            options = {"seconds": point.share * self.seconds(point.stage)}
        ended = self.run(point.stage, **options)
        if ended.status != -signal.SIGKILL:
            return [f"was not killed: {ended.status}, {ended.last}"]
        again = self.run()
        return [f"ended with {again.status}: {again.last}"] if again.status else self.differences()
