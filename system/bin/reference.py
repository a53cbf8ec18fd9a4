"""``wheeltapper reference``: score a manifest's test clips with the reference systems."""

import argparse
from pathlib import Path

from system.errors import WheeltapperError
from system.references import SYSTEMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import latest_year

    parser.add_argument("--manifest", required=True, type=Path, help="manifest.csv of wheeltapper prepare")
    parser.add_argument(
        "--system",
        action="append",
        choices=("all", *SYSTEMS),
        help="a reference system, may be repeated; all (default): every one that the channels allow",
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for <system>/anomaly_score_*.csv and references.json"
    )
    parser.add_argument("--seed", type=int, default=13711, help="of the autoencoder (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=100, help="of the autoencoder (default: %(default)s)")
    parser.add_argument("--year", type=int, default=latest_year(), help="its rule applies (default: %(default)s)")


def main(args: argparse.Namespace) -> None:
    from system import manifest
    from system.corpora.challenge import rule_of_year
    from system.references.systems import available, score_manifest

    if args.epochs < 1:
        raise WheeltapperError(f"--epochs: expected 1 or more, found {args.epochs}")
    rule = rule_of_year(args.year)
    clips = manifest.read(args.manifest)
    names = list(dict.fromkeys(args.system or ["all"]))
    if "all" in names:
        names = available(clips)
    scores = score_manifest(clips, names, seed=args.seed, epochs=args.epochs, say=lambda text: print(text, flush=True))
    _write_scores(scores, args.out)
    _evaluate(clips, scores, rule, args)


def _write_scores(scores: dict, out: Path) -> None:
    from system.evaluation.challenge_csv import score_name, write_scores

    for name, sections in scores.items():
        for (machine, section), values in sections.items():
            write_scores(out / name / score_name(machine, section), values)
        print(f"{name}: wrote {len(sections)} score files to {out / name}")


def _evaluate(clips: list, scores: dict, rule: str, args: argparse.Namespace) -> None:
    """Official metrics over the labelled machines, where there are any; prints them and writes references.json."""
    from system import manifest, stage
    from system.evaluation import metrics
    from system.evaluation.truth import Truth

    labelled = {machine for machine, known in manifest.is_development(clips).items() if known}
    truth = [
        Truth(clip.machine, clip.section, clip.file, clip.domain, clip.label)
        for clip in clips
        if clip.split == "test" and clip.machine in labelled
    ]
    if not truth:
        print("no labelled test clips: scores only")
        return
    results = {name: metrics.evaluate(table, None, truth, rule) for name, table in scores.items()}
    path = args.out / "references.json"
    stage.write_json(path, {"year": args.year, "seed": args.seed, "epochs": args.epochs, "systems": results})
    for name, result in results.items():
        low, high = result["ci95"]
        print(f"{name}: official score {result['official_score']:.2%} (95 % interval {low:.2%} to {high:.2%})")
    print(f"wrote {path}")
