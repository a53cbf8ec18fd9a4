"""Writes one table set x system: table.csv, a row for each system and set, and table.md, sets against systems.

A set is a kind of machine in one condition (clean, noisy). Seed and condition are the names of the folders that hold
the recordings: SEED/CONDITION/machine/split/file.wav. Runs of one NAME are one configuration on several sets.

Usage: tabulate.py --out DIR [--references DIR ...] [NAME=EXP ...]

EXP is an evaluated run; a DIR of --references holds manifest.csv and a folder of scores for each reference system.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import yaml

from system import manifest
from system.corpora.folder import write_rows
from system.errors import WheeltapperError
from system.evaluation import available, challenge_csv, intervals, metrics
from system.evaluation.metrics import ScoreRule
from system.evaluation.truth import Table, Truth, join
from system.files import open_atomic

KINDS = {"cw": "propellers", "ccw": "propellers"}  # machines that are one kind; any other is a kind of its own
MEAN = "mean"
BOTH = "both"  # conditions, each half
RULE = 2022
REFERENCE = "reference"  # name of the reference systems' runs
BELOW = 3.0  # points
ENOUGH = 20  # references from which decisions ought to find ALARMS
ALARMS = (0.05, 0.15)
COLUMNS = (
    *("system", "kind", "condition", "seeds", "score", "spread", "low", "high"),
    *("best reference", "reference score", "difference", "references", "false alarms", "detections"),
)
Set = tuple[str, str]  # kind, condition


@dataclass
class Measured:
    """What one system reaches on one set with one seed; scores in percent, ``drawn`` (R,) by the bootstrap."""

    score: float
    drawn: np.ndarray
    references: int = 0
    decided: dict[str, tuple[int, int]] = field(default_factory=dict)  # label to alarms and clips


@dataclass
class Folder:
    """Scores of some systems on the sets of one seed and condition."""

    clips: list[manifest.Clip]
    systems: dict[str, Path]  # name of each to its folder of challenge CSVs
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str]:
        """Seed and condition."""
        where = Path(self.clips[0].path).parts
        return where[-5], where[-4]


def read_run(name: str, exp: Path) -> Folder:
    """An evaluated run.

    Raises:
        WheeltapperError: it has no scores.
    """
    folders = sorted(path for path in (exp / "systems").glob("*") if path.is_dir())
    if not folders or not (exp / "metrics.json").is_file():
        raise WheeltapperError(f"{exp}: expected a run with metrics.json, found none; run it up to stage 6")
    settings = yaml.safe_load((exp / "config.yaml").read_text(encoding="utf-8"))
    numbered = {f"{name} {path.name.rpartition('_')[2]}": path for path in folders}
    texts = {f"{name} {k}": str(own.get("name", "")) for k, own in enumerate(settings.get("systems", ()), 1)}
    return Folder(manifest.read(exp / "manifest.csv"), numbered, texts)


def read_references(folder: Path) -> Folder:
    """What ``wheeltapper reference --out`` wrote, with the manifest beside it.

    Raises:
        WheeltapperError: it is not complete.
    """
    if not (folder / "references.json").is_file():
        raise WheeltapperError(f"{folder}: expected references.json of wheeltapper reference, found nothing")
    systems = {f"{REFERENCE} {path.name}": path for path in sorted(folder.iterdir()) if path.is_dir()}
    return Folder(manifest.read(folder / "manifest.csv"), systems)


def measure(folder: Path, clips: Iterable[manifest.Clip], replicates: int, seed: int) -> Measured:
    """Measures a system on the machines of one kind.

    The score is the official one, where a machine has no target domain the harmonic mean of AUC and partial AUC over
    all clips. The bootstrap is that of the official score: stratified by machine, domain and label.

    Args:
        folder: challenge CSVs of the system.
        clips: of all splits of the kind's machines; test clips without label do not count.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        WheeltapperError: files or clips are missing.
    """
    clips = list(clips)
    truth = [Truth(*clip.key[:2], clip.file, clip.domain, clip.label) for clip in clips if clip.split == "test"]
    truth = [clip for clip in truth if clip.label]
    keys = dict.fromkeys(clip[:2] for clip in truth)
    scores, decisions = (_read(folder, name, keys) for name in (challenge_csv.score_name, challenge_csv.decision_name))
    rule, rng = rule_of(truth), np.random.default_rng(seed)
    exact, drawn = {}, {}
    decided = {label: [0, 0] for label in ("normal", "anomaly")}
    for section in join(scores, decisions, truth, rule.domains):
        strata, size = section.strata()
        counts = np.array([np.bincount(members, minlength=size) for members in strata], dtype=np.float64)
        exact[section.key] = [metrics.measure(counts, rule.measures)[name] for name in rule.official]
        resampled = metrics.resample(strata, size, rule, replicates, rng)
        drawn[section.key] = [resampled[name] for name in rule.official] if replicates else []
        for label, alarms in decided.items() if section.decided is not None else ():
            own = section.decided[section.anomalous == (label == "anomaly")]
            alarms[0], alarms[1] = alarms[0] + int(own.sum()), alarms[1] + len(own)
    trained = [sum(clip.split == "train" and clip.key[:2] == key for clip in clips) for key in keys]
    return Measured(
        100 * float(metrics.harmonic_mean([value for values in exact.values() for value in values])),
        100 * metrics.harmonic_mean([value for values in drawn.values() for value in values], axis=0)
        if replicates
        else np.empty(0),
        min(trained),
        {label: (alarms, count) for label, (alarms, count) in decided.items() if count},
    )


def rule_of(truth: list[Truth]) -> ScoreRule:
    """The official measures, or AUC and partial AUC over all clips where these cannot be had of each machine."""
    rule = metrics.RULES[RULE]
    if len(available.complete(truth, RULE)) == len(truth):
        return rule
    return ScoreRule({name: rule.measures[name] for name in available.OVERALL}, available.OVERALL, domains=False)


def _read(folder: Path, name_of, keys: Iterable[tuple[str, str]]) -> Table:
    """Tables of the sections whose file there is."""
    kind = challenge_csv.SCORE if name_of is challenge_csv.score_name else challenge_csv.DECISION
    files = {key: folder / name_of(*key) for key in keys}
    return {key: dict(challenge_csv.read(path, kind)) for key, path in files.items() if path.is_file()}


Results = dict[str, dict[Set, dict[str, Measured]]]  # system -> set -> seed


def collect(folders: Iterable[Folder], replicates: int) -> Results:
    """Results of all systems on all sets.

    Raises:
        WheeltapperError: a system is measured twice on a set with one seed.
    """
    found: Results = {}
    for folder in folders:
        seed, condition = folder.place
        kinds: dict[str, list[manifest.Clip]] = {}
        for clip in folder.clips:
            kinds.setdefault(KINDS.get(clip.machine, clip.machine), []).append(clip)
        for system, path in folder.systems.items():
            for kind, clips in kinds.items():
                seeds = found.setdefault(system, {}).setdefault((kind, condition), {})
                if seed in seeds:
                    raise WheeltapperError(f"{path}: expected {system} once on {seed}/{condition}, found it twice")
                # All systems are judged by the same draws, as far as their scores have no ties.
                seeds[seed] = measure(path, clips, replicates, crc32(f"{seed}/{condition}/{kind}".encode()))
    return found


def with_means(found: Results) -> Results:
    """Adds the means over kinds, each with the same weight, of the systems that have all kinds of a condition with the
    same seeds, and the means over conditions."""
    kinds: dict[str, dict[str, None]] = {}
    for sets in found.values():
        for kind, condition in sets:
            kinds.setdefault(condition, {})[kind] = None
    result = {}
    for system, sets in found.items():
        means = {c: _mean([sets.get((kind, c), {}) for kind in own]) for c, own in kinds.items()}
        added = {(MEAN, condition): seeds for condition, seeds in means.items() if seeds}
        if len(kinds) > 1 and (both := _mean(list(means.values()))):
            added[MEAN, BOTH] = both
        result[system] = sets | added
    return result


def _mean(sets: list[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Means over sets by seed; nothing where the sets do not have the same seeds."""
    if any(own.keys() != sets[0].keys() for own in sets):
        return {}
    return {
        seed: Measured(
            float(np.mean([own[seed].score for own in sets])), np.mean([own[seed].drawn for own in sets], axis=0)
        )
        for seed in sets[0]
    }


