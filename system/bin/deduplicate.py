"""``wheeltapper deduplicate MANIFEST --out CSV``: the manifest without near-identical stationary recordings.

Beside the CSV a JSON of the same name says which were left out, and for which others. With that of an earlier call for
the same clips and thresholds there is nothing to do.
"""

import argparse
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError
from system.machine import threads
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="of training clips, without anomalies")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="manifest to write")
    parser.add_argument(
        "--threshold",
        type=float,
        default=1.0,
        metavar="DB",
        help="difference of the long-term levels, root mean square over bands of 100 Hz, up to which two recordings "
        "are taken for the same (default 1)",
    )
    parser.add_argument(
        "--stationary",
        type=float,
        default=2.0,
        metavar="DB",
        help="variation over time up to which a recording may be left out (default 2)",
    )
    parser.add_argument("--workers", type=int, default=threads(), help="threads that read recordings")


def main(args: argparse.Namespace) -> None:
    if not (args.threshold > 0 and args.stationary > 0 and args.workers >= 1):
        raise WheeltapperError("--threshold, --stationary: expected more than 0 dB; --workers: expected 1 or more")
    if args.out.resolve() == args.manifest.resolve():
        raise WheeltapperError(f"--out: expected another file than the manifest, found {args.out}")
    from system import manifest
    from system.files import read_json, write_json

    clips = manifest.read(args.manifest)
    manifest.check_training(clips, args.manifest)
    report = args.out.with_suffix(".json")
    settings = {
        "fingerprint": manifest.fingerprint(clips),
        "threshold_db": args.threshold,
        "stationary_db": args.stationary,
    }
    if report.is_file() and args.out.is_file():
        found = read_json(report)
        if settings.items() <= found.items():
            print(f"{args.out}: complete, nothing to do; {_summary(found)}")
            return
    report.unlink(missing_ok=True)  # first: it vouches for the manifest
    record = settings | _write(args, clips)
    write_json(report, record)
    print(f"{args.out}: {_summary(record)}; which for which: {report}")


def _write(args: argparse.Namespace, clips: list) -> dict[str, Any]:
    from system import manifest
    from system.pretraining.duplicates import find_duplicates

    with progress_bar(len(clips), "reading") as bar:
        found = find_duplicates(clips, args.threshold, args.stationary, args.workers, bar.to)
    manifest.write(args.out, [clips[number] for number in found.kept])
    dropped = [number for number in range(len(clips)) if found.like[number] >= 0]
    return {
        "clips": len(clips),
        "stationary": int((found.variation <= args.stationary).sum()),
        "kept": len(found.kept),
        "dropped": [
            {
                "clip": "/".join(clips[number].key),
                "like": "/".join(clips[found.like[number]].key),
                "distance_db": round(float(found.distance[number]), 3),
            }
            for number in dropped
        ],
    }


def _summary(record: dict[str, Any]) -> str:
    return (
        f"{record['kept']} of {record['clips']} clips kept; of {record['stationary']} stationary ones "
        f"{len(record['dropped'])} are like another"
    )
