"""``wheeltapper benchmark TASK``: a task of RMIS or SIREN over embeddings in a file."""

import argparse
from pathlib import Path

from system.benchmarks.protocols import AS_CODED, MODES
from system.bin import options
from system.machine import threads


def add_parsers(benchmarks: argparse._SubParsersAction) -> None:
    """A parser for each task."""
    from system.benchmarks.tasks import TASKS, Options

    for name, task in TASKS.items():
        parser = benchmarks.add_parser(name, help=task.about, description=f"{task.about}.")
        inputs = parser.add_argument_group("inputs")
        inputs.add_argument(
            "--embeddings", type=Path, required=True, metavar="NPZ", help="npz file with embeddings and labels"
        )
        inputs.add_argument(
            "--field", default="embeddings", metavar="NAME", help="field with the embeddings (default: %(default)s)"
        )
        if name.startswith("siren") and task.needs is not None:
            inputs.add_argument(
                "--channels",
                type=int,
                metavar="C",
                help="number of channels whose embeddings stand side by side in a row and are compared one by one "
                "(default: 1; as coded, 8 where the row can be cut evenly)",
            )
        protocol = parser.add_argument_group("protocol")
        add_protocol(protocol, task.sealable)
        if name == "rmis-fixed":
            protocol.add_argument(
                "--test-size", type=float, metavar="S", help=f"share of test recordings (default: {Options.test_size})"
            )
        if task.needs is None:
            options.add(protocol, "--year", f"whose rules count (default: {Options.year})")
        options.add(parser.add_argument_group("outputs"), "--json")
        if name in ("rmis-fixed", "rmis-multisplit"):
            add_resources(parser.add_argument_group("computing"))
        options.add_example(parser, f"wheeltapper benchmark {name} --embeddings labelled.npz --json result.json")


def add_protocol(group: options.Group, sealable: bool = True) -> None:
    """--protocol and --sealed."""
    group.add_argument(
        "--protocol",
        choices=MODES,
        default=AS_CODED,
        help="as-coded: as the published code does, to compare with published tables; clean: without its defects, "
        "which the result lists (default: %(default)s)",
    )
    if sealable:
        group.add_argument(
            "--sealed",
            action="store_true",
            help="never have rows of one group (field group, or else ori) on both sides of a split",
        )


def add_resources(group: options.Group) -> None:
    """--memory and --workers."""
    group.add_argument(
        "--memory", type=int, metavar="MB", help="similarities held in memory at once, in MB (default: 1024)"
    )
    options.add(group, "--workers", "or threads of a process (default: one per CPU core)", default=threads())


def main(args: argparse.Namespace) -> None:
    from system.benchmarks.tasks import Options, measure_file

    given = {name: getattr(args, name, None) for name in Options.__dataclass_fields__}
    chosen = Options(**{name: value for name, value in given.items() if value is not None})
    result, text = measure_file(args.benchmark, args.embeddings, args.field, chosen)
    result = {"benchmark": args.benchmark, "protocol": args.protocol, "embeddings": str(args.embeddings), **result}
    print(f"{args.benchmark}, protocol {args.protocol}: {result['rows']} rows x {result['dimensions']}\n\n{text}")
    for change in result["changes"]:
        print(f"changed: {change}")
    if args.json:
        from system.files import write_json
        from system.record import run_record

        write_json(args.json, result | {"record": run_record()})
        print(f"wrote {args.json}")
