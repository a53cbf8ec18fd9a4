"""The manifest: written and read back; errors name the line."""

from dataclasses import replace

import pytest

from system import manifest
from system.errors import WheeltapperError
from system.manifest import COLUMNS, Clip

CLIP = Clip("toy", "fan", "00", "train", "a.wav", "a.wav", "normal", "source", "v_1", "g", 2, 16000, 32000, "ab")


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    names = [("train", "a.wav", "normal"), ("test", "a.wav", ""), ("test", "b, c.wav", "")]
    return [
        replace(CLIP, split=split, file=file, path=str(tmp_path / "fan" / split / file), label=label)
        for split, file, label in names
    ]


def rows(path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def test_round_trip(tmp_path, clips):
    path = tmp_path / "manifest.csv"
    manifest.write(path, clips)
    assert manifest.read(path) == clips
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.csv"]


def test_empty_lines_are_passed_over(tmp_path, clips):
    path = tmp_path / "manifest.csv"
    manifest.write(path, clips)
    path.write_text(path.read_text().replace("\n", "\n\n"))
    found, places = manifest.read_lines(path)
    assert found == clips
    assert places == [f"line {3 + 2 * number}" for number in range(len(clips))]


def test_paths_below_the_manifest_move_with_it(tmp_path, clips):
    (tmp_path / "one").mkdir()
    outside = replace(clips[0], file="out.wav", path="/somewhere/else/out.wav")
    inside = replace(clips[0], path=str(tmp_path / "one" / "data" / "a.wav"))
    manifest.write(tmp_path / "one" / "manifest.csv", [inside, outside])
    assert "data/a.wav" in (tmp_path / "one" / "manifest.csv").read_text().split(",")
    (tmp_path / "one").rename(tmp_path / "two")
    found = manifest.read(tmp_path / "two" / "manifest.csv")
    assert found[0].path == str(tmp_path / "two" / "data" / "a.wav")
    assert found[1].path == "/somewhere/else/out.wav"


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("samples", "0", "positive integer"),
        ("samples", "-3", "positive integer"),
        ("rate", "16k", "positive integer"),
        ("rate", "", "positive integer"),
        ("channels", "²", "positive integer"),
        ("rate", "١٦٠٠٠", "positive integer"),
        ("channels", "9" * 5000, "positive integer"),
        ("split", "dev", "split: expected one of train, test, supplemental"),
        ("label", "broken", r"label: expected one of normal, anomaly, \(empty\), found 'broken'"),
        ("domain", "Source", "domain: expected one of source, target"),
        ("machine", "", "machine: expected text"),
        ("file", "", "file: expected text"),
        ("path", "", "path: expected text"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path, clips, column, value, text):
    path = tmp_path / "manifest.csv"
    manifest.write(path, clips[:2])
    table = rows(path)
    table[2][COLUMNS.index(column)] = value
    path.write_text("\n".join(",".join(row) for row in table) + "\n")
    with pytest.raises(WheeltapperError, match=rf"manifest\.csv: line 3: .*{text}"):
        manifest.read(path)


def test_a_name_twice(tmp_path, clips):
    path = tmp_path / "manifest.csv"
    manifest.write(path, [clips[0], clips[1], clips[0]])
    with pytest.raises(
        WheeltapperError, match=r"line 4: expected each clip once, found fan/00/train/a\.wav also in line 2"
    ):
        manifest.read(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "line 1: expected the columns"),
        (b"machine,file\nfan,a.wav\n", "line 1: expected the columns"),
        (",".join(COLUMNS).encode() + b"\n", "expected at least one clip"),
        (",".join(COLUMNS).encode() + b"\na,b\n", "line 2: expected 14 columns, found 2"),
        (b"\xff\xfe\x00", "expected UTF-8 text"),
    ],
)
def test_a_damaged_file(tmp_path, content, text):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(WheeltapperError, match=text):
        manifest.read(path)


def test_a_missing_file_tells_who_makes_it(tmp_path):
    with pytest.raises(WheeltapperError, match="wheeltapper prepare"):
        manifest.read(tmp_path / "manifest.csv")


def test_development_machines(clips):
    fan = [replace(clips[1], label="normal"), replace(clips[2], label="anomaly")]
    pump = [replace(clip, machine="pump") for clip in clips[1:]]
    idle = [replace(clips[0], machine="idle")]
    assert manifest.is_development(fan + pump + idle) == {"fan": True, "pump": False, "idle": False}
    with pytest.raises(WheeltapperError, match="fan: expected test clips all labelled or all anonymous"):
        manifest.is_development([fan[0], clips[2]])
    assert manifest.machines(pump + fan + pump) == ["pump", "fan"]


def test_fingerprint_knows_the_sound_but_not_the_place(clips):
    before = manifest.fingerprint(clips)
    assert manifest.fingerprint([replace(clip, path="/elsewhere/" + clip.file) for clip in clips]) == before
    for changed in (
        clips[:-1],
        [replace(clips[0], digest="other"), *clips[1:]],
        [replace(clips[0], domain="target"), *clips[1:]],
        [replace(clips[0], attributes="v_2"), *clips[1:]],
    ):
        assert manifest.fingerprint(changed) != before


def test_seconds():
    assert CLIP.seconds == 2.0


def test_machines_of_a_phase():
    """Labelled test clips make a development machine; anonymous ones, and none at all, an evaluation machine."""
    clips = [
        Clip("c", "Fan", "00", "train", "a.wav", "/a.wav", "normal"),
        Clip("c", "Fan", "00", "test", "b.wav", "/b.wav", "anomaly"),
        Clip("c", "Pump", "00", "train", "c.wav", "/c.wav", "normal"),
        Clip("c", "Pump", "00", "test", "d.wav", "/d.wav"),
        Clip("c", "Saw", "00", "train", "e.wav", "/e.wav", "normal"),
    ]
    assert manifest.of_machines(clips, "all") == clips
    assert manifest.machines(manifest.of_machines(clips, "development")) == ["Fan"]
    assert manifest.machines(manifest.of_machines(clips, "evaluation")) == ["Pump", "Saw"]
    with pytest.raises(WheeltapperError, match="here: expected development machines, found only"):
        manifest.of_machines(clips[2:], "development", "here")
    with pytest.raises(WheeltapperError, match=r"here: expected evaluation machines, found only .* labelled"):
        manifest.of_machines(clips[:2], "evaluation", "here")
