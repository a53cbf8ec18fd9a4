"""The score cache: computed once, by content, independent of other test clips."""

from dataclasses import replace

import development_runs as toy
import numpy as np
import pytest

from system import machine_scores, manifest, scoring
from system.config import EncoderBranchConfig, ScorerConfig, TuneConfig
from system.embeddings.files import read_rows
from system.errors import WheeltapperError
from system.files import file_hash
from system.tuning import cache, candidates, task


@pytest.fixture
def job(tmp_path) -> cache.ScoreJob:
    run = toy.make_run(tmp_path / "run", machines=("fan", "pump"))
    path = run.embeddings("main", "two_channel")
    scorers = {candidates.label(s): s for s in (ScorerConfig("knn", {"k": 1}), ScorerConfig("mahalanobis", {}))}
    clips = manifest.read(run.manifest)
    return cache.ScoreJob(
        0, "main", "two_channel", run.index("main"), path, file_hash(path), clips, 0, scorers, tmp_path / "scores"
    )


def compute(*jobs: cache.ScoreJob) -> list[tuple[int, int]]:
    told = []
    cache.compute(jobs, jobs[0].folder, lambda done, total: told.append((done, total)), lambda: True)
    return told


def test_scores_are_those_of_the_stage_and_computed_once(job, monkeypatch):
    assert compute(job)[-1] == (2, 2)
    scores, notes = cache.load(job)
    assert not notes
    embeddings = read_rows(job.index, job.embeddings)
    for label, scorer in job.scorers.items():
        rows = machine_scores.score_machines(job.clips, embeddings, scorer, 0)
        assert [r.row for r in rows] == job.rows
        np.testing.assert_array_equal(scores[label], [row.score for row in rows])
    monkeypatch.setattr(machine_scores, "score_machines", None)  # would fail
    assert compute(job) == [(2, 2)]


def test_a_killed_computation_goes_on_where_it_stopped(job, monkeypatch):
    def told(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.compute([job], job.folder, told, lambda: True)
    first = [path for path in job.files.values() if path.is_file()]
    before = first[0].stat().st_mtime_ns
    assert len(first) == 1
    compute(job)
    assert first[0].stat().st_mtime_ns == before
    assert len(cache.load(job)[0]) == 2


def test_the_key_knows_what_decides_a_score_and_nothing_else(job):
    labels = [replace(clip, label="normal") if clip.split == "test" else clip for clip in job.clips]
    assert replace(job, clips=labels).files == job.files
    for other in (
        replace(job, digest="other"),
        replace(job, seed=1),
        replace(job, clips=job.clips[:-1]),
        replace(job, clips=[replace(clip, domain="source") for clip in job.clips]),
    ):
        assert not set(other.files.values()) & set(job.files.values())


def test_a_damaged_file_is_named(job):
    compute(job)
    path = next(iter(job.files.values()))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WheeltapperError, match=f"{path.name}: expected scores, found damage"):
        cache.load(job)


@pytest.mark.parametrize(
    "scorer", [ScorerConfig("knn", {"k": 1, "bank": "domain", "standardize": True}), ScorerConfig()]
)
def test_test_clips_change_no_statistic_of_the_references(job, scorer):
    """Scores of references and remaining test clips do not change with half of the test clips, shuffled."""
    embeddings = read_rows(job.index, job.embeddings)
    train = [clip for clip in job.clips if clip.split == "train"]
    tests = [clip for clip in job.clips if clip.split == "test"]
    fewer = [tests[i] for i in np.random.default_rng(0).permutation(len(tests))[: len(tests) // 2]]

    def scores(clips):
        return {
            (row.machine, row.split, row.file): row.score
            for row in machine_scores.score_machines(clips, embeddings, scorer, 0)
        }

    everything, some = scores([*train, *tests]), scores([*train, *fewer])
    assert len(some) == len(train) + len(fewer)
    for key, score in some.items():
        assert score == pytest.approx(everything[key], rel=1e-9)


class Transductive:
    """Uses the mean of the test clips."""

    note = ""

    def fit(self, references, domains):
        self.references = references
        return self

    def score(self, embeddings):
        return np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1)

    def reference_scores(self):
        return np.linalg.norm(self.references - self.references.mean(axis=0), axis=1)


def test_a_scorer_that_takes_statistics_from_test_clips_is_refused(job, monkeypatch):
    monkeypatch.setitem(scoring.SCORERS, "transductive", Transductive)
    bad = replace(job, scorers={"transductive": ScorerConfig("transductive", {})})
    with pytest.raises(WheeltapperError, match=r"scorer transductive: fan .* statistics come from test clips"):
        compute(bad)
    assert not any(path.is_file() for path in bad.files.values())


class Choosy(Transductive):
    def fit(self, references, domains):
        raise WheeltapperError("expected 1000 references")


def test_a_candidate_that_cannot_be_fitted_is_left_out_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(scoring.SCORERS, "choosy", Choosy)
    experiment = toy.make_run(tmp_path / "run", machines=("fan", "pump"))
    clips = manifest.read(experiment.manifest)
    truth = [machines_truth(clip) for clip in clips if clip.split == "test"]
    digests = {
        (branch, view): file_hash(experiment.embeddings(branch, view)) for branch in toy.BRANCHES for view in toy.VIEWS
    }
    run = task.DevelopmentRun("run", experiment, clips, truth, digests)
    tune = TuneConfig(scorers={"choosy": {}, "knn": {"k": [1]}})
    todo = task.jobs([run], tune, tmp_path)
    compute(*todo)
    objective, notes = task.build([run], tune, todo)
    assert objective.space.scorers["main"] == ("mahalanobis bank=global", "knn k=1")
    left_out = [f"branch {b}: choosy is excluded: fan section 00: expected 1000 references" for b in toy.BRANCHES]
    assert sorted(notes) == sorted(left_out)


def machines_truth(clip):
    from system.evaluation.truth import Truth

    return Truth(clip.machine, clip.section, clip.file, clip.domain, clip.label)


def test_candidates_are_products_with_the_own_scorer_first():
    branch = EncoderBranchConfig(scorer=ScorerConfig("knn", {"k": 1, "bank": "global"}))
    found = candidates.of_branch(branch, {"knn": {"k": [1, 3], "bank": ["global", "domain"]}, "lof": {}})
    assert list(found) == [
        "knn k=1 bank=global",
        "knn k=1 bank=domain",
        "knn k=3 bank=global",
        "knn k=3 bank=domain",
        "lof",
    ]
    usual = candidates.of_branch(EncoderBranchConfig(), {})
    assert {scorer.name for scorer in usual.values()} == set(scoring.SCORERS) - {"precomputed", "frames"}
    for scorer in usual.values():
        scoring.build(scorer.name, **scorer.settings)
    for name in ("precomputed", "frames"):
        assert list(candidates.of_branch(EncoderBranchConfig(scorer=ScorerConfig(name, {})), {})) == [name]
