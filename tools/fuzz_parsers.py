"""Reads randomly damaged files of every kind: ``python tools/fuzz_parsers.py --minutes 60 --out findings``.

A reader must return or raise WheeltapperError, within ten seconds and 3 GiB; files with any other result are kept in
--out with the traceback. Prints attempts and findings of each reader; the exit status is 1 if there is a finding.
"""

import argparse
import faulthandler
import hashlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10
GIB = 1 << 30


class TooSlow(BaseException):
    """Raised in a reader that takes too long; no reader catches it."""


def alarm(*_) -> None:
    raise TooSlow


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="to try for (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default 0)")
    parser.add_argument("--only", nargs="+", metavar="READER", help="these readers (default: all)")
    parser.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="folder for findings (fuzz_findings)")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "matrices")]
    from fuzz_targets import TARGETS, attempt, mutate

    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    targets = {name: TARGETS[name] for name in args.only or TARGETS}
    seeds = {name: target.seeds() for name, target in targets.items()}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * GIB, used + 3 * GIB))
    signal.signal(signal.SIGALRM, alarm)
    tried, taken, found = Counter(), Counter(), {}
    begin, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begin < 60 * args.minutes:
            number += 1
            for name, target in targets.items():
                dice = random.Random(f"{args.seed}/{number}/{name}")
                for _ in range(1 if target.slow else 20):
                    data = mutate(dice.choice(seeds[name]), dice)
                    signal.alarm(SECONDS)
                    # Where C code hangs no alarm is heard: the process ends, its input is still in the folder.
                    faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
                    try:
                        taken[name] += attempt(target, Path(folder), data)
                    except (Exception, TooSlow) as error:
                        keep(args.out, found, name, data, error)
                    finally:
                        signal.alarm(0)
                        faulthandler.cancel_dump_traceback_later()
                    tried[name] += 1
    print(f"{'reader':<16} {'tried':>8} {'read':>8} {'findings':>9}")
    for name in targets:
        count = sum(place[0] == name for place in found)
        print(f"{name:<16} {tried[name]:>8} {taken[name]:>8} {count:>9}")
    print(f"{sum(tried.values())} tried, {len(found)} findings{f', see {args.out}' if found else ''}")
    return 1 if found else 0


def keep(out: Path, found: dict, name: str, data: bytes, error: BaseException) -> None:
    """Writes the first input for each reader, exception and place in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if str(ROOT / "system") in frame.filename or str(ROOT / "submission") in frame.filename
    ]
    last = own[-1] if own else frames[-1]
    place = (name, type(error).__name__, last.filename, last.lineno)
    if place in found:
        return
    found[place] = hashlib.sha256(data).hexdigest()[:12]
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{name.replace(' ', '_')}-{found[place]}"
    stem.with_suffix(".bin").write_bytes(data)
    stem.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
    print(f"{name}: {type(error).__name__}: {str(error)[:200]} at {last.filename}:{last.lineno}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
