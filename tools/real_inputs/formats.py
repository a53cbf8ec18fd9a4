"""Other kinds of sound files, several channels, bad files beside good ones, and names from a Mac."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import soundfile

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import NORMAL, healthy, judged, named, no_traceback, refused, same_scores, well
from real_inputs.program import run, score

KIND = "15 formats"
FORMATS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "aif": ("AIFF", "PCM_24"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "opus": ("OGG", "OPUS"),
    "ogg": ("OGG", "VORBIS"),
    "flac": ("FLAC", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "WAV": ("WAV", "PCM_16"),
    "Flac": ("FLAC", "PCM_16"),
}
LOSSY = ("mp3", "opus", "ogg")


def _folder(place: Place) -> Path:
    """A folder of two healthy clips."""
    for number in range(2):
        sounds.put(place / f"new/clip{number}.wav", sounds.machine(f"format{number}"))
    return place / "new"


def _encode(path: Path, wave: np.ndarray, kind: tuple[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        soundfile.write(file, np.ascontiguousarray(wave.T), sounds.RATE, format=kind[0], subtype=kind[1])


@case(KIND, "a folder with .{} to be judged", {name: name for name in FORMATS})
def folder_with_another_format(place: Place, suffix: str) -> None:
    folder, name = _folder(place), f"odd.{suffix}"
    _encode(folder / name, sounds.machine("format0"), FORMATS[suffix])
    found = score(place.bases.steady, [folder], place.folder)
    no_traceback(found.ended)
    rows = {row.name: row for row in found.rows}
    kept = [rows[f"clip{number}.wav"] for number in range(2)]
    expect([row.decision for row in kept] == [NORMAL] * 2, "the wav files normal", found.ended.text)
    if name in rows and not rows[name].error:
        if suffix not in LOSSY:
            expect(rows[name].decision == NORMAL, NORMAL, rows[name].values)
            expect(abs(rows[name].deviations - kept[0].deviations) < 0.1, "the score of the wav", rows[name].values)
    else:
        named(found.ended, rf"odd\.{suffix}|\b1\b[^\n]*\.{suffix}")


@case(
    KIND, "a .{} file given by name", {"m4a": b"\0\0\0\x20ftypM4A ", "wma": b"0&\xb2u\x8ef\xcf\x11", "amr": b"#!AMR\n"}
)
def foreign_file_by_name(place: Place, start: bytes) -> None:
    _folder(place)
    (place / "new/odd.bin").write_bytes(start + bytes(range(256)) * 40)
    found = score(place.bases.steady, [place / "new/clip0.wav", place / "new/odd.bin"], place.folder)
    no_traceback(found.ended)
    expect(found.ended.status == 1, "exit status 1", found.ended.status)
    named(found.ended, r"odd\.bin")
    expect(found.row("clip0.wav").decision == NORMAL, "the other file judged", found.rows)


@case(KIND, "a folder with .{} files, which no library reads, says so", ["m4a", "wma", "aac"])
def folder_with_foreign_files(place: Place, suffix: str) -> None:
    folder = _folder(place)
    (folder / f"odd.{suffix}").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)) * 40)
    found = score(place.bases.steady, [folder], place.folder)
    no_traceback(found.ended)
    named(found.ended, rf"\.{suffix}")
    expect(sum(row.decision == NORMAL for row in found.rows) == 2, "the wav files judged", found.rows)


@case(KIND, "texts and pictures in a folder are no recordings")
def texts_in_a_folder(place: Place) -> None:
    folder = _folder(place)
    for name in ("notes.txt", "picture.png", "README", ".hidden.wav", "Thumbs.db"):
        (folder / name).write_bytes(b"text\n")
    healthy(judged(score(place.bases.steady, [folder], place.folder), 2), most=0)


@case(
    KIND,
    "a corpus with a training clip as .{}: read, or named",
    {name: name for name in ("aiff", "flac", "mp3", "ogg", "w64")},
)
def corpus_with_another_format(place: Place, suffix: str) -> None:
    sounds.corpus(place / "data", {"mill": (4, 2, 1, 1)}, 1.0)
    name = f"section_00_source_train_normal_0009_load_1.{suffix}"
    _encode(place / "data/mill/train" / name, sounds.machine("nine", 1.0), FORMATS[suffix])
    ended = run("prepare", place / "data", "--out", place / "manifest.csv")
    no_traceback(ended)
    listed = ended.status == 0 and name in (place / "manifest.csv").read_text()
    if not listed:
        named(ended, rf"{suffix}")


def _table(path: Path, wave: np.ndarray) -> Path:
    """A wave (channels, samples) in columns, as loggers write vibration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, wave.T, delimiter=",", header="near,far", comments="", fmt="%.6f")
    return path