def rows(found: Results) -> list[dict[str, str]]:
    """Rows of COLUMNS.

    ``spread`` is the standard deviation over seeds (n - 1). ``low`` and ``high`` limit the 95 % bootstrap interval of
    the mean over seeds: recordings of the test are drawn anew, splits and mixtures are not. The best reference is
    selected for each set by its labels; that of a mean is the mean of the best.
    """
    references = {system: sets for system, sets in found.items() if system.startswith(f"{REFERENCE} ")}
    table = []
    for system, sets in found.items():
        best = {own: _best(references, own, seeds) for own, seeds in sets.items() if own[0] != MEAN}
        for (kind, condition), seeds in sets.items():
            scores = [one.score for one in seeds.values()]
            row = {"system": system, "kind": kind, "condition": condition, "seeds": str(len(seeds))}
            row["score"] = f"{np.mean(scores):.2f}"
            row["spread"] = f"{np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
            drawn = np.mean([one.drawn for one in seeds.values()], axis=0)
            if len(drawn):
                row["low"], row["high"] = (f"{value:.2f}" for value in intervals.percentile_interval(drawn))
            name, score = best[kind, condition] if kind != MEAN else _mean_best(best, condition)
            if score is not None and system not in references:
                row |= {"best reference": name, "reference score": f"{score:.2f}"}
                row["difference"] = f"{np.mean(scores) - score:+.2f}"
            if kind != MEAN:
                row["references"] = str(min(one.references for one in seeds.values()))
            for label, column in (("normal", "false alarms"), ("anomaly", "detections")):
                if counts := [one.decided[label] for one in seeds.values() if label in one.decided]:
                    row[column] = f"{sum(alarms for alarms, _ in counts) / sum(count for _, count in counts):.3f}"
            table.append({column: row.get(column, "") for column in COLUMNS})
    return table


