"""RMIS and SIREN whole: an encoder over all data sets that are there, each recording embedded once."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import processes
from system.bin import cached_benchmarks, encoder_options
from system.errors import WheeltapperError
from system.machine import check_device
from system.pipeline.resources import one_thread_each
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.benchmarks.suites import DatasetPlan
    from system.benchmarks.tasks import Options
    from system.encoders.base import Encoder
    from system.manifest import Clip

HELP = {
    "rmis": "RMIS with an encoder: 6 sets of anomaly detection, 13 of fault diagnosis",
    "siren": "SIREN with an encoder: 6 sets of anomaly detection, 5 figures of fault classification; and MFPT",
}
STORE = Path("exp/embeddings")


def add_parsers(verbs: argparse._SubParsersAction) -> None:
    """A parser for each benchmark."""
    from system.benchmarks.protocols import STATISTICS

    for name, text in HELP.items():
        parser = verbs.add_parser(name, help=text, description=f"{text}.")
        parser.add_argument(
            "--data",
            type=Path,
            required=True,
            metavar="ROOT",
            help="holds <data set>/manifest.csv as wheeltapper prepare writes it; what is missing is said and left out",
        )
        parser.add_argument("--sets", nargs="+", metavar="NAME", help="data sets to run (default: all)")
        parser.add_argument(
            "--encoder",
            default=encoder_options.DEFAULT,
            help=f"{encoder_options.ENCODER_HELP}; or {', '.join(STATISTICS)}",
        )
        parser.add_argument("--checkpoint", metavar="FILE", help=encoder_options.CHECKPOINT_HELP)
        parser.add_argument("--exp", help="experiment folder of --encoder default")
        parser.add_argument("--name", help="of the row in a table (default: encoder and checkpoint)")
        parser.add_argument("--seed", type=int, default=0, help="of random weights")
        encoder_options.add_front_end_arguments(parser)
        cached_benchmarks.add_protocol(parser)
        cached_benchmarks.add_sealed(parser)
        if name == "rmis":
            parser.add_argument(
                "--multi-split", action="store_true", help="fault diagnosis at 19 test sizes instead (rmis-multisplit)"
            )
        parser.add_argument("--json", type=Path, metavar="OUT", help="where to write the result, for the leaderboard")
        parser.add_argument(
            "--store", type=Path, default=STORE, metavar="DIR", help="where embeddings are kept (%(default)s)"
        )
        parser.add_argument("--precision", default="fp32", help="fp32, bf16, or auto: bf16 where it is fast")
        parser.add_argument("--device", default="cpu", help="cpu or cuda")
        cached_benchmarks.add_resources(parser)


def main(args: argparse.Namespace) -> int:
    from system.benchmarks import suites
    from system.benchmarks.tasks import Options

    if args.workers < 1:
        raise WheeltapperError(f"--workers: expected at least 1, found {args.workers}")
    if not args.data.is_dir():
        raise WheeltapperError(f"--data {args.data}: expected a folder with a folder for each data set, found none")
    suite = "rmis-multisplit" if getattr(args, "multi_split", False) else args.benchmark
    options = Options(args.protocol, args.sealed, memory=args.memory or Options.memory, workers=args.workers)
    encoder, name = _encoder(args)
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    missing: list[str] = []
    chosen = suites.choose(args.benchmark, args.sets)
    plans = [plan for plan in suites.SUITES[suite] if plan.name in {each.name for each in chosen}]
    for plan in plans:
        try:
            clips = suites.read_clips(plan, args.data)
            if clips is None:
                missing.append(plan.name)
            else:
                result = _run(args, plan, clips, encoder, options)
                if result is not None:
                    found[plan.name] = result
        except WheeltapperError as error:  # the other data sets have their figures all the same
            failed[plan.name] = str(error)
            if processes.is_main():
                print(f"{plan.name}: failed\n", flush=True)
    if len(missing) == len(plans):
        raise WheeltapperError(
            f"{args.data}: expected data sets prepared for {suite}, found none of {', '.join(missing)}"
        )
    if not processes.is_main():
        return 0  # the main process says what failed
    _report(args, suite, name, found, failed, missing)
    if failed:
        raise WheeltapperError("\n".join(f"{plan}: {text}" for plan, text in failed.items()))
    return 0


def _encoder(args: argparse.Namespace) -> "tuple[Encoder | str, str]":
    """The encoder, or the name of statistics, and what a table calls it."""
    from system.benchmarks.protocols import STATISTICS
    from system.embeddings.embed import choose_precision

    check_device(args.device)
    if args.encoder in STATISTICS:
        if args.checkpoint or args.exp:
            raise WheeltapperError(f"--encoder {args.encoder}: expected no weights, found --checkpoint or --exp")
        return args.encoder, args.name or args.encoder
    device = args.device
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    encoder = encoder_options.build_encoder(args, args.checkpoint, args.seed)
    encoder.to(device, choose_precision(args.precision, args.device))
    weights = f"random, seed {args.seed}" if args.checkpoint == encoder_options.RANDOM else args.checkpoint or args.exp
    usual = f"{args.encoder}, {weights}" if weights else args.encoder
    return encoder, args.name or usual


def _run(
    args: argparse.Namespace, plan: "DatasetPlan", clips: "list[Clip]", encoder: "Encoder | str", options: "Options"
) -> dict[str, Any] | None:
    """Embeds a data set and measures it; None in the processes that only help to embed."""
    import numpy as np

    from system.benchmarks import suites, tasks
    from system.embeddings.store import EmbeddingStore

    embedder = plan.embedder(encoder)
    store = EmbeddingStore(args.store, plan.name, embedder.facts, clips)
    share = (int(os.environ.get("RANK", "0")), processes.count())
    if store.read() is None:
        with progress_bar(store.missing(), f"embedding {plan.name}") as bar:
            store.fill(embedder, one_thread_each(args.workers), share, lambda done: bar.update(done * share[1]))
    if not processes.is_main():
        return None
    store.wait()
    rows = suites.rows_of(plan, clips, np.asarray(store.finish()), f"{args.data / plan.name}")
    result, text = tasks.measure(plan.task, rows, plan.options(options))
    copies, lacking = suites.duplicates(clips), suites.lacks(plan, clips)
    print(f"{plan.name}, {plan.task}, protocol {options.protocol}: {result['rows']} rows x {result['dimensions']}\n")
    print(text)
    for change in result["changes"]:
        print(f"changed: {change}")
    if plan.year is None and len(rows.classes) < len(plan.classes):
        print(f"note: {len(rows.classes)} of {len(plan.classes)} classes are there: {', '.join(rows.classes)}")
    if lacking:
        print(f"note: the data set lacks {lacking}; its figure has no place in the table")
    if copies:
        print(f"note: {copies} recordings are copies of others, which makes a figure too good")
    print(flush=True)
    return {"task": plan.task, "lacks": lacking, "copies": copies, "embeddings": str(store.array), **result}


def _report(
    args: argparse.Namespace,
    suite: str,
    name: str,
    found: dict[str, dict[str, Any]],
    failed: dict[str, str],
    missing: list[str],
) -> None:
    """Prints the figures, and writes them as the leaderboard reads them."""
    from system.benchmarks import results, suites
    from system.benchmarks.tasks import TASKS
    from system.files import write_json
    from system.leaderboard.boards import BOARDS
    from system.leaderboard.table import TASK_MEANS
    from system.record import run_record

    shown = {plan.name for plan in suites.SUITES[suite] if plan.shown}
    figures = {plan: result[TASKS[result["task"]].score] for plan, result in found.items()}
    figures = {plan: value for plan, value in figures.items() if value is not None}
    scores = {plan: value for plan, value in figures.items() if plan in shown and not found[plan]["lacks"]}
    rows: list[list[Any]] = [["data set", "figure", "%"]]
    for plan, value in figures.items():
        what = f"{found[plan]['task']}, {TASKS[found[plan]['task']].score}"
        rows.append([plan, what if plan in scores else f"{what} (not for the table)", value])
    print(f"{name}, {suite}, protocol {args.protocol}\n\n{results.table(rows)}\n" if figures else f"{name}: no figure")
    for task in BOARDS[suite].tasks:
        there = {figure.key: scores[figure.name] for figure in task.figures if figure.name in scores}
        if there:
            mean = TASK_MEANS.average(there.values())
            print(f"mean of {len(there)} figures, {task.label.lower()}: {mean:.2f} %")
    print(f"not there: {', '.join(missing) or 'nothing'}")
    if args.json:
        value = {
            "benchmark": suite,
            "encoder": name,
            "protocol": args.protocol,
            "sealed": args.sealed,
            "scores": scores,
            "beside": {plan: value for plan, value in figures.items() if plan not in scores},
            "missing": missing,
            "failed": failed,
            "sets": found,
        }
        write_json(args.json, value | {"record": run_record()})
        print(f"wrote {args.json}")
