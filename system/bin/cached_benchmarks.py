"""The benchmarks over embeddings in a file: options, calls and what is printed."""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.benchmarks.modes import AS_CODED, MODES
from system.errors import WheeltapperError

if TYPE_CHECKING:
    import numpy as np

    from system.benchmarks.cached import Labelled, Machines

Answer = tuple[dict[str, Any], str]  # result and its table

HELP = {
    "rmis-fixed": "RMIS fault diagnosis: ten random splits of the recordings",
    "rmis-multisplit": "RMIS fault diagnosis: ten splits at each of 19 test sizes, curve and area",
    "rmis-official": "RMIS fault diagnosis: the split that comes with the data set (IIEE)",
    "rmis-ad": "RMIS anomaly detection by the rules of a year of DCASE Task 2",
    "siren-loocv": "SIREN fault classification: one recording left out at a time (CWRU, MaFaulDa)",
    "siren-kfold": "SIREN fault classification: five folds (IICA)",
    "siren-official": "SIREN fault classification: the split that comes with the data set (IIEE)",
    "siren-ad": "SIREN anomaly detection by the rules of a year of DCASE Task 2",
}
SEALABLE = ("rmis-fixed", "rmis-multisplit", "siren-loocv", "siren-kfold")
LATEST = 2025


def add_parsers(verbs: argparse._SubParsersAction) -> None:
    """A parser for each benchmark."""
    for name, text in HELP.items():
        parser = verbs.add_parser(name, help=text, description=f"{text}.")
        parser.add_argument("--embeddings", type=Path, required=True, metavar="NPZ", help="embeddings with labels")
        parser.add_argument(
            "--field", default="embeddings", metavar="NAME", help="field of the file that they are in (embeddings)"
        )
        parser.add_argument(
            "--protocol",
            choices=MODES,
            default=AS_CODED,
            help="as-coded: as the published code does, to compare with published tables (default); clean: without "
            "its defects; the result says what changed",
        )
        parser.add_argument("--json", type=Path, metavar="OUT", help="where to write the result")
        if name in SEALABLE:
            parser.add_argument(
                "--sealed",
                action="store_true",
                help="never have rows of one group (field group, or else ori) on both sides",
            )
        if name == "rmis-fixed":
            parser.add_argument("--test-size", type=float, default=0.5, metavar="S", help="share of recordings (0.5)")
        if name in ("rmis-fixed", "rmis-multisplit"):
            parser.add_argument(
                "--memory", type=int, default=1024, metavar="MB", help="of similarities held at once (1024)"
            )
            parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
        if name.endswith("-ad"):
            parser.add_argument("--year", type=int, default=LATEST, help="whose rules count (%(default)s)")
        elif name.startswith("siren"):
            parser.add_argument(
                "--channels",
                type=int,
                default=1,
                metavar="C",
                help="whose embeddings stand side by side in a row (1); for --protocol clean",
            )


def main(args: argparse.Namespace) -> None:
    with _naming(args):
        result, text = _WORK[args.benchmark](args)
    result = {"benchmark": args.benchmark, "protocol": args.protocol, "embeddings": str(args.embeddings), **result}
    print(f"{args.benchmark}, protocol {args.protocol}: {result['rows']} rows x {result['dimensions']}\n\n{text}")
    for change in result["changes"]:
        print(f"changed: {change}")
    if args.json:
        from system.stage import run_record, write_json

        write_json(args.json, result | {"record": run_record()})
        print(f"wrote {args.json}")


@contextlib.contextmanager
def _naming(args: argparse.Namespace) -> Iterator[None]:
    """Errors name the file, whoever raises them."""
    try:
        yield
    except WheeltapperError as error:
        text = str(error)
        raise WheeltapperError(text if str(args.embeddings) in text else f"{args.embeddings}: {text}") from error


def _rmis_splits(args: argparse.Namespace) -> Answer:
    from system.benchmarks import cached, results, rmis

    if args.memory < 1 or args.workers < 1:
        raise WheeltapperError(f"--memory, --workers: expected at least 1, found {args.memory} and {args.workers}")
    data = cached.read_labelled(args.embeddings, args.field, ["ori"])
    name, groups = _together(args, data)
    head = _head(args, data, [] if args.protocol == AS_CODED else list(rmis.CHANGES))
    head |= {"kept_together": name, "recordings": len(set(groups)), "neighbours": rmis.NEIGHBOURS}
    options = {"mode": args.protocol, "classes": data.classes, "memory": args.memory << 20, "workers": args.workers}
    if args.benchmark == "rmis-fixed":
        found = rmis.fixed_split(data.embeddings, data.labels, groups, test_size=args.test_size, **options)
        result = results.of_diagnosis(found)
        return head | {"test_size": args.test_size} | result, results.runs_text(result)
    result = results.of_multi_split(rmis.multi_split(data.embeddings, data.labels, groups, **options))
    return head | result, results.curve_text(result)


