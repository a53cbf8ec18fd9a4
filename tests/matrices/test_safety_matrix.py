"""Hostile files and a quiet network; with the tests of single readers in ``python tools/safety_matrix.py``."""

import ast
import io
import shutil
import struct
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from toy_runs import QUICK, recipe, write_conf

from submission import technical_report
from system import config as configuration
from system.corpora.challenge import load_year
from system.corpora.unzip import unpack
from system.corpora.year_files import known_years
from system.embeddings import files
from system.errors import WheeltapperError

ROOT = Path(__file__).resolve().parents[2]
NOISE = np.random.default_rng(0).bytes(20000)
# As file and machine names may have it: no slash, no quotes that a shell or a table would stumble over.
TAG = "<img src=x onerror=alert(1)>"
SOURCES = sorted([*(ROOT / "system").rglob("*.py"), *(ROOT / "submission").rglob("*.py")])


def archive(path: Path, name: str = "fan/train/a.wav", content: bytes = NOISE) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return path


def lie(path: Path, size: int) -> None:
    """Says another unpacked size in both of a zip's headers."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, size)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [100, 19999, 20001, 700000], ids=lambda size: f"says {size}")
def test_archive_that_lies_about_its_size(tmp_path, size):
    """No more than what it says is unpacked, and what is not what it says is refused."""
    path = archive(tmp_path / "z.zip")
    lie(path, size)
    with pytest.raises(WheeltapperError, match=r"z\.zip"):
        unpack(path, tmp_path / "raw", "fan")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["z.zip"]


def test_archive_in_an_archive_stays_packed(tmp_path):
    """A bomb inside is a file like any other: nothing is unpacked twice."""
    bomb = archive(tmp_path / "bomb.zip", "b", bytes(3_000_000)).read_bytes()
    path = archive(tmp_path / "z.zip", "fan/train/bomb.zip", bomb)
    unpack(path, tmp_path / "raw", "fan")
    assert [entry.name for entry in (tmp_path / "raw").rglob("*") if entry.is_file()] == ["bomb.zip"]


@pytest.mark.parametrize(
    "name", ["fan/a\0b.wav", "\\\\server\\share\\a.wav", "c:a.wav", "fan/../../a.wav", "/fan/a.wav"]
)
def test_archive_with_a_name_that_leads_outside(tmp_path, name):
    path = tmp_path / "raw" / "z.zip"
    path.parent.mkdir()
    archive(path, "fan/train/a.wav" if "\0" in name else name)
    if "\0" in name:
        path.write_bytes(path.read_bytes().replace(b"train/a.wav", b"tra\0n/a.wav"))
    with pytest.raises(WheeltapperError, match=r"z\.zip"):
        unpack(path, tmp_path / "raw" / "fan", "")
    assert [entry.name for entry in tmp_path.rglob("*") if entry.is_file()] == ["z.zip"]


class Code:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_cannot_bring_code(tmp_path, kind):
    index, path = tmp_path / "index.csv", tmp_path / f"rows.{kind}"
    index.write_text("machine,section,split,file\na,00,test,b.wav\n")
    values = np.array([Code(tmp_path / "ran")], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True) if kind == "npy" else np.savez(buffer, values=values)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WheeltapperError, match=path.name):
        files.read_rows(index, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:pathlib.Path.touch [RAN]",
        "seed: !!python/object/new:pathlib.Path [RAN]",
        "package: {title: !!python/name:os.system }",
        "seed: ${eval:'1'}",
    ],
)
def test_settings_cannot_bring_code(tmp_path, text):
    path = tmp_path / "conf.yaml"
    path.write_text(text.replace("RAN", str(tmp_path / "ran")))
    with pytest.raises(WheeltapperError, match=r"conf\.yaml"):
        configuration.load(path)
    assert not (tmp_path / "ran").exists()


def test_settings_are_no_templates():
    """What a user writes is put into the technical report as it is."""
    config = configuration.load(ROOT / "recipes/dcase2026/conf/toy.yaml", []).package
    text = "{{ 7 * 191 }} {% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"
    config.title = config.abstract = text
    found = technical_report.markdown(config, [], ["SimFan"], False, technical_report.ReportFacts(), None)
    assert "1337" not in found
    assert "{{ 7 * 191 }}" in found.replace("\\", "")


class Tags(HTMLParser):
    """Tags of a page and their attributes that would run something."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        self.images += [names.get("src") or ""] if tag == "img" else []
        self.handlers += [f"{tag} {name}" for name in names if name.startswith("on")]
        self.handlers += [f"{tag} {value}" for value in names.values() if str(value).startswith("javascript:")]


