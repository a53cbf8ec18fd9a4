"""Challenge CSVs: names, writing, reading."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.evaluation.challenge_csv import DECISION, SCORE

machines = st.text("abcXYZ019_-", min_size=1, max_size=20)
sections = st.integers(0, 99).map("{:02d}".format)
names = st.from_regex(r"[A-Za-z0-9_()-]{1,20}\.wav", fullmatch=True)
scores = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30)


@given(machines, sections)
def test_names_read_back(machine, section):
    assert challenge_csv.parse_name(challenge_csv.score_name(machine, section)) == (SCORE, machine, section)
    assert challenge_csv.parse_name(challenge_csv.decision_name(machine, section)) == (DECISION, machine, section)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anomaly_score_3DPrinter_section_00_test.csv", (SCORE, "3DPrinter", "00")),
        ("decision_result_fan_section_03.csv", (DECISION, "fan", "03")),
        ("anomaly_score_fan_id_06.csv", (SCORE, "fan", "06")),
        ("decision_result_fan_id_06.csv", None),
        ("anomaly_score_DCASE2026T2ToyDrone_section_00_test_seed13711_id(0_)_Eval.csv", (SCORE, "ToyDrone", "00")),
        ("decision_result_DCASE2023T2bandsaw_section_00_test_seed1_Eval.csv", (DECISION, "bandsaw", "00")),
        ("anomaly_score_my_fan_section_00_test.csv", (SCORE, "my_fan", "00")),
        ("anomaly_score_fan_section_0_test.csv", None),
        ("anomaly_score__section_00_test.csv", None),
        ("anomaly_scores_fan_section_00_test.csv", None),
        ("anomaly_score_fan_section_00_test.csv.bak", None),
        ("anomaly_score_fan_section_00_train.csv", None),
        ("references.csv", None),
        ("._anomaly_score_fan_section_00_test.csv", None),
    ],
)
def test_known_and_unknown_names(name, expected):
    assert challenge_csv.parse_name(name) == expected


@pytest.mark.parametrize(
    ("machine", "section"), [("", "00"), ("fan", "0"), ("fan", "xx"), ("a/b", "00"), ("a\nb", "00")]
)
def test_names_that_could_not_be_read_back_are_refused(machine, section):
    with pytest.raises(WheeltapperError, match=r"expected (text|a section of two digits|a machine's name|printable)"):
        challenge_csv.score_name(machine, section)


def test_written_form(tmp_path):
    path = tmp_path / "new" / challenge_csv.score_name("fan", "00")
    challenge_csv.write_scores(path, {"b.wav": np.float64(1) / 3, "a.wav": -2, "c.wav": 1e-300})
    assert path.read_bytes() == b"a.wav,-2.0\nb.wav,0.3333333333333333\nc.wav,1e-300\n"
    path = tmp_path / challenge_csv.decision_name("fan", "00")
    challenge_csv.write_decisions(path, {"b.wav": np.int64(1), "a.wav": False, "c.wav": 0})
    assert path.read_bytes() == b"a.wav,0\nb.wav,1\nc.wav,0\n"


@settings(deadline=None, max_examples=60)
@given(table=scores)
def test_written_scores_read_back_exactly(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    challenge_csv.write_scores(path, table)
    rows, findings = challenge_csv.scan(path)
    assert findings == []
    assert rows == sorted(table.items())
    assert all(math.copysign(1, value) == math.copysign(1, table[name]) for name, value in rows)


@settings(deadline=None, max_examples=40)
@given(table=st.dictionaries(names, st.sampled_from([0, 1]), min_size=1))
def test_written_decisions_read_back_exactly(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    challenge_csv.write_decisions(path, table)
    assert challenge_csv.read(path, DECISION) == sorted(table.items())


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_not_written(tmp_path, score):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(WheeltapperError, match=r"x\.csv: b\.wav: expected a finite score, found"):
        challenge_csv.write_scores(path, {"a.wav": 1.0, "b.wav": score})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("decision", [0.9, 2, -1, float("nan")])
def test_other_decisions_are_not_written(tmp_path, decision):
    with pytest.raises(WheeltapperError, match=r"b\.wav: expected a decision of 0 or 1, found"):
        challenge_csv.write_decisions(tmp_path / "x.csv", {"a.wav": 1, "b.wav": decision})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["", "a,b.wav", "a\nb.wav", "a\tb.wav", 'a"b.wav', " a.wav", "test/a.wav", "a\udcff.wav"]
)
def test_names_that_would_break_a_line_are_not_written(tmp_path, name):
    with pytest.raises(WheeltapperError, match="expected bare file names"):
        challenge_csv.write_scores(tmp_path / "x.csv", {name: 1.0})
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(WheeltapperError, match="expected at least one clip to write"):
        challenge_csv.write_scores(tmp_path / "x.csv", {})


@pytest.mark.parametrize(
    "content",
    [b"a.wav,1\nb.wav,-2.5\n", b"a.wav,1\r\nb.wav,-2.5\r\n", b"a.wav,1\nb.wav,-2.5", b"a.wav, 1\nb.wav,  -2.5 \n"],
)
def test_harmless_spellings_are_read(content):
    assert challenge_csv.scan_bytes(content) == ([("a.wav", 1.0), ("b.wav", -2.5)], [])


def test_quoted_fields_are_read():
    assert challenge_csv.scan_bytes(b'"a.wav","1"\n') == ([("a.wav", 1.0)], [])
    assert challenge_csv.scan_bytes(b'"a.wav,1\n')[1]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "expected one line per clip, found an empty file"),
        (b"\n\n", 1, "expected one line per clip, found an empty file"),
        (b"\xef\xbb\xbfa.wav,1\n", 1, "found a byte-order mark"),
        (b"file,score\na.wav,1\n", 1, "expected no header, found 'file,score'"),
        (b"a.wav,1\nb.wav\t2\n", 2, "found a tab"),
        (b"a.wav,1\n\nb.wav,2\n", 2, "found a blank line"),
        (b"a.wav,1\nb.wav,2\n\n", 3, "found a blank line"),
        (b"a.wav,1\r\n\r\n", 2, "found a blank line"),
        (b"a.wav,1\nb.wav\n", 2, "expected 2 columns, found 1"),
        (b"a.wav,1,2\n", 1, "expected 2 columns, found 3"),
        (b"a.wav,nan\n", 1, "expected a finite score, found nan"),
        (b"a.wav,1\nb.wav,-inf\n", 2, "expected a finite score, found -inf"),
        (b"a.wav,1e999\n", 1, "expected a finite score, found 1e999"),
        (b"a.wav,high\n", 1, "expected a number as the score, found 'high'"),
        (b"a.wav,\n", 1, "expected a number as the score, found ''"),
        (b"a.wav,1\nb.wav,2\na.wav,1\n", 3, "expected each clip once, found a.wav as in line 1"),
        (b"test/a.wav,1\n", 1, "expected a bare file name, found 'test/a.wav'"),
        (b" a.wav,1\n", 1, "expected a bare file name, found ' a.wav'"),
        (b",1\n", 1, "expected a bare file name, found ''"),
        (b"a.wav,1\n\xff.wav,2\n", 2, "expected UTF-8 text"),
    ],
)
def test_findings(tmp_path, content, line, message):
    findings = challenge_csv.scan_bytes(content)[1]
    assert len(findings) == 1
    assert findings[0][0] == line
    assert message in findings[0][1]
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(WheeltapperError) as caught:
        challenge_csv.read(path)
    assert str(caught.value).startswith(f"{path}: line {line}: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["0.9", "2", "-1", "nan"])
def test_decisions_other_than_0_and_1_are_findings(value):
    rows, findings = challenge_csv.scan_bytes(f"a.wav,1\nb.wav,{value}\nc.wav,0\n".encode(), DECISION)
    assert rows == [("a.wav", 1.0), ("c.wav", 0.0)]
    assert [line for line, _ in findings] == [2]


def test_all_findings_at_once_beside_the_good_rows(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"file,score\na.wav,1\nb.wav,nan\n\nc.wav\t3\nd.wav,4\nd.wav,5\n")
    rows, findings = challenge_csv.scan(path)
    assert rows == [("a.wav", 1.0), ("d.wav", 4.0)]
    assert [line for line, _ in findings] == [1, 3, 4, 5, 7]
    with pytest.raises(WheeltapperError, match=r"x\.csv: line 1: expected no header, .* \(and 4 more\)$"):
        challenge_csv.read(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(WheeltapperError, match=r"x\.csv: expected a challenge CSV, found nothing"):
        challenge_csv.read(tmp_path / "x.csv")
    with pytest.raises(WheeltapperError, match="expected a challenge CSV, found a folder"):
        challenge_csv.read(tmp_path)
    with pytest.raises(WheeltapperError, match="expected a folder of challenge CSVs, found nothing"):
        challenge_csv.list_folder(tmp_path / "none")


def test_folder_listing(tmp_path):
    for name in ("anomaly_score_fan_section_00_test.csv", "decision_result_fan_section_00_test.csv", "references.csv"):
        (tmp_path / name).write_text("a.wav,1\n")
    found = challenge_csv.list_folder(tmp_path)
    assert found.keys() == {(SCORE, "fan", "00"), (DECISION, "fan", "00")}
    (tmp_path / "anomaly_score_DCASE2026T2fan_section_00_test_seed1_id(0_)_Eval.csv").write_text("a.wav,2\n")
    with pytest.raises(WheeltapperError, match=r"expected one anomaly_score file for fan section 00, found .* and "):
        challenge_csv.list_folder(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "1_0",
        "１２",
        "٣",
        "٣٫٥",
        "\u00a01.5",
        "1.5\x0c",
        "infinity",
        "-NaN",
        "1e400",
        "0x1p3",
        "1.5f",
        "1d5",
        "1e5_0",
        "+-1",
        "",
    ],
)
def test_a_number_that_only_some_programs_read_is_refused(text):
    rows, findings = challenge_csv.scan_bytes(f"a.wav,0.5\nb.wav,{text}\n".encode())
    assert rows == [("a.wav", 0.5)]
    assert [line for line, _ in findings] == [2]
    assert re.match("expected a (finite score|number)", findings[0][1])


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("-1.5", -1.5), ("+.5", 0.5), ("5.", 5), (" 1e-3 ", 1e-3), ("6.02E+23", 6.02e23)]
)
def test_plain_numbers_are_read(text, value):
    assert challenge_csv.scan_bytes(f"a.wav,{text}\r\n".encode()) == ([("a.wav", value)], [])
