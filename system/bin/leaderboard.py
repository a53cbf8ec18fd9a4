"""Our results of a benchmark beside the published ones: a page and a csv."""

import argparse
from pathlib import Path

from system.errors import WheeltapperError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.benchmarks.boards import BOARDS

    parser.add_argument("benchmark", choices=BOARDS, help="whose table")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.json", help="our results, one an encoder")
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.html", help="page; the csv goes beside it")


def main(args: argparse.Namespace) -> None:
    from system.benchmarks import leaderboard
    from system.benchmarks.boards import BOARDS, SCORE
    from system.report.leaderboard import write_leaderboard

    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    board = BOARDS[args.benchmark]
    own = leaderboard.read_results(board, args.results)
    rows = [*leaderboard.read_published(board), *own]
    found = leaderboard.blocks(board, rows)
    table = args.out.with_suffix(".csv")
    leaderboard.write_csv(table, board, found)
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
