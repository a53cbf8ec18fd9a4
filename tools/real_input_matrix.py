"""Tries recordings, tables and file systems as they are met in practice: ``python tools/real_input_matrix.py [--only
REGEX]``.

Every case makes its own recordings, headers, tables, links, checkpoints and packages, runs the program on them, and
compares statuses, decisions, scores and what is said with what a careful user expects. The network is not used. The
cases lie in tools/real_inputs, a module for each few kinds.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # read when the libraries are loaded: small work is not faster on two

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose kind and name match")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder to work in (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the cases")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="csv file for the results")
    args = parser.parse_args(argv)
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    from real_inputs import all_cases
    from real_inputs.bases import Bases
    from real_inputs.case import attempt

    wanted = re.compile(args.only, re.IGNORECASE)
    chosen = [case for case in all_cases() if wanted.search(str(case))]
    if not chosen:
        parser.error(f"--only: expected a part of a case's name, which --list prints, found {args.only!r}")
    if args.list:
        print("\n".join(map(str, chosen)))
        return 0
    begin, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        bases = Bases(args.work.absolute() if args.work else Path(temporary))
        for case in chosen:
            outcome = attempt(case, bases, args.keep)
            outcomes.append(outcome)
            print(f"{'FAIL' if outcome.problem else 'ok  '} {case} ({outcome.seconds:.1f} s)", flush=True)
            if outcome.problem:
                print(f"       {outcome.problem}", flush=True)
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["kind", "case", "result", "seconds", "problem"])
            for one in outcomes:
                result = "failed" if one.problem else "ok"
                rows.writerow([one.case.kind, one.case.name, result, f"{one.seconds:.1f}", one.problem])
    tried = Counter(outcome.case.kind for outcome in outcomes)
    failed = Counter(outcome.case.kind for outcome in outcomes if outcome.problem)
    for kind in tried:
        print(f"{kind:<40} {tried[kind]:>4} tried, {failed[kind]:>3} failures")
    seconds = time.monotonic() - begin
    print(f"real inputs: {tried.total()} tried, {failed.total()} failures, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
