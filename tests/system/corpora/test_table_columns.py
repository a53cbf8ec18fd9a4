"""Tables as people and spreadsheets write them; nothing is learned by mistake."""

import csv
import io

import pytest

from system.corpora.source import list_source
from system.corpora.table import list_table, prepare_table
from system.errors import WheeltapperError

HEADER = ["file", "machine", "section", "split", "label", "domain", "attr_speed"]
ROWS = [
    ["a/1.wav", "Lüfter", "0", "train", "normal", "source", "5 V"],
    ["a/2, b;c|d.wav", "Lüfter", "0", "train", "normal", "target", ""],
    ["a/3.wav", "Lüfter", "0", "test", "normal", "target", "5 V"],
    ["a/4.wav", "Lüfter", "0", "test", "anomaly", "source", "5 V"],
]
SAID = [
    ("Lüfter", "00", "train", "a/1.wav", "normal", "source", "speed_5-V"),
    ("Lüfter", "00", "train", "a/2, b;c|d.wav", "normal", "target", ""),
    ("Lüfter", "00", "test", "a/3.wav", "normal", "target", "speed_5-V"),
    ("Lüfter", "00", "test", "a/4.wav", "anomaly", "source", "speed_5-V"),
]


def text(header=HEADER, rows=ROWS, separator=",", end="\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end).writerows([header, *rows])
    return out.getvalue()


@pytest.fixture
def say(tmp_path):
    """Reads a table of the given content; returns what the clips say."""

    def read(content: str | bytes, name: str = "t.csv", **options):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        clips, places = list_table(path, **options)
        assert places == [f"line {2 + number}" for number in range(len(clips))]
        return [(c.machine, c.section, c.split, c.file, c.label, c.domain, c.attributes) for c in clips]

    return read


def with_cell(column: str, value: str, row: int = 0) -> str:
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return text(rows=rows)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_ends_of_lines(say, separator, end):
    assert say(text(separator=separator, end=end)) == SAID


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(say, encoding):
    assert say(text(separator=";").encode(encoding)) == SAID


def test_names_as_windows_writes_them(say):
    rows = [[cells[0].replace("/", "\\"), *cells[1:]] for cells in ROWS]
    assert say(text(rows=rows)) == SAID


def test_a_separator_named_before_the_header_and_empty_cells_at_the_ends(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\n" + text(separator=";").replace("\n", ";;\n") + "\n;;;\n")
    clips, places = list_table(tmp_path / "t.csv")
    assert [clip.file for clip in clips] == [row[3] for row in SAID]
    assert places == ["line 3", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("name", ["", "Unnamed: 0", None])
def test_row_numbers_of_pandas_and_r(say, separator, name):
    numbered = [[str(number), *cells] for number, cells in zip([7, 1, 2, 10], ROWS, strict=True)]
    header = HEADER if name is None else [name, *HEADER]
    assert say(text(header, numbered, separator)) == SAID


def test_separators_at_the_ends_of_rows_alone(say):
    assert say(text(rows=[[*cells, "", ""] for cells in ROWS])) == SAID


@pytest.mark.parametrize("cell", ["NA", "NaN", "nan", "<NA>", "#N/A", "null"])
def test_missing_values(say, cell):
    assert say(with_cell("attr_speed", cell))[0][6] == ""
    with pytest.raises(WheeltapperError, match=r"line 2: machine: expected text, found .*, a missing value"):
        say(with_cell("machine", cell))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("C:\\data\\1.wav", "a path of Windows"), ("\\\\server\\share\\1.wav", "a path of Windows"),
        ("https://x.org/1.wav", "an address (URL)"), ("file:///data/1.wav", "an address (URL)"),
        ("~/1.wav", "a short form of a shell"), ("$DATA/1.wav", "a short form of a shell"),
    ],
)  # fmt: skip
def test_paths_of_other_places(say, path, found):
    with pytest.raises(WheeltapperError) as caught:
        say(with_cell("file", path))
    assert f"line 2: expected the path of a recording, found {path!r}, {found}" in str(caught.value)


def test_a_second_slash_before_a_whole_path(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "t.csv").write_text(f"file\n/{tmp_path}/a.wav\n/{tmp_path}/b.wav\n")
    assert [clip.file for clip in list_table(tmp_path / "t.csv")[0]] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        (["Filename", "Machine Type", "Section ID", "Set", "State", "Domain", "ATTR_speed"], {}),
        (["file_path", "machine", "id", "partition", "is_anomaly", "domain", "attr_speed"], {"section": None}),
        (HEADER, {"normal": "0", "anomaly": "1", "train": "Training", "test": "eval"}),
        (HEADER, {"normal": "OK", "anomaly": "NOK", "source": "SRC"}),
        (HEADER, {"normal": "0.0", "anomaly": "1.0"}),
        ([*HEADER[:4], "anomaly", *HEADER[5:]], {"normal": "False", "anomaly": "True"}),
    ],
)
def test_usual_names_and_words(say, renamed, words):
    rows = [[words.get(cell) or cell for cell in cells] for cells in ROWS]
    if "section" in words:  # a name that could mean anything
        with pytest.raises(WheeltapperError, match="line 1: found an unknown column 'id'"):
            say(text(renamed, rows))
        renamed = ["section_id" if name == "id" else name for name in renamed]
        rows = [[{"normal": "no", "anomaly": "yes"}.get(cell, cell) for cell in cells] for cells in rows]
    assert say(text(renamed, rows)) == SAID


