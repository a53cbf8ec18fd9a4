"""A whole tuning: development runs in, a chosen configuration and what it is worth on machines left out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system import config as configuration
from system import manifest
from system.config import Config, TuneConfig
from system.errors import WheeltapperError
from system.files import file_hash, write_json
from system.pipeline.development import development_run, score_text
from system.pipeline.settings import load_configuration
from system.pipeline.stages import STAGES_TO_EMBEDDINGS
from system.pipeline.stages.evaluate import measured_clips
from system.progress import progress_bar
from system.record import run_record
from system.tuning import cache, page, results, search, task, workers
from system.tuning.objective import Objective
from system.tuning.results import Found, Tuned
from system.tuning.task import DevelopmentRun


@dataclass(frozen=True)
class Tuning:
    """A finished search.

    Args:
        out: its folder, with the score cache and the journal of trials.
        settings: of the search.
        runs: development runs.
        jobs: of the score cache.
        objective: official score of a choice.
        found: the choices that each study tried, and their measures.
    """

    out: Path
    settings: TuneConfig
    runs: Sequence[DevelopmentRun]
    jobs: Sequence[cache.ScoreJob]
    objective: Objective
    found: Found

    @property
    def config(self) -> Config:
        """The configuration of the runs."""
        return self.runs[0].experiment.config


def read_settings(conf: Path, overrides: Sequence[str] = (), trials: int = 0, per_machine: bool = False) -> TuneConfig:
    """The ``tune`` section of a configuration.

    Args:
        conf: configuration file.
        overrides: texts of --set.
        trials: number of trials of a study; 0 for the configured one.
        per_machine: whether a choice for each machine is only to be measured, which the rules allow.

    Raises:
        WheeltapperError: the configuration asks for one choice a machine, and ``per_machine`` is false.
    """
    tune = load_configuration(conf, list(overrides), packaged=False).tune
    if trials:
        tune.trials = trials
    if tune.choose_for == "machine" and not per_machine:
        raise WheeltapperError(
            f"{conf}: tune.choose_for: machine is against the rules, which want one configuration for all machines; "
            "with --per-machine the figure of such a choice is reported, and no configuration written"
        )
    return tune


def read_runs(exps: Sequence[Path], views: Sequence[str]) -> list[DevelopmentRun]:
    """Development runs whose stages up to the embeddings are complete with the settings and inputs they have now."""
    names = [exp.resolve().name for exp in exps]
    labels = names if len(set(names)) == len(names) else [str(exp) for exp in exps]
    return [_run(exp, label, views) for exp, label in zip(exps, labels, strict=True)]


def _run(exp: Path, label: str, views: Sequence[str]) -> DevelopmentRun:
    run, clips = development_run(exp, STAGES_TO_EMBEDDINGS)
    digests = {
        (branch, view): file_hash(run.embeddings(branch, view)) for branch in run.config.branches for view in views
    }
    clips = [clip for clip in clips if clip.split in ("train", "test")]
    return DevelopmentRun(label, run, clips, measured_clips(clips, run.config.evaluate.year), digests)


def tune(exps: Sequence[Path], settings: TuneConfig, out: Path, processes: int = 1) -> Tuning:
    """Scores the embeddings of development runs with every candidate and searches for the best choice.

    The same call, here or in another process with the same folder, helps one that is at work and goes on with one that
    was interrupted.

    Args:
        exps: folders of development runs whose stages up to 3 are complete.
        settings: of the search.
        out: folder for scores and trials.
        processes: number of processes.

    Raises:
        WheeltapperError: the runs cannot be tuned together, or the folder holds another tuning.
    """
    runs = read_runs(exps, settings.views)
    task.check_runs(runs)
    jobs = task.jobs(runs, settings, out)
    task.check_task(out, runs, settings, jobs)
    processes = workers.possible(out, processes)
    with progress_bar(sum(len(job.scorers) for job in jobs), "scoring") as bar:
        workers.side_by_side(cache.compute, (jobs, out / "scores"), min(processes, len(jobs)), bar.to)
    objective, notes = task.build(runs, settings, jobs)
    for note in (*cache.said(jobs), *notes):
        print(f"note: {note}")
    count = sum(map(len, objective.space.scorers.values()))
    print(f"{count} scorers on {len(objective.space.scorers)} branches, {len(objective.units)} machines and sections")
    design = objective.space.design(settings.trials, settings.seed, task.untuned(runs[0]))
    total = settings.trials * len(search.studies(objective.machines, settings.sampler))
    begin = time.monotonic()
    with progress_bar(total, "trials") as bar:
        arguments = (out, objective, design, settings.sampler, settings.seed)
        workers.side_by_side(search.run, arguments, processes, bar.to)
    print(f"{total} trials by {settings.sampler}, complete after {time.monotonic() - begin:.1f} s")
    found = search.read(out, objective, settings.sampler, settings.trials)
    return Tuning(out, settings, runs, jobs, objective, found)


def measure_per_machine(tuning: Tuning) -> Mapping[str, Any]:
    """What a choice for each machine by its own labels would reach in-sample; writes ``per_machine.json``.

    Returns:
        The figures of ``metrics.evaluate``. The rules allow one configuration for all machines: none is written.
    """
    config = tuning.config
    chosen, figures = results.per_machine(tuning.objective, tuning.found, config.evaluate.bootstrap, config.seed)
    choices = {name: asdict(choice) for name, choice in chosen.items()}
    write_json(tuning.out / "per_machine.json", {"choices": choices, "in_sample": figures, **run_record()})
    return figures


def conclude(tuning: Tuning, anyway: bool = False) -> tuple[Tuned, Config]:
    """Chooses, cross-validates over machines, and writes ``tune.json``, ``tune.html`` and perhaps ``tuned.yaml``.

    Args:
        tuning: finished search.
        anyway: whether ``tuned.yaml`` is also written for a choice that is not better on machines left out; without,
            one of fewer trials is removed.

    Returns:
        The choice with its figures, and its configuration.
    """
    objective, config = tuning.objective, tuning.config
    again = objective.space.points([task.untuned(tuning.runs[0])])
    tuned = results.conclude(objective, tuning.found, again, config.evaluate.bootstrap, config.seed)
    chosen = results.configuration(config, tuned, task.scorers_of(tuning.jobs))
    path = tuning.out / "tuned.yaml"
    written = tuned.is_better or anyway
    if written:
        configuration.save(path, chosen)
    else:
        path.unlink(missing_ok=True)
    in_sample = results.by_run(objective, tuned.in_sample)
    record = {
        "runs": [
            {"exp": str(run.experiment.folder), "label": run.label, "recordings": manifest.fingerprint(run.clips)}
            for run in tuning.runs
        ],
        "machines": objective.machines,
        "tune": asdict(tuning.settings),
        "trials": {name: len(points) for name, (points, _) in tuning.found.items()},
        "config_sha256": file_hash(path) if written else None,
        "in_sample_by_run": [in_sample[number] for number in range(len(tuning.runs))],
        **results.described(tuned),
        **run_record(),
    }
    write_json(tuning.out / "tune.json", record)
    page.write_page(tuning.out / "tune.html", objective, tuning.found, tuned, tuning.settings)
    return tuned, chosen


def summary(tuned: Tuned, config: Config) -> list[str]:
    """Lines for the terminal: the figures, and what to think of them."""
    lines = [
        f"{score_text(figures)}  {text}"
        for text, figures in (
            ("untuned, system 1 of the first run", tuned.untuned),
            ("tuned, cross-validated (each machine by a choice of the others)", tuned.cross_validated),
            ("tuned, in-sample (promises too much)", tuned.in_sample),
        )
    ]
    lines.append(f"{100 * tuned.optimism:6.2f}    optimism: in-sample minus cross-validated")
    differences = 100 * np.array([fold.held_out - fold.untuned for fold in tuned.folds])
    lines.append(
        f"on machines left out: {100 * tuned.cross_validated['official_score']:.2f} % tuned, "
        f"{100 * tuned.untuned['official_score']:.2f} % untuned; a machine gains {differences.mean():+.2f} points on "
        f"average, standard deviation {differences.std(ddof=1):.2f} over {len(differences)} machines: "
        f"{'tuning helps' if tuned.is_better else 'tuning does not help, keep the untuned configuration'}"
    )
    idle = [name for name in config.branches if all(system.weights.get(name, 0) == 0 for system in config.systems)]
    if idle and tuned.is_better:
        lines.append(f"note: no system uses {', '.join(idle)}: without it the final run is faster")
    return lines