def _rmis_official(args: argparse.Namespace) -> Answer:
    from system.benchmarks import cached, results, rmis

    data = cached.read_labelled(args.embeddings, args.field, ["split"])
    tested = data.split == "test"
    found = rmis.official_split(data.embeddings, data.labels, tested, args.protocol, data.classes)
    result = results.of_official_split(found)
    head = _head(args, data, [] if args.protocol == AS_CODED else list(rmis.CHANGES))
    text = f"macro accuracy {result['macro_accuracy']:.2f} % of {result['n_test']} test clips"
    return head | {"neighbours": rmis.NEIGHBOURS} | result, f"{results.class_table(result)}\n\n{text}"


def _siren(args: argparse.Namespace) -> Answer:
    from system.benchmarks import cached, results, siren
    from system.benchmarks.splits import check_recordings, check_sides, holdings

    task = args.benchmark.removeprefix("siren-")
    data = cached.read_labelled(args.embeddings, args.field, ["split"] if task == "official" else [])
    name, groups = _together(args, data)
    rows, options = (data.embeddings, data.labels, args.protocol), {"channels": args.channels}
    asked, extra = data.labels, {}
    if task == "official":
        check_sides(data.labels, data.classes, data.split == "test")
        asked = data.labels[data.split == "test"]
        predicted = siren.predict_test(data.embeddings, data.labels, data.split == "test", args.protocol, args.channels)
    else:
        units, _, holds = holdings(data.labels, len(data.classes), data.files if groups is None else groups)
        check_recordings(holds, data.classes, units)
        if task == "loocv":
            predicted = siren.predict_left_out(*rows, groups, **options)
        else:
            predicted, folds = siren.predict_folds(*rows, groups, **options)
            right = predicted == data.labels
            extra = {"seed": siren.SEED, "folds": [100.0 * float(right[folds == f].mean()) for f in range(siren.FOLDS)]}
    result = results.of_predictions(asked, predicted, data.classes)
    changes = siren.changes(args.protocol, task, *data.embeddings.shape, args.channels)
    head = _head(args, data, changes) | {"kept_together": name, "neighbours": siren.NEIGHBOURS}
    text = f"accuracy {result['accuracy']:.2f} %: {result['correct']} of {result['n_test']}"
    return head | extra | result, f"{results.class_table(result)}\n\n{text}"


def _rmis_ad(args: argparse.Namespace) -> Answer:
    from system.benchmarks import cached, results, rmis_ad

    data = cached.read_machines(args.embeddings, args.field)
    found = rmis_ad.detect(data, args.year, args.protocol)
    head = _head(args, data, rmis_ad.changes(args.protocol, args.year)) | {"year": args.year}
    return head | results.of_rmis_detection(found), results.rmis_detection_text(found)


def _siren_ad(args: argparse.Namespace) -> Answer:
    from system.benchmarks import cached, results, siren_ad

    data = cached.read_machines(args.embeddings, args.field)
    found = siren_ad.detect(data, args.year, args.protocol)
    head = _head(args, data, siren_ad.changes(args.protocol, args.year)) | {"year": args.year}
    return head | results.of_siren_detection(found), results.siren_detection_text(found)


def _together(args: argparse.Namespace, data: "Labelled") -> "tuple[str | None, np.ndarray | None]":
    """The field whose rows stay on one side, and its values; None where each row is alone."""
    if getattr(args, "sealed", False):
        if data.group is None and data.ori is None:
            raise WheeltapperError("--sealed: expected a field group, or ori, found neither")
        return ("group", data.group) if data.group is not None else ("ori", data.ori)
    return ("ori", data.ori) if args.benchmark.startswith("rmis") else (None, None)


def _head(args: argparse.Namespace, data: "Labelled | Machines", changes: list[str]) -> dict[str, Any]:
    rows, dimensions = data.embeddings.shape
    if getattr(args, "sealed", False):
        changes = [*changes, "rows of one group are never on both sides (--sealed)"]
    return {"changes": changes, "rows": rows, "dimensions": dimensions}


_WORK: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "rmis-fixed": _rmis_splits,
    "rmis-multisplit": _rmis_splits,
    "rmis-official": _rmis_official,
    "rmis-ad": _rmis_ad,
    "siren-loocv": _siren,
    "siren-kfold": _siren,
    "siren-official": _siren,
    "siren-ad": _siren_ad,
}
