"""Groups of clips that depend on one another: parts of one recording, copies of it."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def connected(*labels: Sequence[Hashable], pairs: Iterable[tuple[int, int]] = ()) -> np.ndarray:
    """Unites several groupings of the same items.

    Args:
        *labels: groupings of N items, each with one label an item; items with the same label belong together, items
            with an empty one ('', None) stand alone.
        pairs: indices of further items that belong together.

    Returns:
        Numbers (N,) from 0 in order of first appearance: two items have the same where a chain of common labels and
        pairs joins them.
    """
    count = len(labels[0]) if labels else 0
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(one: int, other: int) -> None:
        one, other = sorted((root(one), root(other)))
        parent[other] = one

    for grouping in labels:
        first: dict[Hashable, int] = {}
        for item, label in enumerate(grouping):
            if label not in ("", None):
                join(first.setdefault(label, item), item)
    for one, other in pairs:
        join(one, other)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(item), len(numbers)) for item in range(count)], int)
