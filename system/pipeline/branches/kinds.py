"""The kinds of branches: modules that offer the stages ``adapt``, ``embed``, what these depend on, and ``alone``, which
embeds a single clip."""

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from system.config import AutoencoderBranch, Branch, SpectrumBranch
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline.branches import autoencoder, encoder, spectrum

if TYPE_CHECKING:
    import numpy as np


def kind(branch: Branch) -> ModuleType:
    """The module for a branch that does not share another's network."""
    if isinstance(branch, AutoencoderBranch):
        return autoencoder
    return spectrum if isinstance(branch, SpectrumBranch) else encoder


def by_kind(branches: Mapping[str, Branch]) -> dict[ModuleType, list[str]]:
    """Names of the branches of each kind."""
    found: dict[ModuleType, list[str]] = {}
    for name, branch in branches.items():
        found.setdefault(kind(branch), []).append(name)
    return found


def embedder(run: Experiment, branches: Iterable[str] | None = None) -> "Callable[[str, Clip], dict[str, np.ndarray]]":
    """A run's networks as a function of (branch, clip): the clip's row (1, ...) in every view and reading.

    Args:
        branches: whose networks are loaded, at once; None for all.
    """
    owners = {run.network_branch(name): None for name in branches or run.config.branches}
    loaded = {owner: kind(run.config.branches[owner]).alone(run, owner) for owner in owners}
    return lambda branch, clip: loaded[run.network_branch(branch)](clip)
