"""Files of a training run: the state that it resumes from, the curve, and TensorBoard events."""

import csv
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.files import open_atomic

STATE = "state.pt"
CURVE = "curve.csv"

Row = dict[str, float]


def kept_names(module: nn.Module) -> list[str]:
    """Names of the tensors that a state contains: trainable parameters and those of ``module.extra_state()``."""
    extra = getattr(module, "extra_state", list)
    return [name for name, p in module.named_parameters() if p.requires_grad] + list(extra())


def step_seed(seed: int, step: int) -> int:
    """A 63-bit seed for each (seed, step), so that neighbouring steps and runs use different random streams."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) >> 1


@dataclass
class Position:
    """Progress of a run: steps done, rows of the curve, figures to be added to the next row."""

    step: int = 0
    rows: list[Row] = field(default_factory=list)
    pending: Row = field(default_factory=dict)


class StateFile:
    """``state.pt`` of a run. It is written atomically: until it is complete the previous one is kept.

    Args:
        folder: of the run.
        module: network in training.
        optimizer: its optimiser.
        scaler: loss scaler of fp16, if used.
        settings: plain values on which the result depends; a state with other values is refused.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        settings: Mapping[str, Any],
    ):
        self.path, self.module, self.optimizer, self.scaler = folder / STATE, module, optimizer, scaler
        self.settings = dict(_flat(settings))

    def write(self, position: Position) -> None:
        """Writes the curve and the state."""
        tensors = self.module.state_dict()
        state = {
            "settings": self.settings,
            "step": position.step,
            "rows": position.rows,
            "pending": position.pending,
            "module": {name: tensors[name] for name in kept_names(self.module)},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
        }
        write_curve(self.path.with_name(CURVE), position.rows)
        checkpoints.save_torch(self.path, state)

    def read(self) -> Position:
        """Restores the state of an earlier run, if there is one, and returns its progress.

        Raises:
            WheeltapperError: the state is damaged, or belongs to other settings or another network.
        """
        if not self.path.is_file():
            return Position()
        state = checkpoints.load_file(self.path)
        try:
            self._check_settings(dict(state["settings"]))
            own = self.module.state_dict()
            with torch.no_grad():
                for name in kept_names(self.module):
                    own[name].copy_(state["module"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scaler:
                self.scaler.load_state_dict(state["scaler"])
            return Position(int(state["step"]), list(state["rows"]), dict(state["pending"]))
        except (KeyError, IndexError, AttributeError, ValueError, RuntimeError, TypeError) as error:
            raise WheeltapperError(
                f"{self.path}: does not fit this run ({error}); remove it to start the stage again"
            ) from error

    def clean(self) -> None:
        """Removes temporary files of a process that was killed while writing."""
        for name in (STATE, CURVE):
            for path in self.path.parent.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)

    def _check_settings(self, found: dict[str, Any]) -> None:
        names = sorted(n for n in {*found, *self.settings} if found.get(n) != self.settings.get(n))
        if names:
            pairs = [f"{name}: {self.settings.get(name)}, found {found.get(name)}" for name in names[:4]]
            raise WheeltapperError(
                f"{self.path}: does not fit this run, expected {'; '.join(pairs)}; remove it to start the stage again"
            )


def saved_setting(path: str | os.PathLike, name: str) -> str:
    """A setting, such as ``loop.precision``, of the training that left a state; empty where there is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return str(state["settings"].get(name, ""))
    except Exception:  # what is wrong with the file is said where it is read
        return ""


def left(path: str | os.PathLike) -> str:
    """A phrase for messages: the number of steps in a state from which the run can resume."""
    try:
        steps = int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception:  # this is part of the message of another error, which must not be hidden
        steps = 0
    if not steps:
        return "no step was saved yet; the same command starts again"
    return f"{path} holds {steps} steps; the same command resumes there"


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def write_curve(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Writes the logged figures as csv; a figure missing from a row is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Events:
    """Writer of TensorBoard events.

    TensorBoard's own writer works in a thread, where a full disk causes a traceback that nobody can catch.
    """

    def __init__(self, folder: Path, first: int):
        self.first = first
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"

    def write(self, row: Row) -> None:
        """Adds a row. From the first one on, TensorBoard ignores events of earlier runs for later steps."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        now, step = time.time(), int(row["step"])
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "step"]
        events = [Event(wall_time=now, step=step, summary=Summary(value=values))]
        if not self.path.exists():
            start = SessionLog(status=SessionLog.START)
            events[:0] = [
                Event(wall_time=now, file_version="brain.Event:2"),
                Event(wall_time=now, step=self.first, session_log=start),
            ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                for event in events:
                    RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
