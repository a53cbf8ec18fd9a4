"""Computation in threads, with results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AHEAD = 4  # finished or queued items per worker

Item = TypeVar("Item")
Value = TypeVar("Value")


def map_in_order(function: Callable[[Item], Value], items: Iterable[Item], workers: int) -> Generator[Value]:
    """Like ``map``, in threads; only a few results are kept at a time, so memory does not grow with the items.

    Args:
        function: applied to each item.
        items: the items.
        workers: number of threads.

    Yields:
        The results, in the order of the items.
    """
    waiting: deque = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