def _best(references: Results, own: Set, seeds: Iterable[str]) -> tuple[str, float | None]:
    """Name and mean over the given seeds of the best reference system on a set."""
    means = {
        system.removeprefix(f"{REFERENCE} "): float(np.mean([sets[own][seed].score for seed in seeds]))
        for system, sets in references.items()
        if all(seed in sets.get(own, {}) for seed in seeds)
    }
    name = max(means, key=lambda name: means[name], default="")
    return name, means.get(name)


def _mean_best(best: Mapping[Set, tuple[str, float | None]], condition: str) -> tuple[str, float | None]:
    by_condition: dict[str, list[float | None]] = {}
    for (_, own), (_, score) in best.items():
        by_condition.setdefault(own, []).append(score)
    chosen = [scores for own, scores in by_condition.items() if condition in (own, BOTH)]
    if any(score is None for scores in chosen for score in scores):
        return "", None
    return "best of each set", float(np.mean([np.mean(scores) for scores in chosen]))


def markdown(table: list[dict[str, str]], texts: Mapping[str, str]) -> str:
    """The rows as text: scores, decisions, sets below the best reference, and the systems' names."""
    systems = list(dict.fromkeys(row["system"] for row in table))
    sets = sorted({(row["kind"], row["condition"]) for row in table}, key=lambda own: (own[0] == MEAN, own))
    cells = {(row["kind"], row["condition"], row["system"]): row for row in table}
    parts = [
        "Score in percent: official score, without a target domain harmonic mean of AUC and pAUC. Mean over seeds ± "
        "standard deviation over seeds [95 % interval: stratified bootstrap over test clips, averaged over seeds].",
        _grid(systems, sets, lambda own, system: _score_text(cells.get((*own, system)))),
    ]
    decided = [system for system in systems if any(row["false alarms"] for row in table if row["system"] == system)]
    if decided:
        measured = [own for own in sets if any(_decided_text(cells.get((*own, system))) for system in decided)]
        parts += [
            "Decisions: false alarms / anomalies found, in percent over all seeds. In bold: false alarms of a kind "
            f"with {ENOUGH} references or more that are not {100 * ALARMS[0]:g} to {100 * ALARMS[1]:g} %.",
            _grid(decided, measured, lambda own, system: _decided_text(cells.get((*own, system)))),
        ]
    lines = []
    for system in systems:
        below = [row for row in table if row["system"] == system and row["kind"] != MEAN and row["difference"]]
        below = [row for row in below if float(row["difference"]) < -BELOW]
        said = (f"{r['kind']} {r['condition']} {r['difference']} ({r['best reference']})" for r in below)
        if below:
            lines.append(f"* {system}: {', '.join(said)}")
    if lines:
        parts += [f"More than {BELOW:g} points below the best reference of the set:", "\n".join(lines)]
    if texts:
        parts.append("\n".join(f"* {system}: {text}" for system, text in texts.items()))
    return "\n\n".join(parts) + "\n"


