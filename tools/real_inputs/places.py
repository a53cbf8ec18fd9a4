"""File systems as they are met: without locks, with links, read-only, and with names and files of any kind."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from real_inputs import sounds
from real_inputs.bases import SPECTRUM
from real_inputs.case import Place, case, expect
from real_inputs.checks import NORMAL, healthy, judged, no_traceback, refused, same_scores, well
from real_inputs.program import Ended, Row, process, run, score

LOCKS, LINKS, READ_ONLY, NAMES = "12 no locks", "12 links", "12 read-only", "12 names and files"
LACKS = {"ENOLCK": errno.ENOLCK, "EOPNOTSUPP": errno.EOPNOTSUPP, "ENOSYS": errno.ENOSYS, "EIO": errno.EIO}


@contextlib.contextmanager
def _lockless(number: int) -> Iterator[None]:
    """A system whose locks fail with an error, as those of many network file systems."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    kept = {name: getattr(fcntl, name) for name in ("flock", "lockf")}
    try:
        for name in kept:
            setattr(fcntl, name, refuse)
        yield
    finally:
        for name, function in kept.items():
            setattr(fcntl, name, function)


def _options(place: Place, data: Path, last: int = 9) -> tuple[object, ...]:
    return ("--conf", place.bases.conf(), "--data", data, "--stop-stage", last)


def _new(place: Place, count: int = 2) -> list[Path]:
    return [sounds.put(place / f"new/clip{n}.wav", sounds.machine(f"place{n}")) for n in range(count)]


def _copy(place: Place, exp: Path | None = None) -> Path:
    return Path(shutil.copytree(exp or place.bases.steady, place / "exp"))


@case(LOCKS, "run, {}", LACKS)
def run_without_locks(place: Place, number: int) -> None:
    with _lockless(number):
        ended = run("run", "--exp", place / "exp", *_options(place, place.bases.small))
    no_traceback(ended)
    expect("another wheeltapper process" not in ended.text, "no other process to be suspected", ended.text)
    if ended.status == 0 or number in (errno.ENOLCK, errno.EOPNOTSUPP):
        well(ended)
        expect((place / "exp/report.html").is_file(), "a report", ended.text)


@case(LOCKS, "score, {}", ["ENOLCK", "EOPNOTSUPP"])
def score_without_locks(place: Place, name: str) -> None:
    with _lockless(LACKS[name]):
        healthy(judged(score(_copy(place), _new(place), place.folder), 2), most=1)


@case(LOCKS, "tune, {} processes", [1, 2])
def tune_without_locks(place: Place, processes: int) -> None:
    exp = _copy(place)
    conf = place / "tune.yaml"
    conf.write_text(yaml.safe_dump(SPECTRUM | {"tune": {"trials": 2}}))
    options = ("--exp", exp, "--conf", conf, "--out", place / "tuned", "--trials", 2, "--processes", processes)
    with _lockless(errno.ENOLCK):
        ended = run("tune", *options)
    no_traceback(ended)
    expect("another wheeltapper process" not in ended.text, "no other process to be suspected", ended.text)
    if ended.status:  # more processes than one cannot share a folder without locks
        expect(processes > 1, "one process to end well", ended.text)
        refused(ended, "lock")


