"""New recordings judged by a finished run: found, checked, scored side by side."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from system import audio, manifest
from system import config as configuration
from system.config import check_systems
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.machine import one_thread_each
from system.manifest import Clip
from system.parallel import map_in_order
from system.pipeline import resources, verdicts
from system.pipeline.branches import system_embedder
from system.pipeline.stages import STAGES_TO_SYSTEMS, first_incomplete, stages_of
from system.pipeline.verdicts import Group, Verdict
from system.progress import progress_bar

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds without a progress bar


class Recording(NamedTuple):
    """A file to be judged: its machine and section, or the error that leaves it without them."""

    path: Path
    group: Group | None
    error: str = ""


class Judged(NamedTuple):
    """A file with its verdict, or with the error that left it without one."""

    path: Path
    verdict: Verdict | None
    error: str = ""


def finished_run(folder: Path) -> tuple[Experiment, list[Clip]]:
    """The run in a folder and the clips of its manifest; nothing is written.

    Raises:
        WheeltapperError: a stage that scores depend on is not complete with the settings in config.yaml.
    """
    if not (folder / "config.yaml").is_file():
        raise WheeltapperError(f"{folder}: expected the folder of a finished run, found no config.yaml there")
    run = Experiment(folder, configuration.load(folder / "config.yaml"))
    check_systems(run.config, str(folder / "config.yaml"))
    clips = manifest.read(run.manifest)
    if stage := first_incomplete(run, STAGES_TO_SYSTEMS):
        raise WheeltapperError(
            f"{folder}: stage {stage.number} {stage.name}: expected it complete, found {stage.problem()}; wheeltapper "
            f"run --exp {folder} --stage 1 --stop-stage 5 completes it"
        )
    if note := stages_of(run, STAGES_TO_SYSTEMS)["fuse"].made_by_another():
        log.warning("%s: %s", folder, note)
    return run, clips


def list_recordings(
    given: Sequence[Path], clips: Sequence[Clip], machine: str = "", section: str = ""
) -> Iterator[Recording]:
    """Sound files, each once, in the order given, with the machine that each belongs to.

    Args:
        given: sound files, and folders of sound files.
        clips: of the run's manifest.
        machine: name of the machine; empty to take it from the file's name or folder.
        section: of the machine; empty for its only one.
    """
    groups, seen = list(dict.fromkeys((clip.machine, clip.section) for clip in clips if clip.split == "train")), set()
    for path in given:
        files = audio.list_files(path) if path.is_dir() else [path]
        if not files:
            yield Recording(path, None, str(audio.nothing_found(path)))
        for file in files:
            if file in seen:
                continue
            seen.add(file)
            try:
                yield Recording(file, verdicts.group_of(file, groups, machine, section))
            except WheeltapperError as problem:
                yield Recording(file, None, str(problem))


def judge_recordings(
    run: Experiment, number: int, clips: Sequence[Clip], recordings: Sequence[Recording]
) -> Iterator[Judged]:
    """Scores recordings side by side, in their order; an error leaves the other recordings alone.

    Args:
        number: of the system, from 1.
        clips: of the run's manifest.
    """
    groups = list(dict.fromkeys(recording.group for recording in recordings if recording.group))
    if not groups:
        yield from (Judged(recording.path, None, recording.error) for recording in recordings)
        return
    resources.prepare_torch(run)
    judges = verdicts.judges(run, number, clips, groups)
    embed = system_embedder(run, run.config.systems[number - 1])
    files = sum(1 for recording in recordings if recording.group)
    workers = one_thread_each(run.config.threads) if files > 1 else 1

    def judge(recording: Recording) -> Judged:
        path, group, error = recording
        if group is None:
            return Judged(path, None, error)
        try:
            return Judged(path, verdicts.judge_file(path, group, judges[group], embed))
        except WheeltapperError as problem:
            return Judged(path, None, str(problem))
        except OSError as problem:
            return Judged(path, None, f"{path}: {problem.strerror or problem}")

    with progress_bar(len(recordings), "scoring", PATIENCE) as bar:
        for result in map_in_order(judge, recordings, workers):
            bar.update(1)
            yield result
