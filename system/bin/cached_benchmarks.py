"""The benchmarks' tasks over embeddings in a file: options, calls and what is printed."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from system.benchmarks.protocols import AS_CODED, MODES
from system.errors import WheeltapperError
from system.machine import threads


def add_parsers(verbs: argparse._SubParsersAction) -> None:
    """A parser for each task."""
    from system.benchmarks.tasks import TASKS, Options

    for name, task in TASKS.items():
        parser = verbs.add_parser(name, help=task.about, description=f"{task.about}.")
        parser.add_argument("--embeddings", type=Path, required=True, metavar="NPZ", help="embeddings with labels")
        parser.add_argument(
            "--field", default="embeddings", metavar="NAME", help="field of the file that they are in (embeddings)"
        )
        add_protocol(parser)
        parser.add_argument("--json", type=Path, metavar="OUT", help="where to write the result")
        if task.sealable:
            add_sealed(parser)
        if name == "rmis-fixed":
            parser.add_argument("--test-size", type=float, metavar="S", help="share of recordings (0.5)")
        if name in ("rmis-fixed", "rmis-multisplit"):
            add_resources(parser)
        if task.needs is None:
            parser.add_argument("--year", type=int, help=f"whose rules count ({Options.year})")
        elif name.startswith("siren"):
            parser.add_argument(
                "--channels",
                type=int,
                metavar="C",
                help="whose embeddings stand side by side in a row, each compared on its own (default: one; as coded, "
                "cut into eight where that comes out even)",
            )


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """--protocol."""
    parser.add_argument(
        "--protocol",
        choices=MODES,
        default=AS_CODED,
        help="as-coded: as the published code does, to compare with published tables (default); clean: without its "
        "defects; the result says what changed",
    )


def add_sealed(parser: argparse.ArgumentParser) -> None:
    """--sealed."""
    parser.add_argument(
        "--sealed",
        action="store_true",
        help="never have rows of one group (field group, or else ori) on both sides",
    )


def add_resources(parser: argparse.ArgumentParser) -> None:
    """--memory and --workers."""
    parser.add_argument("--memory", type=int, metavar="MB", help="of similarities held at once (1024)")
    parser.add_argument("--workers", type=int, default=threads(), help="threads of each process")


def main(args: argparse.Namespace) -> None:
    from system.benchmarks import embedding_tables
    from system.benchmarks.tasks import TASKS, Options, measure

    given = {name: getattr(args, name, None) for name in Options.__dataclass_fields__}
    options = Options(**{name: value for name, value in given.items() if value is not None})
    needs = TASKS[args.benchmark].needs
    with _naming(args):
        if needs is None:
            data = embedding_tables.read_machines(args.embeddings, args.field)
        else:
            data = embedding_tables.read_labelled(args.embeddings, args.field, needs)
        result, text = measure(args.benchmark, data, options)
    result = {"benchmark": args.benchmark, "protocol": args.protocol, "embeddings": str(args.embeddings), **result}
    print(f"{args.benchmark}, protocol {args.protocol}: {result['rows']} rows x {result['dimensions']}\n\n{text}")
    for change in result["changes"]:
        print(f"changed: {change}")
    if args.json:
        from system.files import write_json
        from system.record import run_record

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
