"""New recordings before a finished run: the scores and decisions that the run would have given them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system import score_tables
from system.config import SystemConfig
from system.corpora.inspection import InspectedSound, inspect
from system.corpora.names import composed, parse_name
from system.corpora.sound_settings import coding_remark, rate_remark
from system.embeddings.files import read_rows
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip
from system.scoring import Scorer, calibrate
from system.scoring.calibrate import ZScore

Group = tuple[str, str]  # machine, section
Embed = Callable[[Clip], Mapping[str, np.ndarray]]
USUAL_SECTION = "00"


@dataclass(frozen=True)
class Verdict:
    """What a system says of one recording.

    ``score`` above ``threshold`` is an anomaly; ``deviations`` is how far the score lies above the median of the normal
    references' leave-one-out scores, in robust standard deviations (1.4826 MAD); ``remark`` says what makes the score
    doubtful: silence, or a recording made otherwise than the references.
    """

    file: str
    machine: str
    section: str
    score: float
    threshold: float
    deviations: float
    remark: str = ""

    @property
    def anomalous(self) -> bool:
        return self.score > self.threshold


@dataclass(frozen=True)
class Judge:
    """A system of a run, fitted to the normal references of one machine and section.

    Args:
        system: settings of the system.
        scorers: scorer of each branch with a weight above zero, and the calibration of its scores.
        threshold: fused score above which a recording is an anomaly.
        references: calibration by the references' fused scores, for ``Verdict.deviations``.
        channels: fewest channels among the references.
        rates: sampling rates (Hz) of the references.
        used_rate: rate (Hz) that recordings are brought to; 0 for their own.
        channel_choice: channels that are used of the references, see ``system.channel_choice``.
        paths: of the references.
    """

    system: SystemConfig
    scorers: Mapping[str, tuple[Scorer, ZScore]]
    threshold: float
    references: ZScore
    channels: int
    rates: frozenset[int]
    used_rate: int
    channel_choice: str = ""
    paths: tuple[str, ...] = ()

    def score(self, rows: Mapping[str, np.ndarray]) -> float:
        """Fused score of one clip from its row (1, ...) by each branch."""
        calibrated = {
            name: standard(scorer.score(np.asarray(rows[name], np.float64)))
            for name, (scorer, standard) in self.scorers.items()
        }
        return float(fuse(calibrated, self.system)[0])


def fuse(calibrated: Mapping[str, np.ndarray], system: SystemConfig) -> np.ndarray:
    """Calibrated scores (N,) of the branches to the system's scores (N,)."""
    return calibrate.fuse(calibrated, {name: system.weights[name] for name in calibrated}, system.fusion)


def judges(run: Experiment, number: int, clips: Sequence[Clip], groups: Sequence[Group]) -> dict[Group, Judge]:
    """Fits a system of a finished run from its embeddings, one judge for each of ``groups``.

    Args:
        run: the finished run.
        number: of the system, from 1.
        clips: of the run's manifest.
        groups: machines and sections.

    Raises:
        WheeltapperError: the run has no threshold, or no embedding of a reference.
    """
    system, path = run.config.systems[number - 1], run.system(run.labels[number - 1]) / score_tables.THRESHOLDS
    thresholds, members = read_json(path), score_tables.shuffled(clips, run.config.seed)
    fitted: dict[Group, dict[str, tuple[Scorer, ZScore]]] = {group: {} for group in groups}
    fused: dict[Group, dict[str, np.ndarray]] = {group: {} for group in groups}
    for name in system.branches:
        embeddings = read_rows(run.index(name), run.embeddings(name, system.view))
        for group in groups:
            try:
                scorer = score_tables.fit_scorer(members[group][0], embeddings, run.config.branches[name].scorer)
            except KeyError as error:
                machine, section = group
                raise WheeltapperError(
                    f"{run.index(name)}: no embedding of reference {error.args[0][-1]} of {machine} section {section}; "
                    "run stage 3 again"
                ) from error
            own = scorer.reference_scores()
            standard = calibrate.robust_z(own)
            fitted[group][name], fused[group][name] = (scorer, standard), standard(own)
    found = {}
    for group in groups:
        key = score_tables.threshold_key(*group)
        if key not in thresholds:
            raise WheeltapperError(f"{path}: expected a threshold of {key}, found {', '.join(thresholds)}")
        references = calibrate.robust_z(fuse(fused[group], system))
        normal = members[group][0]
        found[group] = Judge(
            system,
            fitted[group],
            float(thresholds[key]),
            references,
            channels=min(clip.channels for clip in normal),
            rates=frozenset(clip.rate for clip in normal),
            used_rate=run.config.data.rate,
            channel_choice=normal[0].channel_choice,
            paths=tuple(clip.path for clip in normal),
        )
    return found


