"""BEAM, VarMin, local density normalisation and synthetic target rows, against loops over single clips."""

import numpy as np
import pytest

from system import scoring
from system.errors import WheeltapperError
from system.scoring.augment import synthetic_rows

SOURCE, TARGET, BANDS, DIM = 18, 5, 2, 5
DOMAINS = np.array(["source"] * SOURCE + ["target"] * TARGET)
Rows = list[np.ndarray]  # each (bands, D)


def clips(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    spread = generator.uniform(0.1, 1.5, size=(count, 1, 1))  # dense and thin places
    return spread * generator.normal(size=(count, BANDS, DIM)) + np.arange(1, DIM + 1) + shift


def references() -> np.ndarray:
    return np.concatenate([clips(SOURCE, 0), clips(TARGET, 1, 1.5)])


def fresh_clips() -> np.ndarray:
    return np.concatenate([clips(6, 2), clips(6, 3, 1.5), clips(3, 4, -6.0)])


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return 0.5 * (1.0 - float(x @ y) / np.sqrt(float(x @ x) * float(y @ y)))


def density(bank: Rows, i: int, f: int, count: int) -> float:
    others = sorted(distance(bank[i][f], bank[j][f]) for j in range(len(bank)) if j != i)
    return float(np.mean(others[:count]))


def alpha(bank: Rows, real: int, f: int, count: int, gone: list[list[int]] | None = None) -> float:
    """Densities of the first ``real`` rows of a bank, without the rows ``gone``."""
    d, b = [], []
    for i in range(real):
        without = {i, *(gone[i] if gone else ())}
        nearest = min((j for j in range(len(bank)) if j not in without), key=lambda j: distance(bank[i][f], bank[j][f]))
        d.append(distance(bank[i][f], bank[nearest][f]))
        b.append(density(bank, nearest, f, count))
    d, b = np.array(d) - np.mean(d), np.array(b) - np.mean(b)
    return 0.0 if np.allclose(b, 0.0) else float(np.sum(d * b) / np.sum(b * b))


def score(bank: Rows, x: np.ndarray, k: int = 1, alphas: list[float] | None = None, count: int = 0) -> float:
    """Mean over bands of the k smallest distances, minus alpha times density if alphas are given."""
    total = []
    for f in range(len(x)):
        values = [distance(x[f], y[f]) for y in bank]
        if alphas:
            values = [v - alphas[f] * density(bank, i, f, count) for i, v in enumerate(values)]
        total.append(np.mean(sorted(values)[:k]))
    return float(np.mean(total))


def ratio(bank: Rows, x: np.ndarray, count: int, first: int = 0) -> float:
    """Distance to the rows from ``first`` on, with densities over all rows."""
    total = []
    for f in range(len(x)):
        near = [distance(x[f], bank[i][f]) / density(bank, i, f, count) for i in range(first, len(bank))]
        total.append(min(near))
    return float(np.mean(total))


def without(bank: np.ndarray, i: int) -> Rows:
    return [row for j, row in enumerate(bank) if j != i]


@pytest.mark.parametrize("k", [1, 3])
def test_beam(k):
    bank = references()
    scorer = scoring.build("beam", k=k).fit(bank, DOMAINS)
    np.testing.assert_allclose(
        scorer.score(fresh_clips()), [score(list(bank), x, k) for x in fresh_clips()], rtol=1e-10
    )
    expected = [score(without(bank, i), x, k) for i, x in enumerate(bank)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-10)


def test_beam_by_domain_takes_the_nearest_bank():
    bank, found = references(), scoring.build("beam", bank="domain").fit(references(), DOMAINS)
    parts = [list(bank[:SOURCE]), list(bank[SOURCE:])]
    expected = [min(score(part, x) for part in parts) for x in fresh_clips()]
    np.testing.assert_allclose(found.score(fresh_clips()), expected, rtol=1e-10)
    own = [min(score(without(bank[:SOURCE], i), x), score(parts[1], x)) for i, x in enumerate(parts[0])]
    own += [min(score(without(bank[SOURCE:], i), x), score(parts[0], x)) for i, x in enumerate(parts[1])]
    np.testing.assert_allclose(found.reference_scores(), own, rtol=1e-10)


@pytest.mark.parametrize(("count", "k"), [(4, 1), (2, 3), (1, 1), (100, 1)])
def test_varmin(count, k):
    bank = references()
    scorer = scoring.build("beam", varmin=count, k=k).fit(bank, DOMAINS)
    alphas = [alpha(list(bank), len(bank), f, count) for f in range(BANDS)]
    expected = [score(list(bank), x, k, alphas, count) for x in fresh_clips()]
    np.testing.assert_allclose(scorer.score(fresh_clips()), expected, rtol=1e-8, atol=1e-12)
    # Left out of everything but alpha: the other clips' densities are those without it.
    expected = [score(without(bank, i), x, k, alphas, count) for i, x in enumerate(bank)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-8, atol=1e-12)


def test_varmin_of_one_band_and_plain_neighbours():
    bank, one = references(), references().reshape(len(DOMAINS), 1, -1)
    alphas = [alpha(list(one), len(one), 0, 4)]
    expected = [score(list(one), x, 1, alphas, 4) for x in fresh_clips().reshape(-1, 1, BANDS * DIM)]
    for rows, fresh, settings in (
        (bank, fresh_clips(), {"bands": False}),
        (one[:, 0], fresh_clips().reshape(len(fresh_clips()), -1), {}),
    ):
        found = scoring.build("beam", varmin=4, **settings).fit(rows, DOMAINS).score(fresh)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_equal_densities_leave_distances_as_they_are():
    corners = np.eye(8)[:, None]
    rows = scoring.build("beam", varmin=3).fit(corners, np.array(["source"] * 8))
    np.testing.assert_allclose(rows.reference_scores(), 0.5, rtol=1e-12)
    assert np.isfinite(scoring.build("beam", varmin=3).fit(np.ones((6, 2, 4)), ["source"] * 6).reference_scores()).all()


@pytest.mark.parametrize("bands", [False, True])
@pytest.mark.parametrize("count", [4, 1, 100])
def test_local_density_normalisation(bands, count):
    bank, fresh = references(), fresh_clips()
    scorer = scoring.build("ldn", neighbours=count, bands=bands).fit(bank, DOMAINS)
    found, left_out = scorer.score(fresh), scorer.reference_scores()
    if not bands:
        bank, fresh = bank.reshape(len(bank), 1, -1), fresh.reshape(len(fresh), 1, -1)
    np.testing.assert_allclose(found, [ratio(list(bank), x, count) for x in fresh], rtol=1e-9)
    expected = [ratio(without(bank, i), x, count) for i, x in enumerate(bank)]
    np.testing.assert_allclose(left_out, expected, rtol=1e-9)


def test_local_density_with_clips_that_are_there_several_times():
    """Identical clips have distance zero, so only their twins are near them."""
    bank = np.concatenate([np.repeat(references()[:1], 6, axis=0), references()[1:]])
    domains = np.array(["source"] * len(bank))
    scorer = scoring.build("ldn", bands=True).fit(bank, domains)
    assert np.isfinite(scorer.reference_scores()).all()
    assert scorer.score(bank[:1])[0] == pytest.approx(0.0, abs=1e-9)
    expected = [ratio(list(bank), x, 4, first=6) for x in fresh_clips()]
    np.testing.assert_allclose(scorer.score(fresh_clips()), expected, rtol=1e-9)
    assert np.isfinite(scoring.build("ldn").fit(np.ones((8, 4)), ["source"] * 8).score(fresh_clips()[:, 0, :4])).all()


def smote_by_hand(rows: np.ndarray, count: int) -> list[tuple[np.ndarray, set[int]]]:
    """Synthetic rows and their parents; clips have unit length in each band."""
    target = range(SOURCE, SOURCE + TARGET)
    cosine = {(i, j): sum(float(rows[i, f] @ rows[j, f]) for f in range(BANDS)) for i in target for j in target}
    pairs = set()
    for i in target:
        near = sorted((j for j in target if j != i), key=lambda j: -cosine[i, j])[:2]
        pairs |= {tuple(sorted((i, j))) for j in near}
    pairs = sorted(pairs, key=lambda pair: cosine[pair])
    made = []
    for place, (i, j) in enumerate(pairs):
        points = count // len(pairs) + (place < count % len(pairs))
        for n in range(points):
            share = (n + 1) / (points + 1)
            made.append(((1 - share) * rows[i] + share * rows[j], {i, j}))
    return made


def mixup_by_hand(rows: np.ndarray, share: float, nearest: int) -> list[tuple[np.ndarray, set[int]]]:
    made = []
    for t in range(SOURCE, SOURCE + TARGET):
        cosine = [sum(float(rows[t, f] @ rows[s, f]) for f in range(BANDS)) for s in range(SOURCE)]
        near = [int(s) for s in np.argsort(cosine)[::-1][:nearest]]
        made += [((1 - share) * rows[t] + share * rows[s], {t, s}) for s in near]
    return made


AUGMENTED = [
    {"smote": 0.8},
    {"memmixup": 0.1, "memmixup_neighbours": 2},
    {"smote": 0.3, "memmixup": 0.2, "memmixup_neighbours": 4},
]


@pytest.mark.parametrize("settings", AUGMENTED)
@pytest.mark.parametrize("varmin", [0, 3])
def test_rows_made_of_target_clips(settings, varmin):
    """Test clips see all synthetic rows; leaving out a clip also removes the rows made from it."""
    bank = references()
    lengths = np.linalg.norm(bank, axis=2, keepdims=True)
    made = []
    if "smote" in settings:
        made += smote_by_hand(bank / lengths, round(settings["smote"] * SOURCE))
        assert len(made) == round(settings["smote"] * SOURCE)
    if "memmixup" in settings:
        made += mixup_by_hand(bank / lengths, settings["memmixup"], settings["memmixup_neighbours"])
    rows = [*(bank / lengths), *(row for row, _ in made)]
    gone = [[i, *(len(bank) + n for n, (_, parents) in enumerate(made) if i in parents)] for i in range(len(bank))]
    assert any(len(g) > 1 for g in gone)
    alphas = [alpha(rows, len(bank), f, varmin, gone) for f in range(BANDS)] if varmin else None
    scorer = scoring.build("beam", varmin=varmin, **settings).fit(bank, DOMAINS)
    assert not scorer.note
    expected = [score(rows, x, 1, alphas, varmin) for x in fresh_clips()]
    np.testing.assert_allclose(scorer.score(fresh_clips()), expected, rtol=1e-8, atol=1e-12)
    kept = [[row for j, row in enumerate(rows) if j not in gone[i]] for i in range(len(bank))]
    expected = [score(kept[i], x, 1, alphas, varmin) for i, x in enumerate(bank)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-8, atol=1e-12)
    if not varmin:  # without this, distances are smaller: synthetic rows are nearer to their clip than other clips
        naive = [score(without(rows, i), x) for i, x in enumerate(bank)]
        assert sum(naive) < 0.95 * sum(scorer.reference_scores())


def test_a_source_clip_left_out_takes_its_mixtures_from_the_target_bank():
    bank = references()
    unit = bank / np.linalg.norm(bank, axis=2, keepdims=True)
    made = mixup_by_hand(unit, 0.45, 2)
    scorer = scoring.build("beam", bank="domain", memmixup=0.45, memmixup_neighbours=2).fit(bank, DOMAINS)
    expected = [
        min(
            score(without(bank[:SOURCE], s), bank[s]),
            score([*bank[SOURCE:], *(row for row, parents in made if s not in parents)], bank[s]),
        )
        for s in range(SOURCE)
    ]
    np.testing.assert_allclose(scorer.reference_scores()[:SOURCE], expected, rtol=1e-9)


def test_made_rows_for_plain_neighbours_are_of_the_whole_vector():
    rows = references().reshape(len(DOMAINS), -1)
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[:, None]
    target, source = np.arange(SOURCE, len(rows)), np.arange(SOURCE)
    made, parents = synthetic_rows(unit, target, source, 0.5, 0.0, 3)
    assert len(made) == len(parents) == 9
    assert (parents >= SOURCE).all()
    found = scoring.build("knn", k=1, smote=0.5).fit(references(), DOMAINS).score(fresh_clips())
    whole = [*rows, *made[:, 0]]
    expected = [2 * min(distance(x.ravel(), y) for y in whole) for x in fresh_clips()]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("targets", "settings", "noted"),
    [
        (0, {"smote": 0.5, "memmixup": 0.1}, True),
        (1, {"smote": 0.5}, True),
        (1, {"memmixup": 0.1}, False),
        (2, {"smote": 0.5}, False),
    ],
)
@pytest.mark.parametrize("bank", ["global", "domain"])
def test_few_target_clips(targets, settings, noted, bank):
    keep = np.r_[:SOURCE, SOURCE : SOURCE + targets]
    scorer = scoring.build("knn", k=1, bank=bank, **settings).fit(references()[keep], DOMAINS[keep])
    assert ("too few target or source clips" in scorer.note) == noted
    assert np.isfinite(scorer.reference_scores()).all()
    plain = scoring.build("knn", k=1, bank=bank).fit(references()[keep], DOMAINS[keep])
    assert noted == np.array_equal(scorer.score(fresh_clips()), plain.score(fresh_clips()))


