"""Readers of files that users and networks bring, seeds for each, and the damage that ``tools/fuzz_parsers.py`` does.

The property: a reader returns or raises WheeltapperError, nothing else, whatever the bytes.
"""

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from bad_input_files import COLUMNS, FIXTURES, fixture, noise, put_wav, wav_bytes, zipped

from submission.meta_check import parse as parse_meta
from submission.validate import validate
from system import audio, config, manifest
from system.benchmarks import embedding_tables
from system.corpora import names
from system.corpora import truth as published
from system.corpora.attributes import contradicts, join_pairs, read_attributes
from system.corpora.inspection import inspect
from system.corpora.table import prepare_table
from system.corpora.unzip import unpack
from system.errors import WheeltapperError
from system.evaluation import challenge_csv, truth
from system.files import read_json

ROOT = Path(__file__).resolve().parents[2]
# What readers of these formats have stumbled over: ends of ranges, marks, brackets without end, numbers beyond limits.
WORDS = [
    b"", b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\0" * 8, b"\x01\0\0\0", b"\xef\xbb\xbf",
    b"\xff\xfe", b'"', b",", b"\n", b"\r", b"\r\n", b"\t", b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"9" * 4400,
    b"[" * 40, b"{a: " * 40, b"&a [*a]", b"*a", b"!!int x", b"!!timestamp x", b"!!binary x", b"!!python/name:os.system",
    b"2026-99-99", b"${seed}", b"${", b"${oc.env:HOME}", b"? [a, b]\n: 1\n", b"<<: *a", b"_", b"section_00_", b"d1p",
    b"../", b"/", b"..", b"RIFF", b"data", b"fLaC", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", "ü٣".encode(),
]  # fmt: skip


