"""Scores and decisions for new recordings from a finished run: ``wheeltapper score --exp EXP FILES...``."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import config as configuration
from system import manifest
from system.bin import common
from system.config import check_systems
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.pipeline.verdicts import Verdict

SCORED = ("pretrain", "adapt", "embed", "score", "fuse")  # stages that a run must have behind it
COLUMNS = ("file", "machine", "section", "score", "threshold", "decision", "deviations", "remark", "error")
SHOWN = ("file", "machine", "score", "threshold", "decision", "deviations")
PATIENCE = 5.0  # seconds without a progress bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("new recordings, by a run whose stages 0 to 5 are complete")
    group.add_argument("files", nargs="*", type=Path, metavar="FILE", help="sound files, and folders of sound files")
    group.add_argument("--system", type=int, default=1, metavar="K", help="which system of the run (default 1)")
    group.add_argument("--machine", default="", metavar="NAME", help="whose sound it is (default: the folder's name)")
    group.add_argument("--section", default="", metavar="NN", help="of the machine (default: its only one, or 00)")
    group.add_argument("--csv", type=Path, metavar="OUT", help="write the table as csv")
    group.add_argument("--json", type=Path, metavar="OUT", help="write the table as json")
    group.add_argument("--device", default="", help="cpu or cuda (default: as the run)")


def main(args: argparse.Namespace) -> int:
    if args.conf or args.set:
        raise WheeltapperError("--conf, --set: expected none with files, which are scored as the run was configured")
    for path in filter(None, (args.csv, args.json)):
        if path.is_dir():
            raise WheeltapperError(f"{path}: expected a file to write, found a folder")
    run, clips = finished(Path(args.exp))
    if not 1 <= args.system <= len(run.config.systems):
        raise WheeltapperError(f"--system: expected 1 to {len(run.config.systems)}, found {args.system}")
    if args.device:
        run = replace(run, config=replace(run.config, device=args.device))
    entries = [_entry(path, error, clips, args) for path, error in _listed(args.files)]
    results = list(_results(run, args.system, clips, entries))
    rows = [_row(*result) for result in results]
    for row in rows:
        if row["error"]:
            print(f"wheeltapper score: {_printable(row['error'])}", file=sys.stderr)
    for path, write in ((args.csv, _write_csv), (args.json, _write_json)):
        if path:
            write(path, rows, run, args.system)
    _show(rows)
    return 1 if any(row["error"] for row in rows) else 0


def finished(folder: Path) -> tuple[Experiment, list[manifest.Clip]]:
    """The run in a folder and the clips of its manifest; nothing is written.

    Raises WheeltapperError unless all that scores depend on is complete, with the settings that config.yaml says.
    """
    if not (folder / "config.yaml").is_file():
        raise WheeltapperError(f"{folder}: expected the folder of a finished run, found no config.yaml there")
    run = Experiment(folder, configuration.load(folder / "config.yaml", packaged=False))
    check_systems(run.config, str(folder / "config.yaml"))
    clips = manifest.read(run.manifest)
    for verb in SCORED:
        stage = common.stage_of(run, verb)
        if not stage.is_complete():
            found = "other settings, inputs or files than it left" if stage.marker.is_file() else "it not finished"
            raise WheeltapperError(
                f"{folder}: stage {stage.number} {stage.name}: expected it complete, found {found}; wheeltapper run "
                f"--exp {folder} --stage 1 --stop-stage 5 completes it"
            )
    return run, clips


def _listed(given: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Sound files each once, in the order given; with an error for what is none."""
    from system import audio

    seen = set()
    for path in given:
        found = audio.list_files(path) if path.is_dir() else [path]
        if not found:
            yield path, f"{path}: expected {', '.join(audio.EXTENSIONS)} files, found none"
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file, ""


def _entry(path: Path, error: str, clips: Sequence[manifest.Clip], args: argparse.Namespace):
    """(path, machine and section, "") or (path, None, error)."""
    from system.pipeline.verdicts import group_of

    if error:
        return path, None, error
    groups = list(dict.fromkeys((clip.machine, clip.section) for clip in clips if clip.split == "train"))
    try:
        return path, group_of(path, groups, args.machine, args.section), ""
    except WheeltapperError as problem:
        return path, None, str(problem)


def _results(run: Experiment, number: int, clips: Sequence[manifest.Clip], entries: list) -> "Iterator[tuple]":
    """(path, verdict or None, error) of each entry, recordings side by side."""
    from system.pipeline import verdicts
    from system.pipeline.branches.kinds import embedder

    groups = list(dict.fromkeys(group for _, group, _ in entries if group))
    if not groups:
        yield from ((path, None, error) for path, _, error in entries)
        return
    common.prepare_torch(run)
    judges = verdicts.judges(run, number, clips, groups)
    embed = embedder(run, verdicts.used(run.config.systems[number - 1]))
    files = sum(1 for _, group, _ in entries if group)
    workers = common.one_thread_each(run.config.threads) if files > 1 else 1

    def judge(entry: tuple) -> "tuple[Path, Verdict | None, str]":
        path, group, error = entry
        if error:
            return path, None, error
        try:
            return path, verdicts.judge_file(path, group, judges[group], run, embed), ""
        except WheeltapperError as problem:
            return path, None, str(problem)
        except OSError as problem:
            return path, None, f"{path}: {problem.strerror or problem}"

    from system.parallel import map_in_order

    with progress_bar(len(entries), "scoring", PATIENCE) as bar:
        for result in map_in_order(judge, entries, workers):
            bar.update(1)
            yield result


def _row(path: Path, verdict: "Verdict | None", error: str) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {"file": _text(path), "error": _text(error)}
    if verdict is not None:
        row |= {name: getattr(verdict, name) for name in COLUMNS[1:5]}
        row |= {"decision": "ANOMALY" if verdict.anomalous else "normal", "deviations": verdict.deviations}
        row["remark"] = verdict.remark
    return row


def _text(value: object) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are none become backslash and number."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _printable(text: str) -> str:
    """Text for one line of a terminal in whatever encoding."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, on standard output."""
    scored = [row for row in rows if not row["error"]]
    cells = [SHOWN, *([_cell(row, name) for name in SHOWN] for row in scored)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(SHOWN))]
    for line in cells if scored else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    found = sum(row["decision"] == "ANOMALY" for row in scored)
    failed = f", {len(rows) - len(scored)} not scored" if len(scored) < len(rows) else ""
    print(f"{len(scored)} recordings, {found} anomalous{failed}", file=sys.stderr)
    remarks = Counter((row["machine"], row["remark"]) for row in scored if row["remark"])
    for (machine, remark), count in remarks.items():
        print(f"note: {machine}: scores that may mean little, of {count} recordings: {remark}", file=sys.stderr)


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "machine" and row["section"] != "00":
        return f"{row['machine']}/{row['section']}"
    return f"{row[name]:.3f}" if isinstance(row[name], float) else _printable(str(row[name]))


def _write_csv(path: Path, rows: Sequence[dict[str, Any]], run: Experiment, number: int) -> None:
    from system.files import open_atomic

    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_exact(row[name]) for name in COLUMNS] for row in rows)


def _exact(value: object) -> object:
    return "" if value is None else repr(value) if isinstance(value, float) else value


def _write_json(path: Path, rows: Sequence[dict[str, Any]], run: Experiment, number: int) -> None:
    from system.files import write_json
    from system.record import run_record

    system = {"label": run.labels[number - 1], "view": run.config.systems[number - 1].view}
    found = [{name: row[name] for name in COLUMNS} for row in rows]
    write_json(path, {"system": system, "recordings": found, **run_record()})
