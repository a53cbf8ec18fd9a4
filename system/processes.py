"""Communication between the processes of a run started by torchrun; does nothing in a single process.

torch is imported only when needed.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from system.errors import WheeltapperError

TIMEOUT = timedelta(minutes=20)  # processes wait this long for each other, since one may be writing a large state
# Messages of gloo and NCCL about lost connections; their exceptions have no type for this.
_LOST = re.compile(r"gloo|NCCL|connection (was )?(closed|reset|refused)|broken pipe|socket", re.IGNORECASE)


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


def is_main() -> bool:
    """Whether this is the main process, which writes files and messages."""
    return os.environ.get("RANK", "0") == "0"


def join(device: str) -> None:
    """Connects to the other processes, if any: by gloo on a cpu, by NCCL on cuda."""
    if count() > 1:
        from accelerate import PartialState

        with lost_peer(lambda: "another process of this run did not start"):
            PartialState(cpu=device == "cpu", timeout=TIMEOUT)


def leave() -> None:
    """Disconnects from the other processes at the end."""
    if count() > 1:
        import torch

        torch.distributed.destroy_process_group()


def broadcast(value: Any) -> Any:
    """Returns the main process's value in every process."""
    if count() == 1:
        return value
    import torch

    values = [value]
    with lost_peer(lambda: "another process of this run has ended; start the same command again"):
        torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: Any) -> list[Any]:
    """Returns the values of all processes in every process, in order."""
    if count() == 1:
        return [value]
    import torch

    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


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
        # This store is in torchrun's own process, so it outlives the workers.
        return torch.distributed.distributed_c10d._get_default_store().add("wheeltapper/said", 1) == 1
    except RuntimeError:
        return True
