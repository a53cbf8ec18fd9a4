"""Published rows, our rows, their means and their order."""

import csv
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import simpson

from system.errors import WheeltapperError
from system.leaderboard import our_results, published, table, writers
from system.leaderboard.boards import BOARDS, RMIS, RMIS_MULTISPLIT, SIREN
from system.leaderboard.comparison import compare
from system.leaderboard.table import SCORE, TASK_MEANS, Table, best_first

RECORD = {"commit": "0123456789ab", "command": "wheeltapper benchmark siren"}
# Means that their own columns do not give, as the papers print them (the first also on the official page).
KNOWN = {
    "rmis": {("CED tiny", "ad"): (59.15, 59.133)},
    "rmis-multisplit": {("Whisper large", SCORE): (42.57, 42.966), ("FISHER tiny", SCORE): (56.33, 56.317)},
    "siren": {},
}


def full(board, value=50.0, **own) -> dict[str, float]:
    return dict.fromkeys(board.names, value) | own


def means(board, scores) -> dict[str, float]:
    return TASK_MEANS.means(board.figures, {f.key: scores[f.name] for f in board.figures if f.name in scores})


def tables(board, *paths) -> list[Table]:
    return compare(board.name, our_results.read_benchmarks(board.name, paths))


def entries(found: Table) -> list[tuple[str, int | None]]:
    return list(zip([entry.name for entry in found.entries], found.ranks, strict=True))


@pytest.fixture
def result(tmp_path):
    """Writes a result and returns its path; ``changes`` replace what it says, None leaves it out."""

    def write(name="a.json", **changes) -> Path:
        value = {"benchmark": "siren", "encoder": "Mine", "protocol": "as-coded", "scores": {"cwru": 80.0}}
        value = value | {"record": RECORD} | changes
        path = tmp_path / name
        path.write_text(json.dumps({key: each for key, each in value.items() if each is not None}))
        return path

    return write


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_published_means_follow_from_their_columns(board):
    whole = published.encoder_table(board)
    found = {(entry.name, name): (a, round(b, 3)) for entry, name, a, b in table.disagreements(whole)}
    assert found == KNOWN[board.name]
    names = [task.name for task in board.tasks] if len(board.tasks) > 1 else []
    assert all(set(entry.given) == {*names, SCORE} for entry in whole.entries)


def test_means_by_hand():
    rows = {row.name: row for row in published.encoders(SIREN)}
    siren = {name: value for group in ("ad", "fd") for name, value in rows["ECHO small"].values(group).items()}
    detection = np.mean([siren[f"dcase{year}"] for year in range(2020, 2026)])
    five = [99.85, 93.67, 90.48, 99.54, 82.42]  # MaFaulDa's pair counts as two
    assert means(SIREN, siren) == pytest.approx(
        {"ad": detection, "fd": np.mean(five), SCORE: (detection + np.mean(five)) / 2}, abs=1e-9
    )
    assert round(means(SIREN, siren)[SCORE], 2) == 77.65
    scores = full(RMIS) | dict.fromkeys(RMIS.names[:6], 80.0)
    assert means(RMIS, scores) == pytest.approx({"ad": 80.0, "fd": 50.0, SCORE: 65.0})  # not 13 x 50 and 6 x 80
    del scores["pu_cur"]
    assert means(RMIS, scores) == pytest.approx({"ad": 80.0})
    there = [figure for figure in RMIS.figures if figure.name in scores]
    assert TASK_MEANS.means(there, {f.key: scores[f.name] for f in there})[SCORE] == pytest.approx(65.0)


def test_published_rows_are_all_there():
    rows = {board.name: published.encoders(board) for board in BOARDS.values()}
    assert [len(rows[name]) for name in ("rmis", "rmis-multisplit", "siren")] == [33, 33, 15]
    assert [row.name for row in rows["rmis"]] == [row.name for row in rows["rmis-multisplit"]]
    for board in BOARDS.values():
        assert len({row.name for row in rows[board.name]}) == len(rows[board.name])
        for row in rows[board.name]:
            assert row.source.name
            assert row.source.date
            assert row.source.address.startswith("https://")
            assert not row.own
            assert tuple(name for _, name in row.figures) == board.names
            assert all(0 < value <= 100 for (value,) in row.figures.values())
    sources = Counter(row.source.name for row in rows["rmis"])
    assert sources == {"RMIS leaderboard": 14, "FISHER paper, Table 3": 19}
    assert {row.source.name for row in rows["siren"]} == {"ECHO paper, Table 2"}


