"""Facts of a run, and their comparison with the claims in its package."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from submission.findings import Collector, listing, shorten

TOLERANCE = 0.01


@dataclass(frozen=True)
class RunFacts:
    """Facts of the run behind a package. Empty fields are not checked.

    Args:
        results: label -> development machine -> {"auc_source", "auc_target", "pauc"} in percent, recomputed.
        total_parameters: label -> number of parameters counted in the loaded models.
        external_models: label -> names of the external data and pre-trained models that the system uses.
        config_hash: hash of the configuration that scored the evaluation clips.
        frozen_config_hash: hash of the configuration that was frozen after the choice on development data.
        training_files: paths of all clips used for training, reference banks and normalisation.
        training_digests: content hash -> path of the same clips.
        evaluation_digests: content hash -> path of the anonymous test clips.
        machine_settings: machine -> its hyper-parameters (the rules forbid tuning per machine).
    """

    results: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    total_parameters: Mapping[str, int] = field(default_factory=dict)
    external_models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config_hash: str = ""
    frozen_config_hash: str = ""
    training_files: Sequence[str] = ()
    training_digests: Mapping[str, str] = field(default_factory=dict)
    evaluation_digests: Mapping[str, str] = field(default_factory=dict)
    machine_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def check_run(facts: RunFacts, where: str, collector: Collector) -> None:
    """Checks the rules about the whole run: training data, frozen configuration, equal settings for all machines.

    Args:
        facts: facts of the run.
        where: name of the run in the findings.
        collector: receives the findings.
    """
    tests = [path for path in facts.training_files if is_test_clip(path)]
    if tests:
        collector.error(where, f"expected training on normal training clips only, found {listing(tests, 3)}")
    leaked = sorted(
        f"{path} (also {facts.training_digests[digest]})"
        for digest, path in facts.evaluation_digests.items()
        if digest in facts.training_digests
    )
    if leaked:
        collector.error(where, f"expected no evaluation clip among the training clips, found {listing(leaked, 3)}")
    if facts.frozen_config_hash and facts.config_hash != facts.frozen_config_hash:
        collector.error(
            where,
            f"expected the configuration {facts.frozen_config_hash[:16]} that was frozen on development data, "
            f"found {facts.config_hash[:16] or 'none'}",
        )
    settings = {machine: dict(values) for machine, values in facts.machine_settings.items()}
    keys = sorted({key for values in settings.values() for key in values})
    different = [key for key in keys if len({repr(values.get(key)) for values in settings.values()}) > 1]
    if different:
        collector.warning(where, f"expected the same settings for all machines, found different {listing(different)}")


def check_claims(
    facts: RunFacts, label: str, document: Any, lines: Mapping[str, int], where: str, collector: Collector
) -> None:
    """Compares a meta file with the run: results, number of parameters, external models.

    Args:
        facts: facts of the run.
        label: label of the system.
        document: document as returned by ``meta_check.parse``.
        lines: key path to line.
        where: name of the file in the findings.
        collector: receives the findings.
    """
    system = _get(document, "system")
    counted = facts.total_parameters.get(label)
    claimed = _get(system, "complexity", "total_parameters")
    if counted is not None and claimed != counted:
        place = "system.complexity.total_parameters"
        collector.error(
            where, f"{place}: expected {counted} as in the model, found {shorten(claimed)}", lines.get(place, 0)
        )
    declared = _declared(system)
    for name in facts.external_models.get(label, ()):
        if _plain(name) not in declared:
            collector.error(
                where,
                f"system.external_datasets: expected {name}, which the system uses, found it neither here nor in "
                "external_data_usage",
                lines.get("system.external_datasets", 0),
            )
    results = _get(document, "results", "development_dataset")
    for machine, values in facts.results.get(label, {}).items():
        for key, value in values.items():
            found = _get(results, machine, key)
            if isinstance(found, int | float) and abs(found - value) > TOLERANCE:
                place = f"results.development_dataset.{machine}.{key}"
                message = f"{place}: expected {value:.2f} as recomputed, found {shorten(found)}"
                collector.warning(where, message, lines.get(place, 0))


def is_test_clip(path: str) -> bool:
    """Whether folder or name of a recording say that it is a test clip or an anomaly."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder.rsplit("/", 1)[-1] == "test" or "_anomaly_" in name or name.startswith("anomaly_")


def _declared(system: Any) -> str:
    texts = [str(_get(system, "description", "external_data_usage") or "")]
    entries = _get(system, "external_datasets")
    texts += [str(_get(entry, "name") or "") for entry in (entries if isinstance(entries, list) else ())]
    return _plain(" ".join(texts))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
