"""The official metrics of a folder of challenge CSVs against a table of the truth. With --exp: stage 6."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.bin import common
from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.evaluation.truth import Truth
    from system.experiment import Experiment
    from system.manifest import Clip

COLUMNS = {
    "AUC (source)": "AUC s",
    "AUC (target)": "AUC t",
    "pAUC": "pAUC",
    "pAUC (source)": "pAUC s",
    "pAUC (target)": "pAUC t",
    "hmean": "hmean",
    "mean": "mean",
    "AUC (all)": "AUC all",
    "precision (source)": "prec s",
    "precision (target)": "prec t",
    "precision (all)": "prec",
    "recall (source)": "rec s",
    "recall (target)": "rec t",
    "recall (all)": "rec",
    "F1 score (source)": "F1 s",
    "F1 score (target)": "F1 t",
    "F1 score (all)": "F1",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import latest_year

    parser.add_argument("--scores", type=Path, metavar="DIR", help="folder of challenge CSVs")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with machine, section, file, domain, label")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the metrics as fractions")
    parser.add_argument(
        "--year", type=int, default=latest_year(), help="challenge year whose rule counts (default %(default)s)"
    )
    parser.add_argument(
        "--bootstrap",
        type=_count,
        default=1000,
        metavar="N",
        help="resamples for the interval, 0 for none (default 1000)",
    )
    parser.add_argument("--seed", type=_count, default=0, help="seed of the bootstrap (default 0)")
    common.add_experiment_arguments(parser, required=False)


def main(args: argparse.Namespace) -> None:
    if args.exp:
        with common.experiment(args) as run:
            return _stage(run)
    if args.scores is None or args.truth is None:
        raise WheeltapperError("expected --scores DIR --truth FILE, or --exp EXP (stage of a recipe)")
    from system.evaluation import truth

    try:
        clips = truth.read_truth(args.truth)
        found, notes = evaluate_folder(args.scores, clips, args.year, args.bootstrap, args.seed)
    except WheeltapperError as error:
        raise WheeltapperError(f"{args.scores} against {args.truth}: {error}") from error
    for note in notes:
        print(f"note: {note}")
    print(table(found))
    if args.json:
        from system.files import write_json

        write_json(args.json, {"year": args.year, **found})
        print(f"wrote {args.json}")


def evaluate_folder(
    folder: Path, clips: "list[Truth]", year: int, bootstrap: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Metrics (metrics.evaluate) of the challenge CSVs in a folder, and notes on what was passed over."""
    from system.corpora.challenge import rule_of_year
    from system.evaluation import challenge_csv, metrics

    rule = rule_of_year(year)
    files = challenge_csv.list_folder(folder)
    keys = dict.fromkeys((clip.machine, clip.section) for clip in clips)
    scores = _read(files, challenge_csv.SCORE, keys)
    decisions = _read(files, challenge_csv.DECISION, keys)
    return metrics.evaluate(scores, decisions, clips, rule, bootstrap, seed), _notes(files, keys, decisions)


def _stage(run: "Experiment") -> None:
    config = run.config.evaluate
    settings = {"year": config.year, "bootstrap": config.bootstrap, "seed": run.config.seed, "labels": run.labels}
    hidden = _hidden_truth(run)
    reads = [run.manifest, *([hidden] if hidden else [])]
    for label in run.labels:
        reads += sorted(run.system(label).glob("*_test.csv"))
    stage = run.stage("evaluate", settings, reads, owns=["metrics.json"])
    common.run_stage(stage, lambda: _work(run, hidden))


def _work(run: "Experiment", hidden: Path | None) -> Iterable[Path]:
    from system import manifest
    from system.evaluation import truth
    from system.files import write_json

    clips = [clip for clip in manifest.read(run.manifest) if clip.split == "test"]
    labelled = _labelled(clips)
    anonymous = {(c.machine, c.section, c.file) for c in clips if not c.label}
    revealed = [row for row in truth.read_truth(hidden) if row[:3] in anonymous] if hidden else []
    config = run.config.evaluate
    result: dict[str, Any] = {"year": config.year, "official_score": None, "per_machine": {}, "left_out": {}}
    for part, rows in (("systems", labelled), ("evaluation", revealed)):
        kept, left_out = _measurable(rows, config.year)
        result["left_out"] |= left_out
        result[part] = {}
        for label in run.labels if kept else []:
            found, _ = evaluate_folder(run.system(label), kept, config.year, config.bootstrap, run.config.seed)
            result[part][label] = found
            print(f"{label}{', evaluation machines' if part == 'evaluation' else ''}\n{table(found)}\n")
    if result["systems"]:
        first = result["systems"][run.labels[0]]
        result |= {"official_score": first["official_score"], "per_machine": first["per_machine"]}
    for where, reason in result["left_out"].items():
        print(f"note: {where} is left out of the metrics: {reason}")
    write_json(run.metrics, result)
    return [run.metrics]