class Target(NamedTuple):
    """A reader of ``name`` (a file's ending), and what to damage for it."""

    ending: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    slow: bool = False


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to eight random changes: bits, words, numbers, cuts, repetitions, pieces exchanged."""
    result = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        size = len(result)
        # Headers are at the beginning, or (zip) at the end; most changes in the middle only change a value.
        place = dice.choice(
            (dice.randrange(size + 1), dice.randrange(min(size, 80) + 1), size - dice.randrange(min(size, 80) + 1))
        )
        match dice.randrange(7):
            case 0 if place < size:
                result[place] ^= 1 << dice.randrange(8)
            case 1:
                word = dice.choice(WORDS)
                result[place : place + len(word)] = word
            case 2:
                result[place:place] = dice.choice(WORDS)
            case 3:
                width = dice.choice((1, 2, 4, 8))
                value = dice.choice((0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1), dice.randrange(1 << 8 * width)))
                result[place : place + width] = value.to_bytes(width, dice.choice(("little", "big")))
            case 4:
                del result[place : place + dice.choice((1, 4, 16, size))]
            case 5:
                piece = result[place : place + dice.randrange(1, 64)]
                result[place:place] = piece * dice.choice((1, 2, 50))
            case _:
                other = dice.randrange(size + 1)
                result[place:place] = result[other : other + dice.randrange(64)]
    return bytes(result[: 1 << 22])


def attempt(target: Target, folder: Path, data: bytes) -> bool:
    """Whether the reader took these bytes (refused them, otherwise); lets everything but WheeltapperError out."""
    path = folder / f"input{target.ending}"
    path.write_bytes(data)
    try:
        target.read(path)
    except WheeltapperError:
        return False
    return True


def _sounds() -> list[bytes]:
    kinds = [("PCM_16", "WAV"), ("FLOAT", "WAV"), ("PCM_24", "WAVEX"), ("PCM_16", "RF64"), ("PCM_16", "W64")]
    kinds += [("PCM_16", "FLAC"), ("VORBIS", "OGG"), ("PCM_16", "AIFF"), ("IMA_ADPCM", "WAV"), ("ULAW", "AU")]
    return [wav_bytes(subtype, kind, 0.05) for subtype, kind in kinds]


def _hear(path: Path) -> None:
    inspect(path)
    audio.read(path)


def _names() -> list[bytes]:
    return [
        b"section_00_source_train_normal_0000_vel_1.wav", b"section_00_0000.wav", b"normal_id_00_00000000.wav",
        b"section_00_machine_0001_.wav", b"section_00_source_normal_0035_weight15_BckgF.flac",
    ]  # fmt: skip


def _name(path: Path) -> None:
    text = path.read_bytes().decode(errors="surrogateescape")
    names.attribute_class(text)
    pairs = names.attribute_pairs(text)
    contradicts(text, pairs)
    join_pairs(pairs)
    fields = names.parse_name(text)
    names.attribute_pairs(fields.attributes)
    challenge_csv.parse_name(text)


def _scores() -> list[bytes]:
    return [b"section_00_0000.wav,0.5\nsection_00_0001.wav,-1e-3\n", b'"a.wav", 1\r\nb.wav,0\r\n']


def _score_csv(path: Path) -> None:
    challenge_csv.scan(path, challenge_csv.DECISION)
    challenge_csv.read(path)


def _truth() -> list[bytes]:
    rows = b"fan,00,a.wav,source,normal\nfan,00,b.wav,target,anomaly\n"
    return [
        b"machine,section,file,domain,label\n" + rows,
        b"x,label,domain,file,section,machine\r\n1,normal,,a,0,fan\r\n",
    ]


def _published() -> list[bytes]:
    pair = b"section_00_0000.wav,section_00_source_test_normal_0000_noAttribute.wav\n"
    return [b"shaker\n" + pair + b"Vacuum\n" + pair, b"shaker,\n" + pair.replace(b"\n", b",0\r\n")]


def _attributes() -> list[bytes]:
    return [b"file_name,d1p,d1v,d2p,d2v\nfan/train/a.wav,vel,1,mic,2\nfan/test/b.wav,noAttribute,,,\n"]


def _table(path: Path) -> None:
    put_wav(path.with_name("a.wav"), noise(0.02))
    prepare_table(path, class_column="class", fold_column="fold")


def _manifest() -> list[bytes]:
    row = "x,fan,00,train,{0}.wav,a/{0}.wav,normal,source,v_1,,2,8000,1600,00ff\n"
    return [f"{COLUMNS}\n{row.format('a')}{row.format('b')}".encode()]


def _recipes() -> list[bytes]:
    texts = [path.read_bytes() for path in sorted((ROOT / "recipes/dcase2026/conf").glob("*.yaml"))[:6]]
    saved = yaml.safe_dump({"seed": 1, "branches": {"main": {"pool": "mean"}}, "systems": [{"weights": {"main": 1.0}}]})
    return [*(text.replace(b"base:", b"# base:") for text in texts), saved.encode()]


def _config(path: Path) -> None:
    config.load(
        path, [f"seed={path.read_bytes()[:200].decode(errors='replace')}"] if path.stat().st_size % 5 == 0 else []
    )


def _zips() -> list[bytes]:
    sound = wav_bytes(seconds=0.05)
    entries = (("fan/train/a.wav", sound), ("fan/attributes_00.csv", b"file_name\n"), ("LICENSE", b"x"))
    return [zipped(*entries), zipped(*entries, method=0), zipped(*entries, method=14), zipped(*entries, method=12)]


def _unpack(path: Path) -> None:
    try:
        unpack(path, path.parent / "raw", "fan")
    finally:
        shutil.rmtree(path.parent / "raw", ignore_errors=True)


def _packages() -> list[bytes]:
    table = b"section_00_0000.wav,0.5\n"
    system = "task2/A_B_task2_1"
    entries = [(f"{system}/{kind}_fan_section_00_test.csv", table) for kind in challenge_csv.KINDS]
    meta = (f"{system}/A_B_task2_1.meta.yaml", b"submission: {label: A_B_task2_1, name: x}\n")
    return [zipped(*entries, meta, ("task2/A_B_task2.technical_report.pdf", b"%PDF-1.4\n%%EOF\n"))]


def _validate(path: Path) -> None:
    for found in validate(path):
        assert str(found).isprintable()


def _checkpoints() -> list[bytes]:
    import torch

    buffer = io.BytesIO()
    torch.save({"model": {"w": torch.ones(3)}, "cfg": {"dim": 3}}, buffer, _use_new_zipfile_serialization=False)
    small = io.BytesIO()
    torch.save({"model": {"w": torch.ones(3)}, "cfg": {"dim": 3}}, small)
    return [
        small.getvalue(),
        buffer.getvalue(),
        *(fixture(f"echo/echo{ending}") for ending in (".safetensors", ".pth")),
    ]


def _checkpoint(path: Path) -> None:
    from system.encoders import cards, family_class, wrapped

    loaded = wrapped.read(path)
    family = cards.identify(loaded)
    if family:
        family_class(family).load(path, {})


def _arrays() -> list[bytes]:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, embeddings=np.ones((3, 2), np.float32), label=np.array(["a", "b", "c"]))
    return [(FIXTURES / "benchmarks" / "siren_loocv" / "data.npz").read_bytes(), buffer.getvalue()]


TARGETS = {
    "sound": Target(".wav", _sounds, _hear),
    "names": Target(".txt", _names, _name),
    "scores": Target(".csv", _scores, _score_csv),
    "truth": Target(".csv", _truth, truth.read_truth),
    "published truth": Target(".csv", _published, lambda path: published.read_truth(path, 2023)),
    "attributes": Target(".csv", _attributes, read_attributes),
    "table": Target(".csv", lambda: [b"file,class,fold\na.wav,x,1\n"], _table),
    "manifest": Target(".csv", _manifest, manifest.read),
    "configuration": Target(".yaml", _recipes, _config, slow=True),
    "json": Target(".json", lambda: [b'{"benchmark": "siren", "scores": {"a": 1.5, "b": [1, "x"]}}'], read_json),
    "meta file": Target(
        ".yaml", lambda: [b"submission: {label: A_B_task2_1}\nresults: {x: 1}\n"], lambda p: parse_meta(p.read_bytes())
    ),
    "zip": Target(".zip", _zips, _unpack),
    "package": Target(".zip", _packages, _validate),
    "checkpoint": Target(".pt", _checkpoints, _checkpoint, slow=True),
    "arrays": Target(".npz", _arrays, lambda path: embedding_tables._read(path, ("embeddings", "label"))),
}
