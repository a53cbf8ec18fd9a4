"""Training in parts and in several processes, systems that coincide, and networks that have nothing to learn."""

import copy
import csv
import re
from pathlib import Path

import numpy as np
import yaml

from real_inputs import sounds
from real_inputs.bases import ENCODER, LOOP, SPECTRUM
from real_inputs.case import Place, case, expect
from real_inputs.checks import named, no_traceback, well
from real_inputs.program import ROOT, Ended, process, run, settings

PARTS, ALIKE, NOTHING = "13 training in parts", "18 systems that coincide", "18 nothing to learn"
SAME = "coincid|identical|equal|the same|alike"
STEP, SCORES = 1e-6, 1e-3  # of the first step's loss, and of the spread of scores: rounding grows with the steps


def _conf(place: Place, changes: dict, name: str = "conf") -> Path:
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(ENCODER | changes))
    return path


def _adapted(place: Place, parts: int) -> Path:
    """A run whose only branch was adapted in so many parts of each batch, on clips of two machines."""
    recordings = place.bases.once(
        "two machines",
        lambda folder: sounds.corpus(folder, {"mill": (5, 2, 2, 2), "saw": (5, 2, 2, 2)}, 1.0),
    )
    branch = ENCODER["branches"]["main"] | {"loop": LOOP | {"accumulate": parts}}
    systems = [{"name": "near", "view": "near_only", "weights": {"main": 1.0}}]
    conf = place.bases.conf(ENCODER | {"branches": {"main": branch}, "systems": systems}, f"parts{parts}")
    return place.bases.finished(f"parts{parts}", conf, lambda: recordings, last=5)


def _scores(exp: Path) -> np.ndarray:
    """Scores of all test clips of the first system, in the order of machines and names."""
    rows = []
    for table in sorted(next(iter(sorted((exp / "systems").iterdir()))).glob("anomaly_score_*.csv")):
        rows += sorted(table.read_text().split())
    return np.array([float(row.rpartition(",")[2]) for row in rows])


def _curve(path: Path) -> np.ndarray:
    with open(path, newline="", encoding="utf-8") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def _promised() -> bool:
    """Whether the documentation promises the same result for any number of parts."""
    text = (ROOT / "docs/configuration.md").read_text()
    return any("same" in line for line in text.splitlines() if line.startswith("| `accumulate`"))


def _the_same_or_not_promised(expected: np.ndarray, found: np.ndarray, tolerance: float) -> None:
    difference = float(np.abs(found - expected).max())
    if difference > tolerance:
        expect(not _promised(), f"the same to {tolerance:.1e}, as docs promise", f"a difference of {difference:.1e}")


@case(PARTS, "adaptation, accumulate {}: the loss", [2, 4])
def loss_in_parts(place: Place, parts: int) -> None:
    expected, found = (_curve(_adapted(place, number) / "adapt/main/curve.csv")[:1] for number in (1, parts))
    _the_same_or_not_promised(expected, found, STEP * abs(expected[0]))


@case(PARTS, "adaptation, accumulate {}: the scores", [2, 4])
def scores_in_parts(place: Place, parts: int) -> None:
    expected, found = (_scores(_adapted(place, number)) for number in (1, parts))
    _the_same_or_not_promised(expected, found, SCORES * expected.std())


PRETRAIN = {
    "encoder": {"family": "fisher", "size": "nano", "checkpoint": ""},
    "pretrain": {"loop": LOOP, "crop_seconds": 0.5, "mask": {"clones": 2}, "decoder": {"dim": 32, "layers": 1}},
}


def _pretrained(place: Place, name: str, parts: int, processes: int = 1) -> np.ndarray:
    settings = copy.deepcopy(PRETRAIN)
    settings["pretrain"]["loop"] |= {"accumulate": parts}
    options = ("--exp", place / name, "--conf", _conf(place, settings, name))
    well(run("run", *options, "--data", place.bases.small, "--stop-stage", 0))
    if processes > 1:
        ended = process("launch", "--processes", processes, "--", "pretrain", *options)
    else:
        ended = run("pretrain", *options)
    well(ended)
    return _curve(place / name / "pretrain/curve.csv")[:1]


