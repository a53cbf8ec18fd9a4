"""Several processes at work on one run, as torchrun starts them; on one process all of this is a no-op.

Nothing here imports torch before it is needed.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from system.errors import WheeltapperError

TIMEOUT = timedelta(minutes=20)  # that the processes wait for one another: the slowest of them may be writing a state
# What gloo and NCCL say when the other end of a connection is no longer there; their exceptions have no type for it.
_LOST = re.compile(r"gloo|NCCL|connection (was )?(closed|reset|refused)|broken pipe|socket", re.IGNORECASE)


class LostPeer(WheeltapperError):
    """Another process of the run is gone."""


def count() -> int:
    """Number of processes of this run, over all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def per_machine() -> int:
    """Number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def join(device: str) -> None:
    """Waits for the other processes, if any, and connects to them: by gloo on a cpu, by NCCL on cuda."""
    if count() > 1:
        from accelerate import PartialState

        with lost_peer(lambda: "another process of this run did not start"):
            PartialState(cpu=device == "cpu", timeout=TIMEOUT)


def leave() -> None:
    """Lets go of the other processes, when all is done."""
    if count() > 1:
        import torch

        torch.distributed.destroy_process_group()


def agree(value: Any) -> Any:
    """The main process's value, in every process."""
    if count() == 1:
        return value
    import torch

    values = [value]
    with lost_peer(lambda: "another process of this run has ended; start the same command again"):
        torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: Any) -> list[Any]:
    """Every process's value, in every process, in their order."""
    if count() == 1:
        return [value]
    import torch

    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def lost_peer(message: Callable[[], str]) -> Iterator[None]:
    """Raises LostPeer with a message, and what was noticed, where the block fails because another process is gone."""
    try:
        yield
    except RuntimeError as error:
        import torch

        gone = isinstance(error, torch.distributed.DistError) or _LOST.search(str(error))
        if count() > 1 and gone:
            noticed = re.sub(r"^\[[^]]*\] *", "", str(error).splitlines()[0])  # without the line of gloo's code
            raise LostPeer(f"{message()} ({noticed})") from error
        raise


def first_to_say() -> bool:
    """Whether no other process of the run has said yet why it stops.

    What one process meets the others soon notice as its absence, or meet as well: a single message is enough.
    """
    if count() == 1:
        return True
    import torch

    if not torch.distributed.is_initialized():  # then they fail alike, each machine on its own
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        # Lives in torchrun's own process, beside the workers, and so outlasts each of them.
        return torch.distributed.distributed_c10d._get_default_store().add("wheeltapper/said", 1) == 1
    except RuntimeError:
        return True
