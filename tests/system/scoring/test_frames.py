"""Memory of frames against plain loops over clips and frames."""

import numpy as np
import pytest

from system import scoring
from system.errors import WheeltapperError
from system.scoring import frames

SOURCE = np.array(["source"] * 12)


def clips(count: int, seed: int = 0) -> np.ndarray:
    """Rows of 10 frames of 6 numbers of different scales, one of which is always the same."""
    rows = np.random.default_rng(seed).normal(size=(count, 10, 6)).cumsum(1) * [1, 10, 0.1, 1, 3, 0] - 20
    return rows.astype(np.float32)


def plain(references: np.ndarray, tests: np.ndarray, distance: str, count: int) -> np.ndarray:
    """Mean of the ``count`` largest distances of the frames of each clip to their nearest reference frame."""
    bank = references.reshape(-1, references.shape[-1]).astype(float)
    mean, deviation = bank.mean(0), bank.std(0)
    deviation = np.maximum(deviation, 0.01 * np.sqrt((deviation**2).mean()))
    bank, found = (bank - mean) / deviation, []
    for clip in (tests - mean) / deviation:
        nearest = []
        for frame in clip:
            if distance == "euclidean":
                nearest.append(min(np.linalg.norm(frame - other) for other in bank))
            else:
                nearest.append(min(1 - frame @ o / np.linalg.norm(o) / np.linalg.norm(frame) for o in bank))
        found.append(np.mean(sorted(nearest)[-count:]))
    return np.array(found)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_scores_and_leave_one_out(distance, monkeypatch):
    monkeypatch.setattr(frames, "BLOCK", 700)  # a few queries at a time
    references, tests = clips(12), clips(5, seed=1)
    references[3] += 4.0
    scorer = scoring.build("frames", worst=0.2, distance=distance).fit(references, SOURCE)
    np.testing.assert_allclose(scorer.score(tests), plain(references, tests, distance, 2), rtol=1e-9)
    expected = [plain(np.delete(references, i, 0), references[i : i + 1], distance, 2)[0] for i in range(12)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-9)
    np.testing.assert_allclose(scorer._banks[0].leave_one_out(), expected, rtol=1e-9)
    assert scorer.score(references) == pytest.approx(np.zeros(12), abs=1e-12)


def test_one_bad_frame_is_heard_and_the_numbers_of_two_inputs_belong_together():
    references, test = np.stack([clips(12), clips(12, 1)], 1), np.stack([clips(1, 2), clips(1, 3)], 1)
    scorer = scoring.build("frames", worst=0.05).fit(references, SOURCE)
    side_by_side = np.concatenate([references[:, 0], references[:, 1]], 2)
    found = scorer.score(test)
    np.testing.assert_allclose(found, plain(side_by_side, np.concatenate([test[:, 0], test[:, 1]], 2), "euclidean", 1))
    test[0, 1, 7] += 40.0
    assert scorer.score(test) > 3 * found


def test_a_bank_above_the_limit_keeps_every_third_frame():
    references, tests = clips(12), clips(5, seed=1)
    scorer = scoring.build("frames", limit=50).fit(references, SOURCE)
    np.testing.assert_allclose(scorer.score(tests), plain(references[:, ::3], tests, "euclidean", 1), rtol=1e-9)
    expected = [plain(np.delete(references, i, 0)[:, ::3], references[i : i + 1], "euclidean", 1)[0] for i in range(12)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-9)


def test_silence():
    references = np.zeros((12, 10, 6))
    scorer = scoring.build("frames").fit(references, SOURCE)
    np.testing.assert_array_equal(scorer.reference_scores(), 0.0)
    assert scorer.score(references[:1] + 1.0)[0] == pytest.approx(np.sqrt(6))


def test_other_scorers_refuse_frames_of_two_inputs():
    rows = np.zeros((12, 2, 10, 6))
    for name in set(scoring.SCORERS) - {"frames"}:
        with pytest.raises(WheeltapperError, match=r"bands, D|frames of several inputs are for the scorer frames"):
            scoring.build(name).fit(rows, SOURCE)
