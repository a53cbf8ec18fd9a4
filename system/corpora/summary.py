"""Tables of what a manifest holds, for the terminal."""

from collections.abc import Sequence

from system import manifest
from system.corpora.table import class_of
from system.manifest import Clip

HEADER = ("machine", "phase", "sections", "train", "source", "target", "test", "normal", "anomaly", "extra", "seconds")


def machine_summary(clips: Sequence[Clip]) -> str:
    """A table with one line a machine: phase, clips of each split and domain, clip length (s), channels, rate (Hz)."""
    development = manifest.is_development(clips)
    rows: list[tuple] = [(*HEADER, "channels", "rate")]
    for (machine,), members in manifest.group_by(clips, "machine").items():
        own = [clips[index] for index in members]
        train = [clip for clip in own if clip.split == "train"]
        test = [clip for clip in own if clip.split == "test"]
        shortest, longest = min(clip.seconds for clip in own), max(clip.seconds for clip in own)
        rows.append(
            (
                machine,
                ("dev" if development[machine] else "eval") if test else "train",
                ",".join(sorted({clip.section for clip in own})),
                len(train),
                sum(clip.domain == "source" for clip in train),
                sum(clip.domain == "target" for clip in train),
                len(test),
                sum(clip.label == "normal" for clip in test),
                sum(clip.label == "anomaly" for clip in test),
                len(own) - len(train) - len(test),
                f"{shortest:.4g}" if shortest == longest else f"{shortest:.4g}-{longest:.4g}",
                own[0].channels,
                own[0].rate,
            )
        )
    return _table(rows)


def class_summary(clips: Sequence[Clip]) -> str:
    """A table with one line a class: clips of each split, groups that no split separates, hours."""
    rows: list[tuple] = [("class", "train", "test", "groups", "hours", "channels", "rate")]
    classes: dict[str, list[Clip]] = {}
    for clip in clips:
        classes.setdefault(class_of(clip), []).append(clip)
    for kind, own in classes.items():
        train = sum(clip.split == "train" for clip in own)
        groups = len({clip.group or clip.path for clip in own})
        rates = ",".join(str(rate) for rate in sorted({clip.rate for clip in own}))
        hours = f"{sum(clip.seconds for clip in own) / 3600:.3f}"
        rows.append((kind, train, len(own) - train, groups, hours, own[0].channels, rates))
    return _table(rows)


def _table(rows: list[tuple]) -> str:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)
