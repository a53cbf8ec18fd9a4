"""Reading the truth and joining scores to it."""

import pytest

from system.errors import WheeltapperError
from system.evaluation import truth
from system.evaluation.truth import Truth

HEADER = "machine,section,file,domain,label\n"
CLIPS = [Truth("fan", "00", "a.wav", "source", "normal"), Truth("fan", "00", "b.wav", "target", "anomaly")]


def test_reads_columns_in_any_order_with_extras(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_bytes(b"\xef\xbb\xbflabel,file,section,machine,domain,note\r\nanomaly,a.wav,0,fan,source,x\r\n\r\n")
    assert truth.read_truth(path) == [Truth("fan", "00", "a.wav", "source", "anomaly")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns machine,section,file,domain,label, found nothing"),
        ("machine,section,file,label\n", "line 1: expected the columns"),
        (HEADER, "expected at least one clip, found none"),
        (HEADER + "fan,00,a.wav,source\n", "line 2: expected 5 columns, found 4"),
        (HEADER + "fan,00,a.wav,source,normal\nfan,00,,source,normal\n", "line 3: file: expected text, found nothing"),
        (HEADER + "fan,00,a.wav,left,normal\n", "line 2: domain: expected source, target or .empty., found 'left'"),
        (HEADER + "fan,00,a.wav,source,1\n", "line 2: label: expected normal or anomaly, found '1'"),
    ],
)
def test_damaged_truth_names_file_and_line(tmp_path, text, message):
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(WheeltapperError, match=f"truth.csv: {message}"):
        truth.read_truth(path)


def test_missing_and_undecodable_truth(tmp_path):
    with pytest.raises(WheeltapperError, match=r"none\.csv: expected a table of the ground truth, found nothing"):
        truth.read_truth(tmp_path / "none.csv")
    with pytest.raises(WheeltapperError, match="found a folder"):
        truth.read_truth(tmp_path)
    (tmp_path / "truth.csv").write_bytes(HEADER.encode() + b"fan,00,\xff.wav,source,normal\n")
    with pytest.raises(WheeltapperError, match=r"truth\.csv: expected UTF-8 text"):
        truth.read_truth(tmp_path / "truth.csv")


def test_join_is_by_name():
    (section,) = truth.join({("fan", "00"): {"b.wav": 2.0, "a.wav": 1.0}}, None, CLIPS, True)
    assert section.key == ("fan", "00")
    assert section.scores.tolist() == [1.0, 2.0]
    assert section.anomalous.tolist() == [False, True]
    assert section.domain.tolist() == [0, 1]
    assert section.decided is None


def test_sections_without_truth_are_left_out():
    scores = {("fan", "00"): {"a.wav": 1.0, "b.wav": 2.0}, ("pump", "00"): {"x.wav": float("nan")}}
    assert [section.key for section in truth.join(scores, None, CLIPS, True)] == [("fan", "00")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a.wav": 1.0}, r"fan section 00: scores: .*the 2 clips of the truth, found 1 missing \(b\.wav\)"),
        ({"a.wav": 1.0, "b.wav": 2.0, "c.wav": 3.0}, r"found 1 unexpected \(c\.wav\)"),
        ({"a.wav": 1.0, "B.wav": 2.0}, r"found 1 missing \(b\.wav\) and 1 unexpected \(B\.wav\)"),
        ({}, r"found 2 missing \(a\.wav, b\.wav\)"),
        ({"a.wav": 1.0, "b.wav": float("nan")}, r"fan section 00: b\.wav: expected a finite score, found nan"),
        ({"a.wav": float("-inf"), "b.wav": 1.0}, r"a\.wav: expected a finite score, found -inf"),
    ],
)
def test_scores_that_do_not_match_the_truth(table, message):
    with pytest.raises(WheeltapperError, match=message):
        truth.join({("fan", "00"): table}, None, CLIPS, True)


def test_decisions_that_do_not_match_the_truth():
    scores = {("fan", "00"): {"a.wav": 1.0, "b.wav": 2.0}}
    with pytest.raises(WheeltapperError, match=r"fan section 00: decisions: .*1 missing \(b\.wav\)"):
        truth.join(scores, {("fan", "00"): {"a.wav": 1}}, CLIPS, True)
    with pytest.raises(WheeltapperError, match=r"fan section 00: b\.wav: expected a decision of 0 or 1, found 0\.9"):
        truth.join(scores, {("fan", "00"): {"a.wav": 1, "b.wav": 0.9}}, CLIPS, True)


def test_machines_without_scores_are_all_listed():
    clips = [*CLIPS, Truth("pump", "00", "a.wav", "source", "normal"), Truth("valve", "01", "a.wav", "", "normal")]
    with pytest.raises(WheeltapperError, match=r"found none for pump section 00, valve section 01$"):
        truth.join({("fan", "00"): {"a.wav": 1.0, "b.wav": 2.0}}, None, clips, True)


def test_truth_that_contradicts_itself_or_is_incomplete():
    scores = {("fan", "00"): {"a.wav": 1.0, "b.wav": 2.0}}
    with pytest.raises(WheeltapperError, match=r"fan section 00: expected each clip once, found a\.wav twice"):
        truth.join(scores, None, [*CLIPS, CLIPS[0]._replace(label="anomaly")], True)
    with pytest.raises(WheeltapperError, match=r"fan a\.wav: label: expected normal or anomaly, found ''"):
        truth.join(scores, None, [CLIPS[0]._replace(label=""), CLIPS[1]], True)
    with pytest.raises(WheeltapperError, match="expected at least one clip, found none"):
        truth.join(scores, None, [], True)
    unknown = [CLIPS[0]._replace(domain=""), CLIPS[1]]
    with pytest.raises(WheeltapperError, match=r"a\.wav: expected the domain source or target in the truth"):
        truth.join(scores, None, unknown, True)
    assert len(truth.join(scores, None, unknown, False)) == 1
