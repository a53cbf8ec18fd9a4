"""Rules checked by computing scores again: each test clip separately, and all of them under other names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from system import fused_scores, machine_scores, score_tables, windows
from system.compliance.rule import ComplianceRule
from system.config import ScorerConfig, SystemConfig
from system.embeddings.files import read_rows
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip, Key, Row, group_by
from system.score_tables import ScoreRow
from system.scoring import calibrate

ROUNDING = 1e-6  # tolerance relative to the spread of a machine's scores; rounding depends on matrix sizes
Scores = dict[Row, float]


def check_distances(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """The score of a test clip in each branch depends on the references and that clip only, not on other test clips."""
    rule = ComplianceRule("distances", "The score of a test clip depends on normal references and that clip only.")
    count = 0
    for branch, views in run.views.items():
        if not run.index(branch).is_file():
            rule.notes.append(f"branch {branch}: no embeddings, its scores were not computed again")
            continue
        for view in views:
            embeddings = read_rows(run.index(branch), run.embeddings(branch, view))
            config = run.config.branches[branch].scorer
            try:
                alone = score_alone(clips, embeddings, config.name, config.settings)
                written = _by_row(score_tables.read_rows(run.scores(branch, view)))
            except WheeltapperError as error:
                rule.violations.append(str(error))
                continue
            rule.break_each([f"{run.scores(branch, view)}: {text}" for text in _different(alone, written)])
            count += len(alone)
    rule.checked = f"{count} scores of branches, each recomputed alone"
    return rule


def check_fusion(run: Experiment) -> ComplianceRule:
    """Calibration, thresholds and fusion depend on the references only: all are computed again and compared."""
    says = "The statistics of calibration, thresholds and fusion come from normal references only."
    rule = ComplianceRule("fusion", says)
    count = 0
    for label, system in zip(run.labels, run.config.systems, strict=True):
        try:
            branches = {
                name: _by_row(score_tables.read_rows(run.scores(name, system.view)))
                for name, weight in system.weights.items()
                if weight > 0
            }
            references = {
                row.row: row
                for name in branches
                for row in score_tables.read_rows(run.scores(name, system.view))
                if row.split == "train"
            }
            raw = fused_scores.raw_thresholds(run, system)
            rate = run.config.false_positive_rate
            fused, thresholds = fuse_alone(branches, system, references, rate, raw)
            rule.break_each([f"{label}: {text}" for text in _compare_system(run, label, fused, thresholds)])
            count += len(fused)
        except WheeltapperError as error:
            rule.violations.append(str(error))
    rule.checked = f"{count} fused scores of {len(run.labels)} systems, each recomputed alone"
    return rule


def check_anonymous(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """Test clips without labels, under other names and in another order, have the same fused scores."""
    rule = ComplianceRule("names", "Scores depend on no label, domain, attribute, name or position of a test clip.")
    disguised, names = disguise(clips, run.config.seed)
    rows_of = {
        (branch, view): _disguised_rows(run, branch, view, disguised, names)
        for branch, views in run.views.items()
        for view in views
    }
    count = 0
    for label, system in zip(run.labels, run.config.systems, strict=True):
        branches = {name: rows_of[name, system.view] for name, weight in system.weights.items() if weight > 0}
        try:
            rows, _ = fused_scores.fuse_system(branches, system, run.config.false_positive_rate)
            written = _written(run, label, {(c.machine, c.section) for c in clips if c.split == "test"})
        except WheeltapperError as error:
            rule.violations.append(str(error))
            continue
        back = {new: old for old, new in names.items()}
        found: Scores = {back.get(row.key, row.row): row.score for row in rows}
        tests = {key: value for key, value in found.items() if key[2] == "test"}
        rule.break_each([f"{label}: {text}" for text in _different(tests, written)])
        count += len(tests)
    rule.checked = f"{count} fused scores of {len(run.labels)} systems, test clips renamed, shuffled and blanked"
    return rule


def score_alone(
    clips: Sequence[Clip], embeddings: Mapping[Row, np.ndarray], name: str, settings: Mapping[str, object]
) -> Scores:
    """Leave-one-out scores of the references, and the score of every test window computed separately, by row.

    Raises:
        WheeltapperError: an embedding is missing.
    """
    found: Scores = {}
    known = windows.by_clip(embeddings)
    for members in group_by(clips, "machine", "section").values():
        references = [clips[index] for index in members if clips[index].split == "train"]
        tests = [clips[index] for index in members if clips[index].split == "test"]
        missing = [clip.key for clip in references + tests if clip.key not in known]
        if missing:
            raise WheeltapperError(f"{'/'.join(missing[0])}: expected its embedding, found none; run stage 3 again")
        if not references:
            continue
        normal = windows.stored(references, known)
        scorer = machine_scores.fit_scorer(normal, embeddings, ScorerConfig(name, dict(settings)))
        found |= {clip.row: float(s) for clip, s in zip(normal, scorer.reference_scores(), strict=True)}
        for clip in windows.stored(tests, known):
            found[clip.row] = float(scorer.score(np.asarray(embeddings[clip.row], np.float64)[None])[0])
    return found


def fuse_alone(
    branches: Mapping[str, Scores],
    system: SystemConfig,
    references: Mapping[Row, ScoreRow],
    rate: float,
    raw: Mapping[str, float] | None = None,
) -> tuple[Scores, dict[tuple[str, str], float]]:
    """Fused scores by row of each recording and thresholds by (machine, section), with statistics of the references
    only.

    Args:
        branches: scores of each branch.
        system: its weights and fusion.
        references: rows of the references, for their domains and groups.
        rate: false-alarm rate for the thresholds.
        raw: thresholds of the machines on the scores of a single branch, instead of those from references.
    """
    found: Scores = {}
    thresholds = {}
    own_references = _by_group(references)
    for group, rows in _by_group(next(iter(branches.values()))).items():
        standards = {
            name: calibrate.robust_z(np.array([scores[row] for row in own_references.get(group, ())]))
            for name, scores in branches.items()
        }
        fused: dict[Key, list[ScoreRow]] = {}
        for row in rows:
            own = {name: standards[name](np.array([scores[row]])) for name, scores in branches.items()}
            score = float(calibrate.fuse(own, {name: system.weights[name] for name in own}, system.fusion)[0])
            known = references.get(row) or ScoreRow.of(row, "", score)
            fused.setdefault(row[:4], []).append(replace(known, score=score))
        normal = [row for key, own in fused.items() if key[2] == "train" for row in own]
        collapsed = fused_scores.collapse(normal)
        found |= _by_row(collapsed)
        tail = windows.tail_scale(np.array([row.score for row in normal]))
        for key, judged in fused.items():
            if key[2] == "test":
                found[key] = float(windows.scores(judged, np.array([row.score for row in judged]), tail).max())
        thresholds[group] = (
            fused_scores.threshold(collapsed, rate)
            if raw is None
            else float(next(iter(standards.values()))(raw[group[0]]))
        )
    return found, thresholds


def _by_group(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by (machine, section), in order of first appearance."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(row[:2], []).append(row)
    return found


def disguise(clips: Sequence[Clip], seed: int) -> tuple[list[Clip], dict[Key, Key]]:
    """Copies of the clips in which test clips have other names, another order, and no labels, domains or attributes.

    Returns:
        The clips, and the new key of each old key.
    """
    generator = np.random.default_rng(seed)
    tests = [clip for clip in clips if clip.split == "test"]
    numbers = generator.permutation(len(tests))
    hidden = [
        replace(clip, file=f"{number:08x}.wav", label="", domain="", attributes="", group="")
        for clip, number in zip(tests, numbers, strict=True)
    ]
    names = {old.key: new.key for old, new in zip(tests, hidden, strict=True)}
    others = [clip for clip in clips if clip.split != "test"]
    return [*(hidden[index] for index in generator.permutation(len(hidden))), *others], names


def _disguised_rows(
    run: Experiment, branch: str, view: str, clips: Sequence[Clip], names: Mapping[Key, Key]
) -> list[ScoreRow]:
    """Rows of a branch for disguised clips: scored again if there are embeddings, otherwise the written rows
    renamed.
    """
    if run.index(branch).is_file():
        embeddings = read_rows(run.index(branch), run.embeddings(branch, view))
        moved: dict[Row, np.ndarray] = {
            (*names.get(row[:4], row[:4]), *row[4:]): value for row, value in embeddings.items()
        }
        return machine_scores.score_machines(clips, moved, run.config.branches[branch].scorer, run.config.seed + 1)
    rows = score_tables.read_rows(run.scores(branch, view))
    return [replace(row, file=names.get(row.key, row.key)[3]) for row in rows]


def _compare_system(
    run: Experiment, label: str, fused: Scores, thresholds: Mapping[tuple[str, str], float]
) -> list[str]:
    """Differences between the files of a system and recomputed scores and thresholds."""
    tests = {key: score for key, score in fused.items() if key[2] == "test"}
    references = {key: score for key, score in fused.items() if key[2] == "train"}
    groups = {key[:2] for key in tests}
    found = _different(tests, _written(run, label, groups))
    found += _different(references, _by_row(score_tables.read_rows(run.system(label) / score_tables.REFERENCES)))
    stored = read_json(run.system(label) / score_tables.THRESHOLDS)
    for (machine, section), threshold in thresholds.items():
        name = f"{machine}_section_{section}"
        if not np.isclose(stored.get(name, np.nan), threshold, rtol=ROUNDING, atol=ROUNDING):
            found.append(f"{name}: expected the threshold {threshold:.6g}, found {stored.get(name)}")
    for machine, section in sorted(groups):
        scores, decisions = _table(run, label, machine, section)
        limit = stored.get(f"{machine}_section_{section}", np.nan)
        found += [
            f"{machine}/{file}: expected the decision {int(scores[file] > limit)}, found {decision:g}"
            for file, decision in decisions.items()
            if file not in scores or int(scores[file] > limit) != decision
        ]
    return found


def _written(run: Experiment, label: str, groups: Iterable[tuple[str, str]]) -> Scores:
    """Scores in a system's CSVs by clip key."""
    return {
        (machine, section, "test", file): score
        for machine, section in groups
        for file, score in _table(run, label, machine, section)[0].items()
    }


