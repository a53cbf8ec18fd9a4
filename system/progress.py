"""Progress display: a bar with the remaining time on a terminal, or an occasional line in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from system import processes

SHORT = 1.0  # seconds before a bar is shown
FIRST, EVERY = 15.0, 60.0  # seconds before the first line in a log, and between lines


class LogProgress:
    """Progress as lines of text for a log, with the interface of tqdm.

    Args:
        total: total amount of work; 0 if unknown.
        text: description of the work.
        say: called with a line.
        unit: ``B`` for bytes.
        clock: clock in seconds.
    """

    def __init__(
        self,
        total: int,
        text: str,
        say: Callable[[str], None],
        unit: str = "it",
        clock: Callable[[], float] = time.monotonic,
    ):
        self.n, self.total, self.text, self.say, self.unit, self.clock = 0, total, text, say, unit, clock
        self.begin = clock()
        self.due = self.begin + FIRST
        self.note = ""
        self.taken_up = 0  # done in an earlier run; ignored in the estimate of the remaining time

    def update(self, count: int = 1) -> None:
        """Adds ``count`` to the work done."""
        self.n += count
        now = self.clock()
        if now - self.begin < SHORT and count > 1:
            self.taken_up = self.n
        if now >= self.due and self.n < self.total:
            self.due = now + EVERY
            amounts = (f"{amount / 1e6:.0f} MB" if self.unit == "B" else str(amount) for amount in (self.n, self.total))
            self.say(f"{self.text}: {' of '.join(amounts)}{self._left(now)}{self.note and f', {self.note}'}")

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """Sets a note for the next line; the name is tqdm's."""
        self.note = text

    def _left(self, now: float) -> str:
        done = self.n - self.taken_up
        if done <= 0:
            return ""
        return f", {duration((now - self.begin) / done * (self.total - self.n))} left"

    def close(self) -> None:
        """Does nothing; for the interface of tqdm."""


def duration(seconds: float) -> str:
    """Formats seconds: 40 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(seconds, 1):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _bar(total: int, text: str, delay: float, unit: str):
    if not processes.is_main():
        return LogProgress(total, text, lambda line: None, unit)
    if not sys.stderr.isatty():
        return LogProgress(total, text, lambda line: print(line, file=sys.stderr, flush=True), unit)
    from tqdm import tqdm

    shown = {"unit": unit, "unit_scale": unit == "B", "mininterval": 0.2, "leave": False, "dynamic_ncols": True}
    return tqdm(total=total or None, desc=text, delay=delay, **shown)


@contextlib.contextmanager
def progress_bar(total: int, text: str, delay: float = SHORT, unit: str = "it") -> Iterator:
    """Context with a progress bar on standard error, shown after ``delay`` seconds.

    ``bar.update(n)`` adds to the work done; ``bar.to(done, total)`` sets it and the total.
    """
    bar = _bar(total, text, delay, unit)

    def to(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    bar.to = to
    try:
        yield bar
    finally:
        bar.close()


class DownloadBars:
    """Progress bars of downloads, one per file."""

    def __init__(self) -> None:
        self.bar: Any = None  # ``Lines`` or tqdm's, which has no types

    def __enter__(self) -> "DownloadBars":
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def show(self, name: str, done: int, total: int) -> None:
        """Shows the progress of a file in bytes."""
        if self.bar is None:
            self.bar = _bar(total, name, SHORT, "B")
        self.bar.update(done - self.bar.n)

    def say(self, line: str) -> None:
        """Closes the bar and prints a line."""
        self.__exit__()
        print(line, flush=True)