def _grid(systems: list[str], sets: list[Set], text) -> str:
    lines = ["| " + " | ".join(["kind", "condition", *systems]) + " |", "|" + "---|" * (len(systems) + 2)]
    lines += ["| " + " | ".join([*own, *(text(own, system) for system in systems)]) + " |" for own in sets]
    return "\n".join(lines)


def _score_text(row: Mapping[str, str] | None) -> str:
    if row is None:
        return ""
    text = f"{float(row['score']):.1f}"
    if row["spread"]:
        text += f" ± {float(row['spread']):.1f}"
    return text + (f" [{float(row['low']):.0f}, {float(row['high']):.0f}]" if row["low"] else "")


def _decided_text(row: Mapping[str, str] | None) -> str:
    if row is None or not row["false alarms"]:
        return ""
    share = float(row["false alarms"])
    text = f"{100 * share:.0f}"
    if int(row["references"]) >= ENOUGH and not ALARMS[0] <= share <= ALARMS[1]:
        text = f"**{text}**"
    return f"{text} / {100 * float(row['detections']):.0f}" if row["detections"] else text


def main() -> None:
    parser = argparse.ArgumentParser(description="One table set x system of runs and reference systems.")
    parser.add_argument("runs", nargs="*", metavar="NAME=EXP", help="an evaluated run, and the configuration's name")
    parser.add_argument("--references", nargs="+", type=Path, default=[], metavar="DIR", help="reference systems")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for table.csv and table.md")
    parser.add_argument("--replicates", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    args = parser.parse_args()
    if wrong := [text for text in args.runs if "=" not in text]:
        parser.error(f"expected NAME=EXP, found {wrong[0]}")
    try:
        runs = [read_run(name, Path(exp)) for name, _, exp in (text.partition("=") for text in args.runs)]
        folders = [*map(read_references, args.references), *runs]
        if not folders:
            parser.error("expected runs or references, found none")
        table = rows(with_means(collect(folders, args.replicates)))
    except WheeltapperError as error:
        parser.exit(1, f"tabulate: {error}\n")
    args.out.mkdir(parents=True, exist_ok=True)
    write_rows(args.out / "table.csv", COLUMNS, (row.values() for row in table))
    text = markdown(table, {name: text for run in runs for name, text in run.texts.items()})
    with open_atomic(args.out / "table.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