def test_names_of_a_run_are_text_in_its_report(quick, tmp_path):
    """A file, attributes and a system that are named like a tag, and machines like what a tag holds."""
    data = tmp_path / "own"
    for machine in ("SimFan", "SimValve"):
        shutil.copytree(quick.finished / "data" / machine, data / f"{machine}' onerror='alert(1)")
    for path in sorted(data.rglob("*.wav")):
        path.rename(path.with_name(path.name.replace("normal_", "normal_").replace(".wav", f"_x_{TAG}.wav")))
    systems = [{"name": TAG, "weights": {"lines": 1.0}}]
    conf = write_conf(tmp_path, QUICK, systems=systems)
    exp = tmp_path / "exp"
    ended = quick.server.run(*recipe(exp, conf, 0, 6, "--data", str(data)))
    assert ended.status == 0, ended.told
    ended = quick.server.run(*recipe(exp, conf, 9, 9))
    assert ended.status == 0, ended.told
    page = (exp / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.handlers == []
    assert "x" not in tags.images
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert TAG not in page
    assert "SimFan&#39; onerror=&#39;alert(1)" in page


def test_a_run_uses_no_network(elsewhere):
    """Nothing listens, nothing is asked for: no socket is made at all, or the run would not have ended well."""
    assert (elsewhere / "report.html").exists()


@pytest.mark.matrix
def test_a_run_with_networks_uses_no_network(server, tmp_path):
    hook = ["abuse_hooks", {"name": "no_network"}]
    ended = server.run(*recipe(tmp_path / "exp", write_conf(tmp_path)), hook=hook)
    assert ended.status == 0, ended.told


def test_a_port_would_be_noticed(server):
    ended = server.run(call=(print, []), hook=["abuse_hooks", {"name": "opens_a_port"}])
    assert ended.status == 3
    assert "socket.bind" in ended.told


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(each.value) for each in call.keywords if each.arg == name), "")


FORBIDDEN = {
    "pickle and marshal": lambda name, call: (
        name.split(".")[0] in ("pickle", "marshal", "dill", "joblib")
        and name.rpartition(".")[2] in ("load", "loads", "Unpickler")
    ),
    "eval and exec": lambda name, call: name in ("eval", "exec", "os.system", "os.popen", "__import__"),
    "a shell": lambda name, call: keyword(call, "shell") == "True",
    "arrays of objects": lambda name, call: keyword(call, "allow_pickle") == "True",
    "torch.load of code": lambda name, call: name == "torch.load" and keyword(call, "weights_only") != "True",
    "yaml of objects": lambda name, call: (
        (name in ("yaml.load", "yaml.load_all") and "Loader" not in "".join(ast.unparse(each) for each in call.args))
        or name.startswith(("yaml.unsafe_load", "yaml.full_load"))
    ),
    "templates of text": lambda name, call: name.endswith((".from_string", "jinja2.Template")),
    "sockets": lambda name, call: name.startswith(("socket.socket", "socketserver", "http.server")),
    "archives unpacked whole": lambda name, call: name.endswith((".extractall", "shutil.unpack_archive")),
}


def test_what_the_code_never_calls():
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno} {name}: {rule}"
        for path in SOURCES
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8")))
        for rule in FORBIDDEN
        if FORBIDDEN[rule](name, call)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("pickle and marshal", "pickle.loads(x)"),
        ("a shell", "subprocess.run(x, shell=True)"),
        ("torch.load of code", "torch.load(path)"),
        ("yaml of objects", "yaml.load(x, yaml.Unsafe)"),
        ("archives unpacked whole", "archive.extractall(x)"),
    ],
)
def test_such_a_call_would_be_noticed(rule, text):
    assert [name for name, call in calls(ast.parse(text)) if FORBIDDEN[rule](name, call)]


def test_published_hashes_are_known():
    """Of the years with hashes in their tables; of the others the program says that it knows none."""
    archives = {year: load_year(year).select() for year in known_years()}
    known = {year: sum(archive.md5 is not None for archive in found) for year, found in archives.items()}
    assert {year: len(found) for year, found in archives.items() if known[year] == len(found)} == {2020: 18, 2023: 21}
    assert known[2026] == 11
