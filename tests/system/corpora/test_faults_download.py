"""Data sets from a web server: hashes, Zenodo's own list, zips and single files, what is known of each publisher."""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace

import pytest
from file_server import serving

from system.bin import main
from system.corpora import faults
from system.corpora.faults.base import Download
from system.corpora.faults.download import download
from system.errors import WheeltapperError


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


ZIP = zipped(**{"top/normal/1.csv": b"1,2\n", "readme.txt": b"x"})


def test_zips_and_single_files(tmp_path):
    with serving({"/full.zip": ZIP, "/118.mat": b"mat", "/K001.rar": b"Rar!"}) as server:
        items = (
            Download(f"{server.url}/full.zip", "full.zip", md5(ZIP), len(ZIP)),
            Download(f"{server.url}/118.mat", "118.mat"),
            Download(f"{server.url}/K001.rar", "K001.rar"),
        )
        corpus = replace(faults.find("mafaulda_vib"), downloads=items, advice="unpack the .rar files")
        said = []
        raw = download(corpus, tmp_path, say=said.append, pause=0)
        assert raw == tmp_path / "raw"
        assert (raw / "full" / "top" / "normal" / "1.csv").read_bytes() == b"1,2\n"
        assert (raw / "118.mat").read_bytes() == b"mat"
        assert (tmp_path / "zips" / "K001.rar").is_file()
        assert said[-1] == "unpack the .rar files"
        asked = len(server.requests)
        (tmp_path / "zips" / "full.zip").unlink()  # once it is unpacked it may go
        download(corpus, tmp_path, pause=0)
        assert len(server.requests) == asked


def test_an_interrupted_transfer_goes_on(tmp_path):
    with serving({"/full.zip": ZIP}) as server:
        server.cut = 100
        item = Download(f"{server.url}/full.zip", "full.zip", md5(ZIP))
        download(replace(faults.find("mafaulda_vib"), downloads=(item,)), tmp_path, pause=0)
        assert [asked for _, asked in server.requests] == [
            "",
            *(f"bytes={k}00-" for k in range(1, len(ZIP) // 100 + 1)),
        ]


def test_wrong_content(tmp_path):
    corpus = faults.find("mafaulda_vib")
    with serving({"/full.zip": ZIP, "/bad.zip": ZIP[:-30], "/118.mat": b"mat"}) as server:

        def fetch(name, md5=None):
            download(replace(corpus, downloads=(Download(f"{server.url}/{name}", name, md5),)), tmp_path, pause=0)

        with pytest.raises(WheeltapperError, match=rf"full\.zip: expected MD5 {'0' * 32}, found {md5(ZIP)}; delete"):
            fetch("full.zip", "0" * 32)
        assert not (tmp_path / "raw").exists()
        with pytest.raises(WheeltapperError, match=r"118\.mat: expected MD5"):
            fetch("118.mat", "0" * 32)
        with pytest.raises(WheeltapperError, match=r"bad\.zip: expected a whole zip, found damage"):
            fetch("bad.zip")
        with pytest.raises(WheeltapperError, match=r"gone\.zip: could not be fetched .*404"):
            fetch("gone.zip")


def listing(*names: str) -> bytes:
    entries = [{"key": name, "size": len(ZIP), "checksum": f"md5:{md5(ZIP)}"} for name in names]
    return json.dumps({"id": "7551606", "files": entries}).encode()


def test_zenodo_lists_its_files(tmp_path):
    iica = faults.find("iica")
    address = "/api/records/7551606"
    contents = {address: listing("a.zip", "b.zip")}
    contents |= {f"{address}/files/{name}.zip/content": ZIP for name in "ab"}
    with serving(contents) as server:
        server.types[address] = "application/json"
        raw = download(iica, tmp_path / "x", api=f"{server.url}/api", pause=0)
        assert sorted(path.name for path in raw.iterdir()) == ["a", "b"]
        contents[f"{address}/files/b.zip/content"] = ZIP[:-1] + b"x"
        with pytest.raises(WheeltapperError, match=r"b\.zip: expected MD5"):
            download(iica, tmp_path / "y", api=f"{server.url}/api", pause=0)
        for number, bad in enumerate((b"{}", b"[]", listing("../a.zip"), listing(), b"no json")):
            contents[address] = bad
            with pytest.raises(WheeltapperError, match=r"record_7551606\.json: expected "):
                download(iica, tmp_path / str(number), api=f"{server.url}/api", pause=0)


def test_what_cannot_be_fetched_says_where_it_is(tmp_path):
    for name in ("umged_sound", "sdust_gear"):
        with pytest.raises(WheeltapperError, match=rf"{name}: no address to fetch from is known; .*github\.com"):
            download(faults.find(name), tmp_path)
    with pytest.raises(WheeltapperError, match=r"corpus: expected one of iica, iiee, .* found 'jnu'"):
        faults.find("jnu")


def test_what_is_known_of_the_publishers():
    for corpus in faults.CORPORA.values():
        assert corpus.source.startswith("https://")
        for item in corpus.downloads:
            assert item.url.startswith("https://")
            assert item.url.endswith(item.name)
            assert item.md5 is None or re.fullmatch("[0-9a-f]{32}", item.md5)
    counts = {name: len(faults.find(name).downloads) for name in ("wtpg", "pu_vib", "cwru", "mimii", "mfpt", "iica")}
    assert counts == {"wtpg": 80, "pu_vib": 32, "cwru": 105, "mimii": 12, "mfpt": 1, "iica": 0}
    hashes = [item.md5 for item in faults.find("mimii").downloads]
    assert len(set(hashes)) == 12


def test_classes_are_as_many_as_published():
    """Table 2 (b) of the FISHER paper, table 1 of the ECHO paper."""
    expected = {"iica": (6, 3), "iiee": (3, 3), "wtpg": (5,), "sdust_bearing": (10,), "sdust_gear": (7,), "cwru": (10,)}
    expected |= {"mafaulda_sound": (10, 10), "mafaulda_vib": (10, 10), "pu_vib": (3,), "pu_cur": (3,)}
    expected |= {f"umged_{kind}": (11,) for kind in ("sound", "vib", "vol", "cur")}
    for name, counts in expected.items():
        views = faults.find(name).views.values()
        assert tuple(len(set(view.classes)) for view in views) == counts
        assert not any("_" in kind for view in views for kind in view.classes)


def test_the_command(tmp_path, capsys):
    assert main(["download", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in faults.CORPORA)
    for options, text in (
        ([], "expected NAME --out DIR"),
        (["cwru"], "expected NAME --out DIR"),
        (["cwru", "--year", "2023", "--out", str(tmp_path)], "expected NAME --out DIR"),
        (["cwru", "--parts", "dev", "--out", str(tmp_path)], "--parts: expected --year, found cwru"),
        (["sdust_gear", "--out", str(tmp_path)], "no address to fetch from is known"),
    ):
        assert main(["download", *options]) == 1
        assert text in capsys.readouterr().err