@pytest.mark.parametrize("section", ["3", "03", "3.0", "section_03", "id_03"])
def test_sections(say, section):
    assert say(with_cell("section", section))[0][1] == "03"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text([*HEADER[:4], "lable", *HEADER[5:]]), "line 1: found an unknown column 'lable': did you mean label"),
        (text([*HEADER[:6], "class"]), "line 1: found an unknown column 'class'"),
        (text([*HEADER[:6], "filename"]), "line 1: expected one column of file, found file and filename"),
        (text([*HEADER[:6], "label"]), "line 1: expected each column once, found 'label' twice"),
        (with_cell("label", "kaputt", 3), "line 5: label: expected normal (normal, ok,"),
        (with_cell("split", "validation", 1), "line 3: split: expected train (train, training)"),
        (with_cell("split", "", 1), "line 3: split: expected train (train, training)"),
        (with_cell("domain", "kitchen"), "line 2: domain: expected source (source, src)"),
        (with_cell("label", "NG"), "line 2: expected normal recordings in split train, found an anomaly"),
        (with_cell("section", "100"), "line 2: section: expected a section of two digits, found '100'"),
        (with_cell("machine", "../../x", 2), "line 4: machine: expected a machine's name without /"),
        (with_cell("machine", "x" * 250, 2), "line 4: machine: expected a machine's name of at most 100 bytes"),
        (with_cell("machine", "lüfter", 2), "line 4: machine: expected names that differ in more than case"),
        (with_cell("machine", "", 2), "line 4: machine: expected text, found nothing"),
        (with_cell("file", "", 2), "line 4: file: expected text, found nothing"),
        (with_cell("file", "a/1.wav", 2), "line 4: expected each file once, found a/1.wav also in line 2"),
        (text() + "a/5.wav,fan\n", "line 6: expected 7 columns, found 2"),
        (text() + "a/5, x.wav,f,0,train,normal,,\n", "found 8; a comma within a name needs quotes around the name"),
        (text() + '"a/5.wav,f,0,train\n', "expected text with quotes in pairs"),
        (text().split("\n", 1)[1], "label,domain (separated by comma, semicolon, tab, pipe), found a row without"),
        (text(separator=" "), "(separated by comma, semicolon, tab, pipe), found"),
        (text().encode("cp1252"), "line 2: expected UTF-8 or UTF-16 text, found the byte 0xfc (Latin-1"),
        (b"PK\x03\x04", "found a spreadsheet (xlsx, ods) or zip; export it as CSV (UTF-8)"),
        (text().replace("normal", "nor\0mal"), "found NUL characters: a binary or damaged file"),
        (b"", "found an empty file"),
        (text(rows=[]), "expected at least one row, found none"),
    ],
)  # fmt: skip
def test_what_is_refused(say, content, message):
    with pytest.raises(WheeltapperError) as caught:
        say(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "word", "message"),
    [
        ("label", "-1", "label: expected normal"),
        ("label", "+1", "label: expected normal"),
        ("status", "1", "status: expected a word, found '1'; call the column anomaly if 1 means one"),
        ("state", "0", "state: expected a word, found '0'"),
    ],
)
def test_numbers_that_may_mean_the_opposite(say, column, word, message):
    with pytest.raises(WheeltapperError) as caught:
        say(with_cell("label", word, 2).replace("label", column, 1))
    assert f"line 4: {message}" in str(caught.value)


