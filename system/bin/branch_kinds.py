"""The kinds of branches: modules that offer the stages ``adapt``, ``embed`` and what these depend on."""

from collections.abc import Mapping
from types import ModuleType

from system.bin import autoencoder_branch, encoder_branch, spectrum_branch
from system.config import BranchConfig


def kind(branch: BranchConfig) -> ModuleType:
    """The module for a branch that does not share another's network."""
    if branch.autoencoder is not None:
        return autoencoder_branch
    return spectrum_branch if branch.spectrum is not None else encoder_branch


def by_kind(branches: Mapping[str, BranchConfig]) -> dict[ModuleType, list[str]]:
    """Names of the branches of each kind."""
    found: dict[ModuleType, list[str]] = {}
    for name, branch in branches.items():
        found.setdefault(kind(branch), []).append(name)
    return found
