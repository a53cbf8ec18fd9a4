"""How much a run will write, and whether the disks have it."""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.config import BranchConfig, EncoderConfig
    from system.corpora.source import Source
    from system.experiment import Experiment

SYNTHETIC = {"default": 283_000_000, "tiny": 6_000_000}  # bytes of the simulated machines
STATE = 4  # copies of the weights in the state of a training: theirs, two of Adam's, a moving mean


@dataclass(frozen=True)
class Need:
    """Bytes that something will take: at the least, and as a rule."""

    folder: Path
    what: str
    least: float
    likely: float


def check(run: "Experiment", stages: Iterable[int], source: "Source | None") -> list[str]:
    """Compares what the stages will write with the free space of each disk.

    Args:
        source: of stage 0; None where its recordings are known to be wrong, or the stage is not asked for.

    Returns:
        notes where what is free may not do.

    Raises WheeltapperError where it is less than will be written at the least.
    """
    needs = [need for need in _needs(run, stages, source) if need.likely > 0]
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(os.stat(nearest(need.folder)).st_dev, []).append(need)
    notes: list[str] = []
    problems: list[str] = []
    for own in disks.values():
        free = shutil.disk_usage(nearest(own[0].folder)).free
        least, likely = sum(need.least for need in own), sum(need.likely for need in own)
        for wanted, text, told in ((least, "at least", problems), (likely, "about", notes)):
            if wanted > free:
                what = ", ".join(need.what for need in own)
                told.append(
                    f"{own[0].folder}: expected {text} {size(wanted)} of free space ({what}), found {size(free)}; "
                    "--exp and data.folder say where things go"
                )
    if problems:
        raise WheeltapperError("\n".join(problems), problems)
    return notes


def nearest(path: Path) -> Path:
    """The path itself or the folder above it that is there first."""
    return next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())


def size(number: float) -> str:
    """Bytes as a person says them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"


def _needs(run: "Experiment", stages: Iterable[int], source: "Source | None") -> Iterator[Need]:
    """What stages that were never complete will write. What they left for other settings is not looked at."""
    fresh = [number for number in stages if not run.marker(number).is_file()]
    config = run.config
    if 0 in fresh and source and source.year and source.folder:
        from system.corpora.download import space

        yield Need(source.folder, f"recordings of {source.data}", *space(source.year, source.folder))
    elif 0 in fresh and source and source.synthetic:
        least = SYNTHETIC.get(config.data.synthetic, 0)
        yield Need(run.folder, "simulated recordings", least, 1.05 * least)
    if 1 in fresh and run.has_encoder:
        copies = 1 + STATE * bool(config.pretrain.loop.steps)
        yield Need(run.folder, "the encoder", 0, copies * _weights(config.encoder, config.data.folder))
    full = [name for name, branch in run.encoder_branches.items() if branch.tune == "full"]
    if 2 in fresh and full:
        sizes = [_weights(run.encoder_config(name), config.data.folder) for name in full]
        yield Need(run.folder, "fine-tuned encoders", 0, sum(sizes) + STATE * max(sizes))
    if 3 in fresh and run.manifest.is_file():
        with open(run.manifest, "rb") as file:
            clips = sum(1 for _ in file)
        numbers = sum(_row_size(branch) * len(run.views[name]) for name, branch in config.branches.items())
        yield Need(run.folder, "embeddings", 0, 4 * clips * numbers)


def _row_size(branch: "BranchConfig") -> int:
    """Numbers by which a branch describes a clip in one view; 0 for the few of an autoencoder and for shared rows."""
    if branch.kind == "encoder":
        return branch.embedding_dim
    return branch.spectrum.row_size * len(branch.inputs) if branch.kind == "spectrum" else 0


def _weights(config: "EncoderConfig", folder: str) -> int:
    """Bytes of an encoder's checkpoint; 0 where it is untrained or missing."""
    from system.encoders import cards

    try:
        path = cards.checkpoint_file(config, folder)
    except WheeltapperError:
        return 0
    return path.stat().st_size if path else 0
