"""Batches that are prepared ahead, in threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from system import processes
from system.machine import cores

MOST_THREADS = 12  # more than this many do not feed a device faster
CORES_PER_THREAD = 4  # on a CPU, which computes the training step meanwhile

Value = TypeVar("Value")


def loader_threads(configured: int, device: str) -> int:
    """Number of threads that prepare batches.

    Beside a GPU all cores of the process but one prepare batches. Where the step itself is computed on these cores,
    a quarter of them do.

    Args:
        configured: number wanted; 0 for one from the cores of this machine.
        device: cpu, cuda or mps.
    """
    own = max(1, cores() // processes.per_machine())
    wanted = own // CORES_PER_THREAD if device == "cpu" else own - 1
    return configured or min(max(1, wanted), MOST_THREADS)


def prepared(make_batch: Callable[..., Value], keys: Iterable[tuple], workers: int) -> Generator[Value]:
    """Yields ``make_batch(*key)`` for every key in order, computed up to ``workers + 1`` batches ahead in threads.

    An exception of ``make_batch`` is raised when its batch is due.
    """
    keys = iter(keys)
    threads = ThreadPoolExecutor(workers)
    try:
        waiting = deque(threads.submit(make_batch, *key) for key in islice(keys, workers + 1))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(threads.submit(make_batch, *key) for key in islice(keys, 1))
            yield batch
    finally:
        threads.shutdown(cancel_futures=True)
