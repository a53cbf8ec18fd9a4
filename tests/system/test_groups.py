"""Groups against chains that are followed by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from system.groups import connected


def test_chains_join():
    recordings = ["a", "a", "b", "", "", "c"]
    copies = ["", "x", "x", "", "y", "y"]
    assert connected(recordings, copies).tolist() == [0, 0, 0, 1, 2, 2]
    assert connected(recordings).tolist() == [0, 0, 1, 2, 3, 4]
    assert connected().tolist() == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25))
def test_powers_of_the_adjacency_matrix_agree(pairs):
    one, other = zip(*pairs, strict=True)
    same = (np.equal.outer(one, one) | np.equal.outer(other, other)).astype(float)
    reach = np.linalg.matrix_power(same, len(pairs)) > 0
    found = connected(one, other)
    np.testing.assert_array_equal(np.equal.outer(found, found), reach)
