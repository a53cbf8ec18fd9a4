"""``wheeltapper reference``: score a manifest's test clips with the reference systems."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.references import SYSTEMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import latest_year

    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--manifest", required=True, type=Path, metavar="CSV", help="manifest.csv of wheeltapper prepare"
    )
    options.add(inputs, "--year", "whose rule for the official score applies", default=latest_year())
    systems = parser.add_argument_group("systems")
    systems.add_argument(
        "--system",
        action="append",
        choices=("all", *SYSTEMS),
        help="a reference system, may be repeated (default: all that the channels allow)",
    )
    options.add(systems, "--seed", "of the autoencoder", default=13711)
    systems.add_argument(
        "--epochs", type=int, default=100, metavar="N", help="training epochs of the autoencoder (default: %(default)s)"
    )
    outputs = parser.add_argument_group("outputs")
    options.add(
        outputs, "--out", "folder for <system>/anomaly_score_*.csv and references.json", required=True, metavar="DIR"
    )
    options.add_example(
        parser, "wheeltapper reference --manifest exp/default/manifest.csv --system all --out references"
    )


def main(args: argparse.Namespace) -> None:
    from system import manifest
    from system.corpora.challenge import rule_of_year
    from system.evaluation.available import main_score
    from system.files import write_json
    from system.references import results
    from system.references.systems import available, score_manifest

    if args.epochs < 1:
        raise WheeltapperError(f"--epochs: expected 1 or more, found {args.epochs}")
    rule = rule_of_year(args.year)
    clips = manifest.read(args.manifest)
    if not any(clip.split == "test" for clip in clips):
        raise WheeltapperError(f"{args.manifest}: expected test clips to score, found none among {len(clips)} clips")
    names = list(dict.fromkeys(args.system or ["all"]))
    if "all" in names:
        names = available(clips)
    scores = score_manifest(clips, names, seed=args.seed, epochs=args.epochs, say=lambda text: print(text, flush=True))
    for name, folder in results.write_scores(args.out, scores).items():
        print(f"{name}: wrote {len(scores[name])} score files to {folder}")
    found = results.evaluate(clips, scores, rule)
    if not found:
        print("no machine with normal and anomalous labelled test clips: scores only")
        return
    path = args.out / "references.json"
    write_json(path, {"year": args.year, "seed": args.seed, "epochs": args.epochs, "systems": found})
    for name, result in found.items():
        score, interval = main_score(result) or (0.0, None)
        what = (
            "AUC and pAUC over all domains (no official score)"
            if result["official_score"] is None
            else "official score"
        )
        low, high = interval or (score, score)
        print(f"{name}: {what} {score:.2%} (95 % interval {low:.2%} to {high:.2%})")
    print(f"wrote {path}")
