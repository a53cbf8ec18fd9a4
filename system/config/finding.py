"""Where a configuration lies that somebody names: beside the file that names it, or among the recipes."""

import difflib
import os
from pathlib import Path

from system.errors import WheeltapperError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"  # of the checkout; an installation without one has none
MAIN = "dcase2026"


def find(named: str | os.PathLike, folder: Path, said: str = "") -> Path:
    """The file of a configuration.

    Args:
        named: a path relative to ``folder``; where nothing lies there, one of a recipe: ``default.yaml`` (the main
            recipe's, or else the only one of the name), ``pretrain/small.yaml``, ``recipes/pretrain/conf/small.yaml``.
        said: where the name stands, for messages.

    Raises WheeltapperError where there is none, or several recipes have one.
    """
    name = Path(os.path.expanduser(named))
    path = folder / name
    if path.is_file():
        return path
    if name.name and (other := path.with_name(f"{path.name}.yaml")).is_file():
        return other
    shipped = _shipped(name) if name.name and not name.is_absolute() else []
    if len(shipped) == 1:
        return shipped[0]
    missing = f"{said}{path}: expected a configuration, found {'a folder' if path.is_dir() else 'nothing'}"
    if shipped:
        raise WheeltapperError(f"{missing}; recipes have {' and '.join(_name(each) for each in shipped)}")
    if len(name.parts) == 1 or _is_recipe(name.parts[0]):
        near = difflib.get_close_matches(name.stem, [each.stem for each in RECIPES.glob("*/conf/*.yaml")], n=1)
        missing += f", and none of this name in {RECIPES}/*/conf{f': did you mean {near[0]}.yaml?' if near else ''}"
    raise WheeltapperError(missing)


def _is_recipe(name: str) -> bool:
    return name == RECIPES.name or (RECIPES / name / "conf").is_dir()


def _shipped(name: Path) -> list[Path]:
    """The configurations of the recipes that a name may mean."""
    name = name.with_suffix(name.suffix or ".yaml")
    first, *rest = name.parts
    certain = [RECIPES.parent / name] if first == RECIPES.name else []
    certain += [RECIPES / first / "conf" / Path(*rest)] if rest else []
    for path in (*certain, RECIPES / MAIN / "conf" / name):
        if path.is_file():
            return [path]
    return [conf / name for conf in sorted(RECIPES.glob("*/conf")) if (conf / name).is_file()]


def _name(path: Path) -> str:
    recipe, _, *rest = path.relative_to(RECIPES).parts
    return "/".join([recipe, *rest])