@case(KIND, "vibration in columns of a csv, {}", ["given by name", "alone in a folder"])
def columns_of_a_csv(place: Place, how: str) -> None:
    table = _table(place / "tables/vibration.csv", sounds.machine("format0"))
    found = score(place.bases.steady, [table if how == "given by name" else table.parent], place.folder)
    no_traceback(found.ended)
    if not any(row.name == "vibration.csv" and row.decision for row in found.rows):
        expect(found.ended.status == 1, "exit status 1", found.ended.status)
        named(found.ended, r"\.csv|table", "rate|convert")


@case(KIND, "vibration in columns of a csv, the rate given: read")
def columns_with_a_rate(place: Place) -> None:
    wave = sounds.machine("format0")
    table = _table(place / "tables/vibration.csv", wave)
    well(run("convert", table, place / "new", "--rate", sounds.RATE))
    (made,) = (path for path in (place / "new").rglob("*") if path.is_file())
    expected = judged(score(place.bases.steady, [sounds.put(place / "whole.wav", wave)], place.folder), 1)
    same_scores(judged(score(place.bases.steady, [made], place.folder), 1), expected, 0.1)


def _eight(folder: Path, seconds: float = 1.0) -> Path:
    return sounds.corpus(folder, {"mill": (8, 3, 2, 2)}, seconds, channels=8)


@case(KIND, "eight channels without a choice: how to choose is said")
def eight_channels(place: Place) -> None:
    ended = run("prepare", _eight(place / "data"), "--out", place / "m.csv")
    no_traceback(ended)
    named(ended, r"\b8\b|eight", r"data\.channels")


@case(KIND, "eight channels, data.channels={}", ["1,2", "[1,2]", "3", "4,6", "mean"])
def chosen_channels(place: Place, channels: str) -> None:
    exp = place / "exp"
    chosen = ("--set", f"data.channels={channels}", "--stop-stage", 5)
    data = _eight(place / "data")
    well(run("run", "--exp", exp, "--conf", place.bases.conf(), "--data", data, *chosen))
    waves = [sounds.machine(f"eight{number}", 1.0, channels=8) for number in range(4)]
    files = [sounds.put(place / f"new{number}.wav", wave) for number, wave in enumerate(waves)]
    healthy(judged(score(exp, files, place.folder), 4), most=1)


@case(KIND, "data.channels={} is refused", ["9", "1,9", "0", "-1", "1,2,3", "near"])
def odd_channels(place: Place, channels: str) -> None:
    chosen = ("--set", f"data.channels={channels}")
    ended = run("run", "--exp", place / "exp", "--conf", place.bases.conf(), "--data", _eight(place / "data"), *chosen)
    refused(ended, "channel")


@case(KIND, "several rates in one corpus")
def several_rates_in_a_corpus(place: Place) -> None:
    for number in range(12):
        rate = (16000, 48000, 44100)[number % 3]
        wave = sounds.machine(f"mixed{number}", 1.0)
        wave = wave if rate == sounds.RATE else sounds.at_rate(wave, rate)
        sounds.put(place / f"data/mill/train/section_00_source_train_normal_{number:04d}_load_1.wav", wave, rate)
    sounds.put(place / "data/mill/test/section_00_0000.wav", sounds.machine("x", 1.0))
    options = ("--conf", place.bases.conf(), "--data", place / "data", "--stop-stage", 5)
    well(run("run", "--exp", place / "exp", *options))
    files = [sounds.put(place / f"new{number}.wav", sounds.machine(f"new{number}", 1.0)) for number in range(6)]
    healthy(judged(score(place / "exp", files, place.folder), 6))


