"""The command that writes our results beside the published tables of the challenge and of MIMII."""

import csv
import json
import re

import pytest
from test_leaderboard_command import Page

from system.bin import main
from system.corpora.challenge import load_year
from system.leaderboard import published

ODD = '<b>"Söhne" & Co</b>'
DEV = tuple(load_year(2026).dev)


def run(*arguments) -> int:
    return main(["leaderboard", *map(str, arguments)])


@pytest.fixture
def result(tmp_path):
    """Writes metrics.json of a run of one system with one value everywhere."""

    def write(name, machines, value):
        path = tmp_path / "exp" / name / "metrics.json"
        path.parent.mkdir(parents=True)
        row = dict.fromkeys(("AUC (source)", "AUC (target)", "pAUC"), value)
        system = {"official_score": value, "per_machine": {machine: row for machine in machines}}
        path.write_text(json.dumps({"year": 2026, "systems": {"Me_There_task2_1": system}, "evaluation": {}}))
        record = {"commit": "0123456789ab", "command": "wheeltapper run --stage 6"}
        (path.parent / "stages").mkdir()
        (path.parent / "stages" / "6_evaluate.json").write_text(json.dumps(record))
        return path

    return write


def test_a_run_without_labels_is_left_out(result, tmp_path, capsys):
    final = result("final", [], 0.5)
    final.write_text(json.dumps({"year": 2026, "systems": {}, "evaluation": {}}))
    out = tmp_path / "table.html"
    assert run("dcase2026", final, result("props", ["cw", "ccw"], 0.99), "--out", out) == 0
    assert "left out: final: no figure for this table" in capsys.readouterr().out
    assert "props" in out.with_suffix(".md").read_text()
    assert run("dcase2026", final, "--out", tmp_path / "none.html") == 1
    assert f"{final}: expected the official score of a system, found none" in capsys.readouterr().err
    assert not list(tmp_path.glob("none.*"))


def test_our_row_stands_beside_the_papers(result, tmp_path, capsys):
    seeds = [result(f"seed{number}", DEV, value) for number, value in enumerate((0.60, 0.64))]
    props = result("props", ["cw", "ccw"], 0.99)
    out = tmp_path / "out" / "table.html"
    assert run("dcase2026", props, "--seeds", ODD, *seeds, "--out", out) == 0
    said = capsys.readouterr().out
    assert f"Development machines of 2026: {ODD}: 62.00 ± 2.83\n" in said
    assert "Other recordings: props: 99.00\n" in said
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    lines = [cells for _, cells in page.tables["Development machines of 2026"]]
    assert lines[0][-1] == f"{ODD} 2 runs"
    assert lines[1] == [
        "bearingEmu",
        "AUC(source)",
        "62.34",
        "65.92",
        "56.36",
        "57.32",
        "56.76",
        "56.88",
        "62.00 ± 2.83",
    ]
    assert lines[-1] == ["official score", "56.66", "57.66", "61.43", "61.28", "61.27", "61.04", "62.00 ± 2.83"]
    others = [cells for _, cells in page.tables["Other recordings"]]
    assert others[0] == ["Machine", "Measure", "props 1 run"]
    assert all("99.00" not in cell for row in lines for cell in row)
    assert "No figure here may be held against" in html
    ranked = dict((cells[0], (kind, cells[1:3])) for kind, cells in page.tables["Official scores"][1:])
    assert ranked[f"{ODD} measured here"] == ("own", ["–", "62.00 ± 2.83"])
    assert ranked["Fujimura_MERL_task2_3"] == ("", ["70.24", "–"])
    assert "props measured here" not in ranked
    measured = [cells for _, cells in page.tables["Measured here"]]
    assert measured[1] == ["exp/props/metrics.json", "props", "0123456789ab", "wheeltapper run --stage 6"]
    assert len(measured) == 4
    assert sorted(path.name for path in out.parent.iterdir()) == ["table.csv", "table.html", "table.md"]
    with open(out.with_suffix(".csv"), newline="") as file:
        table = list(csv.DictReader(file))
    assert {line["system"] for line in table if line["origin"] == "measured"} == {ODD, "props"}
    assert "| Official score | hmean of all | 56.66 | 57.66 |" in out.with_suffix(".md").read_text()
    assert run("dcase2026", props, "--seeds", ODD, *seeds, "--out", out) == 0
    assert out.read_text(encoding="utf-8") == html


@pytest.mark.parametrize("board", sorted({table.board for table in published.tables()}))
def test_page_of_published_figures_needs_nothing_else(board, tmp_path):
    out = tmp_path / "table.html"
    assert run(board, "--out", out) == 0
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base"} & page.tags
    assert "@import" not in html
    assert "url(" not in html
    assert re.search(r"<meta name=.viewport", html)
    assert all(link.startswith(("https://", "#")) for link in page.links)
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", html)
    assert "Nothing measured here yet" in page.sections["sources"]
    for table in (table for table in published.tables() if table.board == board):
        assert table.source in page.sections["sources"]
        for system in table.entries:
            assert system.name in html
    if board != "mimii":
        assert "all of them follow from their figures" in page.sections["sources"]


def test_a_study_in_the_layout_of_its_paper(tmp_path):
    clips = {"test": {"normal": 1011, "anomaly": 407}}
    found = {"fan_00": {"clips": clips, "results": [{"row": "AST - LOF", "auc": 0.8123}]}}
    path = tmp_path / "study" / "results.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"format": 1, "seed": 1, "scopes": found}))
    out = tmp_path / "table.html"
    assert run("mimii", path, "--out", out) == 0
    lines = [cells for _, cells in Page(out.read_text(encoding="utf-8")).tables["On fan_00 alone"]]
    assert lines[0] == ["AUC", "fan_00"]
    assert lines[-2:] == [["AST - LOF", "77.16"], ["study AST - LOF measured here, 1 run", "81.23"]]


def test_mistakes_are_one_line(result, tmp_path, capsys):
    path = result("mine", DEV, 0.6)
    out = tmp_path / "table.html"
    for arguments, text in (
        (("dcase2026", "--seeds", "name", "--out", out), "--seeds name: expected a name and the results of its runs"),
        (("dcase2026", path, "--seeds", "mine", path, "--out", out), "mine: expected each name once"),
        (("dcase2026", tmp_path / "none.json", "--out", out), "expected a JSON file, found nothing"),
        (("mimii", path, "--out", out), "scopes: expected an object, found nothing"),
        (("siren", "--seeds", "mine", path, "--out", out), "--seeds: expected for DCASE and MIMII only"),
        (("dcase2026", path, "--out", tmp_path / "table.md"), "expected a name that ends in .html"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("wheeltapper leaderboard: ")
        assert text in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("table.*"))
