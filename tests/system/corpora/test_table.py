"""Sound files without DCASE names: tables with classes and folds, and plain folders."""

import logging
from pathlib import Path

import numpy as np
import pytest
from dcase_files import put

from system import manifest
from system.audio import digest
from system.bin import main
from system.corpora.table import class_of, prepare_files, prepare_table
from system.errors import WheeltapperError

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = [
    "1-100-A-0.wav,1,0,dog,True,100,A",
    "1-100-B-0.wav,1,0,dog,True,100,B",
    "2-200-A-14.wav,2,14,chirping_birds,False,200,A",
    "5-300-A-36.wav,5,36,vacuum_cleaner,False,300,A",
]


@pytest.fixture
def table(tmp_path) -> Path:
    """A table as ESC-50's meta/esc50.csv, its recordings in audio/ beside meta/."""
    for row in ROWS:
        put(tmp_path / "audio" / row.split(",")[0])
    path = tmp_path / "meta" / "esc50.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def columns(**given) -> dict:
    named = {"file_column": "filename", "class_column": "category", "fold_column": "fold"}
    return named | {"others": "ignore"} | given


def test_a_table_with_classes_and_folds(table):
    root = table.parents[1] / "audio"
    clips = prepare_table(table, root, **columns(group_column="src_file"))
    assert [clip.section for clip in clips] == ["1", "1", "2", "5"]
    assert [clip.group for clip in clips] == ["100", "100", "200", "300"]
    assert [class_of(clip) for clip in clips] == ["dog", "dog", "chirping-birds", "vacuum-cleaner"]
    path = root / "2-200-A-14.wav"
    assert clips[2] == manifest.Clip(
        corpus="audio",
        machine="audio",
        section="2",
        split="train",
        file="2-200-A-14.wav",
        path=str(path),
        attributes="class_chirping-birds",
        group="200",
        channels=1,
        rate=16000,
        samples=3200,
        digest=digest(path),
    )


def test_conditions(table):
    def files(*where) -> list[str]:
        return [clip.file[:7] for clip in prepare_table(table, table.parents[1] / "audio", **columns(), where=where)]

    assert files("esc10=True") == ["1-100-A", "1-100-B"]
    assert files("esc10=True", "take=B") == ["1-100-B"]
    assert files("filename~^[12]") == ["1-100-A", "1-100-B", "2-200-A"]
    assert files("category~birds|cleaner") == ["2-200-A", "5-300-A"]
    with pytest.raises(WheeltapperError, match="expected at least one row where esc10=1, found none"):
        files("esc10=1")


def test_without_class_and_fold_below_the_tables_own_folder(tmp_path):
    put(tmp_path / "a" / "x.wav", channels=2)
    put(tmp_path / "b" / "x.wav", rate=48000)
    (tmp_path / "list.csv").write_text("file\na/x.wav\n./b/x.wav\n")
    clips = prepare_table(tmp_path / "list.csv", corpus="mine", normal=True)
    assert [(c.corpus, c.machine, c.section, c.file, c.label) for c in clips] == [
        ("mine", "mine", "00", "a/x.wav", "normal"),
        ("mine", "mine", "00", "b/x.wav", "normal"),
    ]
    assert [(c.channels, c.rate, c.attributes, class_of(c)) for c in clips] == [(2, 16000, "", ""), (1, 48000, "", "")]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class_column": "categorie"}, r"esc50\.csv: line 1: found no column categorie: did you mean category\?"),
        ({"file_column": "file"}, r"found no column file: did you mean filename\?"),
        ({"group_column": "xyz"}, "found no column xyz: expected one of filename, fold"),
        ({"where": ["esc11=1"]}, r"found no column esc11: did you mean esc10\?"),
        ({"where": ["esc10"]}, "where: expected column=value or column~regex, found 'esc10'"),
        ({"where": ["take~("]}, r"where: take~\(: expected a regular expression"),
        (
            {"root": "nowhere"},
            r"esc50\.csv: 4 of 4 rec.* used; 4 of 4 are not there.*\n  nowhere/1-100-A-0.wav: expected a s",
        ),
    ],
)
def test_mistakes_in_what_is_asked(table, change, text):
    arguments = {"root": table.parents[1] / "audio"} | columns() | change
    with pytest.raises(WheeltapperError, match=text):
        prepare_table(table, **arguments)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([ROWS[0], ROWS[0]], r"line 3: expected each file once, found 1-100-A-0\.wav also in line 2"),
        ([ROWS[0], ",1,0,dog,True,100,A"], "line 3: filename: expected text, found nothing"),
        ([ROWS[0], ROWS[1].replace("dog", " ")], "line 3: category: expected text, found nothing"),
        ([ROWS[0], ROWS[2].replace("14,c", "14,")[:-3]], "line 3: expected 7 columns, found 6"),
        (
            [ROWS[2], ROWS[3].replace("vacuum_cleaner", "chirping-birds")],
            "than _ and -, found chirping-birds, chirping_birds",
        ),
        ([], "expected at least one row, found none"),
    ],
)
def test_mistakes_in_the_table(table, rows, text):
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    with pytest.raises(WheeltapperError, match=text):
        prepare_table(table, table.parents[1] / "audio", **columns())


