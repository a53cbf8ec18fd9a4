"""Meta files: the writer against PyYAML, the reader against hand-made files."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from package_builder import good_package, meta_path

from submission.meta import Affiliation, Author, ExternalDataset, Meta, dump, read, write
from submission.meta_check import DESCRIPTION
from system.errors import WheeltapperError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def make_meta(**changes) -> Meta:
    values = {
        "label": "Miller_EX-Lab_task2_1",
        "name": "A name: with # all - sorts, of [things] & 'quotes'",
        "abbreviation": "no",
        "authors": (
            Author("Ada", "Miller", "ada@ex-lab.org", Affiliation("NTNU", None, "Oslo, Norway"), True),
            Author("Zoë", "Łoś", "z@ex-lab.org", Affiliation("数学所", "Acoustics", "北京, China")),
        ),
        "description": {key: "x" for key in DESCRIPTION} | {"ensemble_method_subsystem_count": 2, "front_end": None},
        "total_parameters": 123_456_789,
        "macs": 10**13,
        "external_datasets": (ExternalDataset("BEATs", "https://zenodo.org/beats"),),
        "source_code": None,
        "results": {"3DPrinter": {"auc_source": 61.25, "auc_target": 54.125, "pauc": 50.0625}},
    }
    return Meta(**(values | changes))


def test_written_file_is_what_the_model_says(tmp_path):
    meta = make_meta()
    write(tmp_path / "x.meta.yaml", meta)
    text = (tmp_path / "x.meta.yaml").read_text(encoding="utf-8")
    loaded = yaml.safe_load(text)
    assert loaded == meta.document()
    assert list(loaded) == ["submission", "system", "results"]
    assert list(loaded["submission"]) == ["label", "name", "abbreviation", "authors"]
    assert list(loaded["system"]["description"]) == list(DESCRIPTION)
    assert loaded["submission"]["abbreviation"] == "no"
    assert "corresponding" not in loaded["submission"]["authors"][1]
    assert "    front_end: !!null\n" in text
    assert "  source_code: !!null\n" in text
    assert "\t" not in text


def test_read_gives_back_what_was_written(tmp_path):
    meta = make_meta()
    write(tmp_path / "x.meta.yaml", meta)
    assert read(tmp_path / "x.meta.yaml") == meta


def test_no_external_data_is_a_pair_of_nulls(tmp_path):
    write(tmp_path / "x.meta.yaml", make_meta(external_datasets=()))
    loaded = yaml.safe_load((tmp_path / "x.meta.yaml").read_text(encoding="utf-8"))
    assert loaded["system"]["external_datasets"] == [{"name": None, "url": None}]
    assert read(tmp_path / "x.meta.yaml").external_datasets == ()


def test_reads_a_file_of_another_hand(tmp_path):
    path = tmp_path / "x.meta.yaml"
    path.write_bytes(good_package()[meta_path()].replace(b"\n", b"\r\n"))
    meta = read(path)
    assert [author.lastname for author in meta.authors] == ["Miller", "Smith"]
    assert [author.corresponding for author in meta.authors] == [True, False]
    assert meta.authors[0].affiliation.department is None
    assert meta.external_datasets == (ExternalDataset("BEATs_iter3", "https://zenodo.org/beats"),)
    assert meta.results["fan"] == {"auc_source": 61.5, "auc_target": 54.25, "pauc": 51.0}
    assert (meta.total_parameters, meta.macs, meta.description["machine_learning_method"]) == (90_000_000, None, "kNN")


@settings(max_examples=300)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: st.dictionaries(TEXTS.filter(bool), inner, min_size=1, max_size=3),
        max_leaves=8,
    ).map(lambda value: {"top": value})
)
def test_dump_is_read_back_by_pyyaml(document):
    """Any text, also "no", "1:30", "!!null", "~", dates and control characters, stays itself."""
    assert yaml.safe_load(dump(document)) == document


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "Null",
        "~",
        "1e3",
        "0x1F",
        "1:30",
        "2026-13-45",
        "!!null",
        "- a",
        "a: b",
        "a #b",
        " a",
        "a ",
        "",
        "=",
        "<<",
        "\u2028",
        "\ufeff",
        "\x85",
        '"',
        "\\",
        "'",
    ],
)
def test_dump_of_treacherous_texts(text):
    assert yaml.safe_load(dump({"key": text, "list": [{"a": text}], text or "x": 1}))["key"] == text


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"label": "Miller_EX_Lab_task2_1"}, "submission.label"),
        ({"name": ""}, "submission.name"),
        ({"authors": ()}, "submission.authors"),
        ({"total_parameters": 0}, "system.complexity.total_parameters"),
        ({"macs": 0}, "system.complexity.MACS"),
        ({"results": {"fan": {"auc_source": 0.6}}}, "results.development_dataset.fan.auc_source"),
        ({"results": {"fan": {"auc_source": math.nan}}}, "results.development_dataset.fan.auc_source"),
        ({"macs": math.inf}, "system.complexity.MACS"),
        ({"name": "lone \ud800"}, "meta: expected Unicode text"),
        ({"name": {1, 2}}, "submission.name"),
        ({"description": {"color": "red"}}, "system.description"),
    ],
)
def test_write_refuses_by_key_and_leaves_no_file(changes, key, tmp_path):
    with pytest.raises(WheeltapperError, match=key):
        write(tmp_path / "x.meta.yaml", make_meta(**changes))
    assert list(tmp_path.iterdir()) == []


def test_read_names_every_error_with_line_and_key(tmp_path):
    path = tmp_path / "x.meta.yaml"
    text = good_package()[meta_path()].decode()
    for old, new in (("90000000", "many"), ("pauc: 51}", "pauc: x}"), ("location: Springfield", "location: 7 #")):
        text = text.replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(WheeltapperError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    for mark, key in (
        ("many", "system.complexity.total_parameters"),
        ("pauc: x}", "results.development_dataset.ToyCar.pauc"),
        ("location: 7", "submission.authors[0].affiliation.location"),
    ):
        number = 1 + next(n for n, line in enumerate(text.splitlines()) if mark in line)
        assert f"line {number}: {key}: expected" in message


def test_read_of_nothing(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a meta file, found No such file"):
        read(tmp_path / "x.meta.yaml")
    (tmp_path / "x.meta.yaml").write_bytes(b"")
    with pytest.raises(WheeltapperError, match="expected a mapping with submission, system, results; found nothing"):
        read(tmp_path / "x.meta.yaml")


def test_year_decides_what_is_asked_for(tmp_path):
    path = tmp_path / "x.meta.yaml"
    path.write_text(good_package()[meta_path()].decode().replace("    attribute_usage: !!null\n", ""))
    assert read(path, year=2024).description["attribute_usage"] is None
    with pytest.raises(WheeltapperError, match="attribute_usage: expected this key"):
        read(path, year=2026)


def test_an_exact_zero_is_no_fraction_beside_percentages(tmp_path):
    """A toy run may well rank a handful of clips entirely wrong."""
    meta = make_meta(results={"fan": {"auc_source": 0.0, "auc_target": 100.0, "pauc": 47.37}})
    write(tmp_path / "x.meta.yaml", meta)
    assert read(tmp_path / "x.meta.yaml") == meta
    with pytest.raises(WheeltapperError, match="a fraction"):
        write(tmp_path / "y.meta.yaml", dataclasses.replace(meta, results={"fan": {"auc_source": 0.0, "pauc": 0.5}}))
