import random
import stat
import zipfile

import pytest

from system.corpora import unzip as module
from system.corpora.unzip import is_unpacked, marker_of, unpack
from system.errors import WheeltapperError

NOISE = random.Random(0).randbytes(5000)


def make(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


@pytest.fixture
def good(tmp_path):
    return make(
        tmp_path / "dev_fan.zip", ("fan/train/a.wav", NOISE), ("fan/attributes_00.csv", b"x"), ("LICENSE", b"y")
    )


def test_files_land_and_the_marker_comes_last(tmp_path, good, monkeypatch):
    target = tmp_path / "raw"
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            unpack(good, target, "fan")
    assert not is_unpacked(good, target)
    assert unpack(good, target, "fan") == 2
    assert is_unpacked(good, target)
    assert (target / "fan/train/a.wav").read_bytes() == NOISE
    assert not (target / "LICENSE").exists()
    assert [path.name for path in target.iterdir()] == ["fan"]


def test_a_second_zip_adds_to_the_same_machine(tmp_path, good):
    test = make(tmp_path / "test.zip", ("fan/test/b.wav", NOISE))
    unpack(good, tmp_path / "raw", "fan")
    unpack(test, tmp_path / "raw", "fan")
    assert is_unpacked(good, tmp_path / "raw")
    assert is_unpacked(test, tmp_path / "raw")


def test_what_a_killed_run_left_is_cleared(tmp_path, good):
    left = tmp_path / "raw" / ".dev_fan.unpacking"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    unpack(good, tmp_path / "raw", "fan")
    assert not left.exists()


def test_a_damaged_marker_counts_as_none(tmp_path, good):
    unpack(good, tmp_path / "raw", "fan")
    for text in ("{", "[]", "{}", '{"files": 3}'):
        marker_of(good).write_text(text)
        assert not is_unpacked(good, tmp_path / "raw")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.wav",
        "fan/../../evil.wav",
        "/evil.wav",
        "//evil.wav",
        "fan\\..\\..\\evil.wav",
        "C:/evil.wav",
        "fan/train/..",
    ],
)
def test_paths_outside_the_folder_are_refused_whole(tmp_path, name):
    path = make(tmp_path / "z.zip", ("fan/train/a.wav", NOISE), (name, NOISE))
    with pytest.raises(WheeltapperError, match=r"refused, expected (a relative path|a path inside|/ between)"):
        unpack(path, tmp_path / "raw", "fan")
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["z.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("fan/train/a.wav")
    entry.external_attr = (kind | 0o777) << 16
    path = make(tmp_path / "z.zip", (entry, "/etc/passwd"))
    with pytest.raises(WheeltapperError, match=r"refused, expected a file or folder, found a (symbolic|special)"):
        unpack(path, tmp_path / "raw", "fan")


def test_a_bomb_is_refused(tmp_path):
    path = make(tmp_path / "z.zip", ("fan/train/a.wav", bytes(10_000_000)))
    with pytest.raises(WheeltapperError, match=r"at most 40 times its \d+ bytes, found 10000000"):
        unpack(path, tmp_path / "raw", "fan")


def test_more_than_the_disk_holds_is_refused(tmp_path, good, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(WheeltapperError, match=r"expected 5001 bytes of free space for dev_fan\.zip, found 10"):
        unpack(good, tmp_path / "raw", "fan")


def test_a_name_that_stands_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = make(tmp_path / "z.zip", ("fan/a.wav", NOISE), ("fan/a.wav", NOISE))
    with pytest.raises(WheeltapperError, match="stands twice"):
        unpack(path, tmp_path / "raw", "fan")


def test_a_zip_of_another_machine(tmp_path, good):
    with pytest.raises(WheeltapperError, match=r"expected a folder pump/, found LICENSE, fan"):
        unpack(good, tmp_path / "raw", "pump")


def test_no_damage_gets_through_unnoticed(tmp_path, good):
    """Any byte of the zip changed, or its end cut off: a WheeltapperError or the true content, never less."""
    whole = good.read_bytes()
    dice = random.Random(1)
    path = tmp_path / "bad.zip"
    refused = 0
    for _ in range(150):
        position = dice.randrange(len(whole))
        path.write_bytes(
            whole[:position] + bytes([whole[position] ^ dice.randrange(1, 256)]) + whole[position + 1 :]
            if dice.random() < 0.8
            else whole[:position]
        )
        target = tmp_path / "raw"
        try:
            unpack(path, target, "fan")
        except WheeltapperError:
            refused += 1
            assert not list(target.rglob("*.wav"))
        else:
            for found in target.rglob("*.wav"):
                assert found.read_bytes() == NOISE
            module.shutil.rmtree(target)
    assert refused > 100
