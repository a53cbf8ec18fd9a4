"""Trials in an optuna journal, run by one process or several and resumed after an interruption.

Cross-validation over machines is valid only if the labels of the held-out machine have not influenced the choice that
it is scored with. A proposal may therefore use the labels of the machines of its study only:

* ``sobol`` proposes without labels (``Space.design``). All folds can choose among the same trials by the scores of
  their own machines, so one study serves all.
* ``tpe`` (Bergstra et al. 2011, as in optuna) learns from the scores. Each fold has a study of its own, whose objective
  is the score of the other machines, and another study over all machines gives the final choice.

The trials depend on the seed only, not on the number of processes: one process at a time works on a block of
quasi-random points, or on a whole study of ``tpe``.
"""

import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from system.errors import WheeltapperError
from system.tuning.objective import Objective
from system.tuning.space import WEIGHT_STEP, Points
from system.tuning.workers import CLAIMS, POLL, Claims, JournalLock

if TYPE_CHECKING:
    import optuna

ALL = "all"
JOURNAL = "journal.log"
POINT = "point"  # attribute of a trial: its index in the study
BLOCK = 100  # trials that a process claims together
STARTUP = 200  # trials of the design with which tpe starts
AGREEMENT = 1e-9


def studies(machines: Sequence[str], sampler: str) -> dict[str, list[str]]:
    """The studies by name, with the machines whose labels each may use."""
    found = {ALL: list(machines)}
    if sampler == "tpe":
        found |= {without(machine): [other for other in machines if other != machine] for machine in machines}
    return found


def without(machine: str) -> str:
    """Name of the study of the fold that holds out a machine."""
    return f"without {machine}"


def open_journal(folder: str | os.PathLike) -> "optuna.storages.BaseStorage":
    """Opens the journal in a folder; removes an incomplete last line (after a full disk or a power failure)."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise optuna prints a line for every study
    path = Path(folder) / JOURNAL
    lock = JournalLock(path.with_suffix(".lock"))
    lock.acquire()
    try:
        content = path.read_bytes() if path.is_file() else b""
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError) as error:
        raise WheeltapperError(f"{path}: expected a journal of optuna, found damage ({error})") from error


def run(
    folder: str | os.PathLike,
    objective: Objective,
    design: Points,
    sampler: str,
    seed: int,
    progress: Callable[[int, int], None],
    alive: Callable[[], bool],
) -> None:
    """Runs as many trials in each study as ``design`` has; returns when all studies are complete.

    Several processes may do this at the same time (``workers.side_by_side``), also other commands with the same folder.

    Args:
        folder: of the journal.
        objective: official metrics.
        design: choices proposed without labels; tpe starts with the first of them.
        sampler: sobol or tpe.
        seed: of tpe.
        progress: called with the number of trials done and in all.
        alive: tells whether the process should continue.
    """
    import optuna

    storage, claims = open_journal(folder), Claims(Path(folder) / CLAIMS)
    led_by = studies(objective.machines, sampler)
    opened = {
        name: optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        for name in led_by
    }
    total = len(design) * len(opened)
    size = BLOCK if sampler == "sobol" else len(design)
    pieces = [(name, start) for name in opened for start in range(0, len(design), size)]

    def finished() -> int:
        return sum(min(len(done(study)), len(design)) for study in opened.values())

    try:
        while True:
            state = {name: done(study) for name, study in opened.items()}
            left = [n for n, (name, start) in enumerate(pieces) if not _full(state[name], start, size, len(design))]
            progress(finished(), total)
            if not left or not alive():
                return
            worked = False
            for number in left:
                name, start = pieces[number]
                with claims.hold(number) as mine:
                    if mine:
                        rows = range(start, min(start + size, len(design)))
                        for _ in _piece(opened[name], objective, led_by[name], design, rows, sampler, seed):
                            if not alive():
                                return
                            progress(finished(), total)
                        worked = True
            if not worked:
                time.sleep(POLL)
    finally:
        claims.close()


def done(study: "optuna.Study") -> "dict[int, optuna.trial.FrozenTrial]":
    """The finished trials of a study by index; if there are two with one index, the first."""
    found: dict[int, optuna.trial.FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            found.setdefault(trial.user_attrs[POINT], trial)
    return found


def _full(known, start: int, size: int, total: int) -> bool:
    return all(place in known for place in range(start, min(start + size, total)))


def _piece(study, objective: Objective, machines, design: Points, rows: range, sampler: str, seed: int):
    """Runs the missing trials of a piece of work; yields from time to time."""
    known = done(study)
    missing = [row for row in rows if row not in known]
    given = [row for row in missing if sampler == "sobol" or row < STARTUP]
    if given:
        points = design[np.array(given)]
        values = objective.score(objective.measures(points), machines)
        for number, (row, value) in enumerate(zip(given, values, strict=True)):
            _add(
                study, objective.space.parameters(objective.space.choice(points, number)), float(value), row, objective
            )
        yield
    if len(missing) > len(given):
        yield from _learning(study, objective, machines, missing[len(given) :], seed)


def _learning(study, objective: Objective, machines, places: Sequence[int], seed: int):
    """Runs trials that the sampler proposes from the earlier ones of this study.

    The sampler works in memory, and each trial is written when it is finished, so the journal contains no incomplete
    trial.
    """
    import optuna

    space, known = objective.space, done(study)
    entropy = np.random.SeedSequence([seed, zlib.crc32(study.study_name.encode()), len(known)])
    sampler = optuna.samplers.TPESampler(seed=int(entropy.generate_state(1)[0]), n_startup_trials=0)
    memory = optuna.create_study(direction="maximize", sampler=sampler)
    memory.add_trials([known[place] for place in sorted(known)])
    distributions = space.distributions(WEIGHT_STEP)
    for place in places:
        trial = memory.ask(distributions)
        points = space.points([space.from_parameters(trial.params)])
        value = float(objective.score(objective.measures(points), machines)[0])
        memory.tell(trial, value)
        _add(study, space.parameters(space.choice(points, 0)), value, place, objective)
        yield


def _add(study, parameters, value: float, place: int, objective: Objective) -> None:
    import optuna

    distributions = objective.space.distributions()
    study.add_trial(
        optuna.trial.create_trial(
            params=parameters, distributions=distributions, value=value, user_attrs={POINT: place}
        )
    )


def read(
    folder: str | os.PathLike, objective: Objective, sampler: str, count: int
) -> dict[str, tuple[Points, np.ndarray]]:
    """The first ``count`` choices of every study, in order, and their metrics (T, units, measures), computed again.

    Raises:
        WheeltapperError: a study has fewer trials, or its figures do not agree with these scores.
    """
    import optuna

    storage, found = open_journal(folder), {}
    for name, machines in studies(objective.machines, sampler).items():
        trials = done(optuna.load_study(storage=storage, study_name=name))
        missing = [place for place in range(count) if place not in trials]
        if missing:
            raise WheeltapperError(f"{folder}: study {name}: expected {count} trials, found {len(trials)}")
        points = objective.space.points([objective.space.from_parameters(trials[n].params) for n in range(count)])
        measures = objective.measures(points)
        values = np.array([trials[n].value for n in range(count)])
        if not np.allclose(values, objective.score(measures, machines), rtol=0, atol=AGREEMENT):
            raise WheeltapperError(
                f"{Path(folder) / JOURNAL}: study {name}: expected the figures of these scores, found others: the "
                "journal belongs to other runs; choose another --out"
            )
        found[name] = points, measures
    return found
