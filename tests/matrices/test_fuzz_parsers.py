"""A short run of the fuzzer with fixed seeds; ``python tools/fuzz_parsers.py --minutes 60`` is the long one."""

import random

import pytest
from fuzz_targets import TARGETS, attempt, mutate

ROUNDS, SLOW_ROUNDS = 120, 15


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read_and_damaged_ones_read_or_refused(name, tmp_path):
    target = TARGETS[name]
    seeds = target.seeds()
    dice = random.Random(name)
    taken = sum(attempt(target, tmp_path, seed) for seed in seeds)
    assert taken, "expected a seed that the reader takes, or the mutations start from refused input"
    for _ in range(SLOW_ROUNDS if target.slow else ROUNDS):
        attempt(target, tmp_path, mutate(dice.choice(seeds), dice))


def test_mutations_follow_from_their_seed_and_change_something():
    data = bytes(range(200))
    first = [mutate(data, random.Random(seed)) for seed in range(50)]
    assert first == [mutate(data, random.Random(seed)) for seed in range(50)]
    assert sum(result != data for result in first) > 40
