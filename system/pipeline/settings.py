"""Configurations of runs, with the checks of the parts of the program that they are for.

``system.config`` checks what it can by itself. What a scorer takes, and what can stand in a submission package, is
known to the scorers and to the package; their checks are handed in from here.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from submission import declared
from system import config as configuration
from system import scoring, selection
from system.config import Config
from system.experiment import Experiment, configuration_file


def scorer_problems(config: Config) -> Iterator[str]:
    """Finds what is wrong with the scorers of branches and of ``tune.scorers``, one sentence each, the key first."""
    for name, branch in config.branches.items():
        for setting, text in scoring.problems(branch.scorer.name, branch.scorer.settings):
            yield f"branches.{name}.scorer.{f'settings.{setting}' if setting else 'name'}: {text}"
    for scorer, settings in config.tune.scorers.items():
        where = f"tune.scorers.{scorer}"
        if scorer not in scoring.SCORERS:
            yield f"{where}: expected one of {', '.join(scoring.SCORERS)}, found {scorer!r}"
            continue
        if not isinstance(settings, Mapping):
            yield f"{where}: expected settings with the values to try, found {settings!r}"
            continue
        for key, values in settings.items():
            if not isinstance(values, list) or not values:
                yield f"{where}.{key}: expected a list of at least one value, found {values!r}"
                continue
            for value in values:
                yield from (f"{where}.{key}: {text}" for _, text in scoring.problems(scorer, {key: value}))


def package_problems(config: Config) -> Iterator[str]:
    """Finds what no submission package can be made with, one sentence each, the key first."""
    if config.branches or config.systems:  # else only pre-training
        yield from declared.problems(config.package, [(system.name, system.abbreviation) for system in config.systems])


CHECKS = (scorer_problems, package_problems)


def load_configuration(
    path: str | os.PathLike, overrides: Iterable[str] | None = None, packaged: bool = True
) -> Config:
    """Reads a configuration with every check.

    Args:
        path: yaml file, or a name among the recipes (``system.config.finding.find``).
        overrides: texts of --set.
        packaged: whether what cannot stand in a submission package is refused too.

    Raises:
        WheeltapperError: its ``problems`` are everything that is wrong, each with the file or option that says it.
    """
    return configuration.load(path, overrides, CHECKS if packaged else (scorer_problems,))


def read_configuration(folder: str | os.PathLike, conf: str | os.PathLike | None, overrides: list[str]) -> Config:
    """The configuration ``conf`` of an experiment, or the one saved in its folder, which may not be there yet."""
    config = load_configuration(configuration_file(folder, conf), overrides)
    if config.data.frozen or config.data.machines == "evaluation":
        selection.check_frozen(config, Path(folder) / "config.yaml")
    return config


def open_experiment(folder: str | os.PathLike, conf: str | os.PathLike | None, overrides: list[str]) -> Experiment:
    """The experiment in ``folder`` with the configuration ``conf``, or the one saved there; saves the resolved one."""
    config = read_configuration(folder, conf, overrides)
    configuration.save(Path(folder) / "config.yaml", config)
    return Experiment(Path(folder), config)