def test_damaged_tables(table):
    table.write_bytes(b"file,\xff\n")
    with pytest.raises(WheeltapperError, match="line 1: expected UTF-8 or UTF-16 text, found the byte 0xff"):
        prepare_table(table)
    table.write_bytes(b"")
    with pytest.raises(WheeltapperError, match=r"expected a header such as file,.*, found an empty file"):
        prepare_table(table)
    with pytest.raises(WheeltapperError, match=r"no\.csv: expected a CSV that lists sound files, found nothing"):
        prepare_table(table.with_name("no.csv"))


def test_silent_recordings_are_kept_with_a_warning(table, caplog):
    path = put(table.parents[1] / "audio" / "1-100-A-0.wav", wave=np.zeros((3200, 1)))
    with caplog.at_level(logging.WARNING):
        assert len(prepare_table(table, path.parent, **columns())) == 4
    assert f"{path}: silent" in caplog.text


def test_a_folder_of_files(tmp_path):
    for name in ("fan/deep/a.wav", "fan/b.flac", "pump/a.wav", "loose.wav"):
        put(tmp_path / "set" / name)
    (tmp_path / "set" / "fan" / "notes.txt").write_text("no sound")
    clips = prepare_files(tmp_path / "set")
    assert [(c.corpus, c.machine, c.file, c.split, c.label) for c in clips] == [
        ("set", "fan", "fan/b.flac", "train", ""),
        ("set", "fan", "fan/deep/a.wav", "train", ""),
        ("set", "set", "loose.wav", "train", ""),
        ("set", "pump", "pump/a.wav", "train", ""),
    ]
    (tmp_path / "set" / "pump" / "a.wav").write_bytes(b"")
    with pytest.raises(WheeltapperError, match=r"^.*set: .*pump/a\.wav: expected a sound file, found an empty file"):
        prepare_files(tmp_path / "set")
    (tmp_path / "set" / "loose.wav").write_bytes(b"")
    with pytest.raises(WheeltapperError, match=r"set: 2 of 4 recordings cannot be used\n .*loose\.wav: expected a sou"):
        prepare_files(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WheeltapperError, match=r"empty: expected wav, flac, .* or rf64 files, found none"):
        prepare_files(tmp_path / "empty")
    with pytest.raises(WheeltapperError, match="gone: expected a folder of sound files, found nothing"):
        prepare_files(tmp_path / "gone")


def test_the_command_on_a_table(table, tmp_path, capsys):
    out = tmp_path / "m.csv"
    command = ["prepare", str(table), "--out", str(out), "--root", str(tmp_path / "audio"), "--file-column", "filename"]
    command += ["--class-column", "category", "--fold-column", "fold", "--where", "take=A", "--where", "fold~[12]"]
    command += ["--other-columns", "ignore"]
    assert main([*command, "--corpus", "esc", "--normal"]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {out}: 2 clips\n")
    clips = manifest.read(out)
    assert [(c.machine, c.section, c.label, class_of(c)) for c in clips] == [
        ("esc", "1", "normal", "dog"),
        ("esc", "2", "normal", "chirping-birds"),
    ]
    assert [Path(c.path).is_file() for c in clips] == [True, True]


def test_the_command_on_a_folder_of_files(tmp_path):
    put(tmp_path / "set" / "fan" / "x.wav")
    assert main(["prepare", str(tmp_path / "set"), "--layout", "files", "--out", str(tmp_path / "m.csv")]) == 0
    (clip,) = manifest.read(tmp_path / "m.csv")
    assert (clip.corpus, clip.machine, clip.file, clip.label) == ("set", "fan", "fan/x.wav", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["{table}", "--layout", "files"], "--layout files: expected a folder, found the table"),
        (["{folder}", "--class-column", "category"], "--class-column: expected a TABLE.csv of files, found the folder"),
        (["{folder}", "--layout", "files", "--where", "a=b"], "--where: expected a TABLE.csv of files"),
        (["{folder}", "--normal"], "--normal: expected a TABLE.csv or --layout files"),
    ],
)
def test_options_that_do_not_belong_together(table, tmp_path, capsys, options, text):
    given = [option.format(table=table, folder=tmp_path / "audio") for option in options]
    assert main(["prepare", *given, "--out", str(tmp_path / "m.csv")]) == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "m.csv").exists()


def test_the_table_is_never_overwritten(table, capsys):
    before = table.read_bytes()
    assert main(["prepare", str(table), "--out", str(table)]) == 1
    assert "--out: expected another file than the table" in capsys.readouterr().err
    assert table.read_bytes() == before
