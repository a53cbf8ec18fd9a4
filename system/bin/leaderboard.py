"""Our results beside the published ones: a page, a csv and Markdown."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from system.bin import options
from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.leaderboard.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.leaderboard.comparison import boards

    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("benchmark", choices=boards(), help="whose published results to compare with")
    inputs.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULT.json",
        help="our results: RMIS and SIREN what benchmark --json wrote, DCASE metrics.json of a run, MIMII results.json "
        "of a study; these two are named by their folders",
    )
    inputs.add_argument(
        "--seeds",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "RESULT.json"),
        help="DCASE and MIMII: runs that differ in their seed, under one name, as mean and deviation; may be repeated",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "page; a csv and Markdown go beside it", required=True, metavar="TABLE.html")
    options.add_example(parser, "wheeltapper leaderboard dcase2026 exp/default/metrics.json --out table.html")


def main(args: argparse.Namespace) -> None:
    from system.files import open_atomic
    from system.leaderboard import our_results, writers
    from system.leaderboard.boards import BOARDS
    from system.leaderboard.comparison import challenge_year, compare, standings
    from system.report.leaderboard import write_leaderboard

    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    named = [(str(path), [path]) for path in args.results] if args.benchmark in BOARDS else _named(args)
    if args.benchmark in BOARDS and args.seeds:
        raise WheeltapperError(f"--seeds: expected for DCASE and MIMII only, found {args.benchmark}")
    own = our_results.read(args.benchmark, named)
    scored = {path for entry in own for path in entry.files}
    if args.benchmark not in BOARDS and named and not scored:
        paths = ", ".join(str(path) for path in args.results)
        raise WheeltapperError(f"{paths}: expected the official score of a system, found none")
    for name in (name for name, paths in named if not scored.intersection(map(str, paths))):
        print(f"left out: {name}: no figure for this table")
    found = compare(args.benchmark, own)
    figures, text = args.out.with_suffix(".csv"), args.out.with_suffix(".md")
    if args.benchmark in BOARDS:
        writers.write_entries(figures, [each for each in found if each.names == BOARDS[args.benchmark].names])
    else:
        writers.write_figures(figures, found)
    with open_atomic(text) as file:
        file.write(writers.markdown(found))
    year = challenge_year(args.benchmark)
    write_leaderboard(args.out, args.benchmark, [*([standings(year, own)] if year else []), *found], own)
    for each in found:
        for number, entry in enumerate(each.entries):
            if entry.own and each.rule:
                print(f"{each.title}: {entry.name}: {_score(each, number)}")
    print(f"wrote {args.out}, {figures} and {text}")


def _named(args: argparse.Namespace) -> list[tuple[str, list[Path]]]:
    """Names and results: a run is called by its folder, runs of several seeds as --seeds says."""
    found = [(path.resolve().parent.name, [path]) for path in args.results]
    found += [(name, [Path(path) for path in paths]) for name, *paths in args.seeds]
    for name, paths in found:
        if not paths:
            raise WheeltapperError(f"--seeds {name}: expected a name and the results of its runs, found a name alone")
        if sum(other == name for other, _ in found) > 1:
            raise WheeltapperError(
                f"{name}: expected each name once, found it again; --seeds NAME RESULT.json gives one"
            )
    return found


def _score(table: "Table", number: int) -> str:
    from system.leaderboard.table import SCORE, Cell

    entry, means = table.entries[number], table.means[number]
    if SCORE not in means:
        return f"no score, {sum(f.key in entry.figures for f in table.figures)} of {len(table.figures)} figures"
    ranked = f", rank {table.ranks[number]} of {sum(rank is not None for rank in table.ranks)}" if table.ranked else ""
    return f"{Cell(means[SCORE], True, table.protocol)}{ranked}"
