"""The command that writes the table of a benchmark, and its page."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

from system.bin import main
from system.leaderboard import published
from system.leaderboard.boards import BOARDS, SIREN
from system.leaderboard.table import best_first, disagreements

ODD = '<b>"Söhne" & Co</b>'
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tables as rows of (class, texts), text by section, references, and whether the tags nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[tuple[str, list[str]]]] = {}
        self.sections: dict[str, str] = {}
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.bold: dict[str, list[str]] = {}
        self.spans: dict[str, list[int]] = {}
        self.label = self.section = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [values[name] for name in ("src", "href") if name in values]
        if tag == "section":
            self.section = values["id"]
        if values.get("role") == "region":
            self.label = values["aria-label"]
            self.tables[self.label], self.bold[self.label], self.spans[self.label] = [], [], []
        if tag == "tr":
            self.tables[self.label].append((values.get("class", ""), []))
            self.spans[self.label].append(0)
        if tag in ("td", "th"):
            self.tables[self.label][-1][1].append("")
            self.spans[self.label][-1] += int(values.get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.sections[self.section] = self.sections.get(self.section, "") + data
        if "table" in self.open and self.tables[self.label] and self.tables[self.label][-1][1]:
            cells = self.tables[self.label][-1][1]
            cells[-1] = " ".join(f"{cells[-1]} {data}".split())
            if self.open[-1] == "b":
                self.bold[self.label].append(data)


@pytest.fixture
def results(tmp_path):
    """A full row, one of a single figure, and one by the other protocol."""
    made = {
        "full": (ODD, "as-coded", dict.fromkeys(SIREN.names, 76.9)),
        "part": ("Part", "as-coded", {"cwru": 99.0}),
        "clean": ("Part", "clean", {"cwru": 95.0}),
    }
    paths = []
    for name, (encoder, protocol, scores) in made.items():
        record = {"commit": "0123456789ab", "command": f"wheeltapper benchmark siren --json {name}.json"}
        value = {"benchmark": "siren", "encoder": encoder, "protocol": protocol, "scores": scores, "record": record}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(value))
    return paths


def run(*arguments) -> int:
    return main(["leaderboard", *map(str, arguments)])


def test_page_and_csv(results, tmp_path, capsys):
    out = tmp_path / "out" / "table.html"
    assert run("siren", *results, "--out", out) == 0
    assert "Ranking: Part: no score, 1 of 11 figures" in capsys.readouterr().out
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert list(page.tables) == [
        "Ranking",
        "On CWRU alone",
        "Our results by the clean protocol",
        "Measured here",
    ]
    ranking = page.tables["Ranking"][2:]
    assert [cells[0] for _, cells in ranking[:2]] == ["1 ECHO small 22M", "2 ECHO tiny 5.5M"]
    own = {cells[0]: cells[1:] for kind, cells in ranking if kind == "own"}
    assert set(own) == {f"3 {ODD} measured here", "Part measured here"}
    part = own["Part measured here"]
    assert part[0] == "– 99.00 over 1 of 11"
    assert part[1] == "–"
    assert part[8] == "– 99.00 over 1 of 5"
    assert part.count("–") == 14 - 3
    assert part[11] == "99.00"
    assert ranking[-1][0] == "guess"
    assert ranking[-1][1][1] == "34.67"
    assert page.tables["On CWRU alone"][2][1] == ["1 Part measured here", "99.00", "measured here, as-coded"]
    clean = page.tables["Our results by the clean protocol"][2:]
    assert [kind for kind, _ in clean] == ["own", "guess"]
    assert page.bold["Ranking"][0] == "77.65"
    assert page.bold["Ranking"].count("100.00") == 4
    with open(out.with_suffix(".csv"), newline="") as file:
        assert [line["encoder"] for line in csv.DictReader(file)][2] == ODD
    assert sorted(path.name for path in out.parent.iterdir()) == ["table.csv", "table.html", "table.md"]
    before = html
    assert run("siren", *results, "--out", out) == 0
    assert out.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_page_of_published_rows_needs_nothing_else(board, tmp_path):
    out = tmp_path / "table.html"
    assert run(board.name, "--out", out) == 0
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    rows = published.encoders(board)
    assert not {"script", "link", "img", "iframe", "object", "base"} & page.tags
    assert "@import" not in html
    assert "url(" not in html
    assert re.search(r"<meta name=.viewport", html)
    sections = {f"#{name}" for name in page.sections}
    assert all(link in sections or link in {row.source.address for row in rows} for link in page.links)
    groups, heads, *body = page.tables["Ranking"]
    columns = len(board.names) + (len(board.tasks) if len(board.tasks) > 1 else 0) + 3
    assert page.spans["Ranking"] == [columns, columns - 3, *[columns] * (len(rows) + 1)]
    assert [cell for cell in heads[1] if cell != "mean"] == [figure.label for figure in board.figures]
    assert groups[1][:2] == ["Encoder", board.label]
    shown = {cells[0].split(maxsplit=1)[1]: cells[1] for kind, cells in body if kind != "guess"}
    assert shown == {f"{row.name} {row.source.parameters}".strip(): f"{row.given['score'][0]:.2f}" for row in rows}
    for figure in board.figures:
        best = f"{max(row.figures[figure.key][0] for row in rows):.2f}"
        assert best in page.bold["Ranking"]
    for source in {row.source.name for row in rows}:
        assert source in page.sections["table0"]
        assert source in page.sections["sources"]
    told = page.sections["sources"]
    for row, _, printed, computed in disagreements(published.encoder_table(board)):
        assert re.search(f"{row.name}.*printed {printed:.2f}.*give {computed:.2f}", told)
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", html)


def test_bars_run_from_the_lowest_to_the_highest(tmp_path):
    out = tmp_path / "table.html"
    run("siren", "--out", out)
    table = out.read_text(encoding="utf-8").split("<tbody>")[1].split("</tbody>")[0]
    levels = [[float(level) for level in re.findall(r"--level: ([\d.]+)", line)] for line in table.split("</tr>")[:-2]]
    columns = list(zip(*levels, strict=True))
    assert len(columns) == 14
    assert all(min(column) == 0.0 and max(column) == 100.0 for column in columns)
    scores = [means["score"][0] for means in best_first(published.encoder_table(SIREN)).means]
    expected = [100 * (score - scores[-1]) / (scores[0] - scores[-1]) for score in scores]
    assert columns[0] == pytest.approx(expected, abs=0.06)


def test_mistakes_are_one_line(results, tmp_path, capsys):
    for arguments, text in (
        (("siren", "--out", tmp_path / "table.csv"), "expected a name that ends in .html"),
        (("rmis", results[0], "--out", tmp_path / "table.html"), "benchmark: expected rmis, found 'siren'"),
        (("siren", results[0], results[0], "--out", tmp_path / "table.html"), "expected one result of encoder"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("wheeltapper leaderboard: ")
        assert text in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("table.*"))