def measured_clips(clips: "list[Clip]", year: int) -> "list[Truth]":
    """Of a manifest's clips the labelled test clips that metrics.json measures by."""
    return _measurable(_labelled([clip for clip in clips if clip.split == "test"]), year)[0]


def _labelled(clips: "list[Clip]") -> "list[Truth]":
    from system.evaluation.truth import Truth

    return [Truth(c.machine, c.section, c.file, c.domain, c.label) for c in clips if c.label]


def _hidden_truth(run: "Experiment") -> Path | None:
    """Truth of anonymous clips where the recordings come with it, as simulated and emulated ones do; no earlier stage
    reads it."""
    from system.files import read_json

    record = run.stage("data", {}, [], []).marker
    if not record.is_file():
        return None
    data = str(read_json(record).get("settings", {}).get("data", ""))
    path = (run.folder / "data" if data == "synthetic" else Path(data)) / "truth.csv"
    return path if path.is_file() else None


def _measurable(rows: "list[Truth]", year: int) -> "tuple[list[Truth], dict[str, str]]":
    """The rows of the sections that hold every kind of clip that the year's measures need; why others do not."""
    from system.corpora.challenge import rule_of_year
    from system.evaluation import metrics

    domains = ("source", "target") if metrics.RULES[rule_of_year(year)].domains else ("",)
    kinds: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        section = kinds.setdefault(f"{row.machine} section {row.section}", set())
        section.add((row.domain if len(domains) > 1 else "", row.label))
    left_out = {}
    for where, found in kinds.items():
        missing = [f"no normal {domain} test clip" for domain in domains if (domain, "normal") not in found]
        if not any(label == "anomaly" for _, label in found):
            missing.append("no anomalous test clip")
        if missing:
            left_out[where] = ", ".join(missing)
    return [row for row in rows if f"{row.machine} section {row.section}" not in left_out], left_out


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found {text!r}")
    return int(text)


def _read(files: Mapping[tuple[str, str, str], Path], kind: str, keys: Iterable[tuple[str, str]]) -> dict:
    from system.evaluation import challenge_csv

    return {key: dict(challenge_csv.read(files[kind, *key], kind)) for key in keys if (kind, *key) in files}


def _notes(files: Iterable[tuple[str, str, str]], keys: Iterable[tuple[str, str]], decisions: Iterable) -> list[str]:
    """What was passed over: files of other machines, and machines without decisions."""
    known = set(keys)
    others = sorted(
        {f"{machine} section {section}" for _, machine, section in files if (machine, section) not in known}
    )
    undecided = sorted(f"{machine} section {section}" for machine, section in known - set(decisions))
    notes = []
    if others:
        notes.append(f"not in the truth, ignored: {', '.join(others)}")
    if undecided:
        what = "any machine" if len(undecided) == len(known) else ", ".join(undecided)
        notes.append(f"no decisions for {what}: precision, recall and F1 are left out there")
    return notes


def table(found: Mapping[str, Any]) -> str:
    """The metrics of one system (see metrics.evaluate) as text, in percent."""
    machines: Mapping[str, Mapping[str, Any]] = found["per_machine"]
    names = [name for name in COLUMNS if any(name in values for values in machines.values())]
    rows = []
    for machine, values in machines.items():
        rows.append((machine, values))
        rows += [(f"  section {section}", each) for section, each in values.get("sections", {}).items()]
    rows += [("arithmetic mean", found["arithmetic_mean"]), ("harmonic mean", found["harmonic_mean"])]
    width = max(len(label) for label, _ in rows)
    lines = [" " * width + "".join(f"{COLUMNS[name]:>8}" for name in names)]
    for label, values in rows:
        cells = (f"{100 * values[name]:8.2f}" if name in values else " " * 8 for name in names)
        lines.append((f"{label:<{width}}" + "".join(cells)).rstrip())
    lines.append("")
    lines.append(f"official score  {100 * found['official_score']:.2f} %")
    if found["ci95"]:
        low, high = (100 * value for value in found["ci95"])
        replicates = found["bootstrap"]["replicates"]
        lines.append(f"95 % interval   {low:.2f} to {high:.2f} % (stratified bootstrap, {replicates} resamples)")
    if found["legacy_ci95"] is not None:
        lines.append(
            f"legacy interval +-{found['legacy_ci95']:.4g} (a fraction, as the official evaluator prints it; too small)"
        )
    return "\n".join(lines)