def _table(run: Experiment, label: str, machine: str, section: str) -> tuple[dict[str, float], dict[str, float]]:
    folder = run.system(label)
    scores = challenge_csv.read(folder / challenge_csv.score_name(machine, section), challenge_csv.SCORE)
    decisions = challenge_csv.read(folder / challenge_csv.decision_name(machine, section), challenge_csv.DECISION)
    return dict(scores), dict(decisions)


def _different(expected: Scores, found: Scores) -> list[str]:
    """A sentence for each clip whose score is missing, superfluous, or differs by more than rounding."""
    spreads: dict[tuple[str, str], float] = {}
    for group, keys in _by_group(expected).items():
        values = [expected[key] for key in keys]
        spreads[group] = max(values) - min(values) or abs(values[0])  # of a single clip its score
    sentences = []
    for key in dict.fromkeys([*expected, *found]):
        name = f"{key[0]}/{key[3]}"
        if key not in found or key not in expected:
            sentences.append(f"{name}: expected the same clips, found it {'extra' if key in found else 'missing'}")
            continue
        slack = ROUNDING * spreads[key[:2]] + ROUNDING**2 * abs(expected[key])
        if not abs(expected[key] - found[key]) <= slack:
            sentences.append(f"{name}: expected the score {expected[key]:.6g} as recomputed, found {found[key]:.6g}")
    return sentences


def _by_row(rows: Iterable[ScoreRow]) -> Scores:
    return {row.row: row.score for row in rows}
