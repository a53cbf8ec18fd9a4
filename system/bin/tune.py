"""Chooses view, scorers and fusion weights by the labels of development runs (stages 0 to 3 complete), one
configuration for all machines, and says what the choice is worth on machines that had no part in it.

The same command, here or elsewhere with the same folder, helps one that is at work and takes up one that was cut off.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import config as configuration
from system import manifest, selection
from system.bin import common, evaluate
from system.config import TuneConfig
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import file_hash, write_json
from system.progress import progress_bar
from system.record import run_record

if TYPE_CHECKING:
    from system.tuning import cache
    from system.tuning.objective import Objective
    from system.tuning.task import Run

EMBEDDED = common.MEASURED[: common.MEASURED.index("embed") + 1]  # commands that lead from a manifest to embeddings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exps", nargs="+", type=Path, metavar="EXP", help="folder of a development run, embedded")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="scores, journal and results")
    parser.add_argument("--conf", type=Path, help="yaml whose tune section counts; default: that of the first run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, as tune.sampler=tpe")
    parser.add_argument("--trials", type=_positive, metavar="N", help="trials of a study (default: tune.trials)")
    parser.add_argument("--processes", type=_positive, default=1, metavar="P", help="processes (default 1)")
    parser.add_argument(
        "--per-machine",
        action="store_true",
        help="only say what a choice for each machine by its own labels would reach in-sample; against the rules",
    )


def main(args: argparse.Namespace) -> None:
    tune = _settings(args)
    labels = _labels(args.exps)
    runs = [_run(exp, label, tune.views) for exp, label in zip(args.exps, labels, strict=True)]
    from system.tuning import results, search, task

    task.check_runs(runs)
    todo = task.jobs(runs, tune, args.out)
    task.check_task(args.out, runs, tune, todo)
    objective = _objective(runs, tune, todo, args)
    first = task.untuned(runs[0])
    _search(objective, objective.space.design(tune.trials, tune.seed, first), tune, args)
    found = search.read(args.out, objective, tune.sampler, tune.trials)
    config = runs[0].experiment.config
    if args.per_machine:
        return _diagnostic(objective, found, config, args.out)
    again = objective.space.points([first])
    tuned = results.conclude(objective, found, again, config.evaluate.bootstrap, config.seed)
    _write(args.out, objective, found, tuned, runs, tune, todo)


def _settings(args: argparse.Namespace) -> TuneConfig:
    conf = args.conf or args.exps[0] / "config.yaml"
    tune = configuration.load(conf, args.set, packaged=False).tune
    if args.trials:
        tune.trials = args.trials
    if tune.choose_for == "machine" and not args.per_machine:
        raise WheeltapperError(
            f"{conf}: tune.choose_for: machine is against the rules, which want one configuration for all machines; "
            "with --per-machine the figure of such a choice is reported, and no configuration written"
        )
    return tune


def _labels(exps: Sequence[Path]) -> list[str]:
    """What runs are called in tables: the names of their folders, or their paths where these are not different."""
    names = [exp.resolve().name for exp in exps]
    return names if len(set(names)) == len(names) else [str(exp) for exp in exps]


def _run(exp: Path, label: str, views: Sequence[str]) -> "Run":
    """A development run whose stages up to the embeddings are complete with the settings and inputs they have now."""
    from system.tuning.task import Run

    run = Experiment(exp, configuration.load(exp / "config.yaml", packaged=False))
    clips = manifest.read(run.manifest)
    selection.check_development(clips, run.manifest)
    for verb in EMBEDDED:
        stage = common.stage_of(run, verb)
        if not stage.is_complete():
            raise WheeltapperError(
                f"{exp}: expected a development run with embeddings, found stage {stage.number} {stage.name} "
                "incomplete with its configuration: run it to stage 3"
            )
    digests = {
        (branch, view): file_hash(run.embeddings(branch, view)) for branch in run.config.branches for view in views
    }
    clips = [clip for clip in clips if clip.split in ("train", "test")]
    return Run(label, run, clips, evaluate.measured_clips(clips, run.config.evaluate.year), digests)


def _objective(
    runs: "Sequence[Run]", tune: TuneConfig, todo: "Sequence[cache.Job]", args: argparse.Namespace
) -> "Objective":
    """Scores what is not yet cached, all processes at it."""
    from system.tuning import cache, task, workers

    folder = args.out / "scores"
    with progress_bar(sum(len(job.scorers) for job in todo), "scoring") as bar:
        workers.side_by_side(cache.compute, (todo, folder), min(args.processes, len(todo)), bar.to)
    objective, notes = task.build(runs, tune, todo)
    for note in notes:
        print(f"note: {note}")
    count = sum(map(len, objective.space.scorers.values()))
    print(f"{count} scorers on {len(objective.space.scorers)} branches, {len(objective.units)} machines and sections")
    return objective


def _search(objective: "Objective", design, tune: TuneConfig, args: argparse.Namespace) -> None:
    from system.tuning import search, workers

    arguments = (args.out, objective, design, tune.sampler, tune.seed)
    total = tune.trials * len(search.studies(objective.machines, tune.sampler))
    begin = time.monotonic()
    with progress_bar(total, "trials") as bar:
        workers.side_by_side(search.run, arguments, args.processes, bar.to)
    print(f"{total} trials by {tune.sampler}, complete after {time.monotonic() - begin:.1f} s")


def _diagnostic(objective: "Objective", found, config, out: Path) -> None:
    from dataclasses import asdict

    from system.tuning import results

    chosen, figures = results.per_machine(objective, found, config.evaluate.bootstrap, config.seed)
    write_json(
        out / "per_machine.json",
        {"choices": {name: asdict(choice) for name, choice in chosen.items()}, "in_sample": figures, **run_record()},
    )
    print(
        f"a choice for each machine by its own labels would reach {_figure(figures)} in-sample. The rules allow one "
        f"configuration for all machines: none is written. Wrote {out / 'per_machine.json'}"
    )


def _write(out: Path, objective: "Objective", found, tuned, runs: "Sequence[Run]", tune: TuneConfig, todo) -> None:
    from dataclasses import asdict

    from system.report import tuning as page
    from system.tuning import results, task

    config = results.configuration(runs[0].experiment.config, tuned, task.scorers_of(todo))
    configuration.save(out / "tuned.yaml", config)
    record = {
        "runs": [
            {"exp": str(run.experiment.folder), "label": run.label, "recordings": manifest.fingerprint(run.clips)}
            for run in runs
        ],
        "machines": objective.machines,
        "tune": asdict(tune),
        "trials": {name: len(points) for name, (points, _) in found.items()},
        "config_sha256": file_hash(out / "tuned.yaml"),
        "in_sample_by_run": [results.by_run(objective, tuned.in_sample)[number] for number in range(len(runs))],
        **results.described(tuned),
        **run_record(),
    }
    write_json(out / "tune.json", record)
    page.write_page(out / "tune.html", objective, found, tuned, tune)
    _say(out, tuned, config)


def _say(out: Path, tuned, config) -> None:
    for text, figures in (
        ("untuned, system 1 of the first run", tuned.untuned),
        ("tuned, cross-validated (each machine by a choice of the others)", tuned.cross_validated),
        ("tuned, in-sample (promises too much)", tuned.in_sample),
    ):
        print(f"{_figure(figures)}  {text}")
    print(f"{100 * tuned.optimism:6.2f}    optimism: in-sample minus cross-validated")
    if tuned.cross_validated["official_score"] <= tuned.untuned["official_score"]:
        print("note: on machines left out the tuned choice does no better than the untuned one: keep the untuned one")
    idle = [name for name in config.branches if all(system.weights.get(name, 0) == 0 for system in config.systems)]
    if idle:
        print(f"note: no system uses {', '.join(idle)}: without it the final run is faster")
    print(f"wrote {out / 'tuned.yaml'}, {out / 'tune.json'}, {out / 'tune.html'}")


def _figure(figures: Any) -> str:
    interval = figures["ci95"]
    text = f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    return f"{100 * figures['official_score']:6.2f} %{text}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)
