"""Good inputs of every kind, made by hand at toy size, for the cases to damage; the code under test makes none."""

import csv
import hashlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 8000
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
TRAIN = "train/section_00_source_train_normal_0000_vel_1.wav"
TEST = "test/section_00_source_test_normal_0000_vel_1.wav"
SCORES = "anomaly_score_fan_section_00_test.csv"
DECISIONS = "decision_result_fan_section_00_test.csv"
COLUMNS = "corpus,machine,section,split,file,path,label,domain,attributes,group,channels,rate,samples,digest"

Damage = Callable[[Path], object]
Prepare = Callable[[Path], list[str]]


class Case(NamedTuple):
    """How a bad input is made, and fragments of the one line that must be said: what is named, expected and found."""

    prepare: Prepare
    named: str
    expected: str
    found: str


def noise(seconds: float = 0.2, channels: int = 2, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * rate), channels)).astype(np.float32)


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_wav(path: Path, wave: np.ndarray | None = None, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = noise(seed=zlib.crc32(path.name.encode())) if wave is None else wave
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def put_machine(folder: Path) -> None:
    """A machine's folder: four normal training clips, four labelled test clips."""
    for domain, index in (("source", 0), ("source", 1), ("source", 2), ("target", 0)):
        put_wav(folder / "train" / f"section_00_{domain}_train_normal_{index:04}_vel_1.wav")
    for domain in ("source", "target"):
        for label in ("normal", "anomaly"):
            put_wav(folder / "test" / f"section_00_{domain}_test_{label}_0000_vel_1.wav")


def wav_bytes(subtype: str = "PCM_16", kind: str = "WAV", seconds: float = 0.2) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(seconds), RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def recordings(damage: Damage) -> Prepare:
    """``prepare`` of a folder with one machine, ``fan``, whose folder ``damage`` gets."""

    def prepare(folder: Path) -> list[str]:
        put_machine(folder / "in" / "fan")
        damage(folder / "in" / "fan")
        return ["prepare", str(folder / "in"), "--out", str(folder / "out" / "manifest.csv")]

    return prepare


def content(name: str, data: bytes | str | Callable[[], bytes]) -> Damage:
    """Writes one file."""
    return lambda folder: put(folder / name, data() if callable(data) else data)


def rename(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / new)

    return damage


def changed(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Rewrites one file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def edited(name: str, old: str, new: str) -> Damage:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return changed(name, change)


def table(text: str | bytes, *options: str) -> Prepare:
    """``prepare`` of a table of files, of which a.wav and b.wav are there."""

    def prepare(folder: Path) -> list[str]:
        put_wav(folder / "in" / "a.wav")
        put_wav(folder / "in" / "b.wav")
        path = put(folder / "in" / "table.csv", text)
        return ["prepare", str(path), "--out", str(folder / "out.csv"), *options]

    return prepare


def scored(damage: Damage) -> Prepare:
    """``evaluate`` of one machine's scores and decisions (in scores/) against truth.csv."""

    def prepare(folder: Path) -> list[str]:
        rows = [(domain, label) for domain in ("source", "target") for label in ("normal", "normal", "anomaly")]
        names = [f"section_00_{k:04}.wav" for k in range(len(rows))]
        put(folder / "scores" / SCORES, "".join(f"{name},{k}.5\n" for k, name in enumerate(names)))
        put(folder / "scores" / DECISIONS, "".join(f"{name},{k % 2}\n" for k, name in enumerate(names)))
        lines = [f"fan,00,{name},{domain},{label}" for name, (domain, label) in zip(names, rows, strict=True)]
        put(folder / "truth.csv", "\n".join(["machine,section,file,domain,label", *lines, ""]))
        damage(folder)
        options = {"--scores": "scores", "--truth": "truth.csv", "--json": "metrics.json"}
        paths = [text for name, path in options.items() for text in (name, str(folder / path))]
        return ["evaluate", *paths, "--bootstrap", "0"]

    return prepare


def published_truth(year: int, *lines: str) -> Prepare:
    """``prepare --year`` with a published list of labels; the recordings are those of a machine called fan."""

    def prepare(folder: Path) -> list[str]:
        put_machine(folder / "in" / ("raw" if year > 2022 else "dev") / "fan")
        path = put(folder / "list.csv", "\n".join(lines) + "\n")
        options = ["--year", str(year), "--truth", str(path), "--out", str(folder / "out.csv")]
        return ["prepare", str(folder / "in"), *options]

    return prepare


def manifest(damage: Damage, verb: str = "shard") -> Prepare:
    """A command over manifest.csv of two recordings, audio/a.wav and audio/b.wav."""

    def prepare(folder: Path) -> list[str]:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS.split(","))
        for name in ("a.wav", "b.wav"):
            path = put_wav(folder / "audio" / name)
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
            fields = ["x", "fan", "00", "train", name, f"audio/{name}", "normal", "source", "", "", 2, RATE, 1600]
            writer.writerow([*fields, digest])
        put(folder / "manifest.csv", file.getvalue())
        damage(folder)
        return [verb, str(folder / "manifest.csv"), "--out", str(folder / "out.csv")]

    return prepare


def configured(text: str | bytes, *options: str, name: str = "conf.yaml") -> Prepare:
    """Stage 0 of a recipe with a configuration."""

    def prepare(folder: Path) -> list[str]:
        put_machine(folder / "in" / "fan")
        path = put(folder / name, text)
        return ["prepare", "--exp", str(folder / "exp"), "--conf", str(path), "--data", str(folder / "in"), *options]

    return prepare


def fixture(name: str) -> bytes:
    return (FIXTURES / "encoders" / name).read_bytes()


def checkpoint(name: str, data: bytes | Callable[[], bytes], *options: str) -> Prepare:
    """``convert`` of a file of weights."""

    def prepare(folder: Path) -> list[str]:
        path = put(folder / name, data() if callable(data) else data)
        return ["convert", str(path), str(folder / "out.safetensors"), *options]

    return prepare


def torch_bytes(change: Callable[[dict], object]) -> Callable[[], bytes]:
    """The tiny FISHER checkpoint with its contents changed."""

    def data() -> bytes:
        import torch

        loaded = torch.load(io.BytesIO(fixture("fisher/fisher.pt")), weights_only=True)
        buffer = io.BytesIO()
        torch.save(change(loaded), buffer)
        return buffer.getvalue()

    return data


def running_pickle() -> bytes:
    """A pickle that would print where it is loaded as pickles usually are."""

    class Runs:
        def __reduce__(self):
            return print, ("code of the file was run",)

    return pickle.dumps({"model": Runs()}, protocol=2)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data, method)
    return buffer.getvalue()


