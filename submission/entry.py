"""One system of a submission, as the package writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from system.config.package import ExternalResource


@dataclass(frozen=True)
class SystemEntry:
    """One of up to four systems of a submission.

    Args:
        index: 1 to 4, the end of its label.
        name: name in the meta file and the report.
        abbreviation: at most 10 characters.
        description: fields of ``system.description``; None for not applicable.
        total_parameters: parameters of all subsystems, including encoders.
        macs: multiply-accumulate operations per clip, None if not counted.
        subsystem_count: number of branches.
        results: development machine -> {"auc_source", "auc_target", "pauc"} in percent.
        scores_dir: folder with the challenge CSVs (scores and decisions) of all machines.
        summary: one sentence for the report.
    """

    index: int
    name: str
    abbreviation: str
    description: Mapping[str, str | int | None]
    total_parameters: int
    macs: int | None
    subsystem_count: int
    results: Mapping[str, Mapping[str, float]]
    scores_dir: Path
    summary: str = ""
    external: Sequence[ExternalResource] = ()
