"""Between development and evaluation (Wang and Liu 2026, section 2): one configuration is chosen by the labels of the
development machines and frozen; the final run may use no other."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from system import config as configuration
from system import manifest
from system.config import CHECKPOINTS, Config
from system.errors import WheeltapperError
from system.evaluation import available
from system.files import file_hash, read_json, write_json
from system.manifest import Clip
from system.record import run_record
from system.stage import COMPUTED_ON, LOOP_FREE

# In which a final run may differ from the frozen configuration: nothing here changes a score. Patterns of whole keys.
FREE = (
    *("data.machines", "data.frozen", "data.folder", "data.corpus"),  # which recordings, and where things lie
    # What the team says of itself and its systems.
    *("package.*", "systems.*.name", "systems.*.abbreviation", "systems.*.remark"),
    *COMPUTED_ON,
    *(f"*.loop.{name}" for name in LOOP_FREE),
    *("pretrain.probe.*", "pretrain.front_end"),
    *("evaluate.*", "benchmark.*"),  # how results are measured
    "tune.*",  # how a configuration was found
)
NOTHING = "nothing"  # where one of the configurations has no such key
RESULTS = {"auc_source": "AUC (source)", "auc_target": "AUC (target)", "pauc": "pAUC"}


@dataclass(frozen=True)
class Candidate:
    """A development run: its folder, configuration, manifest, metrics.json, and the commits that its stages ran at."""

    folder: Path
    config: Config
    clips: list[Clip]
    metrics: Mapping[str, Any]
    commits: list[str]

    def found(self, system: int) -> Mapping[str, Any]:
        """The metrics of a system by its number."""
        return list(self.metrics["systems"].values())[system - 1]

    def score(self, system: int) -> float:
        """Official score of a system."""
        return self.found(system)["official_score"]


def read_candidate(folder: str | os.PathLike) -> Candidate:
    """A finished development run; WheeltapperError where a file of it is missing, damaged, or without a score."""
    folder = Path(folder)
    config = configuration.load(folder / "config.yaml")
    clips = manifest.read(folder / "manifest.csv")
    metrics = read_json(folder / "metrics.json")
    systems = metrics.get("systems") if isinstance(metrics, dict) else None
    if not systems or len(systems) != len(config.systems):
        raise WheeltapperError(
            f"{folder / 'metrics.json'}: expected the scores of {len(config.systems)} systems on labelled machines, "
            f"found {len(systems or ())}"
        )
    if any(found.get("official_score") is None for found in systems.values()):
        lacking = "; ".join(available.sentences(metrics.get("left_out", {})))
        raise WheeltapperError(
            f"{folder / 'metrics.json'}: expected official scores, found none ({lacking or 'nothing measured'})"
        )
    records = [read_json(path) for path in sorted((folder / "stages").glob("[0-9]*.json"))]
    commits = sorted({str(record.get("commit", "")) for record in records} - {""})
    return Candidate(folder, config, clips, metrics, commits)


def choose(candidates: Sequence[Candidate], system: int = 1) -> Candidate:
    """The candidate of the highest official score; of equal ones the first.

    Args:
        candidates: finished development runs.
        system: number of the system whose score counts, the same in all. It is named beforehand: a choice among all
            systems of all runs would favour the run with more, and more different, systems by chance alone.

    Raises WheeltapperError where the candidates cannot be compared: evaluation machines among the recordings, other
    recordings than the first one's, metrics of another year, or no such system.
    """
    if not candidates:
        raise WheeltapperError("expected at least one development run, found none")
    first = candidates[0]
    for candidate in candidates:
        check_development(candidate.clips, candidate.folder / "manifest.csv")
        if manifest.fingerprint(candidate.clips) != manifest.fingerprint(first.clips):
            raise WheeltapperError(
                f"{candidate.folder}: expected the recordings of {first.folder}, found others: scores on different "
                "recordings cannot be compared"
            )
        years = [each.metrics.get("year") for each in (first, candidate)]
        if years[0] != years[1]:
            raise WheeltapperError(f"{candidate.folder}: expected metrics of {years[0]}, found those of {years[1]}")
        if not 1 <= system <= len(candidate.config.systems):
            raise WheeltapperError(
                f"{candidate.folder}: expected a system {system}, found {len(candidate.config.systems)} systems"
            )
    return max(candidates, key=lambda candidate: candidate.score(system))


def check_development(clips: Sequence[Clip], where: str | os.PathLike) -> None:
    """Raises WheeltapperError, which begins with ``where``, where a machine has no labelled test clips."""
    others = [machine for machine, labelled in manifest.is_development(clips).items() if not labelled]
    if others:
        raise WheeltapperError(
            f"{where}: expected development machines only (data.machines: development), found {', '.join(others)}"
        )


def freeze(out: str | os.PathLike, candidates: Sequence[Candidate], winner: Candidate, system: int) -> dict[str, Any]:
    """Writes the winner's configuration to ``out`` and beside it, as json, the record of the choice, each whole or not
    at all. The record comes last and holds the hash of the configuration, so that the two are known to belong together.

    Returns:
        the record.
    """
    out = Path(out)
    configuration.save(out, winner.config)
    tests = [clip.machine for clip in winner.clips if clip.split == "test"]
    record = {
        "selected": str(winner.folder),
        "rule": f"highest official score of system {system} on the development machines; of equal ones the first",
        "system": system,
        "config_sha256": file_hash(out),
        "config_hash": config_hash(winner.config),
        "weights": dict(weight_hashes(winner.config)),
        "recordings": manifest.fingerprint(winner.clips),
        "machines": {machine: tests.count(machine) for machine in manifest.machines(winner.clips)},
        "year": winner.metrics.get("year"),
        "results": [percent(winner.found(number + 1)) for number in range(len(winner.config.systems))],
        "candidates": [_described(candidate, system) for candidate in candidates],
        **run_record(),
    }
    write_json(record_path(out), record)
    return record


def record_path(frozen: str | os.PathLike) -> Path:
    """The record beside a frozen configuration."""
    return Path(frozen).with_suffix(".json")


def read_record(frozen: str | os.PathLike) -> dict[str, Any]:
    """The record of a choice; WheeltapperError where the frozen configuration is not the one that it records."""
    record = read_json(record_path(frozen))
    if not isinstance(record, dict) or record.get("config_sha256") != file_hash(Path(frozen)):
        raise WheeltapperError(
            f"{frozen}: expected the configuration that {record_path(frozen)} records, found another: it was changed, "
            "or the choice was cut off; wheeltapper select writes both"
        )
    return record


def check_frozen(config: Config, where: str | os.PathLike) -> None:
    """Raises WheeltapperError, which begins with ``where``, unless ``config`` is the frozen one that it names, but for
    what is ``FREE``: names each key, the frozen and the found value."""
    problems = list(frozen_problems(config))
    if problems:
        raise WheeltapperError(f"{where}: {'; '.join(problems)}")


def frozen_problems(config: Config) -> Iterator[str]:
    """What ``check_frozen`` refuses, one sentence each."""
    if not config.data.frozen:
        yield "data.frozen: expected the configuration that wheeltapper select froze, found none"
        return
    record = read_record(config.data.frozen)
    weights = record.get("weights", {})
    same = config_hash(config) == record.get("config_hash")
    frozen = config if same else configuration.load(config.data.frozen)
    for key, expected, found in differences(frozen, config):
        if key not in weights or found in ("", NOTHING):  # files of equal content may lie elsewhere
            yield f"{key}: expected {expected} as frozen in {config.data.frozen}, found {found}"
    if weights:
        own = dict(weight_hashes(config))
        for key, expected in weights.items():
            if key in own and own[key] != expected:
                yield f"{key}: expected weights of SHA-256 {expected} as frozen, found {own[key]}"


def differences(frozen: Config, found: Config) -> list[tuple[str, Any, Any]]:
    """(key, frozen value, found value) of every setting that differs and is not ``FREE``."""
    first, second = settings(frozen), settings(found)
    keys = dict.fromkeys([*first, *second])
    pairs = ((key, first.get(key, NOTHING), second.get(key, NOTHING)) for key in keys)
    return [(key, old, new) for key, old, new in pairs if old != new]


def settings(config: Config) -> dict[str, Any]:
    """All settings that are not ``FREE`` by their whole key; items of lists of mappings count from 1."""
    return {key: value for key, value in flatten(asdict(config)) if not any(fnmatchcase(key, free) for free in FREE)}


def config_hash(config: Config) -> str:
    """SHA-256 over ``settings``: equal for configurations that give the same scores."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in nested mappings and lists of mappings; an empty one is a value."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        items = enumerate(value, 1)
    else:
        yield key, value
        return
    for name, item in items:
        yield from flatten(item, f"{key}.{name}" if key else str(name))