def judge_file(path: Path, group: Group, judge: Judge, embed: Embed) -> Verdict:
    """Embeds and scores one recording.

    Args:
        path: of the recording.
        group: machine and section that it is judged as.
        judge: of that machine and section.
        embed: clip to its row (1, ...) by each branch of the system (``branches.system_embedder``).

    Raises WheeltapperError for a recording that cannot be read or embedded, by name.
    """
    sound = inspect(path)
    clip = Clip(
        "new", *group, "test", path.name, str(path),
        channels=sound.channels, rate=sound.rate, samples=sound.samples, digest=sound.digest,
        channel_choice=judge.channel_choice,
    )  # fmt: skip
    score = judge.score(embed(clip))
    if not np.isfinite(score):
        raise WheeltapperError(f"{path}: expected a finite score, found {score}")
    deviations = float(judge.references(np.array(score)))
    return Verdict(str(path), *group, score, judge.threshold, deviations, _remark(path, sound, judge))


def _remark(path: Path, sound: InspectedSound, judge: Judge) -> str:
    """What makes a score doubtful; empty if nothing does."""
    if sound.silent:
        return "silent (all samples are zero)"
    if sound.channels < judge.channels:
        return f"{sound.channels} channel{'s' * (sound.channels > 1)}, the references have {judge.channels}"
    remarks = rate_remark(sound.rate, judge.rates, judge.used_rate), coding_remark(path, judge.paths), sound.note
    return "; ".join(filter(None, remarks))


def group_of(path: Path, groups: Sequence[Group], machine: str = "", section: str = "") -> Group:
    """Whose recording a file is.

    The machine is the one that is named, the only one there is, or the nearest folder above the file that bears the
    name of one (``<machine>/test/x.wav``, ``<machine>/x.wav``). The section is the one that is named, the machine's
    only one, the one in the file's name where that is a name of the challenge, or 00.

    Args:
        groups: machines and sections of the run. machine, section: as the user named them, empty for not at all.

    Raises WheeltapperError that lists the machines or sections to choose from.
    """
    known = {composed(name): name for name, _ in groups}
    if machine and composed(machine) not in known:
        raise WheeltapperError(f"--machine: expected one of {', '.join(known)}, found {machine!r}")
    folders = [name for folder in path.absolute().parents if (name := composed(folder.name)) in known]
    only = next(iter(known)) if len(known) == 1 else ""
    machine = known.get(composed(machine) or only or next(iter(folders), ""), "")
    if not machine:
        raise WheeltapperError(f"{path}: expected --machine, or a folder named so: one of {', '.join(known)}")
    sections = [own for name, own in groups if name == machine]
    if not section:
        section = sections[0] if len(sections) == 1 else _section_in_name(path.name)
    if section not in sections:
        found = repr(section) if section else "none"
        raise WheeltapperError(f"{path}: {machine}: expected --section, one of {', '.join(sections)}, found {found}")
    return machine, section


def _section_in_name(name: str) -> str:
    try:
        return parse_name(name).section
    except WheeltapperError:
        return USUAL_SECTION
