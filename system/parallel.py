"""Work in threads whose results arrive in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AHEAD = 4  # items per worker that may wait to be used

Item = TypeVar("Item")
Value = TypeVar("Value")


def ahead(function: Callable[[Item], Value], items: Iterable[Item], workers: int) -> Generator[Value]:
    """``map`` in threads, in order, with few results waiting: memory does not grow with the number of items."""
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
