"""A network applied to many items: read ahead, and on a GPU computed in batches of equal shape."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from system.accelerator import can_pin, is_cuda
from system.errors import WheeltapperError
from system.memory_errors import is_out_of_memory
from system.parallel import map_in_order

WAITING = 8  # size of the queue, in batches, in which items wait for others of equal shape
IN_TURN = 2  # batches on a GPU: one is computed while results of the one before are copied
MOST_TOGETHER = 64  # more than this many do not compute faster
BYTES_EACH = 256 << 20  # of GPU memory for a recording of a minute in the largest published network, by estimate

Item = TypeVar("Item")
Value = TypeVar("Value")


def choose_batch_size(configured: int, device: str) -> int:
    """Number of items that are computed together.

    Args:
        configured: number wanted; 0 for one from the device: a CPU gains nothing by batches, and with one at a time a
            result depends on nothing else; a GPU takes as many as its free memory holds, up to ``MOST_TOGETHER``.
        device: cpu, cuda or mps.
    """
    if configured or not is_cuda(device):
        return configured or 1
    held = MOST_TOGETHER * BYTES_EACH
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_initialized() else held
    return max(1, min(MOST_TOGETHER, 1 << max(0, (free // BYTES_EACH).bit_length() - 1)))


def run_batches(
    items: Sequence[Item],
    load: Callable[[Item], Tensor],
    network: Callable[[Tensor], Value],
    workers: int = 1,
    batch_size: int = 0,
    device: str = "cpu",
    precision: str = "float32",
) -> Iterator[tuple[list[int], Value]]:
    """Applies a network to items, reading ahead.

    With batches of one on a CPU, every item is loaded and computed in its own thread, ``workers`` at once, and the
    result depends on the item only, bit for bit. Otherwise items of equal shape are computed together; an item whose
    shape stays rare is computed in a smaller batch. In float32 a row then differs from that of the item alone by at
    most 1e-5 of the largest value. Batches that memory does not hold are halved.

    Args:
        items: what to compute.
        load: function of an item that returns a tensor without batch dimension.
        network: function of a batch (B, ...), which it moves to its device.
        workers: number of threads that load; on a CPU they compute, too.
        batch_size: maximum B; 0: see ``choose_batch_size``.
        device: cpu, cuda or mps, of the network.
        precision: of the network, for messages.

    Yields:
        Indices of the items of a batch, and the network's value for it.

    Raises:
        WheeltapperError: memory does not hold a single item.
    """
    size = choose_batch_size(batch_size, device)
    compute = _Shrinking(network, size, workers, device, precision)
    if size == 1 and device == "cpu":
        each = map_in_order(lambda pair: compute(([pair[0]], load(pair[1]).unsqueeze(0))), enumerate(items), workers)
    else:
        batches = _batches(map_in_order(load, items, workers), compute, device)
        each = map_in_order(compute, batches, workers if device == "cpu" else IN_TURN)
    for found in each:
        yield from found


class _Shrinking(Generic[Value]):
    """A network with batches that become smaller, and are computed one after another, once memory does not hold them.

    Args:
        network: function of a batch.
        size: of the largest batch.
        workers, device, precision: for messages.
    """

    def __init__(self, network: Callable[[Tensor], Value], size: int, workers: int, device: str, precision: str):
        self.network, self.size, self.asked = network, size, size
        self.workers, self.device, self.precision = workers, device, precision
        self.alone, self.lock = False, threading.Lock()

    def __call__(self, batch: tuple[list[int], Tensor]) -> list[tuple[list[int], Value]]:
        """The values of a batch, with the indices that each is of."""
        found, waiting = [], [batch]
        while waiting:
            rows, tensor = waiting.pop(0)
            size, alone = self.size, self.alone
            if len(rows) > size:
                waiting[:0] = zip((rows[:size], rows[size:]), (tensor[:size], tensor[size:]), strict=True)
            elif (value := self._attempt(tensor, alone)) is not None:
                found.append((rows, value))
            else:
                self.size, self.alone = min(self.size, max(1, len(rows) // 2)), True
                waiting.insert(0, (rows, tensor))
        return found

    def _attempt(self, tensor: Tensor, alone: bool) -> Value | None:
        """The value of a batch; None if memory does not hold it, and fewer items or other threads' memory may help."""
        try:
            with self.lock if alone else contextlib.nullcontext():
                return self.network(tensor)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if alone and len(tensor) == 1:
                raise self._too_large() from error
        # What the attempt had allocated is free only now that its error is gone.
        if can_pin(self.device):
            torch.cuda.empty_cache()
        return None

    def _too_large(self) -> WheeltapperError:
        other = f"threads, which is {self.workers}" if self.device == "cpu" else f"device, which is {self.device}"
        return WheeltapperError(
            f"out of memory on {self.device} in embedding, where batches of {self.asked} were halved down to one "
            f"recording: expected enough for one, change embed.precision, which is {self.precision}, to bf16, or "
            f"{other}"
        )


def _batches(tensors: Iterable[Tensor], compute: _Shrinking, device: str) -> Iterator[tuple[list[int], Tensor]]:
    """Groups tensors of equal shape: indices of the tensors, and the tensors stacked."""
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}

    def together(shape: tuple[int, ...]) -> tuple[list[int], Tensor]:
        members = waiting.pop(shape)
        stacked = torch.stack([tensor for _, tensor in members])
        return [index for index, _ in members], stacked.pin_memory() if can_pin(device) else stacked

    for index, tensor in enumerate(tensors):
        shape = tuple(tensor.shape)
        waiting.setdefault(shape, []).append((index, tensor))
        if len(waiting[shape]) >= compute.size:
            yield together(shape)
        elif sum(map(len, waiting.values())) > WAITING * compute.size:
            yield together(next(iter(waiting)))
    for shape in list(waiting):
        yield together(shape)
