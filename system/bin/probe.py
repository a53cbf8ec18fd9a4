"""How much frozen encoders tell by nearest neighbours: classes of labelled recordings, anomalies of machines."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from system.bin import encoder_options
from system.errors import WheeltapperError
from system.machine import check_device
from system.pipeline.resources import one_thread_each
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.encoders.base import Encoder

READOUTS = ("cls", "tokens")
TRAINED, BASELINE = "trained", "statistics"


class Run(NamedTuple):
    """An encoder with the kind of its weights, ``trained`` or ``random``, and what tells it from others of its kind."""

    weights: str
    label: str
    encoder: "Encoder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=MANIFEST",
        help="labelled recordings, may be repeated. Test clips with labels: official score of 1-NN and Mahalanobis on "
        "the near channel; classes in folds (the sections): 1-NN; classes alone: SIREN's leave-one-file-out",
    )
    parser.add_argument("--encoder", default="default", help=encoder_options.ENCODER_HELP)
    parser.add_argument(
        "--checkpoint", nargs="+", metavar="FILE", help=f"{encoder_options.CHECKPOINT_HELP}; or several files"
    )
    parser.add_argument("--exp", help="experiment folder of --encoder default")
    encoder_options.add_front_end_arguments(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of random weights (default: 0)")
    parser.add_argument(
        "--against",
        choices=(encoder_options.RANDOM,),
        help="the same network with random weights beside it, and the ratio",
    )
    parser.add_argument(
        "--readout",
        nargs="+",
        choices=READOUTS,
        default=list(READOUTS),
        help="cls: the summary, in sub-band families the CLS of every band; tokens: mean of the others over time",
    )
    parser.add_argument("--baselines", action="store_true", help="statistics of log-mel and log spectrum beside it")
    parser.add_argument("--out", type=Path, help="JSON with every figure")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=0, help="recordings on their way at once; 0: one for each core")


def main(args: argparse.Namespace) -> None:
    from system.benchmarks.labelled import choose_task
    from system.files import write_json
    from system.manifest import read

    check_device(args.device)
    if args.workers < 0:
        raise WheeltapperError(f"--workers: expected 0 or more, found {args.workers}")
    tasks = {}
    for name, path in _sets(args.set).items():
        clips = read(path)
        try:
            tasks[name] = choose_task(clips)
        except WheeltapperError as error:
            raise WheeltapperError(f"{path}: {error}") from error
    runs = [run._replace(encoder=run.encoder.to(args.device)) for run in _runs(args)]
    found: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for name, (task, clips) in tasks.items():
        for key, figure, value in _measure(args, runs, name, task, clips):
            found.setdefault(key, {}).setdefault((name, figure), []).append(value)
    print(_table(found, args.against))
    if args.out:
        write_json(args.out, _report(args, runs, tasks, found))
        print(f"wrote {args.out}")


def _report(args: argparse.Namespace, runs: list[Run], tasks: dict, found: dict) -> dict[str, Any]:
    from system.record import run_record

    encoder, paths = runs[0].encoder, _sets(args.set)
    labels: dict[str, list[str]] = {}
    for run in runs:
        labels.setdefault(run.weights, []).append(run.label)
    return {
        "encoder": {
            "family": encoder.family,
            "config": asdict(encoder.config),
            "filterbank": args.filterbank,
            "simam": args.simam,
        },
        "runs": labels,
        "sets": {
            name: {"manifest": paths[name], "task": task, "recordings": len(clips)}
            for name, (task, clips) in tasks.items()
        },
        "figures": _nested(found, args.against),
        "record": run_record(),
    }


def _sets(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in found:
            raise WheeltapperError(f"--set: expected NAME=MANIFEST, each name once, found {text!r}")
        found[name] = path
    return found


def _runs(args: argparse.Namespace) -> list[Run]:
    """The encoders to compare: those of --checkpoint, and with --against random ones of the same sizes."""
    named = args.checkpoint or [None]
    if encoder_options.RANDOM in named:
        if len(named) > 1 or args.against:
            raise WheeltapperError("--checkpoint random: expected it alone; --against random stands beside files")
        return [
            Run(
                encoder_options.RANDOM,
                f"seed {seed}",
                encoder_options.build_encoder(args, encoder_options.RANDOM, seed),
            )
            for seed in args.seeds
        ]
    runs = [Run(TRAINED, name or args.encoder, encoder_options.build_encoder(args, name)) for name in named]
    first = runs[0].encoder
    for run in runs[1:]:
        if run.encoder.config != first.config:
            raise WheeltapperError(
                f"{run.label}: expected an encoder of the same sizes as {runs[0].label}, found others"
            )
    if args.against:
        for seed in args.seeds:
            encoder = type(first).untrained(first.config, seed).set_front_end(first.filterbank, first.simam)
            runs.append(Run(encoder_options.RANDOM, f"seed {seed}", encoder))
    return runs


def _measure(
    args: argparse.Namespace, runs: list[Run], name: str, task: str, clips: list
) -> Iterator[tuple[tuple[str, str], str, float]]:
    """((weights, read-out), figure, value) of all networks on one set, every recording read once."""
    from system.benchmarks.frozen import compute_readouts, embed_clips, spectral_statistics
    from system.benchmarks.labelled import ANOMALIES, figures

    networks: dict[str, Callable] = {
        str(number): partial(compute_readouts, run.encoder) for number, run in enumerate(runs)
    }
    if args.baselines:
        networks[BASELINE] = spectral_statistics
    workers = one_thread_each(args.workers)
    with progress_bar(len(clips), f"embedding {name}") as bar:
        vectors = embed_clips(clips, networks, near=task == ANOMALIES, workers=workers, progress=bar.update)
    for network, kinds in vectors.items():
        weights = BASELINE if network == BASELINE else runs[int(network)].weights
        for kind, rows in kinds.items():
            if weights == BASELINE or kind in args.readout:
                for figure, value in figures(clips, task, rows).items():
                    yield (weights, kind), figure, value


def _summary(values: list[float]) -> dict[str, Any]:
    import numpy as np

    return {
        "values": values,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _nested(found: dict, against: str | None) -> list[dict[str, Any]]:
    """One entry for each weights, read-out, set and figure: values by run, mean, std, and the ratio to random."""
    entries = []
    for (weights, kind), figures in found.items():
        for (name, figure), values in figures.items():
            entry = {"weights": weights, "readout": kind, "set": name, "figure": figure, **_summary(values)}
            if against and weights == TRAINED:
                entry["ratio"] = _ratio(values, found[against, kind][name, figure])
            entries.append(entry)
    return entries


def _ratio(values: list[float], others: list[float]) -> float | None:
    """Of the means; None where there is nothing to divide by."""
    mean = sum(others) / len(others)
    return sum(values) / len(values) / mean if mean else None


def _table(found: dict, against: str | None) -> str:
    """Weights and read-outs down, sets and their overall figures across: mean, ± deviation over several runs."""
    columns = list(dict.fromkeys(column for figures in found.values() for column in figures if _is_overall(column[1])))
    rows = [["weights", "read-out", *(name for name, _ in columns)], ["", "", *(figure for _, figure in columns)]]
    for (weights, kind), figures in found.items():
        rows.append([weights, kind, *(_cell(figures[column]) for column in columns)])
    for weights, kind in found if against else ():
        if weights == TRAINED:
            ratios = [_ratio(found[weights, kind][column], found[against, kind][column]) for column in columns]
            rows.append(["ratio", kind, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _is_overall(figure: str) -> bool:
    """Whether a figure stands for a whole set and not for one machine of it."""
    from system.benchmarks.labelled import SCORERS

    return not any(figure.startswith(f"{name} ") for name in SCORERS)


def _cell(values: list[float]) -> str:
    summary = _summary(values)
    return f"{summary['mean']:.2f}" + ("" if summary["std"] is None else f" ± {summary['std']:.2f}")
