"""Report section: t-SNE maps of the embeddings, coloured by kind of clip, domain, attribute or alarm."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from system.explain.tsne import FEWEST, tsne_each
from system.manifest import Clip
from system.report import attention
from system.report.load_run import RunData, read_array
from system.report.results import PageSection
from system.report.svg import thin

MOST_MACHINES = 16
MOST_REFERENCES, MOST_OTHERS = 120, 240  # maximum points of one map: references of the source domain, and all others
MOST_VALUES = 6  # maximum number of attribute values with their own colour

Group = tuple[np.ndarray, str, str]  # mask (N,), colour, shape
Key = list[tuple[str, str]]  # mark and text

KINDS = {
    "reference": ("reference", "healthy reference"),
    "normal": ("normal", "healthy test clip"),
    "anomaly": ("anomaly", "anomaly"),
    "unknown": ("both", "test clip without label"),
}
COLOURINGS = {"kind": "what it is", "domain": "domain", "attribute": "operating condition", "alarm": "alarm"}


def maps(run: RunData) -> PageSection:
    """t-SNE of each machine's embeddings, from the branch with the largest weight in the best system that has
    embeddings of more than one dimension.
    """
    system = run.system_config(run.best)
    if system is None:
        return "There are no systems in this run whose embeddings could be shown."
    branches = sorted(system.weights, key=lambda name: -system.weights[name])
    found = [
        (name, table) for name in branches if (table := read_array(run, name, run.paths.embeddings(name, system.view)))
    ]
    if not found:
        return "The run has no embeddings."
    wide = [(name, table) for name, table in found if table[1].shape[1] >= 2]
    if not wide:
        return f"Branch {found[0][0]} describes a clip by one number, its score: there is nothing to draw a map of."
    branch, (keys, values) = wide[0]
    by_key = {clip.key: clip for clip in run.clips}
    rows: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        if key[:4] in by_key:
            rows.setdefault(key[0], []).append(index)
    alarms = {
        clip.key: bool(decided)
        for unit in run.units
        if unit.decided is not None
        for clip, decided in zip(unit.clips, unit.decided, strict=True)
    }
    seed = run.config.seed if run.config else 0
    kept = {
        name: [own[i] for i in _chosen([by_key[keys[i][:4]] for i in own])]
        for name, own in list(rows.items())[:MOST_MACHINES]
    }
    kept = {name: chosen for name, chosen in kept.items() if len(chosen) >= FEWEST}
    places = tsne_each([np.asarray(values[chosen], float) for chosen in kept.values()], seed)
    shown = [
        _unit(name, where, [by_key[keys[i][:4]] for i in chosen], alarms)
        for (name, chosen), where in zip(kept.items(), places, strict=True)
    ]
    return (
        {"units": shown, "branch": branch, "colourings": COLOURINGS} if shown else "There are too few clips for a map."
    )


def _chosen(clips: Sequence[Clip]) -> list[int]:
    """Indices of the clips on a map, in order: all kinds, evenly thinned; source references are thinned separately."""
    many = np.array([clip.split == "train" and clip.domain != "target" for clip in clips], bool)
    references, others = np.flatnonzero(many), np.flatnonzero(~many)
    kept = [references[thin(len(references), MOST_REFERENCES)], others[thin(len(others), MOST_OTHERS)]]
    return sorted(int(index) for index in np.concatenate(kept))


def _unit(name: str, places: np.ndarray, clips: Sequence[Clip], alarms: dict[tuple, bool]) -> dict[str, Any]:
    ways = {
        "kind": _by_kind(clips),
        "domain": _by_domain(clips),
        "attribute": _by_attribute(clips),
        "alarm": _by_alarm(clips, alarms),
    }
    views = [
        {"way": way, "chart": attention.tsne_chart(f"{name}, by {COLOURINGS[way]}", places, groups), "key": key}
        for way, (groups, key) in ways.items()
    ]
    return {"name": name, "views": views}


def _by_kind(clips: Sequence[Clip]) -> tuple[list[Group], Key]:
    kinds = np.array(["reference" if clip.split == "train" else clip.label or "unknown" for clip in clips])
    target = np.array([clip.domain == "target" for clip in clips], bool)
    groups: list[Group] = []
    for kind, (colour, _) in KINDS.items():
        groups += [(mask, colour, shape) for shape, mask in _shapes(kinds == kind, target)]
    key = [(f"circle {colour}", text) for kind, (colour, text) in KINDS.items() if (kinds == kind).any()]
    return groups, [*key, ("triangle reference", "triangles: target domain")] if target.any() else key


def _shapes(mask: np.ndarray, target: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("circle", mask & ~target), ("triangle", mask & target)]


def _by_domain(clips: Sequence[Clip]) -> tuple[list[Group], Key]:
    texts = {"source": "source domain", "target": "target domain", "": "domain not known"}
    return _coloured([clip.domain for clip in clips], texts, {"source": "source", "target": "target", "": "reference"})


def _by_attribute(clips: Sequence[Clip]) -> tuple[list[Group], Key]:
    """The most frequent values with one colour each; machines without attributes have one colour."""
    values = [_readable(clip.attributes) for clip in clips]
    common = [value for value, _ in Counter(value for value in values if value).most_common()]
    named = sorted(common if len(common) <= MOST_VALUES else common[: MOST_VALUES - 1])
    texts = {value: value for value in named}
    texts |= {"other": f"{len(common) - len(named)} others"} if len(common) > len(named) else {}
    colours = {value: f"unit{number}" for number, value in enumerate(texts)}
    found = [value if not value or value in texts else "other" for value in values]
    return _coloured(found, texts | {"": "not known"}, colours | {"": "reference"})


def _readable(attributes: str) -> str:
    """``key_value_key_value`` as "key value, key value"."""
    parts = attributes.split("_") if attributes not in ("", "noAttribute") else []
    pairs = [" ".join(parts[start : start + 2]) for start in range(0, len(parts), 2)]
    return ", ".join(pairs)


def _by_alarm(clips: Sequence[Clip], alarms: dict[tuple, bool]) -> tuple[list[Group], Key]:
    words = {True: "alarm", False: "quiet", None: "reference"}
    found = [words[alarms.get(clip.key) if clip.split == "test" else None] for clip in clips]
    texts = {"reference": "reference, or not decided", "quiet": "no alarm", "alarm": "alarm"}
    return _coloured(found, texts, {"alarm": "anomaly", "quiet": "normal", "reference": "reference"})


def _coloured(values: Sequence[str], texts: dict[str, str], colours: dict[str, str]) -> tuple[list[Group], Key]:
    """Groups and legend of values with texts; values without their own colour are drawn first."""
    found = np.array(values)
    present = [value for value in texts if (found == value).any()]
    groups = [(found == value, colours[value], "circle") for value in sorted(present, key=bool)]
    return groups, [(f"circle {colours[value]}", texts[value]) for value in present]