@case(PARTS, "pre-training, {}", {"accumulate 2": (2, 1), "two processes": (1, 2), "both": (2, 2)})
def pretraining_in_parts(place: Place, how: tuple[int, int]) -> None:
    expected = _pretrained(place, "whole", 1)
    found = _pretrained(place, "parts", *how)
    _the_same_or_not_promised(expected, found, 10 * STEP * abs(expected[0]))


@case(PARTS, "a batch that cannot be parted is refused")
def odd_parts(place: Place) -> None:
    branch = ENCODER["branches"]["main"] | {"loop": LOOP | {"accumulate": 3}}
    conf = _conf(place, {"branches": {"main": branch}, "systems": [{"weights": {"main": 1.0}}]})
    ended = run("run", "--exp", place / "exp", "--conf", conf, "--data", place.bases.small, "--stop-stage", 2)
    no_traceback(ended)
    expect(ended.status == 1 and "accumulate" in ended.err, "a line that names accumulate", ended.text)
    expect(not (place / "exp/manifest.csv").exists(), "the refusal before the work of other stages", ended.text)


def mono(place: Place) -> Path:
    """Recordings of one channel."""
    return place.bases.once("mono", lambda folder: sounds.corpus(folder, {"mill": (10, 4, 3, 3)}, 1.0, channels=1))


def _run(place: Place, conf: Path, data: Path) -> Ended:
    return well(run("run", "--exp", place / "exp", "--conf", conf, "--data", data), "the run")


@case(ALIKE, "one channel: near and both")
def views_of_one_channel(place: Place) -> None:
    conf = place.bases.conf(ENCODER, "encoder")
    ended = _run(place, conf, mono(place))
    named(ended, SAME, r"(\b|_)1\b|near", r"(\b|_)2\b|both")


SHIPPED = {"default.yaml": ("main", "aux"), "noise_aware.yaml": ("main", "aux")}


@case(ALIKE, "one channel: the spectra of both shipped configurations")
def shipped_systems_on_one_channel(place: Place) -> None:
    found = []
    for name, branches in SHIPPED.items():
        untrained = settings(f"branches.{branch}.loop.steps=0" for branch in branches)
        options = ("--conf", name, "--data", mono(place), "--stop-stage", 5, *untrained)
        well(run("run", "--exp", place / name, *options), "the run")
        found.append(sorted(path.read_bytes() for path in (place / name / "systems").glob("*_2/anomaly_score*.csv")))
    expect(found[0] == found[1] and found[0], "the same scores of system 2 with and without a far microphone", found)


@case(ALIKE, "one channel: said in the report too")
def report_of_one_channel(place: Place) -> None:
    _run(place, place.bases.conf(ENCODER, "encoder"), mono(place))
    text = re.sub(r"<[^>]+>", " ", (place / "exp/report.html").read_text())
    sentences = [part for part in re.split(r"(?<=[.:;])\s", text) if re.search(SAME, part, re.IGNORECASE)]
    found = [part for part in sentences if re.search(r"\bboth\b|(\b|_)1\b.*(\b|_)2\b", part)]
    expect(found, "a sentence of the report about systems that coincide", sentences[:3])


@case(ALIKE, "weights in the same proportion")
def weights_in_proportion(place: Place) -> None:
    branches = {
        name: {"spectrum": {"bands": bands}, "scorer": {"name": "knn"}} for name, bands in (("a", 64), ("b", 32))
    }
    systems = [
        {"name": "first", "abbreviation": "first", "weights": {"a": 0.8, "b": 0.2}},
        {"name": "second", "abbreviation": "second", "weights": {"a": 8.0, "b": 2.0}},
    ]
    conf = place / "conf.yaml"
    conf.write_text(yaml.safe_dump(SPECTRUM | {"branches": branches, "systems": systems}))
    ended = _run(place, conf, place.bases.small)
    named(ended, SAME, r"(\b|_)1\b|first", r"(\b|_)2\b|second")