@pytest.mark.parametrize("column", ["normal", "is_normal"])
def test_a_column_is_not_taken_for_its_opposite(say, column):
    with pytest.raises(WheeltapperError, match=f"found an unknown column '{column}'; known are"):
        say(with_cell("label", "1", 2).replace("label", column, 1))


def test_anomalies_of_a_table_without_splits_are_not_learned(say):
    columns = [0, 4]
    rows = [[cells[k] for k in columns] for cells in ROWS]
    with pytest.raises(WheeltapperError, match=r"line 5: .*found an anomaly; a column split says which"):
        say(text([HEADER[k] for k in columns], rows))
    assert {row[2] for row in say(text(["file", "label"], rows[:3]))} == {"train"}


def test_a_gap_among_labels_is_said(say, caplog):
    assert say(with_cell("label", ""))[0][4] == ""
    assert "1 training recordings without a label, learned as normal" in caplog.text


def test_columns_that_are_left_out_are_named(say, caplog):
    say(text().replace("label", "lable", 1), others="ignore")
    assert caplog.messages[0].endswith("t.csv: left out the column lable; did you mean label?")


def test_other_columns(say):
    content = text([*HEADER[:6], "Room no_1"])
    assert [row[6] for row in say(content, others="ignore")] == [""] * 4
    assert say(content, others="attributes")[0][6] == "Room-no-1_5-V"


def test_a_manifest_that_a_spreadsheet_saved_reads_as_before(tmp_path, record):
    from system import manifest

    clips = [record(f"{number}.wav", seed=number, label="normal", attributes="v_1") for number in range(2)]
    manifest.write(tmp_path / "m.csv", clips)
    (tmp_path / "saved.csv").write_bytes((tmp_path / "m.csv").read_text().replace(",", ";").encode("utf-16"))
    assert list_source(tmp_path / "saved.csv") == (clips, ["line 2", "line 3"]) == list_source(tmp_path / "m.csv")
    assert prepare_table(tmp_path / "saved.csv") == clips


def test_a_linked_table_lists_what_lies_beside_the_table(tmp_path, record):
    clip = record("1.wav")
    (tmp_path / "t.csv").write_text("file,machine\naudio/fan/train/1.wav,fan\n")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "t.csv").symlink_to(tmp_path / "t.csv")
    assert prepare_table(tmp_path / "links" / "t.csv")[0].digest == clip.digest


def test_machines_whose_accents_are_written_in_two_ways_are_one(say):
    assert {row[0] for row in say(with_cell("machine", "Lu\u0308fter", 2))} == {"Lüfter"}


def test_accents_of_a_mac_and_missing_recordings(tmp_path, record):
    clip = record("u\u0308.wav")
    (tmp_path / "t.csv").write_text("file,machine\naudio/fan/train/\u00fc.wav,fan\n")
    assert prepare_table(tmp_path / "t.csv")[0].digest == clip.digest
    (tmp_path / "t.csv").write_text("file,machine\naudio/no.wav,fan\n")
    with pytest.raises(WheeltapperError, match=r"found nothing \(line 2\); 1 of 1 are not there: paths are relative"):
        prepare_table(tmp_path / "t.csv")
