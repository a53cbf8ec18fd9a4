"""A plug-in with which one process of a run kills itself: DIE is its number and what it has written then."""

import os
import signal

number, _, name = os.environ["DIE"].partition(" ")
usual = os.replace


def dying(source, target, *more):
    usual(source, target, *more)
    if os.environ.get("RANK") == number and os.fspath(target).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)


os.replace = dying