BAD = {
    "an empty file": {"bad1.wav": b""},
    "two texts": {"bad1.wav": b"text", "bad2.wav": b"more text"},
    "a header alone": {"bad1.wav": sounds.wav_bytes(np.zeros((2, 0)))},
}


@case(KIND, "embed of a folder with {}", BAD)
def embed_with_bad_files(place: Place, bad: dict[str, bytes]) -> None:
    for number in range(3):
        sounds.put(place / f"new/clip{number}.wav", sounds.machine(f"embed{number}", 1.0))
    for name, content in bad.items():
        (place / "new" / name).write_bytes(content)
    ended = run("embed", "--audio", place / "new", "--out", place / "e.npz")
    no_traceback(ended)
    expect(ended.status == 1, "exit status 1", ended.status)
    for name in bad:
        named(ended, name)
    expect((place / "e.npz").is_file(), "the embeddings of the others", ended.text)
    with np.load(place / "e.npz", allow_pickle=False) as kept:
        expect(len(kept["files"]) == 3 == len(kept["embeddings"]), "three embeddings", kept["files"])
        expect(np.isfinite(kept["embeddings"]).all(), "finite embeddings", kept["embeddings"])


@case(KIND, "embed of a folder of bad files alone")
def embed_of_bad_files(place: Place) -> None:
    (place / "new").mkdir()
    for number in range(2):
        (place / f"new/bad{number}.wav").write_bytes(b"text")
    ended = run("embed", "--audio", place / "new", "--out", place / "e.npz")
    no_traceback(ended)
    expect(ended.status == 1 and "bad0.wav" in ended.err and "bad1.wav" in ended.err, "both files named", ended.err)


FORMS = {"decomposed names, composed table": ("NFD", "NFC"), "composed names, decomposed table": ("NFC", "NFD")}


@case(KIND, "attributes of {}", FORMS)
def attributes_from_a_mac(place: Place, forms: tuple[str, str]) -> None:
    of_files, of_table = forms
    data = sounds.corpus(place / "data", {"mill": (6, 3, 2, 2)}, 0.5, attributes="load_grün")
    rows = ["file_name,d1p,d1v"]
    for path in sorted((data / "mill").rglob("*.wav")):
        path.rename(path.with_name(unicodedata.normalize(of_files, path.name)))
        rows.append(f"mill/{path.parent.name}/{unicodedata.normalize(of_table, path.name)},load,grün")
    (data / "mill/attributes_00.csv").write_text("\n".join(rows) + "\n")
    well(run("prepare", data, "--out", place / "manifest.csv"))
    text = unicodedata.normalize("NFC", (place / "manifest.csv").read_text())
    expect(text.count(",load_grün,") == 17, "the attributes of 17 clips", text)


@case(KIND, "--machine in {} form", ["NFC", "NFD"])
def machine_from_a_mac(place: Place, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    sounds.corpus(place / "data", {"mill": (8, 3, 1, 1)}, 0.5)
    name = unicodedata.normalize(other, "Mühle")
    shutil.move(place / "data/mill", place / "data" / name)
    options = ("--conf", place.bases.conf(), "--data", place / "data", "--stop-stage", 5)
    ended = run("run", "--exp", place / "exp", *options)
    if ended.status:  # a name that no package takes may be refused at stage 0
        refused(ended, "hle")
        return
    file = sounds.put(place / "new.wav", sounds.machine("new", 0.5))
    judged(score(place / "exp", [file], place.folder, machine=unicodedata.normalize(form, "Mühle")), 1)
