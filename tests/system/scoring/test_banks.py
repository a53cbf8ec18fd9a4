"""Banks: assignment of references, nearest bank, standardised distances."""

import numpy as np
import pytest

from system import scoring
from system.errors import WheeltapperError
from system.scoring.banks import BankScorer, check, split
from system.scoring.knn import KnnScorer
from system.scoring.mahalanobis import MahalanobisScorer

SOURCE, TARGET = 40, 10


def machine(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Forty source clips and ten target clips with a larger spread, shuffled."""
    generator = np.random.default_rng(seed)
    references = np.concatenate([generator.normal(size=(SOURCE, 6)), 3 + 2 * generator.normal(size=(TARGET, 6))])
    order = generator.permutation(SOURCE + TARGET)
    return references[order], np.array(["source"] * SOURCE + ["target"] * TARGET)[order]


def fresh_clips() -> np.ndarray:
    return 3 * np.random.default_rng(1).normal(size=(15, 6))


def mad_z(reference: np.ndarray, values: np.ndarray, scale: float | None = None) -> np.ndarray:
    median = np.median(reference)
    return (values - median) / (1.4826 * np.median(np.abs(reference - median)) if scale is None else scale)


@pytest.mark.parametrize("scorer", [MahalanobisScorer, KnnScorer])
def test_the_nearest_bank_counts(scorer):
    references, domains = machine()
    alone = {
        name: scorer(bank="global").fit(references[domains == name], domains[domains == name])
        for name in ("source", "target")
    }
    both = scorer(bank="domain").fit(references, domains)
    expected = np.minimum(alone["source"].score(fresh_clips()), alone["target"].score(fresh_clips()))
    np.testing.assert_allclose(both.score(fresh_clips()), expected, rtol=1e-12)
    other = {"source": "target", "target": "source"}
    left_out = np.empty(len(references))
    for name in alone:  # left out of its own bank; like any clip for the other bank
        rows = np.flatnonzero(domains == name)
        own, foreign = alone[name].reference_scores(), alone[other[name]].score(references[rows])
        left_out[rows] = np.minimum(own, foreign)
    np.testing.assert_allclose(both.reference_scores(), left_out, rtol=1e-12)


@pytest.mark.parametrize("shell", [False, True], ids=["spread", "no spread of its own"])
def test_standard_units(shell):
    references, domains = machine()
    if shell:  # target clips at equal distance from the centre of the others: no spread
        corners = 5 + 2 * np.concatenate([np.eye(6), -np.eye(6)])
        references = np.concatenate([references[domains == "source"], corners])
        domains = np.array(["source"] * SOURCE + ["target"] * 12)
    banks = {
        name: MahalanobisScorer("global").fit(references[domains == name], domains[domains == name])
        for name in ("source", "target")
    }
    own = {name: bank.reference_scores() for name, bank in banks.items()}
    residuals = np.concatenate([values - np.median(values) for values in own.values()])
    floor = 0.5 * 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    spread = {name: 1.4826 * np.median(np.abs(values - np.median(values))) for name, values in own.items()}
    assert (spread["target"] < floor) == shell
    tests = np.concatenate([fresh_clips(), 5 + 0.3 * fresh_clips()])  # around either bank
    z = {name: mad_z(own[name], bank.score(tests), max(spread[name], floor)) for name, bank in banks.items()}
    found = MahalanobisScorer("domain", standardize=True).fit(references, domains).score(tests)
    np.testing.assert_allclose(found, np.minimum(z["source"], z["target"]), rtol=1e-9)


def test_standard_units_by_mean_and_deviation():
    """As with median and MAD, with the same floor for the few target clips."""
    references, domains = machine()
    references[domains == "target"] = references[domains == "target"][0] + 0.1 * np.random.default_rng(9).normal(
        size=(TARGET, 6)
    )
    banks = {
        name: KnnScorer(1).fit(references[domains == name], domains[domains == name]) for name in ("source", "target")
    }
    own = {name: bank.reference_scores() for name, bank in banks.items()}
    floor = 0.5 * np.concatenate([values - values.mean() for values in own.values()]).std()
    assert own["target"].std() < floor < own["source"].std()
    z = {
        name: (bank.score(fresh_clips()) - own[name].mean()) / max(own[name].std(), floor)
        for name, bank in banks.items()
    }
    found = KnnScorer(1, "domain", standardize="mean").fit(references, domains).score(fresh_clips())
    np.testing.assert_allclose(found, np.minimum(z["source"], z["target"]), rtol=1e-9)
    with pytest.raises(WheeltapperError, match="standardize: expected true, false or mean, found 'median'"):
        scoring.build("knn", standardize="median")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mahalanobis", {}), ("knn", {}), ("lof", {}), ("precomputed", {}), ("ldn", {}), ("beam", {"bands": False})],
)
def test_bands_side_by_side_are_one_vector(name, settings):
    references, domains = machine()
    flat = scoring.build(name, **settings).fit(references, domains)
    bands = scoring.build(name, **settings).fit(references.reshape(-1, 2, 3), domains)
    np.testing.assert_array_equal(bands.score(fresh_clips().reshape(-1, 2, 3)), flat.score(fresh_clips()))
    np.testing.assert_array_equal(bands.reference_scores(), flat.reference_scores())


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 2, 4), (1, 6)])
def test_embeddings_of_other_bands_than_the_references(shape):
    scorer = scoring.build("beam").fit(fresh_clips().reshape(-1, 2, 3), np.array(["source"] * 15))
    with pytest.raises(WheeltapperError, match=r"embeddings: expected shape \(2, 3\) as of the references, found"):
        scorer.score(np.ones(shape))


def test_standardizing_one_bank_is_its_robust_z():
    references, domains = machine()
    raw = MahalanobisScorer("global").fit(references, domains)
    found = MahalanobisScorer("global", standardize=True).fit(references, domains)
    np.testing.assert_allclose(
        found.score(fresh_clips()), mad_z(raw.reference_scores(), raw.score(fresh_clips())), rtol=1e-9
    )


def test_without_standard_units_one_bank_wins_for_all():
    """Why ``standardize`` exists: distances to ten and to forty clips differ in size."""
    generator = np.random.default_rng(0)
    references = generator.normal(size=(50, 60))
    domains = np.array(["source"] * 40 + ["target"] * 10)
    fresh = generator.normal(size=(200, 60))
    banks = {
        n: MahalanobisScorer("global").fit(references[domains == n], domains[domains == n])
        for n in ("source", "target")
    }
    raw = np.mean(banks["source"].score(fresh) < banks["target"].score(fresh))
    z = {n: mad_z(bank.reference_scores(), bank.score(fresh)) for n, bank in banks.items()}
    standard = np.mean(z["source"] < z["target"])
    assert abs(standard - 0.5) < abs(raw - 0.5)


@pytest.mark.parametrize("scorer", [MahalanobisScorer, KnnScorer])
@pytest.mark.parametrize("standardize", [False, True])
def test_order_and_company_do_not_count(scorer, standardize):
    references, domains = machine()
    fitted = scorer(bank="domain", standardize=standardize).fit(references, domains)
    order = np.random.default_rng(3).permutation(len(references))
    shuffled = scorer(bank="domain", standardize=standardize).fit(references[order], domains[order])
    np.testing.assert_allclose(shuffled.score(fresh_clips()), fitted.score(fresh_clips()), rtol=1e-9)
    np.testing.assert_allclose(shuffled.reference_scores(), fitted.reference_scores()[order], rtol=1e-7, atol=1e-9)
    alone = np.concatenate([fitted.score(clip[None]) for clip in fresh_clips()])
    np.testing.assert_allclose(alone, fitted.score(fresh_clips()), rtol=1e-12)


def test_split():
    domains = np.array(["source", "target", "source", "target", "target"])
    rows, note = split(domains, "domain", 2)
    assert [list(r) for r in rows] == [[0, 2], [1, 3, 4]]
    assert note == ""
    rows, note = split(domains, "global", 2)
    assert [list(r) for r in rows] == [[0, 1, 2, 3, 4]]
    rows, note = split(domains, "domain", 3)
    assert [list(r) for r in rows] == [[0, 1, 2, 3, 4]]
    assert note == "2 references of domain source, fewer than 3: one bank for all"
    assert split(np.array(["source"] * 3), "domain", 2)[1] == ""


@pytest.mark.parametrize("targets", [0, 1, 5, 6])
def test_few_target_clips(targets):
    references, domains = machine()
    keep = np.concatenate([np.flatnonzero(domains == "source"), np.flatnonzero(domains == "target")[:targets]])
    scorer = MahalanobisScorer("domain").fit(references[keep], domains[keep])
    assert bool(scorer.note) == (targets in (1, 5))
    expected_banks = 2 if targets == 6 else 1
    assert len(scorer._banks) == expected_banks
    assert np.isfinite(scorer.reference_scores()).all()


def test_check():
    with pytest.raises(ValueError, match="do not belong together"):
        check(np.zeros((3, 2)), np.array(["source"] * 2))
    with pytest.raises(WheeltapperError, match="at least 2"):
        check(np.zeros((1, 2)), np.array(["source"]))
    references, _ = check(np.zeros((3, 2), np.float32), ["source"] * 3)
    assert references.dtype == np.float64


def test_build():
    scorer = scoring.build("knn", k=5, bank="domain", standardize=True)
    assert isinstance(scorer, BankScorer)
    assert (scorer.k, scorer.bank, scorer.standardize) == (5, "domain", True)
    with pytest.raises(WheeltapperError, match=r"scorer: expected one of mahalanobis, .* precomputed, found 'svm'"):
        scoring.build("svm")
    with pytest.raises(WheeltapperError, match="k: the scorer mahalanobis has no such setting"):
        scoring.build("mahalanobis", k=3)
    with pytest.raises(WheeltapperError, match="bank: expected one of domain, global, found 'both'"):
        scoring.build("knn", bank="both")


def test_nobody_is_left_out_before_somebody_asks(monkeypatch):
    references, domains = machine()
    expected = scoring.build("mahalanobis").fit(references, domains)
    left_out, scores = expected.reference_scores(), expected.score(fresh_clips())
    asked = []
    compute = BankScorer.distances_left_out
    monkeypatch.setattr(
        BankScorer, "distances_left_out", lambda *args: asked.append(args[2]) or compute(*args), raising=True
    )
    scorer = scoring.build("mahalanobis").fit(references, domains)
    np.testing.assert_array_equal(scorer.score(fresh_clips()), scores)
    assert not asked
    np.testing.assert_array_equal(scorer.reference_scores(), left_out)
    np.testing.assert_array_equal(scorer.reference_scores(), left_out)
    assert len(asked) == 2  # once for each bank
    scorer.fit(references[::2], domains[::2])
    assert len(scorer.reference_scores()) == 25
