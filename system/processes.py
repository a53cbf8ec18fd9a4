"""Communication between the processes of a run started by torchrun; does nothing in a single process.

torch is imported only when needed.
"""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from system.errors import WheeltapperError

Item = TypeVar("Item")

# Processes wait this long for each other in training, where one may write a large state.
TIMEOUT = timedelta(minutes=20)
POLL = 1.0  # longest pause in seconds between two looks for what another process hands over
SAID = "wheeltapper/said"  # key of the store: number of processes that have reported an error
# Messages of gloo and NCCL about lost connections; their exceptions have no type for this.
_LOST = re.compile(r"gloo|NCCL|connection (was )?(closed|reset|refused)|broken pipe|socket", re.IGNORECASE)
_ENDED = "another process of this run has ended; start the same command again"
_calls = itertools.count()  # of ``broadcast`` and ``collect``, the same in all processes


class LostPeer(WheeltapperError):
    """Another process of the run has ended."""


def count() -> int:
    """Number of processes of this run, over all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def per_machine() -> int:
    """Number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """Number of this process among those of this run on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def number() -> int:
    """Number of this process among all of the run, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the main process, which writes files and messages."""
    return number() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that fall to this process: every ``count()``-th one."""
    return items[number() :: count()]


def say(text: str) -> None:
    """Prints a line in the main process."""
    if is_main():
        print(text, flush=True)


def join(device: str) -> None:
    """Connects to the other processes, if any: by gloo on a cpu, by NCCL on cuda."""
    if count() > 1:
        from accelerate import PartialState

        with lost_peer(lambda: "another process of this run did not start"):
            PartialState(cpu=device == "cpu", timeout=TIMEOUT)


def leave() -> None:
    """Disconnects from the other processes at the end, when all of them have come there."""
    if count() > 1:
        import torch

        collect(None)
        torch.distributed.destroy_process_group()


def broadcast(value: Any) -> Any:
    """Returns the main process's plain value (as JSON has them) in every process; waits for it as long as it takes."""
    if count() == 1:
        return value
    key = f"wheeltapper/{next(_calls)}"
    with lost_peer(lambda: _ENDED):
        if is_main():
            _store().set(key, json.dumps(value))
            return value
        return _receive(key)


def collect(value: Any) -> list[Any]:
    """Returns the plain values of all processes in every process, in order; waits for them as long as it takes."""
    if count() == 1:
        return [value]
    key = f"wheeltapper/{next(_calls)}"
    with lost_peer(lambda: _ENDED):
        _store().set(f"{key}/{number()}", json.dumps(value))
        return [_receive(f"{key}/{rank}") for rank in range(count())]


def gather(value: Any) -> list[Any]:
    """Like ``collect`` for steps of a training: any values, fast, of processes that come there within ``TIMEOUT``."""
    if count() == 1:
        return [value]
    import torch

    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


def _store() -> Any:
    """The store of keys that all processes see. torchrun keeps it in its own process, so that it outlives workers."""
    import torch

    return torch.distributed.distributed_c10d._get_default_store()


def _receive(key: str) -> Any:
    store, pause = _store(), 0.001
    while not store.check([key]):
        if store.check([SAID]):
            raise LostPeer(_ENDED)
        time.sleep(pause)
        pause = min(1.5 * pause, POLL)
    return json.loads(store.get(key))


@contextlib.contextmanager
def lost_peer(message: Callable[[], str]) -> Iterator[None]:
    """Context that converts errors of the block caused by a lost process to LostPeer, with a message and the cause."""
    try:
        yield
    except RuntimeError as error:
        import torch

        gone = isinstance(error, torch.distributed.DistError) or _LOST.search(str(error))
        if count() > 1 and gone:
            noticed = re.sub(r"^\[[^]]*\] *", "", str(error).splitlines()[0])  # without gloo's source location
            raise LostPeer(f"{message()} ({noticed})") from error
        raise


def is_first_to_report() -> bool:
    """Whether no other process of the run has reported an error yet.

    The other processes soon fail too, with the same error or because of the lost connection; one message is enough.
    """
    if count() == 1:
        return True
    import torch

    if not torch.distributed.is_initialized():  # then all processes of a machine fail alike
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return _store().add(SAID, 1) == 1
    except RuntimeError:
        return True
