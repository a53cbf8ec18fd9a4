"""Finished runs that are moved: to other folders, users, checkouts and versions, and away from their recordings."""

import contextlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from real_inputs import sounds
from real_inputs.bases import ENCODER
from real_inputs.case import Place, case, expect
from real_inputs.checks import judged, no_traceback, refused, same_scores, well
from real_inputs.program import ROOT, Row, process, run, score

KIND = "11 moved runs"
COUNT = 4
EXACT = 1e-9


def _clips(place: Place) -> list[Path]:
    return [sounds.put(place / f"new/clip{n}.wav", sounds.machine(f"moved{n}", 1.0, fault=n > 2)) for n in range(COUNT)]


def _copy(place: Place, name: str = "copy", exp: Path | None = None) -> Path:
    """A copy of the shared run of an adapted encoder, with other times and owners than the run's."""
    return Path(shutil.copytree(exp or place.bases.toy, place / name, copy_function=shutil.copyfile, symlinks=True))


@contextlib.contextmanager
def _away(*paths: Path) -> Iterator[None]:
    """Paths that are not there for a while."""
    for path in paths:
        path.rename(path.with_name(f"{path.name}-away"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"{path.name}-away").rename(path)


def _checkout(place: Place, name: str = "checkout", version: str = "") -> Path:
    """The program copied elsewhere; with another version of its own, if one is given."""
    root = place / name
    for part in ("system", "submission"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    if version:
        (root / "system/__init__.py").write_text(f'"""Another version."""\n\n__version__ = "{version}"\n')
    return root


def _expected(place: Place, files: Sequence[Path], exp: Path | None = None) -> list[Row]:
    """Scores where nothing was moved."""
    return judged(score(exp or place.bases.toy, files, place.folder), len(files))


def _renamed(place: Place, files: list[Path]) -> list[Row]:
    return judged(score(_copy(place, "a new name, ü"), files, place.folder), COUNT)


def _copied(place: Place, files: list[Path]) -> list[Row]:
    return judged(score(_copy(place), files, place.folder), COUNT)


def _linked(place: Place, files: list[Path]) -> list[Row]:
    (place / "link").symlink_to(_copy(place))
    return judged(score(place / "link", files, place.folder), COUNT)


def _relative(place: Place, files: list[Path]) -> list[Row]:
    _copy(place)
    with contextlib.chdir(place.folder):
        return judged(score(Path("copy"), files, place.folder), COUNT)


def _packed(place: Place, files: list[Path]) -> list[Row]:
    with tarfile.open(place / "run.tar", "w") as archive:
        archive.add(_copy(place), "run")
    with tarfile.open(place / "run.tar") as archive:
        archive.extractall(place / "elsewhere", filter="data")
    return judged(score(place / "elsewhere/run", files, place.folder), COUNT)


def _recordings_gone(place: Place, files: list[Path]) -> list[Row]:
    exp = _copy(place)
    with _away(place.bases.small):
        return judged(score(exp, files, place.folder), COUNT)


def _configuration_gone(place: Place, files: list[Path]) -> list[Row]:
    exp = _copy(place)
    with _away(place.bases.folder / "encoder.yaml"):
        return judged(score(exp, files, place.folder), COUNT)


def _times_changed(place: Place, files: list[Path]) -> list[Row]:
    exp = _copy(place)
    for path in exp.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return judged(score(exp, files, place.folder), COUNT)


def _original_gone(place: Place, files: list[Path]) -> list[Row]:
    exp = _copy(place)
    with _away(place.bases.toy, place.bases.small):
        return judged(score(exp, files, place.folder), COUNT)


def _another_checkout(place: Place, files: list[Path]) -> list[Row]:
    return judged(score(_copy(place), files, place.folder, root=_checkout(place)), COUNT)


def _checkout_with_blanks(place: Place, files: list[Path]) -> list[Row]:
    return judged(score(_copy(place), files, place.folder, root=_checkout(place, "a check out, ü")), COUNT)


def _version(place: Place, files: list[Path], version: str) -> list[Row]:
    found = score(_copy(place), files, place.folder, root=_checkout(place, version=version))
    rows = judged(found, COUNT)
    expect(version in found.ended.text, "a note that names the version", found.ended.text)
    return rows


def _another_home(place: Place, files: list[Path]) -> list[Row]:
    home = place / "home"
    home.mkdir()
    how = {"HOME": str(home), "USER": "somebody", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    return judged(score(_copy(place), files, place.folder, here=home, **how), COUNT)


def _another_user(place: Place, files: list[Path], root: Path = ROOT) -> list[Row]:
    """By a user who may write in the own home alone."""
    exp, home = _copy(place), place / "home"
    home.mkdir()
    for path in (*exp.rglob("*"), exp):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        how = {"HOME": str(home), "USER": "somebody", "LOGNAME": "somebody"}
        return judged(score(exp, files, home, root=root, here=home, bound=True, **how), COUNT)
    finally:
        for path in (exp, *exp.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _all_at_once(place: Place, files: list[Path]) -> list[Row]:
    root = _checkout(place, "another", "0.1.1")
    with _away(place.bases.small, place.bases.folder / "encoder.yaml"):
        return _another_user(place, files, root)


MOVES: dict[str, Callable[[Place, list[Path]], list[Row]]] = {
    "copied without its times": _copied,
    "renamed": _renamed,
    "through a link": _linked,
    "by a relative path": _relative,
    "packed and unpacked": _packed,
    "recordings gone": _recordings_gone,
    "configuration file gone": _configuration_gone,
    "other times of all files": _times_changed,
    "the first run and its recordings gone": _original_gone,
    "another checkout": _another_checkout,
    "a checkout with blanks and umlauts": _checkout_with_blanks,
    "version 0.1.1": lambda place, files: _version(place, files, "0.1.1"),
    "version 0.0.9": lambda place, files: _version(place, files, "0.0.9"),
    "another home, language and time zone": _another_home,
    "another user, who may not write there": _another_user,
    "another checkout, version and user, recordings gone": _all_at_once,
}


@case(KIND, "the same scores: {}", MOVES)
def moved_run(place: Place, move: Callable[[Place, list[Path]], list[Row]]) -> None:
    files = _clips(place)
    expected = _expected(place, files)
    same_scores(move(place, files), expected, EXACT)


@case(KIND, "a run of spectra without its recordings, by another checkout and version")
def spectra_elsewhere(place: Place) -> None:
    files = [sounds.put(place / f"new/{n}.wav", sounds.machine(f"moved{n}")) for n in range(COUNT)]
    expected = _expected(place, files, place.bases.steady)
    exp, root = _copy(place, exp=place.bases.steady), _checkout(place, version="0.1.1")
    with _away(place.bases.recordings):
        same_scores(judged(score(exp, files, place.folder, root=root), COUNT), expected, EXACT)


@case(KIND, "a copied run of spectra")
def copied_spectra(place: Place) -> None:
    files = [sounds.put(place / f"new/{n}.wav", sounds.machine(f"moved{n}")) for n in range(COUNT)]
    expected = _expected(place, files, place.bases.steady)
    exp = _copy(place, exp=place.bases.steady)
    same_scores(judged(score(exp, files, place.folder), COUNT), expected, EXACT)


@case(KIND, "own weights gone after the run")
def own_weights_gone(place: Place) -> None:
    from system.encoders.cards import OWN

    weights, exp = place / "own.safetensors", place / "exp"
    shutil.copy(OWN / "default.safetensors", weights)
    conf = place / "own.yaml"
    conf.write_text(yaml.safe_dump(ENCODER | {"encoder": ENCODER["encoder"] | {"checkpoint": str(weights)}}))
    options = ("--conf", conf, "--data", place.bases.small, "--stop-stage", 5)
    well(run("run", "--exp", exp, *options))
    files = _clips(place)
    expected = _expected(place, files, exp)
    weights.unlink()
    same_scores(judged(score(exp, files, place.folder), COUNT), expected, EXACT)


@case(KIND, "a copied run has nothing left to do")
def copied_run_is_complete(place: Place) -> None:
    ended = well(run("run", "--exp", _copy(place)))
    again = [line for line in ended.lines("stage [1-6]") if "reads" not in line and "nothing to do" not in line]
    expect(not again, "stages 1 to 6 to be complete", again)


@case(KIND, "the report of a copied run without its recordings")
def report_without_recordings(place: Place) -> None:
    exp = _copy(place)
    with _away(place.bases.small):
        well(run("evaluate", "--exp", exp))
        well(run("report", "--exp", exp))
    expect((exp / "report.html").stat().st_size > 10_000, "a report", (exp / "report.html").stat().st_size)


@case(KIND, "the next stage by another checkout and version")
def next_stage_by_another_version(place: Place) -> None:
    exp, root = _copy(place), _checkout(place, version="0.1.1")
    shutil.rmtree(exp / "systems")
    ended = well(process("run", "--exp", exp, "--stage", 5, "--stop-stage", 6, root=root))
    expect(not ended.lines("stage [1-4] "), "stages 1 to 4 not to run again", ended.lines("stage [1-4]"))
    expect(list((exp / "systems").glob("*/anomaly_score_*.csv")), "the systems' scores", ended.text)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _other_scorer(exp: Path) -> None:
    path = exp / "config.yaml"
    conf = yaml.safe_load(path.read_text())
    conf["branches"]["aux"]["scorer"]["settings"] = {"k": 2}
    path.write_text(yaml.safe_dump(conf))


CHANGES: dict[str, Callable[[Path], None]] = {
    "the encoder's weights": lambda exp: _flip(next((exp / "pretrain").glob("*.safetensors"))),
    "the weights of an adapted branch": lambda exp: _flip(next((exp / "adapt/main").glob("*.safetensors"))),
    "the embeddings": lambda exp: _flip(next((exp / "embeddings").rglob("*.npy"))),
    "a scorer's setting": _other_scorer,
    "a lost table of scores": lambda exp: next((exp / "scores").rglob("*.csv")).unlink(),
}


@case(KIND, "noticed after the move: {}", CHANGES)
def changes_are_noticed(place: Place, change: Callable[[Path], None]) -> None:
    exp = _copy(place)
    change(exp)
    found = score(exp, _clips(place), place.folder)
    no_traceback(found.ended)
    refused(found.ended, r"stage \d")
