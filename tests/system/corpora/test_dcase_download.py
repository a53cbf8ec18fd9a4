import hashlib
import io
import json
import zipfile

import pytest
from dcase_files import put_machine
from file_server import serving

from system import fetch
from system.bin import main
from system.corpora.challenge import Year, load_year
from system.corpora.dcase import prepare_dcase
from system.corpora.download import download_dcase
from system.errors import WheeltapperError


@pytest.fixture
def contents(tmp_path):
    """Bytes by URL path: the three zips of a small challenge."""
    put_machine(tmp_path / "source", "fan")
    put_machine(tmp_path / "source", "Sander", anonymous=True)
    return {
        "/1/files/dev_fan_r2.zip": pack(tmp_path / "source", "fan"),
        "/2/files/eval_data_Sander_train.zip": pack(tmp_path / "source", "Sander", "train"),
        "/3/files/eval_data_Sander_test.zip": pack(tmp_path / "source", "Sander", "test"),
    }


def pack(root, machine, split=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / machine / split).rglob("*.wav")):
            archive.write(path, path.relative_to(root))
        archive.writestr("__MACOSX/._fan", "litter")
        archive.writestr("LICENSE.txt", "a licence")
    return buffer.getvalue()


@pytest.fixture
def server(contents, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(contents) as server:
        yield server


def a_year(contents, md5=(), sizes=()):
    """A challenge like 2026, with one development and one evaluation machine."""
    data = load_year(2026).model_dump()
    data["machines"] = {
        "dev": {"fan": data["machines"]["dev"]["fan"]},
        "eval": {"Sander": data["machines"]["eval"]["Sander"]},
    }
    data["archives"] = {
        "dev": {"record": 1, "folder": "raw", "name": "dev_{machine}.zip", "names": {"fan": "dev_fan_r2.zip"}},
        "train": {"record": 2, "folder": "raw", "name": "eval_data_{machine}_train.zip"},
        "test": {"record": 3, "folder": "raw", "name": "eval_data_{machine}_test.zip"},
    }
    for (part, archive), content in zip(data["archives"].items(), contents.values(), strict=True):
        machine = "fan" if part == "dev" else "Sander"
        if part in md5:
            archive["md5"] = {machine: hashlib.md5(content).hexdigest()}
        if part in sizes:
            archive["bytes"] = {machine: len(content)}
    return Year.model_validate(data)


def get(year, folder, server, **options):
    return download_dcase(year, folder, base_url=server.url, pause=0.01, **options)


def test_fetch_check_unpack_prepare_and_nothing_to_do_again(tmp_path, server, contents):
    year = a_year(contents, md5=("dev", "test"), sizes=("dev", "train"))
    said, seen = [], []
    folders = get(year, tmp_path / "out", server, say=said.append, progress=lambda *step: seen.append(step))
    assert folders == [tmp_path / "out" / "raw"]
    assert [path for path, _ in server.requests] == list(contents)
    assert [text.partition(":")[0] for text in said if "no published MD5" in text] == ["eval_data_Sander_train.zip"]
    assert len(prepare_dcase(folders[0])) == 13 + 7
    assert sorted(path.name for path in folders[0].iterdir()) == ["Sander", "fan"]
    assert {(name, total) for name, done, total in seen if done == total} == {
        (path.rpartition("/")[2], len(content)) for path, content in contents.items()
    }
    get(year, tmp_path / "out", server, say=said.append)
    assert len(server.requests) == 3
    assert said[-3:] == [f"{path.rpartition('/')[2]}: complete, nothing to do" for path in contents]


def listing(contents, **changes):
    """Zenodo's answers for the records of the zips: MD5 and size of each, or those in ``changes`` by zip."""
    found = {}
    for path, content in contents.items():
        _, record, _, name = path.split("/")
        md5 = changes.get(name, hashlib.md5(content).hexdigest())
        answer = {"files": [{"key": name, "checksum": f"md5:{md5}", "size": len(content)}]}
        found[f"/api/records/{record}"] = json.dumps(answer).encode()
    return found


def test_zenodo_is_asked_for_hashes_that_are_not_known(tmp_path, server, contents):
    said = []
    server.contents = contents | listing(contents)
    get(a_year(contents, md5=("dev",)), tmp_path / "good", server, say=said.append, api=f"{server.url}/api")
    assert [path for path, _ in server.requests if path.startswith("/api")] == ["/api/records/2", "/api/records/3"]
    assert not any("no published MD5" in text for text in said)
    server.contents = contents | listing(contents, **{"eval_data_Sander_test.zip": "0" * 32})
    with pytest.raises(WheeltapperError, match=r"eval_data_Sander_test\.zip: expected MD5 0{32}, found "):
        get(a_year(contents), tmp_path / "bad", server, api=f"{server.url}/api")
    assert not (tmp_path / "bad" / "raw" / "Sander" / "test").exists()


def test_where_zenodo_does_not_answer_the_program_says_so(tmp_path, server, contents, caplog):
    said = []
    get(a_year(contents), tmp_path, server, say=said.append, api=f"{server.url}/api", parts=("dev",))
    assert "/api/records/1: download failed (the server answers 404" in caplog.text
    assert [text.partition(":")[0] for text in said if "no published MD5" in text] == ["dev_fan_r2.zip"]


def test_selection_of_machines_and_parts(tmp_path, server, contents):
    get(a_year(contents), tmp_path, server, machines=["Sander"], parts=("test",))
    assert [path for path, _ in server.requests] == ["/3/files/eval_data_Sander_test.zip"]


def test_unpacked_zips_may_be_deleted(tmp_path, server, contents):
    year = a_year(contents)
    get(year, tmp_path, server)
    for path in (tmp_path / "zips").glob("*.zip"):
        path.unlink()
    get(year, tmp_path, server)
    assert len(server.requests) == 3


@pytest.mark.parametrize("change", ["missing", "cut"])
def test_a_recording_that_was_lost_is_unpacked_again_without_fetching(tmp_path, server, contents, change):
    year = a_year(contents)
    get(year, tmp_path, server)
    path = next((tmp_path / "raw" / "fan" / "train").iterdir())
    whole = path.read_bytes()
    path.unlink() if change == "missing" else path.write_bytes(whole[:100])
    get(year, tmp_path, server)
    assert path.read_bytes() == whole
    assert len(server.requests) == 3


def test_a_zip_fetched_by_hand_is_taken(tmp_path, contents):
    (tmp_path / "zips").mkdir()
    for path, content in contents.items():
        (tmp_path / "zips" / path.rpartition("/")[2]).write_bytes(content)
    download_dcase(a_year(contents, md5=("dev",)), tmp_path, base_url="http://127.0.0.1:9")
    assert len(prepare_dcase(tmp_path / "raw")) == 20


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_is_continued_or_started_anew(tmp_path, server, contents, ranges):
    server.ranges = ranges
    path, content = next(iter(contents.items()))
    (tmp_path / "zips").mkdir()
    part = tmp_path / "zips" / "dev_fan_r2.zip.part"
    # Without ranges the old bytes must not survive in front of the new ones.
    part.write_bytes(content[:1000] if ranges else b"x" * 1000)
    get(a_year(contents, md5=("dev",)), tmp_path, server, parts=("dev",))
    assert server.requests == [(path, "bytes=1000-")]
    assert not part.exists()
    assert (tmp_path / "zips" / "dev_fan_r2.zip").read_bytes() == content


def test_a_part_that_is_whole_needs_no_more_bytes(tmp_path, server, contents):
    content = next(iter(contents.values()))
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "dev_fan_r2.zip.part").write_bytes(content)
    get(a_year(contents), tmp_path, server, parts=("dev",))
    assert (tmp_path / "zips" / "dev_fan_r2.zip").read_bytes() == content


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path, server, contents):
    content = next(iter(contents.values()))
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "dev_fan_r2.zip.part").write_bytes(content + b"more")
    get(a_year(contents), tmp_path, server, parts=("dev",))
    assert (tmp_path / "zips" / "dev_fan_r2.zip").read_bytes() == content


