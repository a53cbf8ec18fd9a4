"""Trials in a journal: resumed, in several processes, and independent of the held-out machine's labels."""

import numpy as np
import pytest
from test_tuning_objective import SPACE, choices, objective_of

from system.errors import WheeltapperError
from system.tuning import results, search, workers


def silent(done: int, total: int) -> None:
    pass


def run(folder, objective, trials: int, sampler: str = "sobol", alive=lambda: True, design=None):
    design = design or SPACE.design(trials, 0, choices()[0])
    search.run(folder, objective, design, sampler, 0, silent, alive)


def values(folder, objective, trials, sampler="sobol"):
    found = search.read(folder, objective, sampler, trials)
    return {name: objective.score(measures) for name, (_, measures) in found.items()}


@pytest.fixture
def quick(monkeypatch):
    """Small blocks; tpe starts with five points of the design."""
    monkeypatch.setattr(search, "BLOCK", 8)
    monkeypatch.setattr(search, "STARTUP", 5)


@pytest.mark.parametrize("sampler", ["sobol", "tpe"])
def test_resumes_after_interruptions_and_a_torn_line(tmp_path, quick, sampler):
    """Interrupted after each piece of work, once with a torn last line; the trials are those of the design, once
    each.
    """
    objective = objective_of(("fan", "pump"))
    for attempt in range(60):
        asked = iter([True, False])
        run(tmp_path, objective, 20, sampler, lambda asked=asked: next(asked, False))
        journal = tmp_path / search.JOURNAL
        if attempt == 3:
            journal.write_bytes(journal.read_bytes()[:-30])
    run(tmp_path, objective, 20, sampler)
    found = values(tmp_path, objective, 20, sampler)
    storage = search.open_journal(tmp_path)
    assert {study.study_name for study in storage.get_all_studies()} == set(found)
    for study in storage.get_all_studies():
        trials = storage.get_all_trials(study._study_id)
        assert sorted(trial.user_attrs["point"] for trial in trials) == list(range(20))
    if sampler == "sobol":
        expected = objective.score(objective.measures(SPACE.design(20, 0, choices()[0])))
        np.testing.assert_array_equal(found["all"], expected)


def test_several_processes_share_a_journal(tmp_path):
    objective = objective_of()
    design = SPACE.design(450, 0, choices()[0])
    told = []
    workers.side_by_side(
        search.run, (tmp_path, objective, design, "sobol", 0), 2, lambda done, total: told.append((done, total))
    )
    storage = search.open_journal(tmp_path)
    trials = storage.get_all_trials(storage.get_all_studies()[0]._study_id)
    assert sorted(trial.user_attrs["point"] for trial in trials) == list(range(450))
    assert told[-1] == (450, 450)
    np.testing.assert_array_equal(values(tmp_path, objective, 450)["all"], objective.score(objective.measures(design)))


def test_a_journal_of_other_scores_is_refused(tmp_path):
    run(tmp_path, objective_of(), 20)
    with pytest.raises(WheeltapperError, match="expected the figures of these scores, found others"):
        search.read(tmp_path, objective_of(seed=1), "sobol", 20)
    with pytest.raises(WheeltapperError, match="study all: expected 30 trials, found 20"):
        search.read(tmp_path, objective_of(), "sobol", 30)


@pytest.mark.parametrize("sampler", ["sobol", "tpe"])
def test_labels_of_the_machine_left_out_do_not_choose(tmp_path, quick, sampler):
    """With new labels of one machine, its fold makes the same trials and choice, and the other folds do not."""
    trials, chosen, tried = 25, [], []
    for number, relabel in enumerate(("", "pump")):
        objective, folder = objective_of(relabel=relabel), tmp_path / str(number)
        run(folder, objective, trials, sampler)
        found = search.read(folder, objective, sampler, trials)
        folds = results.fold_choices(objective, found)
        chosen.append({machine: SPACE.choice(*fold) for machine, fold in folds.items()})
        tried.append([SPACE.choice(folds["pump"][0], row) for row in range(trials)])
    assert chosen[0]["pump"] == chosen[1]["pump"]
    assert tried[0] == tried[1]
    assert chosen[0] != chosen[1]


def test_the_choice_of_a_fold_is_the_best_of_the_others(tmp_path):
    objective = objective_of()
    run(tmp_path, objective, 60)
    found = search.read(tmp_path, objective, "sobol", 60)
    tuned = results.conclude(objective, found, SPACE.points(choices()[:1]), 0, 0)
    points, measures = found["all"]
    parts = {}
    for number, machine in enumerate(("fan", "pump", "valve")):
        others = np.delete(measures, number, axis=1).reshape(60, -1)
        row = int(np.argmax(6 / (1 / others).sum(axis=1)))
        assert tuned.folds[number].choice == SPACE.choice(points, row)
        parts[machine] = measures[row, number]
        assert tuned.folds[number].held_out == pytest.approx(3 / (1 / parts[machine]).sum())
    honest = 9 / (1 / np.concatenate(list(parts.values()))).sum()
    assert tuned.cross_validated["official_score"] == pytest.approx(honest)
    best = (9 / (1 / measures.reshape(60, -1)).sum(axis=1)).max()
    assert tuned.in_sample["official_score"] == pytest.approx(best)
    assert tuned.optimism == pytest.approx(best - honest)
    chosen, figures = results.per_machine(objective, found, 0, 0)
    own = [measures[(3 / (1 / measures[:, number]).sum(axis=1)).argmax(), number] for number in range(3)]
    assert figures["official_score"] == pytest.approx(9 / (1 / np.concatenate(own)).sum())
    assert set(chosen) == {"fan", "pump", "valve"}


def test_claims_are_exclusive_between_processes(tmp_path):
    import subprocess
    import sys

    claims = workers.Claims(tmp_path / "lock")
    code = (
        "import sys; from system.tuning.workers import Claims\n"
        "claims = Claims(sys.argv[1])\n"
        "with claims.hold(3) as three, claims.hold(4) as four: print(three, four)"
    )
    with claims.hold(3) as mine:
        assert mine
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "lock"], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["False", "True"]
