"""Our results beside the published ones: a page, a csv and, for the challenge's tables, Markdown."""

import argparse
from pathlib import Path

from system.errors import WheeltapperError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.leaderboard.boards import BOARDS
    from system.leaderboard.tables import boards

    parser.add_argument("benchmark", choices=[*BOARDS, *boards()], help="whose table")
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULT.json",
        help="our results: RMIS and SIREN one an encoder, DCASE metrics.json of a run, MIMII results.json of a study, "
        "these two called by their folders",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "RESULT.json"),
        help="DCASE and MIMII: runs that differ in their seed, under one name, as mean and deviation; repeatable",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.html", help="page; the csv goes beside it")


def main(args: argparse.Namespace) -> None:
    from system.leaderboard.boards import BOARDS

    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    if args.benchmark in BOARDS:
        _encoders(args)
    else:
        _systems(args)


def _encoders(args: argparse.Namespace) -> None:
    from system.leaderboard import board_table
    from system.leaderboard.boards import BOARDS, SCORE
    from system.report.leaderboard import write_leaderboard

    if args.seeds:
        raise WheeltapperError(f"--seeds: expected for DCASE and MIMII only, found {args.benchmark}")
    board = BOARDS[args.benchmark]
    own = board_table.read_results(board, args.results)
    rows = [*board_table.read_published(board), *own]
    found = board_table.blocks(board, rows)
    table = args.out.with_suffix(".csv")
    board_table.write_csv(table, board, found)
    write_leaderboard(args.out, board, found)
    for block in found:
        ranked = sum(entry.rank is not None for entry in block.entries)
        for entry in (entry for entry in block.entries if entry.row.own):
            mean = f"{entry.means[SCORE]:.2f}, rank {entry.rank} of {ranked}" if entry.rank else "no score"
            count = f"{len(entry.row.scores)} of {len(board.names)} figures"
            print(f"{entry.row.encoder}, {block.protocol}, on {count}: {mean}")
    if len(own) < len(args.results):
        print(f"left out: {len(args.results) - len(own)} results without a figure for this table")
    print(f"wrote {args.out} and {table}")


def _systems(args: argparse.Namespace) -> None:
    from system.files import open_atomic
    from system.leaderboard import comparison, our_results
    from system.report.tables import write_tables

    named = [(path.resolve().parent.name, [path]) for path in args.results]
    named += [(name, [Path(path) for path in paths]) for name, *paths in args.seeds]
    for name, paths in named:
        if not paths:
            raise WheeltapperError(f"--seeds {name}: expected a name and the results of its runs, found a name alone")
        if sum(other == name for other, _ in named) > 1:
            raise WheeltapperError(
                f"{name}: expected each name once, found it again; --seeds NAME RESULT.json gives one"
            )
    year = comparison.challenge_year(args.benchmark)
    own = [
        column
        for name, paths in named
        for column in (our_results.read_metrics(name, paths, year) if year else our_results.read_study(name, paths))
    ]
    scored = {path for column in own for path in column.files}
    for name in (name for name, paths in named if not scored.intersection(map(str, paths))):
        print(f"left out: {name}: no labelled machines in this run")
    found, ranked = comparison.blocks(args.benchmark, own), comparison.standings(year, own) if year else []
    table, text = args.out.with_suffix(".csv"), args.out.with_suffix(".md")
    comparison.write_csv(table, found)
    with open_atomic(text) as file:
        file.write(comparison.markdown(found))
    write_tables(args.out, args.benchmark, found, ranked, own)
    for block in found:
        for column in (column for column in block.columns if column.own and block.means):
            score = column.foot(comparison.SCORE, block.machines, block.measures)
            print(
                f"{block.title}: {column.name}: {comparison.spread(score) or 'no official score, machines are missing'}"
            )
    print(f"wrote {args.out}, {table} and {text}")