def weight_hashes(config: Config) -> Iterator[tuple[str, str]]:
    """(key, SHA-256 of the file, or of its parts' hashes) of every checkpoint that a configuration names."""
    from system.encoders import layout

    for key, (_, path) in weight_files(config):
        hashes = [file_hash(part) for part in layout.parts(path)]
        yield key, hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def weight_files(config: Config) -> Iterator[tuple[str, tuple[str, Path]]]:
    """(key, (name, file)) of every checkpoint that a configuration names."""
    named = {key: value for key, value in settings(config).items() if key.endswith("checkpoint") and value}
    if named:
        from system.encoders import cards

        for key, value in named.items():
            yield key, (value, cards.find_checkpoint(value, Path(config.data.folder) / CHECKPOINTS))


def percent(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """machine -> measure -> percent, as meta files hold them."""
    return {
        machine: {key: 100.0 * values[name] for key, name in RESULTS.items() if name in values}
        for machine, values in found["per_machine"].items()
        if "hmean_auc_pauc" not in values  # measured over all domains together, which the meta file has no field for
    }


def _described(candidate: Candidate, system: int) -> dict[str, Any]:
    return {
        "exp": str(candidate.folder),
        "config_hash": config_hash(candidate.config),
        "official_score": candidate.score(system),
        "ci95": candidate.found(system)["ci95"],
        "systems": {label: found["official_score"] for label, found in candidate.metrics["systems"].items()},
        "commits": candidate.commits,
    }