SETTINGS = [
    ("beam", {"varmin": 4, "standardize": True, "bank": "domain"}),
    ("beam", {"varmin": 2, "smote": 0.7, "memmixup": 0.1, "bank": "domain", "standardize": "mean"}),
    ("ldn", {"bands": True, "smote": 0.7, "memmixup": 0.2}),
    ("knn", {"smote": 0.7, "memmixup": 0.1}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_neither_order_nor_length_nor_company_counts(name, settings):
    bank = references()
    scorer = scoring.build(name, **settings).fit(bank, DOMAINS)
    order = np.random.default_rng(3).permutation(len(bank))
    scale = np.random.default_rng(4).uniform(0.1, 10.0, size=len(bank))[:, None, None]
    shuffled = scoring.build(name, **settings).fit((scale * bank)[order], DOMAINS[order])
    np.testing.assert_allclose(shuffled.reference_scores(), scorer.reference_scores()[order], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(shuffled.score(fresh_clips()), scorer.score(fresh_clips()), rtol=1e-8, atol=1e-9)
    alone = np.concatenate([scorer.score(clip[None]) for clip in fresh_clips()])
    np.testing.assert_allclose(alone, scorer.score(fresh_clips()), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", [{"varmin": 4}, {"varmin": 1}])
def test_few_references(settings):
    bank = references()[:3]
    scorer = scoring.build("beam", **settings).fit(bank, DOMAINS[:3])
    alphas = [alpha(list(bank), 3, f, settings["varmin"]) for f in range(BANDS)]
    expected = [score(without(bank, i), x, 1, alphas, settings["varmin"]) for i, x in enumerate(bank)]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-8, atol=1e-12)
    with pytest.raises(WheeltapperError, match="expected at least 3 clips, found 2"):
        scoring.build("beam", **settings).fit(bank[:2], DOMAINS[:2])
    assert len(scoring.build("beam").fit(bank[:2], DOMAINS[:2]).reference_scores()) == 2


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("beam", {"varmin": -1}, "varmin: expected at least 0, found -1"),
        ("beam", {"k": 0}, "k: expected at least 1, found 0"),
        ("ldn", {"neighbours": 0}, "neighbours: expected at least 1, found 0"),
        ("knn", {"smote": -0.1}, "smote: expected at least 0, found -0.1"),
        ("knn", {"memmixup": 1.0}, "memmixup: expected a number from 0 to below 1, found 1.0"),
        ("ldn", {"memmixup_neighbours": 0}, "memmixup_neighbours: expected at least 1, found 0"),
        ("beam", {"neighbours": 3}, "neighbours: the scorer beam has no such setting"),
    ],
)
def test_settings_that_make_no_sense(name, settings, text):
    with pytest.raises(WheeltapperError, match=text):
        scoring.build(name, **settings)