def of_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def downloaded(data: bytes | Callable[[], bytes], year: int = 2022) -> Prepare:
    """``download`` over a zip that lies in zips/ already, so that nothing is fetched."""

    def prepare(folder: Path) -> list[str]:
        put(folder / "zips" / "dev_fan.zip", data() if callable(data) else data)
        options = ["--machines", "fan", "--parts", "dev", "--base-url", "http://127.0.0.1:9"]
        return ["download", "--year", str(year), "--out", str(folder), *options]

    return prepare


def package(data: bytes | Callable[[], bytes]) -> Prepare:
    """``validate`` of a zip."""

    def prepare(folder: Path) -> list[str]:
        path = put(folder / "package.zip", data() if callable(data) else data)
        return ["validate", str(path)]

    return prepare


def embeddings(change: Callable[[dict], object]) -> Prepare:
    """``benchmark rmis-fixed`` over a file of embeddings."""

    def prepare(folder: Path) -> list[str]:
        with np.load(FIXTURES / "benchmarks" / "rmis_fixed" / "data.npz") as file:
            fields = change({name: file[name] for name in file.files})
        buffer = io.BytesIO()
        if isinstance(fields, dict):
            np.savez(buffer, **fields)
        put(folder / "data.npz", buffer.getvalue() or fields)
        return ["benchmark", "rmis-fixed", "--embeddings", str(folder / "data.npz"), "--json", str(folder / "o.json")]

    return prepare


def plain(verb: str, *options: str, **files: bytes | str) -> Prepare:
    """Any command over files; ``{}`` in an option is the case's folder, ``__`` in a file's name a dot."""

    def prepare(folder: Path) -> list[str]:
        for name, data in files.items():
            put(folder / name.replace("__", "."), data)
        return [verb, *(option.replace("{}", str(folder)) for option in options)]

    return prepare