@case(LOCKS, "a folder that is really in use is still refused")
def folder_in_use(place: Place) -> None:
    exp = _copy(place)
    with open(exp / ".lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(run("run", "--exp", exp), "another wheeltapper process")


PARTS = ["embeddings", "scores", "systems", "stages"]


def _linked(place: Place, name: str) -> Path:
    """A copied run, one of whose folders lies on another disk."""
    exp = _copy(place)
    if not (exp / name).is_dir():
        (exp / name).mkdir()
    shutil.move(exp / name, place / "disk")
    (exp / name).symlink_to(place / "disk")
    return exp


@case(LINKS, "a linked folder of a finished run: {}", PARTS)
def linked_folder(place: Place, name: str) -> None:
    files = _new(place)
    expected = judged(score(place.bases.steady, files, place.folder), 2)
    exp = _linked(place, name)
    same_scores(judged(score(exp, files, place.folder), 2), expected, 1e-9)
    again = well(run("run", "--exp", exp))
    expect(not again.lines(r"stage [1-6]\b.*\b(wrote|writes|done)"), "nothing to be done again", again.text)


@case(LINKS, "a linked folder that is made again: {}", PARTS[:3])
def linked_folder_made_again(place: Place, name: str) -> None:
    exp = _linked(place, name)
    well(run("run", "--exp", exp, "--set", "false_positive_rate=0.2", "--set", "branches.lines.spectrum.bands=32"))
    expect((exp / name).is_symlink(), "the link to be kept", f"{name} is no link any more")
    judged(score(exp, _new(place), place.folder), 2)


@case(LINKS, "a linked folder that leads nowhere: {}", PARTS[:3])
def link_to_nothing(place: Place, name: str) -> None:
    exp = _linked(place, name)
    (place / "disk").rename(place / "unplugged")
    ended = run("run", "--exp", exp)
    no_traceback(ended)
    if ended.status:
        refused(ended, name)
    found = score(exp, _new(place), place.folder)
    no_traceback(found.ended)
    if found.ended.status:
        refused(found.ended)


@case(LINKS, "an experiment behind a link")
def linked_experiment(place: Place) -> None:
    (place / "disk").mkdir()
    (place / "exp").symlink_to(place / "disk")
    well(run("run", "--exp", place / "exp", *_options(place, place.bases.small)))
    expect((place / "disk/report.html").is_file(), "the report there", sorted(os.listdir(place / "disk")))


@case(LINKS, "an experiment behind a link that leads nowhere")
def experiment_behind_a_dead_link(place: Place) -> None:
    (place / "exp").symlink_to(place / "unplugged")
    ended = run("run", "--exp", place / "exp", *_options(place, place.bases.small, 0))
    no_traceback(ended)
    if ended.status:
        refused(ended, "exp")


@contextlib.contextmanager
def _sealed(folder: Path) -> Iterator[None]:
    """A folder in which nobody may write."""
    paths = [path for path in (*folder.rglob("*"), folder) if not path.is_symlink()]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in reversed(paths):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _without_lock(exp: Path) -> Path:
    for path in exp.rglob(".lock"):
        path.unlink()
    return exp


@case(READ_ONLY, "score by a finished run")
def score_read_only(place: Place) -> None:
    files, exp = _new(place), _without_lock(_copy(place))
    expected = judged(score(place.bases.steady, files, place.folder), 2)
    (place / "out").mkdir()
    with _sealed(exp):
        same_scores(judged(score(exp, files, place / "out", bound=True), 2), expected, 1e-9)


READING: dict[str, Callable[[Place], list[object]]] = {
    "report": lambda place: ["report"],
    "evaluate": lambda place: ["evaluate"],
    "run": lambda place: ["run"],
    "comply": lambda place: ["comply"],
}


@case(READ_ONLY, "{} of a finished run", READING)
def commands_read_only(place: Place, command: Callable[[Place], list[object]]) -> None:
    exp = _without_lock(_copy(place))
    with _sealed(exp):
        ended = process(*command(place), "--exp", exp, bound=True)
    no_traceback(ended)
    if ended.status:
        expect(len(ended.err.splitlines()) <= 3, "a line", ended.err)
        expect(str(exp) in ended.err, "the folder to be named", ended.err)


@case(READ_ONLY, "results that cannot be written: {}", ["--csv", "--json"])
def results_read_only(place: Place, option: str) -> None:
    (place / "sealed").mkdir()
    files = _new(place)
    with _sealed(place / "sealed"):
        command = ("score", "--exp", place.bases.steady, *files, "--machine", "mill")
        ended = process(*command, option, place / "sealed/out.txt", bound=True)
    no_traceback(ended)
    expect(ended.status == 1 and "sealed" in ended.err, "status 1 and the place named", ended.text)
    expect("clip0.wav" in ended.out or "sealed" in ended.err, "the decisions, or an early refusal", ended.text)


@case(READ_ONLY, "an experiment where nothing may be written")
def experiment_read_only(place: Place) -> None:
    (place / "sealed").mkdir()
    with _sealed(place / "sealed"):
        ended = process("run", "--exp", place / "sealed/exp", *_options(place, place.bases.small), bound=True)
    refused(ended, "sealed")


@case(READ_ONLY, "recordings that may only be read")
def recordings_read_only(place: Place) -> None:
    data = shutil.copytree(place.bases.small, place / "data")
    with _sealed(data):
        well(process("run", "--exp", place / "exp", *_options(place, data, 5), bound=True))


ODD = {
    "not UTF-8": b"cl\xff\xfep.wav",
    "Latin-1": "Lüfter.wav".encode("latin-1"),
    "half a letter": b"a\xc3.wav",
    "a line break": b"a\nb.wav",
    "a tab": b"a\tb.wav",
    "an escape": b"a\x1b[31mb.wav",
    "commas and quotes": b'a, "b".wav',
    "tags": b"<b>a<script>.wav",
    "a leading dash": b"-a.wav",
    "255 letters": b"a" * 251 + b".wav",
    "other writing": "機械🔧.wav".encode(),
    "an equals sign": b"=1+1.wav",
    "a percent sign": b"%s%d{0}.wav",
}


def _raw(folder: Path, name: bytes, wave_of: object) -> None:
    """A recording under a name of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        file.write(sounds.wav_bytes(sounds.machine(wave_of)))


def _kept(rows: list[Row]) -> None:
    kept = [row.decision for row in rows if row.name in ("clip0.wav", "clip1.wav")]
    expect(kept == [NORMAL] * 2, "the two other files normal", kept)


@case(NAMES, "a recording to judge: {}", ODD)
def odd_name_to_judge(place: Place, name: bytes) -> None:
    _new(place)
    _raw(place / "new", name, "place0")
    found = score(place.bases.steady, [place / "new"], place.folder)
    no_traceback(found.ended)
    expect(found.ended.status in (0, 1), "exit status 0 or 1", found.ended.status)
    _kept(found.rows)
    expect(len(found.rows) == 3 or found.ended.status == 1, "the odd file judged or refused", found.ended.text)


@case(NAMES, "a recording to embed: {}", ["not UTF-8", "a line break", "other writing"])
def odd_name_to_embed(place: Place, name: str) -> None:
    _new(place)
    _raw(place / "new", ODD[name], "place0")
    ended = run("embed", "--audio", place / "new", "--out", place / "e.npz")
    no_traceback(ended)
    expect((place / "e.npz").is_file(), "the embeddings of the others", ended.text)


def _odd_corpus(place: Place, name: bytes, split: str) -> Path:
    data = Path(shutil.copytree(place.bases.small, place / "data"))
    _raw(data / "mill" / split, name, "odd")
    return data


def _to_the_report_or_refused(place: Place, data: Path | str) -> Ended:
    ended = run("run", "--exp", place / "exp", *_options(place, Path(data)))
    no_traceback(ended)
    if ended.status:
        refused(ended)
        late = [path for path in (place / "exp/stages").glob("[1-9]_*.json")]
        expect(not late, "the refusal at stage 0", late)
    else:
        expect((place / "exp/report.html").is_file(), "a report", ended.text)
    return ended


@case(
    NAMES,
    "a training clip: {}",
    {
        "not UTF-8": b"section_00_source_train_normal_0099_l\xff.wav",
        "a line break": b"section_00_source_train_normal_0099_a\nb.wav",
        "tags": b"section_00_source_train_normal_0099_<b>.wav",
        "commas and quotes": b'section_00_source_train_normal_0099_a,"b".wav',
    },
)
def odd_training_clip(place: Place, name: bytes) -> None:
    _to_the_report_or_refused(place, _odd_corpus(place, name, "train"))


@case(
    NAMES,
    "a test clip: {}",
    {
        "not UTF-8": b"section_00_source_test_normal_0099_l\xff.wav",
        "a line break": b"section_00_source_test_normal_0099_a\nb.wav",
        "tags": b"section_00_source_test_normal_0099_<b>.wav",
    },
)
def odd_test_clip(place: Place, name: bytes) -> None:
    _to_the_report_or_refused(place, _odd_corpus(place, name, "test"))


@case(NAMES, "recordings below a folder that is not UTF-8")
def folder_of_another_coding(place: Place) -> None:
    data = os.fsdecode(os.path.join(os.fsencode(place.folder), b"da\xffta"))
    shutil.copytree(place.bases.small, data)
    _to_the_report_or_refused(place, data)


@case(NAMES, "an experiment whose name is not UTF-8")
def experiment_of_another_coding(place: Place) -> None:
    exp = os.fsdecode(os.path.join(os.fsencode(place.folder), b"ex\xffp"))
    ended = run("run", "--exp", exp, *_options(place, place.bases.small))
    no_traceback(ended)
    if ended.status:
        refused(ended)


@case(NAMES, "new recordings below a folder that is not UTF-8")
def new_folder_of_another_coding(place: Place) -> None:
    folder = os.fsdecode(os.path.join(os.fsencode(place.folder), b"n\xffw"))
    for number in range(2):
        _raw(Path(folder), f"clip{number}.wav".encode(), f"place{number}")
    found = score(place.bases.steady, [folder], place.folder)
    no_traceback(found.ended)
    _kept(found.rows)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _secret(path: Path) -> None:
    path.write_bytes(sounds.wav_bytes(sounds.machine("secret")))
    path.chmod(0)


def _dead_link(path: Path) -> None:
    path.symlink_to("unplugged.wav")


LOST = (_secret, _dead_link)  # recordings that somebody misses
NO_FILES: dict[str, Callable[[Path], None]] = {
    "a pipe": _pipe,
    "a folder with the name of a recording": lambda path: path.mkdir(),
    "a link to nothing": _dead_link,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a file that may not be read": _secret,
}


@case(NAMES, "beside two recordings: {}", NO_FILES)
def no_file(place: Place, make: Callable[[Path], None]) -> None:
    _new(place)
    make(place / "new/odd.wav")
    how = {"bound": True} if make is _secret else {}
    found = score(place.bases.steady, [place / "new"], place.folder, **how)
    no_traceback(found.ended)
    expect(found.ended.status in (0, 1), "exit status 0 or 1", found.ended.status)
    _kept(found.rows)
    if make in LOST:
        expect("odd.wav" in found.ended.text, "the recording that is not there to be named", found.ended.text)


@case(NAMES, "a folder that may not be read")
def folder_that_may_not_be_read(place: Place) -> None:
    _new(place)
    shutil.copytree(place / "new", place / "new/closed")
    (place / "new/closed").chmod(0)
    try:
        found = score(place.bases.steady, [place / "new"], place.folder, bound=True)
    finally:
        (place / "new/closed").chmod(0o755)
    no_traceback(found.ended)
    _kept(found.rows)
    expect("closed" in found.ended.text, "the folder to be named", found.ended.text)
