"""Recordings to a checked manifest.csv: a folder in DCASE layout, any folder, what a CSV lists, or a known data set.

With --exp: stage 0 of a recipe, whatever --data names.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from system.bin import common
from system.corpora import source
from system.errors import WheeltapperError
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.corpora.source import Source
    from system.experiment import Experiment
    from system.manifest import Clip

HEADER = ("machine", "phase", "sections", "train", "source", "target", "test", "normal", "anomaly", "extra", "seconds")

COLUMNS = {"file": "file", "class": "", "fold": "", "group": ""}  # of a table, and their usual names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import span

    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="holds <machine>/{train,test}/*.wav; or a TABLE.csv of files",
    )
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="manifest to write; of a data set a folder for manifest.csv and cuts"
    )
    parser.add_argument(
        "--corpus",
        default="",
        metavar="NAME",
        help="name of the corpus (default: dcase, or that of the folder); a data set that wheeltapper download --list "
        "names, with a folder for --out: read it as its publisher lays it out",
    )
    parser.add_argument(
        "--layout", choices=("dcase", "files"), default="dcase", help="files: every sound file below DIR, all training"
    )
    group = parser.add_argument_group("a data set of the benchmarks")
    group.add_argument("--view", default="", choices=("rmis", "siren", "own"), help="whose (default: its first)")
    group = parser.add_argument_group("all data sets of a benchmark, and its years of the challenge")
    group.add_argument(
        "--suite",
        choices=("rmis", "siren"),
        help="DIR holds <publisher>/ and dcase<year>/ (its truth, if any, in truth.csv); what is missing is left out; "
        "--out is a folder for <data set>/manifest.csv",
    )
    group.add_argument("--sets", nargs="+", metavar="NAME", help="data sets (default: all)")
    group = parser.add_argument_group("a year of the challenge as the benchmarks have it, both phases in one")
    group.add_argument("--year", type=int, help=f"{span()}; DIR as wheeltapper download left it")
    group.add_argument("--truth", type=Path, metavar="CSV", help="the published labels of the evaluation machines")
    group.add_argument(
        "--corrected",
        action="store_true",
        help="vouch for a --truth that bears the sign of a list known to be wrong (2022), but had its labels corrected",
    )
    group = parser.add_argument_group("a table or --layout files")
    group.add_argument("--normal", action="store_true", help="label the recordings normal (default: no label)")
    group = parser.add_argument_group("a table")
    group.add_argument("--root", type=Path, metavar="DIR", help="the table's paths start here (default: its folder)")
    group.add_argument(
        "--file-column", default=COLUMNS["file"], metavar="NAME", help="of the paths (default: %(default)s)"
    )
    group.add_argument("--class-column", default="", metavar="NAME", help="of the classes; become class_<value>")
    group.add_argument("--fold-column", default="", metavar="NAME", help="of the folds; become the section")
    group.add_argument("--group-column", default="", metavar="NAME", help="of what splits must not separate")
    group.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="rows to keep: column=value or column~regex"
    )
    common.add_experiment_arguments(parser, required=False)
    parser.add_argument(
        "--data",
        default="",
        help="with --exp: synthetic | dcase<year> | DIR | manifest.csv (default: that of the last run, or synthetic)",
    )


def main(args: argparse.Namespace) -> None:
    if args.exp:
        with common.experiment(args) as run:
            return _stage(run, args.data)
    if args.source is None or args.out is None:
        raise WheeltapperError("expected DIR --out CSV, or --exp EXP --data DATA (stage of a recipe)")
    if args.suite:
        return _suite(args)
    if args.sets:
        raise WheeltapperError("--sets: expected --suite")
    if _is_data_set(args):
        return _data_set(args.corpus, args.source, args.out, args.view)
    if args.view:
        raise WheeltapperError("--view: expected --corpus NAME of a known data set, and a folder for --out")
    if args.truth and args.year is None:
        raise WheeltapperError("--truth: expected --year")
    if args.corrected and not args.truth:
        raise WheeltapperError("--corrected: expected --truth")
    if args.year is not None:
        return _write(args.out, _year(args.year, args.source, args.truth, args.corrected))
    _write(args.out, _listed(args) if source.is_table(args.source) else _below(args))


def _is_data_set(args: argparse.Namespace) -> bool:
    """Any other use writes a CSV, whatever name it gives the corpus."""
    from system.corpora.faults import CORPORA

    return args.corpus in CORPORA and args.out.suffix.lower() != ".csv"


def _suite(args: argparse.Namespace) -> None:
    from system.benchmarks import suites
    from system.corpora.faults.convert import MANIFEST

    missing = []
    for plan in suites.choose(args.suite, args.sets):
        place, out = plan.raw(args.source), args.out / plan.name
        if not place.is_dir():
            missing.append(plan.name)
        elif plan.year:
            truth = place / "truth.csv"
            _write(out / MANIFEST, _year(plan.year, place, truth if truth.exists() else None))
        else:
            _data_set(plan.name, place, out, plan.view)
    if missing:
        print(f"not there: {', '.join(missing)}")


def _data_set(corpus: str, folder: Path, out: Path, view: str) -> None:
    from system.corpora import faults
    from system.corpora.faults.convert import MANIFEST, prepare

    with progress_bar(0, "reading") as bar:
        clips = prepare(faults.find(corpus), folder, out, view, bar.to)
    print(class_summary(clips))
    print(f"wrote {out / MANIFEST}: {len(clips)} clips")


def _year(year: int, folder: Path, truth: Path | None, corrected: bool = False) -> "list[Clip]":
    from system.corpora.benchmark_years import prepare_year

    with progress_bar(0, "reading") as bar:
        return prepare_year(year, folder, truth, corrected, bar.to)


def _listed(args: argparse.Namespace) -> "list[Clip]":
    from system.corpora.table import prepare_table

    if args.layout != "dcase":
        raise WheeltapperError(f"--layout {args.layout}: expected a folder, found the table {args.source}")
    columns = {f"{name}_column": getattr(args, f"{name}_column") for name in COLUMNS}
    if args.out.resolve() == args.source.resolve():
        raise WheeltapperError(f"--out: expected another file than the table, found {args.out}")
    with progress_bar(0, "reading") as bar:
        return prepare_table(
            args.source,
            args.root,
            **columns,
            where=args.where,
            corpus=args.corpus,
            normal=args.normal,
            progress=bar.to,
        )


def _below(args: argparse.Namespace) -> "list[Clip]":
    given = [f"--{name}-column" for name, usual in COLUMNS.items() if getattr(args, f"{name}_column") != usual] + [
        f"--{name}" for name in ("root", "where") if getattr(args, name)
    ]
    if given:
        raise WheeltapperError(f"{given[0]}: expected a TABLE.csv of files, found the folder {args.source}")
    if args.layout == "files":
        from system.corpora.table import prepare_files

        with progress_bar(0, "reading") as bar:
            return prepare_files(args.source, args.corpus, args.normal, progress=bar.to)
    if args.normal:
        raise WheeltapperError("--normal: expected a TABLE.csv or --layout files; DCASE names say it themselves")
    return prepare(args.source, args.corpus or "dcase")


def _write(path: Path, clips: "list[Clip]") -> None:
    from system import manifest

    manifest.write(path, clips)
    print(summary(clips))
    print(f"wrote {path}: {len(clips)} clips")


def _stage(run: "Experiment", data: str) -> None:
    downloads = Path(run.config.data.folder)
    before = source.remembered(run.folder, downloads)
    data = data or before or source.SYNTHETIC
    found = source.find(data, run.folder, downloads)
    if before and before not in (data, str(Path(data).resolve())):
        print(f"note: {run.folder} was made from {before}; --data {data} takes its place", flush=True)
    if found.manifest:
        return _manifest_stage(run, found.manifest)
    folder = found.folder
    settings = {"data": data if found.synthetic else str(folder.resolve()), "corpus": run.config.data.corpus}
    if run.config.data.machines != "all":
        settings["machines"] = run.config.data.machines
    if found.synthetic:
        settings |= {"synthetic": run.config.data.synthetic, "seed": run.config.seed}
    stage = run.stage("data", settings, [], owns=["manifest.csv", "data"], watched=folder)
    common.run_stage(stage, lambda: _work(run, found))


def _manifest_stage(run: "Experiment", path: Path) -> None:
    """Stage 0 from a manifest, of a corpus in whatever layout; runs again when it or one of its recordings changes."""
    from system import manifest
    from system.corpora.inspection import check_recordings
    from system.files import files_signature

    clips = manifest.of_machines(manifest.read(path), run.config.data.machines, path)
    settings = {"data": str(path.resolve()), "machines": run.config.data.machines}
    stage = run.stage("data", settings, [path], owns=["manifest.csv", "data"])
    stage.watch = lambda: files_signature(clip.path for clip in clips)

    def work() -> Iterable[Path]:
        with progress_bar(0, "reading") as bar:
            check_recordings(clips, path, bar.to)
        _write(run.manifest, clips)
        return [run.manifest]

    common.run_stage(stage, work)


def _work(run: "Experiment", found: "Source") -> Iterable[Path]:
    from system import manifest

    folder, corpus = found.folder, run.config.data.corpus or Path(found.data).name
    if found.synthetic:
        from system.corpora.simulation.synthetic import SyntheticSettings, synthesize

        settings = SyntheticSettings.of_size(run.config.data.synthetic)
        with progress_bar(0, "simulating") as bar:
            synthesize(folder, settings, run.config.seed, workers=2, progress=bar.to)
    elif found.year:
        from system.corpora.download import download_dcase

        with progress_bar(0, "downloading") as bar:
            (folder,) = download_dcase(
                found.year,
                folder,
                progress=lambda name, done, total: bar.to(done, total),
                say=lambda text: print(text, file=sys.stderr),
            )
    _write(run.manifest, manifest.of_machines(prepare(folder, corpus), run.config.data.machines, folder))
    return [run.manifest]


def prepare(folder: Path, corpus: str = "dcase") -> "list[Clip]":
    """prepare_dcase with a progress bar."""
    from system.corpora.dcase import prepare_dcase

    with progress_bar(0, "reading") as bar:
        return prepare_dcase(folder, corpus, progress=bar.to)


def summary(clips: "list[Clip]") -> str:
    """A table, one line per machine: phase, clips per split and domain, clip length in s, channels, rate in Hz."""
    from system import manifest

    development = manifest.is_development(clips)
    rows = [(*HEADER, "channels", "rate")]
    for machine in manifest.machines(clips):
        own = [clip for clip in clips if clip.machine == machine]
        train = [clip for clip in own if clip.split == "train"]
        test = [clip for clip in own if clip.split == "test"]
        shortest, longest = min(clip.seconds for clip in own), max(clip.seconds for clip in own)
        rows.append(
            (
                machine,
                ("dev" if development[machine] else "eval") if test else "train",
                ",".join(sorted({clip.section for clip in own})),
                len(train),
                sum(clip.domain == "source" for clip in train),
                sum(clip.domain == "target" for clip in train),
                len(test),
                sum(clip.label == "normal" for clip in test),
                sum(clip.label == "anomaly" for clip in test),
                len(own) - len(train) - len(test),
                f"{shortest:.4g}" if shortest == longest else f"{shortest:.4g}-{longest:.4g}",
                own[0].channels,
                own[0].rate,
            )
        )
    return _table(rows)


def class_summary(clips: "list[Clip]") -> str:
    """A table, one line per class: clips per split, recordings that splits keep together, hours."""
    from system.corpora.table import class_of

    rows = [("class", "train", "test", "groups", "hours", "channels", "rate")]
    for kind in dict.fromkeys(class_of(clip) for clip in clips):
        own = [clip for clip in clips if class_of(clip) == kind]
        train = sum(clip.split == "train" for clip in own)
        groups = len({clip.group or clip.path for clip in own})
        rates = ",".join(str(rate) for rate in sorted({clip.rate for clip in own}))
        hours = f"{sum(clip.seconds for clip in own) / 3600:.3f}"
        rows.append((kind, train, len(own) - train, groups, hours, own[0].channels, rates))
    return _table(rows)


def _table(rows: list[tuple]) -> str:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)
