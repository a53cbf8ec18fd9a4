"""Writes the weights of a pre-training run and a model card: data, licences, steps, seed, curve.

Usage: model_card.py EXP --out FOLDER [--name default]
"""

import argparse
import csv
import shutil
from pathlib import Path

import yaml

from system.config import EncoderConfig
from system.encoders import load_encoder
from system.files import open_atomic, read_json

LICENCES = Path(__file__).with_name("licences.csv")
ROWS = 12  # of the curve
CURVE = ["step", "loss", "loss_band", "loss_patch", "loss_teacher", "loss_relation", "target_std", "band_std", "ema"]


def sources(record: dict) -> list[str]:
    """Table of what was learned from, one line a corpus."""
    with open(LICENCES, newline="", encoding="utf-8") as file:
        known = {row["corpus"]: row for row in csv.DictReader(file)}
    lines = ["| recordings | number | hours | share of the draws | licence | source |", "|---|---|---|---|---|---|"]
    total = sum(source["weight"] for source in record["sources"])
    for source in record["sources"]:
        row = known.get(source["name"], {"what": source["name"], "licence": "not stated", "source": ""})
        lines.append(
            f"| {row['what']} | {source['clips']} | {source['hours']:.1f} | {source['weight'] / total:.0%} | "
            f"{row['licence']} | {row['source']} |"
        )
    return lines


def curve(path: Path) -> list[str]:
    """A few rows of curve.csv as a table."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in CURVE if name in rows[0]]
    shown = [rows[round(k * (len(rows) - 1) / (ROWS - 1))] for k in range(ROWS)] if len(rows) > ROWS else rows
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return [
        *lines,
        *(f"| {row['step']} | {' | '.join(f'{float(row[name]):.4g}' for name in names[1:])} |" for row in shown),
    ]


def parameters(encoder: dict, weights: Path) -> int:
    """Trained numbers of the encoder, without its fixed tables."""
    found = load_encoder(EncoderConfig(**encoder), 0, weights)
    return sum(parameter.numel() for parameter in found.parameters())


def objective(config: dict) -> str:
    """What the training minimised."""
    pretrain = config["pretrain"]
    published = bool(pretrain.get("teacher", {}).get("checkpoint"))
    own = not published or pretrain["band_weight"] or pretrain["patch_weight"]
    names = ["self-distillation"] * bool(own) + ["distillation of a published network"] * published
    return " and ".join(names)


def taught(config: dict) -> list[str]:
    """Sentences about the networks that the training began with and learned from, apart from recordings."""
    teacher, lines = config["pretrain"].get("teacher", {}), []
    if start := config["encoder"].get("checkpoint"):
        lines.append(f"The training began with the weights {Path(start).name}.")
    if teacher.get("checkpoint"):
        lines.append(
            f"It learned the outputs of the blocks {', '.join(map(str, teacher['blocks']))} of "
            f"{Path(teacher['checkpoint']).name} (EfficientAT, MIT, trained on AudioSet), which a submission to a "
            "challenge has to declare too."
        )
    return ["", " ".join(lines)] if lines else []


def write_card(exp: Path, out: Path, name: str) -> None:
    record = read_json(exp / "stages" / "1_pretrain.json")
    config = yaml.safe_load((exp / "config.yaml").read_text(encoding="utf-8"))
    weights = exp / "pretrain" / "encoder.safetensors"
    loop, encoder = config["pretrain"]["loop"], config["encoder"]
    settings = {name: value for name, value in config["pretrain"].items() if name != "sources"}
    with open(exp / "pretrain" / "curve.csv", newline="", encoding="utf-8") as file:
        seconds = float(list(csv.DictReader(file))[-1]["seconds"])
    device = record.get("device", config["device"])
    text = [
        f"# Model card: {name}",
        "",
        f"A {encoder['family'].upper()} encoder of size {encoder['size']} ({parameters(encoder, weights):,} "
        f"parameters), pre-trained by {objective(config)} for signals of any rate. Use: `--encoder {name}`, or "
        f"`encoder.checkpoint: {name}` in a recipe.",
        *taught(config),
        "",
        "## Data",
        "",
        *sources(record["settings"]),
        "",
        "Labels were not used. The weights are under the licence of this project (MIT). A submission to a challenge "
        "has to declare the recordings, and the challenge has to permit them.",
        "",
        "## Training",
        "",
        f"{loop['steps']} steps of {loop['batch_size']} crops of {config['pretrain']['crop_seconds']} s, seed "
        f"{config['seed']}, {seconds / 60:.0f} minutes, device {device} (CPU cores: {record['cpus']}), "
        f"processes: {record['processes']}, commit {record['commit']}:",
        "",
        "```",
        record["command"],
        "```",
        "",
        *curve(exp / "pretrain" / "curve.csv"),
        "",
        "All settings:",
        "",
        "```yaml",
        yaml.safe_dump({"encoder": encoder, "pretrain": settings}, sort_keys=False).rstrip(),
        "```",
        "",
        "What the weights are worth: recipes/pretrain/RESULTS.md.",
        "",
    ]
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{name}.safetensors.tmp"
    shutil.copyfile(weights, temporary)
    temporary.replace(out / f"{name}.safetensors")
    with open_atomic(out / f"{name}.md") as file:
        file.write("\n".join(text))


def main() -> None:
    parser = argparse.ArgumentParser(description="Weights of a pre-training run beside a model card.")
    parser.add_argument("exp", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="default")
    args = parser.parse_args()
    write_card(args.exp, args.out, args.name)
    print(f"wrote {args.out / args.name}.safetensors and .md")


if __name__ == "__main__":
    main()
