"""What every kind of branch answers for itself."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from submission.texts import BranchText
from system import windows
from system.config import AutoencoderBranchConfig, EncoderBranchConfig, SpectrumBranchConfig
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip
from system.pipeline import resources

Rows = dict[str, np.ndarray]  # rows of clips by view and readout

METHODS = {
    "mahalanobis": "Mahalanobis distance",
    "conditional_mahalanobis": "conditional Mahalanobis distance",
    "knn": "k-nearest neighbours",
    "beam": "nearest neighbours in each frequency band",
    "ldn": "nearest neighbours with local density normalisation",
    "lof": "local outlier factor",
    "frames": "nearest neighbours of frames",
}


Settings = TypeVar("Settings", EncoderBranchConfig, SpectrumBranchConfig, AutoencoderBranchConfig)


class Branch(ABC, Generic[Settings]):
    """A branch that describes clips by a network or a spectrum of its own.

    Args:
        run: the experiment.
        name: of the branch in the configuration.
    """

    settings: type[Settings]  # class of its settings

    def __init__(self, run: Experiment, name: str):
        self.run, self.name = run, name

    @property
    def config(self) -> Settings:
        """The settings of the branch."""
        found = self.run.config.branches[self.name]
        assert isinstance(found, self.settings)
        return found

    @property
    def card(self) -> dict[str, Any]:
        """What adaptation recorded of the branch: size, cost at inference, rate (Hz)."""
        return read_json(self.run.card(self.name))

    @property
    def training(self) -> list[Clip]:
        """Normal training clips of the run: the references."""
        return resources.training_clips(self.run)

    def windows(self, clips: Sequence[Clip]) -> list[Clip]:
        """Training clips as the network learns from them: long ones in parts, which do not overlap."""
        return windows.expand(clips, self.run.config.data, hop=1.0)

    @property
    def rate(self) -> int:
        """Sampling rate in Hz that the branch was adapted at."""
        return int(self.card["rate"])

    @abstractmethod
    def training_settings(self) -> dict[str, Any]:
        """Settings that training depends on."""

    @abstractmethod
    def embedding_settings(self) -> dict[str, Any] | None:
        """Settings that the rows depend on and that the trained files do not hold."""

    @abstractmethod
    def weights(self) -> list[Path]:
        """Files that adaptation leaves for the embedding stage."""

    @abstractmethod
    def adapt(self, clips: Sequence[Clip], rate: int, device: str) -> list[Path]:
        """Trains what the branch learns and writes its card.

        Args:
            clips: normal training clips.
            rate: in Hz, that recordings are brought to.
            device: cuda, mps or cpu.

        Returns:
            the files written.
        """

    @classmethod
    @abstractmethod
    def embed(
        cls, run: Experiment, branches: Sequence[Any], clips: Sequence[Clip], workers: int, device: str
    ) -> Iterator[tuple[str, Rows]]:
        """Describes clips by several branches of this kind; yields (name, rows (N, ...)) one branch after another.

        Of several processes each computes a share of the rows, and only the main one yields them.

        Args:
            run: the experiment.
            branches: of this kind.
            clips: N clips.
            workers: number of threads.
            device: cuda, mps or cpu.
        """

    @abstractmethod
    def clip_embedder(self, device: str) -> Callable[[Clip], Rows]:
        """The network, loaded now onto ``device``, as a function of one clip that gives its row (1, ...)."""

    def notes(self) -> list[Path]:
        """Files beside the rows that say how they were made."""
        return []

    @staticmethod
    def parts(run: Experiment, branches: "Sequence[Branch]") -> Path:
        """Folder of the parts of the rows of branches that are computed in one pass."""
        return run.parts / branches[0].name

    @abstractmethod
    def text(self, name: str) -> BranchText:
        """What a package says of the branch ``name``, which is this one or shares its network."""

    def scorer_text(self, name: str) -> dict[str, Any]:
        """Fields of ``BranchText`` that follow from the scorer of a branch and the references it meets."""
        from system import scoring
        from system.scoring.banks import DOMAIN

        scorer = self.run.config.branches[name].scorer
        method = METHODS.get(scorer.name, scorer.name)
        settings = ", ".join(f"{key} {_word(value)}" for key, value in scorer.settings.items())
        built = scoring.build(scorer.name, **scorer.settings)
        smallest = getattr(built, "smallest_bank", 1)
        return {
            "method": method,
            "scoring": (f"Branch {name}: {method}{f' ({settings})' * bool(settings)}.",),
            "bank_per_domain": getattr(built, "bank", "") == DOMAIN and self._has_both_domains(smallest),
        }

    def _has_both_domains(self, smallest: int) -> bool:
        """Whether a machine has references enough of both domains for a bank each."""
        counts = Counter((clip.machine, clip.section, clip.domain or "source") for clip in self.training)
        return any(
            min(counts[machine, section, "source"], counts[machine, section, "target"]) >= smallest
            for machine, section, _ in counts
        )


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
