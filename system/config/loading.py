"""A recipe's yaml, read over the defaults and checked, and written back."""

import difflib
import os
from dataclasses import asdict, fields
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from system.config.checks import check
from system.config.reading import one_line, parse
from system.config.schema import (
    AutoencoderConfig,
    BranchConfig,
    Config,
    EncoderConfig,
    SpectrumConfig,
)
from system.errors import WheeltapperError
from system.stage import open_atomic


def load(path: str | os.PathLike, overrides: list[str] | None = None) -> Config:
    """Reads a recipe's yaml over the defaults.

    Args:
        path: yaml file.
        overrides: ``key.key=value`` each.

    Raises WheeltapperError that names the file and the key: an unknown key (with the nearest known one), a value of
    the wrong type, or settings that contradict one another.
    """
    path = Path(path)
    config = _merge(OmegaConf.structured(Config), _read(path), str(path))
    for override in overrides or []:
        if "=" not in override:
            raise WheeltapperError(f"--set {override}: expected key=value")
        try:
            given = OmegaConf.from_dotlist([override])
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise WheeltapperError(
                f"--set {one_line(override, 80)}: expected a value, found {one_line(error)}"
            ) from error
        config = _merge(config, given, f"--set {override}")
    try:
        result: Config = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise WheeltapperError(f"{path}: {error.full_key or 'value'}: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise WheeltapperError(f"{path}: expected values, found references ${{...}} without end") from error
    check(result, str(path))
    return result


def save(path: str | os.PathLike, config: Config) -> None:
    """Writes the resolved configuration as yaml, whole or not at all; an equal one stays as it is."""
    text = yaml.safe_dump(asdict(config), sort_keys=False)
    path = Path(path)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with open_atomic(path) as file:
        file.write(text)


def _read(path: Path, above: tuple[Path, ...] = ()):
    """A yaml file; a key ``base: other.yaml`` (relative to the file) is read first, what the file says goes on top."""
    if not path.is_file():
        named = f"{above[-1]}: base: " if above else ""
        raise WheeltapperError(f"{named}{path}: expected a configuration, found nothing")
    if path.resolve() in above:
        raise WheeltapperError(f"{path}: base: expected another file, found a circle of files")
    try:
        found = parse(path.read_bytes())
        # A text would be parsed once more.
        given = OmegaConf.create(found if isinstance(found, dict) else {})
    except (ValueError, RecursionError, OmegaConfBaseException) as error:
        raise WheeltapperError(f"{path}: expected yaml, found {one_line(error)}") from error
    if not given:
        kind = {list: "a list", type(None): "none", dict: "none"}.get(type(found), f"one value, {str(found)[:40]!r}")
        raise WheeltapperError(f"{path}: expected yaml of keys and values, found {kind}")
    base = given.pop("base", None)
    if base is None:
        return given
    return OmegaConf.merge(_read(path.parent / str(base), (*above, path.resolve())), given)


def _merge(config, given, where: str):
    try:
        return OmegaConf.merge(config, given)
    except ConfigKeyError as error:
        key = str(error.full_key)
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        known = sorted(str(k) for k in node) if node is not None else _branch_keys(parent)
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise WheeltapperError(f"{where}: unknown key {key}: {advice}") from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).split("\n")[0]
        raise WheeltapperError(f"{where}: {error.full_key or 'value'}: {one_line(reason)}") from error
    except TypeError as error:
        raise WheeltapperError(f"{where}: a list is set as a whole, not item by item") from error


def _branch_keys(parent: str) -> list[str]:
    """Keys under ``branches.NAME`` and its optional parts, of a branch that is not there yet."""
    if not parent.startswith("branches."):
        return []
    kinds = {"autoencoder": AutoencoderConfig, "encoder": EncoderConfig, "spectrum": SpectrumConfig}
    kind = kinds.get(parent.split(".")[-1], BranchConfig)
    return sorted(field.name for field in fields(kind))