@case(ALIKE, "two channels: systems that differ are not called alike")
def systems_that_differ(place: Place) -> None:
    place.bases.toy  # noqa: B018
    told = place.bases.told(place.bases.toy)
    wrong = [line for line in told.lines("system", "coincid|identical") if "stage" not in line]
    expect(not wrong, "no word of systems that coincide", wrong)


KINDS = {
    "one machine without attributes": ({"mill": (10, 0, 2, 2)}, "noAttribute"),
    "one machine, one attribute": ({"mill": (10, 0, 2, 2)}, "load_1"),
}


def _bare(place: Place, machines: dict, attributes: str) -> Path:
    domains = ("source",) if not machines["mill"][1] else ("source", "target")
    return sounds.corpus(place / "data", machines, 1.0, domains, attributes)


def _trained(place: Place) -> bool:
    """Whether steps of the adaptation were taken."""
    curves = list((place / "exp/adapt").glob("*/curve.csv"))
    return any(len(curve.read_text().splitlines()) > 1 for curve in curves)


@case(NOTHING, "{}: adaptation is skipped with a line", KINDS)
def nothing_to_learn(place: Place, kind: tuple[dict, str]) -> None:
    ended = _run(place, place.bases.conf(ENCODER, "encoder"), _bare(place, *kind))
    named(ended, "nothing|skip|one class|single class", "adapt|train|learn|class|branch")
    expect(not _trained(place), "no step of training", "rows in curve.csv")


@case(NOTHING, "the report says so instead of drawing it")
def report_without_training(place: Place) -> None:
    _run(place, place.bases.conf(ENCODER, "encoder"), _bare(place, *KINDS["one machine without attributes"]))
    text = re.sub(r"<[^>]+>", " ", (place / "exp/report.html").read_text())
    said = [
        part
        for part in re.split(r"(?<=[.:;])\s", text)
        if re.search("nothing to learn|one class|single class|only class|skipped", part, re.IGNORECASE)
    ]

    expect([part for part in said if re.search("main|aux|branch|adapt", part)], "a sentence that says so", said)


SOMETHING = {
    "two machines": ({"mill": (6, 2, 1, 1), "saw": (6, 2, 1, 1)}, "noAttribute", {}),
    "two domains": ({"mill": (10, 4, 2, 2)}, "noAttribute", {}),
    "clusters as attributes": ({"mill": (8, 4, 1, 1)}, "noAttribute", {"pseudo_attributes": {"clusters": 2}}),
}


@case(NOTHING, "not skipped: {}", SOMETHING)
def something_to_learn(place: Place, kind: tuple[dict, str, dict]) -> None:
    machines, attributes, more = kind
    branches = {name: branch | more for name, branch in ENCODER["branches"].items()}
    conf = _conf(place, {"branches": branches})
    data = _bare(place, machines, attributes)
    well(run("run", "--exp", place / "exp", "--conf", conf, "--data", data, "--stop-stage", 2))
    expect(_trained(place), "steps of training", "no rows in curve.csv")


@case(NOTHING, "not skipped: attributes of two kinds")
def two_attributes(place: Place) -> None:
    data = _bare(place, *KINDS["one machine without attributes"])
    for path in sorted((data / "mill/train").iterdir())[::2]:
        path.rename(path.with_name(path.name.replace("noAttribute", "load_2")))
    for path in sorted((data / "mill/train").glob("*noAttribute*")):
        path.rename(path.with_name(path.name.replace("noAttribute", "load_1")))
    conf = place.bases.conf(ENCODER, "encoder")
    well(run("run", "--exp", place / "exp", "--conf", conf, "--data", data, "--stop-stage", 2))
    expect(_trained(place), "steps of training", "no rows in curve.csv")
