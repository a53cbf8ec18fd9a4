"""The results pages: tables are what the csv files give, and every figure says where it comes from."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
CSVS = sorted([*ROOT.glob("recipes/*/results/*.csv"), *ROOT.glob("docs/measurements/*.csv")])
HEADLINES = sorted(ROOT.glob("recipes/*/results/headline.csv"))
FIRST_SCREEN = ["task", "system", "score", "95 % interval", "baseline", "baseline system", "command", "commit"]
VERDICTS = {"kept", "dropped", "unclear"}


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import results

    return results


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def headline_rows() -> list[dict[str, str]]:
    return [row for path in HEADLINES for row in rows(path)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_tables_are_what_the_csv_files_give(tool):
    found = tool.pages()
    assert ROOT / "RESULTS.md" in found
    assert len(found) >= 8
    stale = [path.name for path in found if tool.fill(path.read_text()) != path.read_text()]
    assert not stale, "python tools/results.py --write"


def test_a_figure_typed_by_hand_is_noticed(tool):
    page = (ROOT / "RESULTS.md").read_text()
    changed = page.replace("| 78.77 |", "| 79.77 |", 1)
    assert changed != page
    assert tool.fill(changed) == page


def test_no_table_stands_outside_the_marks(tool):
    for path in tool.pages():
        text = tool.TABLE.sub("", path.read_text())
        assert not re.findall(r"^\|", text, re.MULTILINE), path


@pytest.mark.parametrize("path", CSVS, ids=name_of)
def test_every_row_says_where_it_comes_from(tool, path):
    found = rows(path)
    assert found
    for row in found:
        assert tuple(row)[-4:] == tool.PROVENANCE
        assert row["command"], row
        own = not row["command"].startswith(("published: ", "scratch code", "chance"))
        assert row["commit"], row
        assert not own or row["commit"] != "none", row
        assert re.search(r"\b[0-9a-f]{7,12}\b|^none$|^not recorded$|^every commit", row["commit"]), row
        for configuration in re.findall(r"recipes/\S+?\.yaml", f"{row['config']} {row['command']}"):
            assert "NAME" in configuration or (ROOT / configuration).is_file(), configuration


def test_every_csv_is_shown_on_a_page(tool):
    shown = {name for page in tool.pages() for _, request, *_ in tool.TABLE.findall(page.read_text())
             for name in request.split(";")[0].split()}  # fmt: skip
    assert shown == {name_of(path) for path in CSVS}


def test_the_first_screen_is_complete():
    page = (ROOT / "RESULTS.md").read_text()
    body = page.split(" -->\n", 1)[1].split("<!-- end -->", 1)[0].splitlines()
    assert page.index("<!-- end -->") < page.index("\n## ")
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]
    assert table[0] == FIRST_SCREEN
    assert len(table) - 2 == len(headline_rows())
    for row in table[2:]:
        assert all(row), row
        assert re.fullmatch(r"\d+\.\d+", row[2])
        assert re.fullmatch(r"\d+\.\d to \d+\.\d", row[3])


def test_the_intervals_of_the_first_screen():
    """Recomputed from the single scores, or from the number of recordings, by SciPy."""
    for row in headline_rows():
        found = float(row["95 % interval low"]), float(row["95 % interval high"])
        score, by = float(row["score"]), row["interval by"]
        assert found[0] <= score <= found[1]
        if by.startswith("Wilson"):
            count = int(re.search(r"\d+", by)[0])
            interval = stats.binomtest(round(score / 100 * count), count).proportion_ci(method="wilson")
            expected = 100 * interval.low, 100 * interval.high
        elif "deviation" in by:
            count, deviation = (float(text) for text in re.findall(r"[\d.]+", by))
            expected = stats.t.interval(0.95, count - 1, score, deviation / math.sqrt(count))
        elif by.startswith("t, "):
            scores = np.array(row["scores"].split(), dtype=float)
            assert len(scores) == int(re.search(r"\d+", by)[0])
            assert score == pytest.approx(scores.mean(), abs=0.05)
            expected = stats.t.interval(0.95, len(scores) - 1, scores.mean(), stats.sem(scores))
        else:
            assert by == "bootstrap over clips"
            continue
        assert found == pytest.approx((expected[0], min(expected[1], 100.0)), abs=0.06), row


@pytest.mark.parametrize("path", [p for p in CSVS if p.name != "headline.csv"], ids=name_of)
def test_means_are_those_of_the_runs_beside_them(path):
    for row in rows(path):
        runs = [float(value) for name, value in row.items() if re.fullmatch(r"(seed|mixture) \d+", name) and value]
        if runs and row.get("mean"):
            assert float(row["mean"]) == pytest.approx(np.mean(runs), abs=0.0101), row
        if runs and row.get("mean sd"):
            assert float(row["mean sd"]) == pytest.approx(np.std(runs, ddof=1), abs=0.0151), row


def test_the_log_has_a_date_and_a_verdict_for_every_entry():
    entries = re.findall(r"^## (.+)$", (ROOT / "docs" / "log.md").read_text(), re.MULTILINE)
    assert len(entries) > 20
    dates = []
    for entry in entries:
        date, title, verdict = entry.split(" · ")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", date), entry
        assert verdict in VERDICTS, entry
        assert title
        dates.append(date)
    assert dates == sorted(dates, reverse=True)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("pages", ["*.md", "docs/*.md", "recipes/*/*.md"])
def test_links_lead_to_pages_and_headings(pages):
    found = sorted(ROOT.glob(pages))
    assert found
    for path in found:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", path.read_text()):
            if target.startswith("http"):
                continue
            other = (path.parent / target) if target else path
            assert other.exists(), f"{path.name}: {target}"
            if anchor:
                assert anchor in anchors(other), f"{name_of(path)}: {target}#{anchor}"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("x.csv; colums: a", "expected columns or where, found colums"),
        ("x.csv; columns: z", "expected a column of a, b, found z"),
        ("x.csv; where: a=9", "expected rows, found none"),
        ("y.csv", "expected a csv file of results, found nothing"),
        ("short.csv", "row 3: expected 2 cells"),
    ],
)
def test_mistakes_in_a_mark_are_named(tool, tmp_path, request_, said):
    (tmp_path / "x.csv").write_text("a,b,command,commit,config,seeds\n1,2,c,d,e,0\n")
    (tmp_path / "short.csv").write_text("a,b\n1,2\n1\n")
    with pytest.raises(tool.WheeltapperError, match=re.escape(said)):
        tool.fill(f"<!-- table: {request_} -->\n<!-- end -->", tmp_path)


def test_deviations_intervals_and_bars_in_cells(tool, tmp_path):
    (tmp_path / "x.csv").write_text(
        "name,m,m sd,s,s low,s high,i low,i high,command,commit,config,seeds\n"
        "a|b,1.0,0.2,3,2,4,5,6,run,c,,0\n"
        "c,1.0,,3,,,,,run,c,,0\n"
    )
    page = tool.fill("<!-- table: x.csv -->\n<!-- end -->", tmp_path)
    assert page.splitlines()[1:-1] == [
        "| name | m | s | i |",
        "| --- | --- | --- | --- |",
        "| a\\|b | 1.0 ± 0.2 | 3 (2 to 4) | 5 to 6 |",
        "| c | 1.0 | 3 |  |",
    ]
    page = tool.fill("<!-- table: x.csv; columns: name | command; where: name=c | d -->\nold\n<!-- end -->", tmp_path)
    assert page.splitlines()[1:-1] == ["| name | command |", "| --- | --- |", "| c | `run` |"]
    assert tool.fill(page, tmp_path) == page


def test_the_tool_names_and_writes_stale_pages(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool.pages, "__defaults__", (tmp_path,))
    monkeypatch.setattr(tool.fill, "__defaults__", (tmp_path,))
    (tmp_path / "x.csv").write_text("a,command,commit,config,seeds\n1,c,d,e,0\n")
    (tmp_path / "RESULTS.md").write_text("<!-- table: x.csv -->\n<!-- end -->\n")
    assert tool.main([]) == 1
    assert "RESULTS.md: tables differ" in capsys.readouterr().out
    assert tool.main(["--write"]) == 0
    assert "| 1 |" in (tmp_path / "RESULTS.md").read_text()
    assert tool.main([]) == 0


TABLE = "<!-- table: recipes/siren/results/headline.csv -->\nold\n<!-- end -->\n"


@pytest.mark.parametrize(
    "page",
    [
        TABLE.replace("<!-- end -->\n", "") + "text\n" + TABLE,
        TABLE.replace("<!-- table: recipes/siren/results/headline.csv -->\n", "") + TABLE,
        TABLE.replace("table:", "tabel:"),
        TABLE + "<!-- end -->\n",
    ],
)
def test_a_lost_mark_is_refused_and_nothing_is_written(tool, page):
    with pytest.raises(tool.WheeltapperError, match="marks: expected"):
        tool.fill(page)


def test_a_whole_page_is_filled(tool):
    found = tool.fill(f"before\n{TABLE}between\n{TABLE}after\n")
    assert found.startswith("before\n")
    assert found.endswith("after\n")
    assert "between" in found
    assert "old" not in found
