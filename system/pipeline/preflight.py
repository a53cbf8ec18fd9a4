"""What can be known of a run before it begins: all of it is looked at, and all that is wrong is said at once.

The rules are those of the stages, which check again what they read. Nothing is written, and torch is loaded for a
device other than the cpu and for unusual encoders alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system import dependencies, plugins, processes
from system.dependencies import import_failure
from system.errors import WheeltapperError, several
from system.files import check_free, denial
from system.pipeline import disk, requirements
from system.stage import MARKERS

# Packages that stages import late, by stages; the rest is met when the configuration is read.
PACKAGES = {
    **dict.fromkeys(("scipy", "soundfile", "torchaudio"), (0, 1, 2, 3, 8)),
    **dict.fromkeys(("torch", "torchvision", "timm", "safetensors", "accelerate", "tensorboard", "peft"), (1, 2, 3, 8)),
    "sklearn": (2, 4, 8, 9),
    "reportlab": (7,),
    "jinja2": (7, 9),
    "matplotlib": (9,),
}


@dataclass(frozen=True)
class Plan:
    """What is asked of a recipe.

    Args:
        exp: experiment folder. conf: yaml, None for the one saved there. overrides: of it, ``key=value`` each.
        data: of stage 0, empty for that of the last run there or simulated. stages: numbers of the stages to be run.
    """

    exp: Path
    conf: Path | None
    overrides: list[str]
    data: str
    stages: range


class Findings(list[str]):
    """Problems, one line each."""

    def of(self, check: Callable[..., Any], *arguments: Any) -> Any:
        """What a check returns; None where it found something, which is kept."""
        try:
            return check(*arguments)
        except WheeltapperError as error:
            self.extend(error.problems)
        except Exception as error:
            if failure := import_failure(error):
                self.append(str(failure))
            elif isinstance(error, OSError) and error.strerror:
                self.append(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
            else:
                raise
        return None


def check(plan: Plan) -> list[str]:
    """Looks at folder, packages, plug-ins, configuration, device, weights, recordings and disk.

    Returns:
        notes on what may become a problem.

    Raises WheeltapperError with everything that would stop a stage of the plan.
    """
    found = Findings()
    found.of(check_folder, plan.exp)
    found.of(check_packages, plan.stages)
    found.extend(filter(None, map(plugins.failure, plugins.names())))
    config, problems = found.of(_configuration, plan) or (None, [])
    found.extend(problems)
    source = found.of(_source, plan, config) if 0 in plan.stages else None
    notes: list[str] = []
    if config is not None:
        _check_configured(found, plan, config, problems)
        # What the later stages write depends on branches that may be wrong.
        stages = [number for number in plan.stages if number == 0 or not problems]
        notes = found.of(disk.check, _run(plan, config), stages, source) or []
    if found:
        raise several(str(plan.exp), list(dict.fromkeys(found)))
    return notes


def check_earlier(plan: Plan) -> None:
    """Raises WheeltapperError unless the stages before the first one are complete with the same settings.

    Otherwise a result would mix two configurations.
    """
    from system.experiment import STAGES, Experiment
    from system.pipeline.settings import read_configuration
    from system.pipeline.stages import STAGES_TO_METRICS, first_incomplete

    first = plan.stages.start
    before = STAGES_TO_METRICS[: max(first - 1, 0)] if first < STAGES.index("benchmark") else ()
    if not before:
        return
    run = Experiment(plan.exp, read_configuration(plan.exp, plan.conf, plan.overrides))
    if stage := first_incomplete(run, before):
        wanted = f"stage {stage.number} {stage.name} complete with these settings"
        advice = f"start with --stage {stage.number}"
        raise WheeltapperError(f"{plan.exp}: --stage {first}: expected {wanted}, found {stage.problem()}; {advice}")


def check_folder(folder: Path) -> None:
    """Raises WheeltapperError unless a folder, there or to be made, can be written to and no process holds it."""
    there = disk.nearest(folder)
    if not there.is_dir():
        found = "a file" if there.exists() else "a link to nothing"
        raise WheeltapperError(f"{folder}: expected a folder to write to, found {found} at {there}")
    for path in (there, *(folder / name for name in (MARKERS, "config.yaml") if (folder / name).exists())):
        if reason := denial(path):
            raise WheeltapperError(f"{folder}: expected a folder to write to, found {path}: {reason}")
    check_free(folder)


def check_packages(stages: range) -> None:
    """Raises WheeltapperError for packages that stages import late and that are not there."""
    from importlib.util import find_spec

    names = [name for name, numbers in PACKAGES.items() if set(numbers) & set(stages)]
    found = {name: find_spec(name) for name in names}
    # What is left of a package whose files are gone is imported without complaint, and holds nothing.
    missing = [name for name, spec in found.items() if spec is None or spec.origin is None]
    missing = [f"{name} is not installed; {dependencies.advice(name)}" for name in missing]
    broken = [str(failure) for _, failure in dependencies.run_probes(["soundfile"]) if failure] if not missing else []
    if missing or broken:
        raise several("packages", missing + broken)


def _configuration(plan: Plan) -> Any:
    """The configuration, with defaults for what is wrong with it, and what is."""
    from system import config as configuration
    from system.experiment import configuration_file
    from system.pipeline.settings import CHECKS

    return configuration.read(configuration_file(plan.exp, plan.conf), plan.overrides, CHECKS)


def _run(plan: Plan, config: Any) -> Any:
    from system.experiment import Experiment

    return Experiment(plan.exp, config)


def _source(plan: Plan, config: Any) -> Any:
    """What --data names; where the configuration could not be read downloads are taken to go to the usual place."""
    from system.config import DataConfig
    from system.corpora import source
    from system.corpora.inspection import check_there
    from system.pipeline.admission import admit

    downloads = Path((config.data if config else DataConfig()).folder)
    data = plan.data or source.remembered(plan.exp, downloads) or source.SYNTHETIC
    found = source.find_source(data, plan.exp, downloads)
    if found.manifest:
        clips, places = source.list_source(found.manifest, config.data.corpus if config else "")
        admit(clips, found.manifest, places)
        check_there(clips, found.manifest, places)
    source.check(found)
    if found.year and found.folder:
        check_folder(found.folder)
    return found


def _check_configured(found: Findings, plan: Plan, config: Any, problems: list[str]) -> None:
    """What the configuration asks for beside the recordings, but for what ``problems`` speak of already."""
    from system import config as configuration
    from system import selection
    from system.experiment import STAGES, SYSTEMLESS
    from system.machine import ACCELERATORS, choose_device

    where = str(plan.conf or plan.exp / "config.yaml")
    if any(STAGES[number] not in SYSTEMLESS for number in plan.stages) and not problems:
        found.of(configuration.check_systems, config, where)
    if {1, 2, 3, 8} & set(plan.stages) and config.device in ACCELERATORS:
        found.of(choose_device, config.device)
    run, before = _run(plan, config), len(found)
    found.extend(_batch_problems(run, plan.stages))
    for name, encoder in requirements.encoders(run, plan.stages).items():
        if not any(name in problem for problem in problems):
            found.of(check_weights, name, encoder, config.data.folder)
    frozen = config.data.frozen or config.data.machines == "evaluation"
    if frozen and len(found) == before and not problems:
        found.of(selection.check_frozen, config, where)
    if 1 in plan.stages and run.has_encoder and config.pretrain.loop.steps:
        found.extend(_pretrain_problems(config.pretrain))
    if missing := requirements.missing(run, plan.stages):
        number, path = missing
        text = f"--stage {plan.stages.start}: expected what stage {number} {STAGES[number]} writes, found no {path}"
        found.append(f"{text}; start with --stage {number}")


def check_weights(name: str, config: Any, folder: str) -> None:
    """Raises WheeltapperError, which begins with a key, unless an encoder's checkpoint is there, can be read and is of
    its family, or the encoder is to be made untrained in a known size."""
    from system.encoders import cards, family_class, peek

    try:
        file = cards.checkpoint_file(config, folder)
        if file:
            peek.check_family(file, config.family)
        elif (config.family, config.size) not in {(card.family, card.size) for card in cards.CARDS.values()}:
            family_class(config.family).sized(config.size)
    except WheeltapperError as error:
        raise WheeltapperError(f"{name}: {error}") from error


def _batch_problems(run: Any, stages: range) -> Iterator[str]:
    """Batches that cannot be shared by the processes of a run."""
    count = processes.count()
    loops = {"pretrain": run.config.pretrain.loop} if 1 in stages and run.has_encoder else {}
    if 2 in stages:
        loops |= {f"branches.{name}": branch.loop for name, branch in run.encoder_branches.items()}
    for name, loop in loops.items():
        if count > 1 and loop.steps and loop.batch_size % (count * loop.accumulate):
            yield (
                f"{name}.loop.batch_size: expected a multiple of {count} processes x accumulate {loop.accumulate}, "
                f"found {loop.batch_size}"
            )


def _pretrain_problems(config: Any) -> Iterator[str]:
    """Recordings to pre-train on that are not there."""
    from system import manifest

    given = {f"pretrain.sources.{number}": Path(source.path) for number, source in enumerate(config.sources)}
    if config.probe.every:
        given["pretrain.probe.manifest"] = Path(config.probe.manifest)
    for key, path in given.items():
        if path.is_dir() and "sources" in key:  # of shards
            continue
        try:
            manifest.check_header(path)
        except WheeltapperError as error:
            yield f"{key}: {error}"
