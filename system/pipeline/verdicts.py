"""New recordings before a finished run: the scores and decisions that the run would have given them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system import audio, fused_scores, machine_scores, score_tables, windows
from system.config import SystemConfig
from system.corpora import health_check, health_table
from system.corpora.health import Health, measure
from system.corpora.health_check import DROPOUTS, FEW_DROPOUTS, Finding, Usual
from system.corpora.inspection import inspect, inspect_all
from system.corpora.names import composed, parse_name
from system.corpora.sound_settings import coding_remark
from system.embeddings.files import read_rows
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip, Key
from system.scoring import Scorer, calibrate
from system.scoring.calibrate import ZScore

log = logging.getLogger(__name__)

Group = tuple[str, str]  # machine, section
Embed = Callable[[Clip], Mapping[str, np.ndarray]]
USUAL_SECTION = "00"
MEASURED = 300  # references whose health is measured where a run has no table of it, about
LEAST = 0.1  # deviation of the references' fused scores, of which each branch has 1; two references may have none
MANY, SPOILT = 5, 0.25  # windows of a recording, and the share of them, that dropouts may spoil
SHORTEST = 0.5  # length of a recording, in windows, from which false alarms are known to stay as asked


@dataclass(frozen=True)
class Verdict:
    """What a system says of one recording.

    ``score`` above ``threshold`` is an anomaly; ``deviations`` is how far the score lies above the median of the normal
    references' leave-one-out scores, in robust standard deviations (1.4826 MAD). Both are None for a recording that is
    unusable: one that a broken or another sensor made. ``remark`` says why it is, or what makes the score doubtful.
    ``course`` has start (seconds) and score of each window, of which the highest score is the recording's; ``worst``
    are start and end of that window, None where there is only one.
    """

    file: str
    machine: str
    section: str
    score: float | None
    threshold: float
    deviations: float | None
    remark: str = ""
    worst: tuple[float, float] | None = None
    course: tuple[tuple[float, float], ...] = ()

    @property
    def unusable(self) -> bool:
        return self.score is None

    @property
    def anomalous(self) -> bool:
        return self.score is not None and self.score > self.threshold


@dataclass(frozen=True)
class Judge:
    """A system of a run, fitted to the normal references of one machine and section.

    Args:
        system: settings of the system.
        scorers: scorer of each branch with a weight above zero, and the calibration of its scores.
        threshold: fused score above which a recording is an anomaly.
        references: calibration by the references' fused scores, for ``Verdict.deviations``.
        usual: what the references' recordings show.
        window: seconds of the windows in which recordings are compared.
        hop: from one window to the next, as a share of the window.
        tail: scale of the tail of the references' window scores, see ``windows.tail_scale``.
        channel_choice: channels that are used of the references, see ``system.channel_choice``.
        paths: of the references.
    """

    system: SystemConfig
    scorers: Mapping[str, tuple[Scorer, ZScore]]
    threshold: float
    references: ZScore
    usual: Usual
    window: float
    hop: float
    tail: float
    channel_choice: str = ""
    paths: tuple[str, ...] = ()

    def cut(self, clip: Clip) -> list[Clip]:
        """The windows of a recording."""
        return windows.cut(clip, self.window, self.hop)

    def course(self, parts: Sequence[Clip], embed: Embed, spoilt: Sequence[Clip] = ()) -> "Course":
        """Scores of the windows of a recording but for those that are spoilt, which confirm no other one."""
        kept = np.array([part not in spoilt for part in parts])
        sound = [part for part in parts if part not in spoilt]
        rows = [embed(part) for part in sound]
        calibrated = {
            name: standard(scorer.score(np.concatenate([row[name] for row in rows], dtype=np.float64)))
            for name, (scorer, standard) in self.scorers.items()
        }
        single = fuse(calibrated, self.system)
        of_all = np.full(len(parts), -np.inf)
        of_all[kept] = single
        return Course(sound, single, windows.scores(parts, of_all, self.tail)[kept])


@dataclass(frozen=True)
class Course:
    """The windows of a recording, their scores alone (N,), and their ``windows.scores`` (N,)."""

    windows: Sequence[Clip]
    single: np.ndarray
    scores: np.ndarray

    @property
    def worst(self) -> tuple[float, float] | None:
        """Start and end (seconds) of the window of the highest score; None where there is only one."""
        if len(self.windows) < 2:
            return None
        clip = self.windows[int(np.lexsort((self.single, self.scores))[-1])]  # two neighbours have the same score
        return clip.start / clip.rate, clip.start / clip.rate + clip.seconds

    @property
    def table(self) -> tuple[tuple[float, float], ...]:
        """Start (seconds) and score of each window."""
        return tuple((clip.start / clip.rate, float(s)) for clip, s in zip(self.windows, self.scores, strict=True))


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
    thresholds, members = read_json(path), machine_scores.shuffled(clips, run.config.seed)
    fitted: dict[Group, dict[str, tuple[Scorer, ZScore]]] = {group: {} for group in groups}
    calibrated: dict[Group, dict[str, np.ndarray]] = {group: {} for group in groups}
    normal: dict[Group, list[Clip]] = {}
    for name in system.branches:
        embeddings = read_rows(run.index(name), run.embeddings(name, system.view))
        known = windows.by_clip(embeddings)
        for group in groups:
            try:
                normal[group] = windows.stored(members[group][0], known)
                scorer = machine_scores.fit_scorer(normal[group], embeddings, run.config.branches[name].scorer)
            except KeyError as error:
                machine, section = group
                raise WheeltapperError(
                    f"{run.index(name)}: no embedding of reference {error.args[0][-1]} of {machine} section {section}; "
                    "run stage 3 again"
                ) from error
            own = scorer.reference_scores()
            standard = calibrate.robust_z(own)
            fitted[group][name], calibrated[group][name] = (scorer, standard), standard(own)
    healths = _healths(run, [clip for group in groups for clip in members[group][0]])
    found, seconds = {}, windows.lengths(clips, run.config.data)
    for group in groups:
        key = score_tables.threshold_key(*group)
        if key not in thresholds:
            raise WheeltapperError(f"{path}: expected a threshold of {key}, found {', '.join(thresholds)}")
        fused = fuse(calibrated[group], system)
        pairs = zip(normal[group], fused, strict=True)
        rows = [machine_scores.scored(clip, clip.domain, score) for clip, score in pairs]
        whole = np.array([row.score for row in fused_scores.collapse(rows)])
        references = members[group][0]
        found[group] = Judge(
            system,
            fitted[group],
            threshold=float(thresholds[key]),
            references=calibrate.robust_z(whole, LEAST),
            usual=health_check.usual(references, healths, run.config.data.rate),
            window=seconds[group],
            hop=run.config.data.hop,
            tail=windows.tail_scale(fused),
            channel_choice=references[0].channel_choice,
            paths=tuple(clip.path for clip in references),
        )
    return found


def _healths(run: Experiment, references: Sequence[Clip]) -> Mapping[Key, Health]:
    """Health of references: the run's table, or for a run made without one that of recordings that are still there."""
    if run.health.is_file():
        return health_table.read(run.health)
    there = [clip for clip in references if Path(clip.path).is_file()]
    there = there[:: max(1, round(len(there) / MEASURED))]
    if not there:
        log.warning("%s: no health.csv, and no recording of the references: levels are not compared", run.folder)
    sounds = inspect_all([clip.path for clip in there])
    return {clip.key: sound.health for clip, sound in zip(there, sounds, strict=True) if not isinstance(sound, str)}


