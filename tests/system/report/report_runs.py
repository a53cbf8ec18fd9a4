"""A synthetic experiment folder, and a reader of the page."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from system import audio, manifest, stage
from system import config as configuration
from system.config import Config, EncoderBranchConfig, SystemConfig
from system.evaluation import challenge_csv, metrics
from system.evaluation.truth import Truth
from system.false_alarms import expected_false_alarms
from system.manifest import Clip
from system.score_tables import ScoreRow, write_system

ODD = "Fan & 'Söhne'"
DEVELOPMENT, EVALUATION = (ODD, "Pump"), ("Secret",)
RATE, SAMPLES = 8000, 8000


def make_clips(folder: Path, channels: int, development: tuple, evaluation: tuple) -> list[Clip]:
    rng = np.random.default_rng(0)
    clips = []
    for machine in (*development, *evaluation):
        for split, count in (("train", 10), ("test", 12)):
            for number in range(count):
                labelled = split == "train" or machine in development
                label = ("anomaly" if split == "test" and number % 2 else "normal") if labelled else ""
                domain = ("source" if number < 8 else "target") if labelled else ""
                file = f"section_00_{number:04d}_{split}.wav"
                path = folder / "data" / f"machine{len(clips) // 22}" / split / file
                path.parent.mkdir(parents=True, exist_ok=True)
                audio.write(path, 0.1 * np.clip(rng.standard_normal((channels, SAMPLES)), -5, 5), RATE)
                known = {"label": label, "domain": domain, "channels": channels, "rate": RATE, "samples": SAMPLES}
                clips.append(Clip("mine", machine, "00", split, file, str(path), **known))
    return clips


def build(folder: Path, channels: int = 2, development: tuple = DEVELOPMENT, evaluation: tuple = EVALUATION) -> Path:
    """Writes all files of the stages before the report, with synthetic values."""
    rng = np.random.default_rng(1)
    config = Config(
        branches={"main": EncoderBranchConfig(), "aux": EncoderBranchConfig()},
        systems=[
            SystemConfig("Ensemble", "ens", "near_only", {"main": 0.8, "aux": 0.2}),
            SystemConfig("Single <b>& simple", "single", "two_channel", {"main": 1.0}, remark="bad at <hum>"),
        ],
    )
    configuration.save(folder / "config.yaml", config)
    clips = make_clips(folder, channels, development, evaluation)
    manifest.write(folder / "manifest.csv", clips)
    write_curve(folder / "pretrain", ["loss", "loss_band", "loss_patch", "target_std", "prediction_std"])
    for branch in config.branches:
        write_curve(folder / "adapt" / branch, ["loss", "loss_attribute", "loss_domain"])
        target = folder / "embeddings" / branch
        target.mkdir(parents=True)
        with open(target / "index.csv", "w", newline="") as file:
            csv.writer(file).writerows([("machine", "section", "split", "file"), *(clip.key for clip in clips)])
        for name, width in (("two_channel", 6), ("near_only", 6), ("gate", 32)):
            np.save(target / f"{name}.npy", rng.random((len(clips), width), np.float32))
    found: dict = {"year": 2026, "official_score": None, "per_machine": {}, "systems": {}}
    truth = [Truth(*c.key[:2], c.file, c.domain, c.label) for c in clips if c.split == "test" and c.label]
    for number in (1, 2):
        label = f"Wheeltapper_Demo_task2_{number}"
        rows = [
            ScoreRow(
                *clip.key, clip.domain * (clip.split == "train"), rng.normal() + number * (clip.label == "anomaly")
            )
            for clip in clips
        ]
        thresholds = {(machine, "00"): 1.0 for machine in (*development, *evaluation)}
        expected = expected_false_alarms(rows, thresholds, config.false_positive_rate)
        write_system(folder / "systems" / label, rows, thresholds, expected)
        if truth:
            files = challenge_csv.list_folder(folder / "systems" / label)
            tables = [
                {key[1:]: dict(challenge_csv.read(path, kind)) for key, path in files.items() if key[0] == kind}
                for kind in challenge_csv.KINDS
            ]
            found["systems"][label] = metrics.evaluate(*tables, truth, replicates=50)
    stage.write_json(folder / "metrics.json", found)
    task = {"clips": 24, "classes": ["a", "b"], "chance": 50.0}
    task |= {
        name: {"macro_accuracy": value, "std": 1.5} for name, value in (("pre-trained", 71.25), ("untrained", 60.5))
    }
    stage.write_json(folder / "benchmark.json", {"tasks": {"condition": task}})
    for number, name in enumerate(
        ["data", "pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package", "benchmark"]
    ):
        record = {"reads": ["manifest.csv"], "writes": {"a.csv": 1500, "b.csv": 20}, "seconds": 1.5 * number}
        record |= {"commit": "0123abcd+", "versions": {"torch": "2.11.0"}, "cpus": 2, "command": f"wheeltapper {name}"}
        stage.write_json(folder / "stages" / f"{number}_{name}.json", record)
    return folder


def write_curve(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    with open(folder / "curve.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *names])
        writer.writerows([step, *(1.0 + 1.0 / (1 + step) for _ in names)] for step in range(0, 50, 10))


class Page(HTMLParser):
    """Tables by label as rows of texts, text by section, and references of the page."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.sections: dict[str, str] = {}
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] | None = None
        self.section, self.quiet = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.references += [values[name] for name in ("src", "href", "srcset", "action") if name in values]
        self.quiet = tag in ("style", "title", "script")
        if values.get("id"):
            self.section = values["id"]
        if values.get("role") == "region":
            self.rows = self.tables.setdefault(values["aria-label"], [])
        if tag == "tr" and self.rows is not None:
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.quiet = False
        if tag == "table":
            self.rows = None

    def handle_data(self, data):
        if self.quiet:
            return
        self.sections[self.section] = self.sections.get(self.section, "") + data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())
