"""Stage 0: recordings to a checked manifest.csv, whatever --data names."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from system import manifest
from system.config import Config
from system.corpora import copies, health_table, sound_settings, source
from system.corpora.challenge import Year
from system.corpora.fingerprints import Fingerprints
from system.corpora.health import Health
from system.corpora.source import Source
from system.corpora.summary import machine_summary
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import files_signature
from system.pipeline.admission import admit
from system.progress import progress_bar
from system.stage import MARKERS, Stage


def stage(run: Experiment, data: str = "") -> Stage:
    """The stage as it stands in an experiment.

    Args:
        data: ``synthetic``, ``dcase<year>``, a folder, or a manifest or table; empty for that of the last run, or
            synthetic.
    """
    found, config = _find(run, data), run.config
    started = run.folder / MARKERS / source.STARTED
    if found.manifest:
        path = found.manifest
        clips, _ = source.list_source(path)
        chosen = {"data": str(path.resolve()), "machines": config.data.machines, **_channels(config)}
        if not manifest.is_manifest(path):
            chosen["corpus"] = config.data.corpus
        if path.resolve() == run.manifest.resolve():
            raise WheeltapperError(
                f"--data {path}: expected a list that is not this experiment's own, which stage 0 writes anew"
            )
        stage = run.stage("data", chosen, [path], owns=_owned(run, [Path(clip.path) for clip in clips]))
        stage.discards = [started]
        stage.watch = lambda: files_signature(clip.path for clip in clips)
        return stage
    folder = _folder(found)
    settings: dict[str, Any] = {
        "data": found.data if found.synthetic else str(folder.resolve()),
        "corpus": config.data.corpus,
        **_channels(config),
    }
    if config.data.machines != "all":
        settings["machines"] = config.data.machines
    if found.synthetic:
        settings |= {"synthetic": config.data.synthetic, "seed": config.seed}
    owns = _owned(run, [] if found.synthetic else [folder])
    stage = run.stage("data", settings, [], owns=owns, watched=folder)
    stage.discards = [started]
    return stage


def work(run: Experiment, data: str = "") -> Iterable[Path]:
    """Makes, fetches or reads the recordings and writes the manifest; returns its file."""
    found = _find(run, data)
    healths: dict[manifest.Key, Health] = {}
    fingerprints = Fingerprints()
    if found.manifest:
        clips = _listed(run, found.manifest, healths, fingerprints)
        return _write(run, clips, healths, fingerprints)
    folder = _folder(found)
    if found.synthetic:
        _simulate(run, folder)
    if found.year:
        folder = _download(found.year, folder)
    corpus = run.config.data.corpus or Path(found.data).name
    clips = prepare(folder, corpus, healths, run.config.data.channels, fingerprints)
    clips = manifest.of_machines(clips, run.config.data.machines, folder)
    admitted = admit(clips, folder)
    renamed = {after.key: healths[before.key] for before, after in zip(clips, admitted, strict=True)}
    return _write(run, admitted, renamed, fingerprints)


def start(run: Experiment, data: str = "") -> str:
    """What the stage reads: ``data``, or that of the last start, or synthetic; kept for starts without ``--data``."""
    before = _remembered(run)
    if data and before and before not in (data, str(Path(data).resolve())):
        print(f"note: {run.folder} was made from {before}; --data {data} takes its place", flush=True)
    chosen = data or before or source.SYNTHETIC
    source.remember(run.folder, stage(run, chosen).settings["data"])
    return chosen


def prepare(
    folder: Path,
    corpus: str = "dcase",
    healths: dict[manifest.Key, Health] | None = None,
    channels: str = "",
    fingerprints: Fingerprints | None = None,
) -> list[manifest.Clip]:
    """Clips of a folder in DCASE layout (``corpora.dcase.prepare_dcase``), with a progress bar."""
    from system.corpora.dcase import prepare_dcase

    with progress_bar(0, "reading") as bar:
        return prepare_dcase(
            folder, corpus, progress=bar.to, healths=healths, channels=channels, fingerprints=fingerprints
        )


def write_manifest(path: Path, clips: list[manifest.Clip]) -> list[Path]:
    """Writes a manifest and prints what it holds; returns its file."""
    manifest.write(path, clips)
    print(machine_summary(clips))
    print(f"wrote {path}: {len(clips)} clips")
    return [path]


def _write(
    run: Experiment, clips: list[manifest.Clip], healths: dict[manifest.Key, Health], fingerprints: Fingerprints
) -> list[Path]:
    """Writes manifest, health and copies, and prints what they hold."""
    from system import machine_scores

    sound_settings.check_rate(clips, run.config.data.rate)
    clips = sound_settings.choose_channels(clips, run.config.data.channels)
    health_table.check_living(clips, healths)
    with progress_bar(0, "comparing") as bar:
        found = copies.find(clips, progress=bar.to, fingerprints=fingerprints)
    different = copies.unite([replace(clip, group="") for clip in clips], found)
    scorers = {name: branch.scorer for name, branch in run.config.branches.items()}
    machine_scores.check_references(different, scorers, run.config.data)
    clips = copies.unite(clips, found)
    health_table.write(run.health, clips, healths)
    written = [*write_manifest(run.manifest, clips), run.health]
    if found:
        copies.write(run.copies, found)
        written.append(run.copies)
    for note in (*health_table.training_notes(clips, healths), *copies.notes(clips, found)):
        print(f"note: {note}")
    return written


def _channels(config: Config) -> dict[str, str]:
    """``data.channels`` among the settings of the stage, where it is set."""
    return {"channels": config.data.channels} if config.data.channels else {}


def _remembered(run: Experiment) -> str:
    return source.remembered(run.folder, Path(run.config.data.folder))


def _find(run: Experiment, data: str) -> Source:
    return source.find_source(data or _remembered(run) or source.SYNTHETIC, run.folder, Path(run.config.data.folder))


def _owned(run: Experiment, recordings: Iterable[Path]) -> list[str]:
    """What the stage may remove: not recordings of the user's that lie where simulated ones would."""
    own = (run.folder / "data").resolve()
    given = any(path.resolve().is_relative_to(own) for path in recordings)
    return ["manifest.csv", "health.csv", "copies.csv", *([] if given else ["data"])]


def _folder(found: Source) -> Path:
    if found.folder is None:
        raise ValueError(f"{found.data}: a manifest has no folder")
    return found.folder


def _listed(
    run: Experiment, path: Path, healths: dict[manifest.Key, Health], fingerprints: Fingerprints
) -> list[manifest.Clip]:
    """Clips that a manifest or table lists, as a run takes them."""
    from system.corpora.inspection import check_recordings

    clips, places = source.list_source(path, run.config.data.corpus)
    named = admit(clips, path, places)  # before anything is opened
    with progress_bar(0, "reading") as bar:
        checked = check_recordings(named, path, bar.to, healths, places, fingerprints=fingerprints)
        clips = admit(checked, path, places)
    return manifest.of_machines(clips, run.config.data.machines, path)


def _simulate(run: Experiment, folder: Path) -> None:
    from system.corpora.simulation.synthetic import SyntheticSettings, synthesize

    with progress_bar(0, "simulating") as bar:
        settings = SyntheticSettings.of_size(run.config.data.synthetic)
        synthesize(folder, settings, run.config.seed, workers=2, progress=bar.to)


def _download(year: Year, folder: Path) -> Path:
    from system.corpora.download import download_dcase

    with progress_bar(0, "downloading") as bar:
        (place,) = download_dcase(
            year,
            folder,
            progress=lambda name, done, total: bar.to(done, total),
            say=lambda text: print(text, file=sys.stderr),
        )
    return place
