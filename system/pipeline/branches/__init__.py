"""The branches of a run: what each kind of branch does in the stages, and what a package says of it."""

from collections.abc import Callable, Iterable

from system.config import SystemConfig
from system.experiment import Experiment
from system.machine import choose_device
from system.manifest import Clip
from system.pipeline.branches.autoencoder import AutoencoderBranch
from system.pipeline.branches.base import Branch, Rows
from system.pipeline.branches.encoder import EncoderBranch
from system.pipeline.branches.spectrum import SpectrumBranch

KINDS: dict[str, type[Branch]] = {
    "encoder": EncoderBranch,
    "spectrum": SpectrumBranch,
    "autoencoder": AutoencoderBranch,
}

__all__ = [
    "KINDS",
    "Branch",
    "Rows",
    "by_kind",
    "clip_embedder",
    "network_branch",
    "network_branches",
    "system_embedder",
]


def network_branch(run: Experiment, name: str) -> Branch:
    """The branch that describes clips for the branch ``name``: itself, or the one whose network it shares."""
    own = run.network_branch(name)
    return KINDS[run.config.branches[own].kind](run, own)


def network_branches(run: Experiment) -> list[Branch]:
    """The branches of a run that share nobody's network, in the order of the configuration."""
    return [KINDS[branch.kind](run, name) for name, branch in run.network_branches.items()]


def by_kind(run: Experiment) -> list[list[Branch]]:
    """``network_branches`` in groups of one kind: some kinds embed all their branches in one pass over the clips."""
    branches = network_branches(run)
    groups = ([branch for branch in branches if type(branch) is kind] for kind in KINDS.values())
    return sorted(filter(None, groups), key=lambda group: branches.index(group[0]))


def clip_embedder(run: Experiment, names: Iterable[str] | None = None) -> Callable[[str, Clip], Rows]:
    """A run's networks, loaded once, as a function of (branch name, clip).

    Args:
        names: of the branches whose networks are loaded; None for all.

    Returns:
        function that gives the clip's row (1, ...) by view and readout (``Experiment.column``).
    """
    networks = {run.network_branch(name): None for name in names or run.config.branches}
    device = choose_device(run.config.device)
    loaded = {network: network_branch(run, network).clip_embedder(device) for network in networks}
    return lambda name, clip: loaded[run.network_branch(name)](clip)


def system_embedder(run: Experiment, system: SystemConfig) -> Callable[[Clip], Rows]:
    """The networks of a system, loaded once, as a function of a clip.

    Returns:
        function that gives the clip's row (1, ...) by each branch of the system, in the system's view.
    """
    sources = {name: (run.network_branch(name), run.column(name, system.view)) for name in system.branches}
    device = choose_device(run.config.device)
    networks = {network: network_branch(run, network).clip_embedder(device) for network, _ in sources.values()}

    def embed(clip: Clip) -> Rows:
        rows = {network: describe(clip) for network, describe in networks.items()}
        return {name: rows[network][column] for name, (network, column) in sources.items()}

    return embed
