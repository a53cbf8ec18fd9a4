"""Folders that are written as a whole."""

import pytest

from system.corpora.folder import replacing
from system.errors import WheeltapperError
from system.files import read_json, write_json


def test_a_link_to_another_disk_stays_one(tmp_path):
    disk, link = tmp_path / "disk" / "recordings", tmp_path / "exp" / "data"
    disk.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(disk)
    for content in ("one", "two"):
        with replacing(link, "record.json") as folder:
            write_json(folder / "record.json", {"content": content})
        assert link.readlink() == disk
        assert read_json(disk / "record.json") == {"content": content}
    assert [path.name for path in link.parent.iterdir()] == ["data"]
    assert [path.name for path in disk.parent.iterdir()] == ["recordings"]


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "data").symlink_to(tmp_path / "gone")
    found = "data: expected a folder, found a link to .*gone, where nothing is"
    with pytest.raises(WheeltapperError, match=found), replacing(tmp_path / "data", "record.json"):
        pass
    assert not (tmp_path / "gone").exists()
