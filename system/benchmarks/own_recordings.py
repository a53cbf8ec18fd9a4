"""A small fault diagnosis on a run's own recordings, in the manner of RMIS."""

from collections import Counter

from system import manifest
from system.benchmarks.rmis import splittable
from system.corpora.names import attribute_class
from system.manifest import Clip


def tasks(clips: list[Clip], fewest: int, test_size: float) -> dict[str, list[tuple[Clip, str]]]:
    """Classification tasks on the development machines: clips and their classes.

    ``condition``: machine and attributes of the normal training clips; ``state``: machine and label of the test clips.
    Classes with fewer than ``fewest`` clips, or of too few recordings to split, are left out, and tasks with fewer than
    two classes.
    """
    development = manifest.is_development(clips)
    own = [clip for clip in clips if development[clip.machine]]
    found = {
        "condition": [
            (clip, f"{clip.machine} {attribute_class(clip.attributes)}")
            for clip in own
            if clip.split == "train" and clip.attributes
        ],
        "state": [(clip, f"{clip.machine} {clip.label}") for clip in own if clip.split == "test"],
    }
    kept = {}
    for name, members in found.items():
        counts = Counter(label for _, label in members)
        members = [(clip, label) for clip, label in members if counts[label] >= fewest]
        possible = splittable([label for _, label in members], [group(clip) for clip, _ in members], test_size)
        members = [(clip, label) for clip, label in members if label in possible]
        if len({label for _, label in members}) > 1:
            kept[name] = members
    return kept


def group(clip: Clip) -> str:
    """Name of the recording that a clip was cut from, or of the clip itself: splits keep its clips together."""
    return clip.group or f"{clip.machine}/{clip.split}/{clip.file}"