def judge_file(path: Path, group: Group, judge: Judge, embed: Embed) -> Verdict:
    """Embeds and scores one recording, unless it is unusable.

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
    findings = health_check.check(clip, sound.health, judge.usual)
    remark = health_check.remark(findings)
    parts = judge.cut(clip)
    spoilt = _spoilt(parts, findings, judge.usual)
    if any(found.unusable for found in findings if not (spoilt and found.kind == FEW_DROPOUTS)):
        return Verdict(str(path), *group, None, judge.threshold, None, remark)
    if spoilt:
        remark += f"; {len(spoilt)} of {len(parts)} windows, with dropouts, are left out"
    short = ""
    if clip.seconds < SHORTEST * judge.window:
        short = f"{clip.seconds:.3g} s, compared in windows of {judge.window:.3g} s"
    remark = "; ".join(filter(None, (remark, short, coding_remark(path, judge.paths), sound.note)))
    course = judge.course(parts, embed, spoilt)
    score = float(course.scores.max())
    if not np.isfinite(course.single).all():
        raise WheeltapperError(f"{path}: expected a finite score, found {score}")
    deviations = float(judge.references(np.array(score)))
    return Verdict(str(path), *group, score, judge.threshold, deviations, remark, course.worst, course.table)


def _spoilt(parts: Sequence[Clip], findings: Sequence[Finding], usual: Usual) -> list[Clip]:
    """The windows of a long recording that its few dropouts make unusable; none if they are too many of all."""
    if len(parts) < MANY or not any(found.kind == FEW_DROPOUTS for found in findings):
        return []
    found = []
    for part in parts:
        wave, rate = audio.read(part.path, part.start, part.held)
        own = health_check.check(part, measure(wave, rate), usual)
        if any(each.unusable and each.kind in (DROPOUTS, FEW_DROPOUTS) for each in own):
            found.append(part)
    return found if len(found) <= SPOILT * len(parts) else []


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
