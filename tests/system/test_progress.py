"""Progress display: a bar on a terminal, few lines in a log."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from system.progress import LogProgress, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_log_gets_its_first_line_after_15_seconds_then_one_a_minute():
    clock, said = Clock(), []
    lines = LogProgress(300, "embedding", lambda text: said.append((clock.now - 100, text)), clock=clock)
    for _ in range(300):
        clock.now += 1
        lines.update(1)
    assert said == [
        (15, "embedding: 15 of 300, 5 min left"),
        (75, "embedding: 75 of 300, 4 min left"),
        (135, "embedding: 135 of 300, 3 min left"),
        (195, "embedding: 195 of 300, 2 min left"),
        (255, "embedding: 255 of 300, 45 s left"),
    ]


def test_what_an_earlier_run_had_done_does_not_count_for_the_time_left():
    clock, said = Clock(), []
    lines = LogProgress(1000, "training", said.append, clock=clock)
    lines.update(800)  # at once
    for _ in range(2):
        clock.now += 10
        lines.update(10)
    assert said == ["training: 820 of 1000, 3 min left"]  # 1 s for each of 180, not 20 s for 820


def test_a_line_says_what_the_work_has_come_to():
    clock, said = Clock(), []
    lines = LogProgress(40, "training", said.append, clock=clock)
    clock.now += 20
    lines.set_postfix_str("loss 0.125", refresh=False)
    lines.update(10)
    assert said == ["training: 10 of 40, 60 s left, loss 0.125"]


def test_bytes_are_said_in_megabytes():
    clock, said = Clock(), []
    lines = LogProgress(2_000_000_000, "dev_fan.zip", said.append, unit="B", clock=clock)
    clock.now += 20
    lines.update(500_000_000)
    assert said == ["dev_fan.zip: 500 MB of 2000 MB, 60 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7140, "119 min"), (11100, "3 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


CHILD = """
import sys, time
from system.progress import progress_bar
with progress_bar(8, "working") as bar:
    for _ in range(int(sys.argv[1])):
        time.sleep(0.3)
        bar.update(1)
"""


def _on_terminal(steps):
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    try:
        subprocess.run([sys.executable, "-c", CHILD, str(steps)], stderr=terminal, check=True, timeout=60)
        os.close(terminal)
        found = b""
        while True:
            try:
                piece = os.read(main, 1 << 16)
            except OSError:  # the other end is closed
                return found.decode()
            if not piece:
                return found.decode()
            found += piece
    finally:
        os.close(main)


def test_a_terminal_shows_a_bar_with_the_time_left_and_clears_it():
    shown = _on_terminal(8)
    assert re.search(r"working: +\d+%.*<\d\d:\d\d", shown)
    assert shown.rstrip(" ").endswith("\r")


def test_short_work_shows_nothing():
    assert _on_terminal(1).strip() == ""


def test_a_log_holds_neither_bars_nor_colours():
    found = subprocess.run([sys.executable, "-c", CHILD, "8"], capture_output=True, check=True, timeout=60)
    assert found.stderr == b""