def test_a_server_that_hangs_up_is_asked_for_the_rest(tmp_path, server, contents):
    content = next(iter(contents.values()))
    server.cut = len(content) // 3 + 1
    get(a_year(contents, md5=("dev",)), tmp_path, server, parts=("dev",))
    assert [asked for _, asked in server.requests] == ["", f"bytes={server.cut}-", f"bytes={2 * server.cut}-"]


def test_what_was_fetched_is_kept_when_the_server_never_finishes(tmp_path, server, contents):
    server.cut = 1000
    with pytest.raises(WheeltapperError, match=rf"stopped after 4000 of {len(contents['/1/files/dev_fan_r2.zip'])}"):
        get(a_year(contents), tmp_path, server, parts=("dev",))
    assert (tmp_path / "zips" / "dev_fan_r2.zip.part").stat().st_size == 4000
    server.cut = None
    get(a_year(contents, md5=("dev",)), tmp_path, server, parts=("dev",))
    assert server.requests[-1][1] == "bytes=4000-"


def test_a_busy_server_is_asked_again(tmp_path, server, contents):
    server.failures = 2
    get(a_year(contents), tmp_path, server, parts=("dev",))
    assert len(server.requests) == 3


def test_a_file_that_is_not_there(tmp_path, server, contents):
    server.contents = {}
    with pytest.raises(WheeltapperError) as caught:
        get(a_year(contents), tmp_path, server)
    assert str(caught.value).startswith(f"{server.url}/1/files/dev_fan_r2.zip: download failed")
    assert "404" in str(caught.value)
    assert len(server.requests) == 1


