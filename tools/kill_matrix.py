"""Kills a toy run at many moments, restarts it and compares the results: ``python tools/kill_matrix.py``.

For every stage: before its first write, during a write, between two writes, after the last write but before the record
of its completion, just after that record, at a removal; and at random times. Package, metrics, tables, networks and all
other files in the experiment folder must be those of an undisturbed run, byte for byte. Excluded are records (except
for settings, rules and file names), times in training curves, TensorBoard events, and the text of the report, which
contains times.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=80, help="at most so many (default 80, that is all)")
    parser.add_argument("--timed", type=int, default=1, help="random times in each stage among them (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of writes and times (default 0)")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "matrices")]
    from fork_server import Server
    from kill_points import STAGES, Matrix
    from toy_runs import write_conf

    begin, tried, failed = time.monotonic(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as name, Server(Path(name)) as server:
        place = Path(name)
        matrix = Matrix(place, server, write_conf(place))
        points = list(matrix.points(args.seed, args.timed))
        step = max(1, -(-len(points) // args.points))
        for point in points[args.seed % step :: step]:
            found = matrix.attempt(point)
            tried[point.stage] += 1
            failed[point.stage] += bool(found)
            print(f"{point}: {'; '.join(found) or 'the same'}", flush=True)
        seconds = {stage: matrix.seconds(stage) for stage in STAGES}
    for stage in STAGES:
        print(f"stage {stage} ({seconds[stage]} s): {tried[stage]} points, {failed[stage]} failures")
    failures = failed.total()
    print(f"kills: {tried.total()} tried, {failures} failures, {time.monotonic() - begin:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