def test_first_and_last_of_each_table():
    order = {board.name: best_first(published.encoder_table(board)) for board in (RMIS, RMIS_MULTISPLIT, SIREN)}
    ends = {name: (found.entries[0].name, found.entries[-1].name) for name, found in order.items()}
    assert ends == {
        "rmis": ("FISHER small", "Whisper tiny"),
        "rmis-multisplit": ("FISHER small", "Whisper large"),
        "siren": ("ECHO small", "CED tiny"),
    }
    for found in order.values():
        scores = [each[SCORE] for each in found.means]
        assert scores == sorted(scores, reverse=True)
    ranks = dict(entries(order["rmis"]))
    assert ranks["MuQ msd"] == ranks["MiDaShengLM 7B"] == 23  # both 53.65
    assert ranks["Wav2Vec 2.0 base"] == 25


def test_chance_of_the_area():
    for figure in RMIS_MULTISPLIT.figures:
        (chance,) = (each.chance for each in RMIS.figures if each.name == figure.name)
        assert figure.chance == pytest.approx(simpson([chance] * 20 + [100.0], dx=0.05))


def test_results_rank_among_published_rows(result):
    path = result(scores=full(SIREN, 76.9), encoder="Mine", more={"kept": "unread"})
    (found,) = tables(SIREN, path)
    mine = found.entries[2]
    assert (mine.name, found.ranks[2], mine.own, mine.records) == ("Mine", 3, True, (RECORD,))
    assert found.means[2][SCORE] == pytest.approx((76.9,))
    assert found.partial(2) == {}
    assert found.ranks == list(range(1, 17))


def test_rows_with_gaps_have_no_rank_and_a_table_of_what_they_have(result):
    one = result("one.json", encoder="One", scores={"cwru": 99.0})
    two = result("two.json", encoder="Two", scores={"cwru": 40.0, "iiee": 60, "dcase2020": 70.0})
    whole, three, single = tables(SIREN, one, two)
    assert entries(whole)[-2:] == [("Two", None), ("One", None)]
    assert whole.means[-2] == {}
    assert whole.partial(15) == {"ad": (70.0, 1), "fd": (50.0, 2), SCORE: (60.0, 3)}
    assert whole.partial(16) == {"fd": (99.0, 1), SCORE: (99.0, 1)}
    assert [str(row[15]) for row in whole.cells][:2] == ["60.00 (3 of 11)", "70.00 (1 of 6)"]
    assert three.names == ("dcase2020", "iiee", "cwru")
    assert len(three.entries) == 16
    assert single.names == ("cwru",)
    assert len(single.entries) == 17
    assert entries(single)[0] == ("One", 1)
    assert entries(single)[-1] == ("Two", 17)
    (eat,) = (each[SCORE] for entry, each in zip(three.entries, three.means, strict=True) if entry.name == "EAT large")
    assert eat == pytest.approx(((73.94 + (68.33 + 91.43) / 2) / 2,))  # not the printed 74.20


def test_protocols_never_share_a_table(result):
    found = tables(
        SIREN,
        result("coded.json", scores=full(SIREN)),
        result("clean.json", protocol="clean", scores=full(SIREN, 99.0)),
        result("part.json", protocol="clean", encoder="Part", scores={"cwru": 99.5}),
        result("odd.json", protocol="clean", encoder="Odd", scores={"iica": 1.0, "cwru": 2.0}),
    )
    assert [(each.protocol, each.names == SIREN.names) for each in found] == [
        ("as-coded", True),
        ("clean", True),
        ("clean", False),
        ("clean", False),
    ]
    for each in found:
        assert {entry.protocol for entry in each.entries} == {each.protocol}
        assert {cell.protocol for row in each.cells for cell in row} == {each.protocol}
        assert len(each.entries) > 1
    assert all(entry.own for each in found[1:] for entry in each.entries)
    assert entries(found[1]) == [("Mine", 1), ("Odd", None), ("Part", None)]


