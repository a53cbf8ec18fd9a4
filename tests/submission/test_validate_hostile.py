"""The validator on malicious input: it writes only to its scratch folder, and never raises, hangs or fills memory."""

import os
import stat
import struct
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package_builder import csv_path, errors, good_package, label, meta_path, write_zip
from package_defects import SCORES, edit

from submission import archive
from submission.validate import validate


def raw_zip(path, entries, patch=None):
    """A zip from (ZipInfo or name, content), written in order; ``patch`` changes the bytes afterwards."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry, content in entries:
            target.writestr(entry, content)
    if patch:
        path.write_bytes(patch(path.read_bytes()))
    return path


def entry_of_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


class TestHostileZip:
    """Nothing may be written outside the scratch folder, and nothing may grow without limit."""

    @pytest.mark.parametrize(
        ("entry", "fragment"),
        [
            ("/etc/passwd2", "found an absolute one"),
            ("C:/Windows/x", "found an absolute one"),
            ("../../outside.txt", "with '..'"),
            ("task2/../../outside.txt", "with '..'"),
            ("task2\\x.csv", "found a backslash"),
            (entry_of_mode("task2/link", stat.S_IFLNK | 0o777), "found a symbolic link"),
            (entry_of_mode("task2/pipe", stat.S_IFIFO | 0o644), "found a special file"),
        ],
    )
    def test_unsafe_entries(self, entry, fragment, tmp_path, monkeypatch):
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(archive.tempfile, "tempdir", str(tmp_path / "scratch"))
        path = raw_zip(tmp_path / "p.zip", [*good_package(systems=1).items(), (entry, "../../../etc/passwd")])
        findings = errors(validate(path))
        assert len(findings) == 1
        assert fragment in findings[0]
        assert sorted(os.listdir(tmp_path)) == ["p.zip", "scratch"]
        assert os.listdir(tmp_path / "scratch") == []

    def test_file_and_folder_of_one_name(self, tmp_path):
        path = raw_zip(tmp_path / "p.zip", [*good_package(systems=1).items(), ("task2/x", b"1"), ("task2/x/y", b"2")])
        assert "error: task2/x: expected a file or a folder, found both under this name" in errors(validate(path))

    def test_file_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MAX_FILE", 1 << 20)
        path = raw_zip(tmp_path / "p.zip", [*good_package(systems=1).items(), ("task2/x", os.urandom(2 << 20))])
        assert errors(validate(path)) == ["error: task2/x: expected at most 1 MiB, found 2 MiB"]

    def test_duplicate_entries(self, tmp_path):
        files = good_package(systems=1)
        with pytest.warns(UserWarning, match="Duplicate"):
            path = raw_zip(tmp_path / "p.zip", [*files.items(), (SCORES, b"section_00_0000.wav,1\n")])
        assert errors(validate(path)) == [f"error: {SCORES}: expected once, found a second entry of the same name"]

    def test_encrypted_entry(self, tmp_path):
        files = good_package(systems=1)

        def encrypt(content):
            # Bit 0 of the flags, at offset 6 of the local and 8 of the central header of the last entry.
            content = bytearray(content)
            content[content.rindex(b"PK\x03\x04") + 6] |= 1
            content[content.rindex(b"PK\x01\x02") + 8] |= 1
            return bytes(content)

        path = raw_zip(tmp_path / "p.zip", files.items(), encrypt)
        assert any("found an encrypted one" in found for found in errors(validate(path)))

    def test_bomb_by_ratio(self, tmp_path):
        path = raw_zip(tmp_path / "p.zip", [*good_package(systems=1).items(), ("task2/bomb.bin", bytes(8 << 20))])
        findings = errors(validate(path))
        assert len(findings) == 1
        assert "a zip bomb?" in findings[0]

    def test_bomb_by_sum(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MAX_TOTAL", 60_000)
        path = write_zip(tmp_path / "p.zip", good_package())
        assert any("when unpacked, found more (a zip bomb?)" in found for found in errors(validate(path)))

    def test_bomb_that_lies_about_its_size(self, tmp_path):
        """The stream is larger than the declared size; reading stops at the declared size."""

        def shrink(content):
            content = bytearray(content)
            position = content.rindex(b"PK\x01\x02")
            struct.pack_into("<I", content, position + 24, 10)
            return bytes(content)

        path = raw_zip(tmp_path / "p.zip", [*good_package(systems=1).items(), ("task2/x", bytes(8 << 20))], shrink)
        findings = errors(validate(path))
        assert len(findings) == 1
        assert "task2/x: expected an entry that unpacks, found damage" in findings[0]

    def test_too_many_entries(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MAX_ENTRIES", 10)
        assert "at most 10 entries" in errors(validate(write_zip(tmp_path / "p.zip", good_package())))[0]

    def test_damaged_entry_is_named_and_the_rest_checked(self, tmp_path):
        files = good_package(systems=1)
        edit(meta_path(), "90000000", "many")(files)
        path = write_zip(tmp_path / "p.zip", files)
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as opened:
            offset = opened.getinfo(SCORES).header_offset
        content[offset + 30 + len(SCORES) + 40] ^= 0xFF
        path.write_bytes(content)
        findings = errors(validate(path))
        assert any(SCORES in found and "found damage" in found for found in findings)
        assert any("total_parameters" in found for found in findings)

    @pytest.mark.parametrize(
        "content", [b"", b"PK\x03\x04", b"Rar!\x1a\x07", b"\x1f\x8b\x08\x00" * 50, os.urandom(500)]
    )
    def test_no_zip(self, content, tmp_path):
        path = tmp_path / "p.zip"
        path.write_bytes(content)
        findings = validate(path)
        assert len(findings) == 1
        assert "expected a zip file" in str(findings[0])

    def test_cut_zip(self, tmp_path):
        path = write_zip(tmp_path / "p.zip", good_package(systems=1))
        path.write_bytes(path.read_bytes()[:-100])
        assert len(errors(validate(path))) == 1

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_flipped_bytes_never_raise(self, tmp_path, data):
        content = bytearray(small_zip(tmp_path))
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / "fuzz.zip").write_bytes(content)
        for found in validate(tmp_path / "fuzz.zip"):
            assert "\n" not in str(found)


def small_zip(folder) -> bytes:
    files = good_package(systems=1, machines=("PumpA",), clips=3)
    return write_zip(folder / "small.zip", files).read_bytes()


HOSTILE_META = {
    "deep": b"- " * 2000,
    "deep mapping": b"".join(b" " * n + b"a:\n" for n in range(2000)),
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(97, 106)),
    "recursive": b"submission: &a\n  authors: *a\n",
    "key that holds itself": b"? &a [*a, 1]\n: 3\n",
    "python tag": b"submission: !!python/object/apply:os.system ['true']\n",
    "int tag on text": b"submission: !!int x\nsystem: 1\nresults: 1\n",
    "empty int": b"submission: !!int ''\n",
    "bad date": b"submission: 2026-99-99\n",
    "timestamp tag": b"submission: !!timestamp x\n",
    "huge number": b"system: {complexity: {total_parameters: " + b"9" * 5000 + b"}}\n",
    "large number": b"results: {development_dataset: {fan: {pauc: 1" + b"0" * 400 + b"}}}\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "list as key": b"? [a, b]\n: 1\n",
    "numbers as keys": b"1: 2\nresults: {development_dataset: {3: {4: 5}}}\n",
    "control": b"submission: \x07\n",
    "utf-16": "submission: x".encode("utf-16"),
    "nul": b"\0" * 100,
    "scalars": b"submission: 1\nsystem: x\nresults: true\n",
    "too large": b"#" * ((1 << 16) + 1),
}


@pytest.mark.parametrize("name", HOSTILE_META)
def test_hostile_meta_files_end_in_errors(name, tmp_path):
    files = good_package(systems=1)
    files[meta_path()] = HOSTILE_META[name]
    findings = errors(validate(write_zip(tmp_path / "p.zip", files)))
    assert findings
    assert all(f"{label(1)}.meta.yaml" in found and len(found) < 400 for found in findings)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.binary(max_size=200), text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_in_the_files_never_raise(tmp_path, table, text):
    files = good_package(systems=1, machines=("PumpA",), clips=3)
    files[csv_path("PumpA")] = table
    files[csv_path("PumpA", kind="decision_result")] = table[::-1]
    files[meta_path()] = text
    for found in validate(write_zip(tmp_path / "p.zip", files)):
        assert str(found).isprintable()