def test_no_network_is_one_line_with_url_and_advice(tmp_path, contents, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    status = main(["download", "--year", "2026", "--out", str(tmp_path), "--base-url", "http://127.0.0.1:9/records"])
    assert status == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "http://127.0.0.1:9/records/19336329/files/dev_ToyCar_r2.zip" in error[0]
    assert f"download it by hand to {tmp_path / 'zips'}" in error[0]


@pytest.mark.parametrize(("md5", "sizes"), [(("dev",), ()), ((), ("dev",))])
def test_a_wrong_hash_or_size_is_refused_and_never_unpacked(tmp_path, server, contents, md5, sizes):
    year = a_year(contents, md5, sizes)
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "dev_fan_r2.zip").write_bytes(b"something else")
    with pytest.raises(WheeltapperError, match=r"dev_fan_r2.zip: expected .*, found .*; delete"):
        get(year, tmp_path, server)
    assert not list(tmp_path.glob("raw/*"))


def test_a_server_with_another_size_is_refused_before_fetching(tmp_path, server, contents):
    year = a_year(contents, sizes=("dev",))
    server.contents = {"/1/files/dev_fan_r2.zip": b"short"}
    with pytest.raises(WheeltapperError, match="the server has 5"):
        get(year, tmp_path, server)


def test_a_full_disk_is_foreseen(tmp_path, server, contents, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(WheeltapperError, match=r"bytes of free space for .*, found 10"):
        get(a_year(contents), tmp_path, server)


def test_two_runs_at_once_do_not_meet(tmp_path, server, contents):
    from system.files import lock

    with lock(tmp_path), pytest.raises(WheeltapperError, match="another wheeltapper process"):
        get(a_year(contents), tmp_path, server)


@pytest.mark.parametrize("url", ["file:///etc", "zenodo.org/records", ""])
def test_other_kinds_of_addresses_are_refused(tmp_path, contents, url):
    with pytest.raises(WheeltapperError, match="base_url: expected http"):
        download_dcase(a_year(contents), tmp_path, base_url=url)


def test_verb(tmp_path, server, contents, monkeypatch, capsys):
    monkeypatch.setattr("system.corpora.challenge.load_year", lambda year: a_year(contents))
    arguments = ["download", "--year", "2026", "--out", str(tmp_path), "--base-url", server.url]
    assert main([*arguments, "--parts", "dev", "--machines", "fan"]) == 0
    out = capsys.readouterr().out
    assert "dev_fan_r2.zip: 13 files in" in out
    assert f"next: wheeltapper prepare {tmp_path / 'raw'}" in out


def test_verb_with_an_unknown_year_or_machine(tmp_path, capsys):
    assert main(["download", "--year", "2019", "--out", str(tmp_path)]) == 1
    assert main(["download", "--year", "2026", "--out", str(tmp_path), "--machines", "Fan"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "expected one of 2020" in errors[0]
    assert "found 'Fan'" in errors[1]