def test_lone_result_has_no_table_of_its_gaps(result):
    found = tables(SIREN, result(protocol="clean"))
    assert [(each.protocol, each.names) for each in found] == [("as-coded", SIREN.names), ("clean", SIREN.names)]


def test_csv(result, tmp_path):
    paths = [
        result(),
        result("b.json", encoder='Odd, "one"', scores=full(SIREN, 99.0)),
        result("c.json", protocol="clean"),
    ]
    out = tmp_path / "sub" / "table.csv"
    writers.write_entries(out, [each for each in tables(SIREN, *paths) if each.names == SIREN.names])
    with open(out, newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 18
    assert [(line["rank"], line["encoder"], line["score"]) for line in lines[:2]] == [
        ("1", 'Odd, "one"', "99.00"),
        ("2", "ECHO small", "77.65"),
    ]
    coded, clean = lines[-2:]
    for line, protocol in ((coded, "as-coded"), (clean, "clean")):
        assert (line["protocol"], line["rank"], line["score"], line["mean_fd"]) == (protocol, "", "", "")
        assert (line["figures"], line["of_figures"], line["mean_of_figures"]) == ("1", "11", "80.00")
        assert (line["cwru"], line["iiee"], line["origin"]) == ("80.00", "", "measured")
        assert (line["commit"], line["command"]) == (RECORD["commit"], RECORD["command"])


def test_markdown_tells_the_tasks_means_apart(result):
    head, _, first, *rest = writers.markdown(tables(SIREN, result())).split("\n\n")[2].splitlines()
    assert head.startswith("| Encoder | SIREN mean | Anomaly detection: mean | 2020 |")
    assert "| Fault classification: mean | IIEE |" in head
    assert first.startswith("| ECHO small | 77.65 |")
    assert rest[-1].startswith("| Mine | 80.00 (1 of 11) | - |")


BAD = {
    "benchmark": [("rmis", "expected siren, found 'rmis'"), (None, "expected text, found nothing")],
    "encoder": [("", "expected text, found ''"), (3, "expected text, found 3")],
    "protocol": [("quick", "expected clean or as-coded, found 'quick'")],
    "record": [(None, "expected an object, found nothing"), ({"commit": "a"}, "command: expected text, found nothing")],
    "scores": [
        ([80.0], "expected an object, found [80.0]"),
        ({"cwru12": 80.0}, "mafaulda_sound, found 'cwru12'"),
        ({"cwru": math.nan}, "cwru: expected a percentage, 0 to 100, found nan"),
        ({"cwru": math.inf}, "found inf"),
        ({"cwru": 100.01}, "found 100.01"),
        ({"cwru": -1}, "found -1"),
        ({"cwru": "80"}, "found '80'"),
        ({"cwru": True}, "found True"),
        ({"cwru": None}, "found nothing"),
    ],
}


@pytest.mark.parametrize(
    ("name", "value", "text"), [(name, value, text) for name, cases in BAD.items() for value, text in cases]
)
def test_bad_results_are_named(result, name, value, text):
    path = result(**{name: value})
    with pytest.raises(WheeltapperError) as error:
        our_results.read_benchmarks("siren", [path])
    assert str(error.value).startswith(f"{path}: {name}:")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "found"), [("[1]", "found [1]"), ("{", "found damage"), ("null", "found nothing")])
def test_what_is_no_result(tmp_path, text, found):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(WheeltapperError, match=r"a\.json: expected") as error:
        our_results.read_benchmarks("siren", [path])
    assert found in str(error.value)


def test_absent_result(tmp_path):
    with pytest.raises(WheeltapperError, match="found nothing"):
        our_results.read_benchmarks("siren", [tmp_path / "none.json"])


def test_two_results_of_one_name(result):
    paths = [result("a.json"), result("b.json", protocol="clean"), result("c.json", scores={"iica": 1.0})]
    with pytest.raises(WheeltapperError) as error:
        our_results.read_benchmarks("siren", paths)
    assert str(error.value).startswith(f"{paths[2]}: ")
    assert "'Mine'" in str(error.value)
    assert str(paths[0]) in str(error.value)
