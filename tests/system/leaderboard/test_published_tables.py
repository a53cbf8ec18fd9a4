"""The published tables: what they say, whether their printed means follow, and how damage is named."""

import csv
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean

import pytest

from system.corpora.challenge import load_year
from system.errors import WheeltapperError
from system.leaderboard import tables
from system.leaderboard.tables import DEVELOPMENT, EVALUATION, SCORE

TRANSCRIBED = Path(__file__).parents[2] / "fixtures" / "metrics" / "published_2026_development.csv"
# Official scores as they stand in print: text of the paper, read-mes of the evaluators.
OFFICIAL = {
    ("dcase2026", DEVELOPMENT): [56.66, 57.66, 61.43, 61.28, 61.27, 61.04],
    ("dcase2026", EVALUATION): [59.80, 54.76],
    ("dcase2025", EVALUATION): [54.43, 56.51],
    ("dcase2024", EVALUATION): [56.51, 56.49],
    ("dcase2023", EVALUATION): [59.25, 61.05],
}
CHALLENGE = [table for table in tables.tables() if table.has_means]


def test_second_transcription_is_the_same():
    table = tables.find("dcase2026", DEVELOPMENT)
    names = dict(zip(["MSE", "MAHALA"], tables.BASELINES, strict=True))
    with open(TRANSCRIBED, newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 21
    for line in lines:
        machine, measure = line.pop("machine"), line.pop("measure")
        assert list(table.cells[machine][measure]) == [float(value) for value in line.values()]
    assert [names.get(name, name) for name in lines[0]] == [system.name for system in table.systems]


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_printed_means_follow_from_the_cells(table):
    assert len(OFFICIAL[table.board, table.split]) == len(table.systems)
    for index, (system, official) in enumerate(zip(table.systems, OFFICIAL[table.board, table.split], strict=True)):
        column = [[row[index] for row in rows.values()] for rows in table.cells.values()]
        assert round(harmonic_mean([value for row in column for value in row]), 2) == official
        assert table.computed(system.name)[SCORE] == pytest.approx(official, abs=0.005)
        for number, (measure, printed) in enumerate(table.means.items()):
            expected = harmonic_mean([row[number] for row in column])
            assert printed[index] == pytest.approx(expected, abs=0.0075)  # the cells are rounded, too
            assert table.computed(system.name)[measure] == pytest.approx(expected, abs=1e-9)
    assert tables.disagreements(table) == []


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_a_wrong_digit_is_noticed(table):
    """Half a point more in any cell, of any system, is caught by its printed mean or official score."""
    for machine, rows in table.cells.items():
        for measure, row in rows.items():
            for index, system in enumerate(table.systems):
                wrong = [value + 0.5 * (i == index) for i, value in enumerate(row)]
                changed = replace(table, cells={**table.cells, machine: {**rows, measure: wrong}})
                told = {(s.name, name) for s, name, *_ in tables.disagreements(changed)}
                assert (system.name, measure if table.means else SCORE) in told


def test_a_printed_mean_that_does_not_follow_is_told():
    table = tables.find("dcase2026", DEVELOPMENT)
    changed = replace(table, score=[56.66, 57.66, 61.45, None, None, None])
    ((system, name, printed, computed),) = tables.disagreements(changed)
    assert (system.name, name, printed) == ("task2_1", SCORE, 61.45)
    assert computed == pytest.approx(61.426, abs=5e-4)


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_machines_are_those_of_the_year(table):
    year = load_year(table.year)
    assert set(table.machines) == set(year.dev if table.split == DEVELOPMENT else year.eval)
    assert table.measures == ("AUC (source)", "AUC (target)", "pAUC")
    assert [system.name for system in table.systems[:2]] == list(tables.BASELINES)


def test_mimii_table_says_what_its_paper_says():
    """Sentences of the text beside Table III, and the counts of the recordings in Table II."""
    table = tables.find("mimii", "test")
    auc = {system.name: {m: row["AUC"] for m, row in table.column(system.name).items()} for system in table.systems}
    assert list(auc) == ["Autoencoder", "CNN - supervised", "AST - supervised", "CNN - LOF", "AST - LOF"]
    assert all(auc["AST - supervised"][scope] >= auc["CNN - supervised"][scope] for scope in table.machines)
    better = {scope for scope in table.machines if auc["AST - LOF"][scope] > auc["CNN - LOF"][scope]}
    assert better == {"fan_00", "pump_all", "valve_all", "slide_all"}
    kinds = table.machines[1:]
    for name in ("CNN - supervised", "AST - supervised"):
        assert max(kinds, key=auc[name].get) == "slide_all"
        assert min(kinds, key=auc[name].get) == "fan_all"
    assert auc["Autoencoder"] == dict(zip(table.machines, (77.70, 90.81, 87.20, 57.57, 86.84), strict=True))
    assert table.clips["fan_00"] == (1011, 407)
    assert sum(normal for normal, _ in table.clips.values()) - 1011 == 4075 + 3749 + 3691 + 3204
    assert sum(wrong for _, wrong in table.clips.values()) - 407 == 1475 + 456 + 479 + 890
    assert tables.disagreements(table) == []


def test_scores_of_a_year():
    found = {scored.system.name: scored for scored in tables.scores(2026)}
    assert (found["Baseline MSE"].development, found["Baseline MSE"].evaluation) == (56.66, 59.80)
    assert found["Baseline MSE"].system.source == "DCASE 2026 Task 2 page; DCASE 2026 Task 2 evaluator, read-me"
    assert (found["task2_2"].development, found["task2_2"].evaluation) == (61.28, None)  # not printed: computed
    winner = found["Fujimura_MERL_task2_3"]
    assert (winner.evaluation, winner.system.by) == (70.24, "organisers")
    assert winner.system.copied_from
    assert {found[name].system.by for name in found if name.startswith("reproduction")} == {"others"}
    (paper,) = (scored for scored in tables.scores(2024) if scored.system.source == "EFB paper")
    assert (paper.evaluation, paper.system.parameters) == (66.40, "90M")
    assert tables.scores(2022) == []


def test_every_figure_has_a_source():
    for table in tables.tables():
        for system in table.systems:
            assert system.source
            assert system.address.startswith("https://") or system.source == "Wang and Liu 2026, Table 1"
    assert tables.boards() == ["dcase2023", "dcase2024", "dcase2025", "dcase2026", "mimii"]


GOOD = """\
title: Small
source: A paper
year: 2026
split: development
unit: percent
systems:
  - {name: One, by: authors, source: A paper}
  - {name: Two, by: organisers, source: A paper}
cells:
  fan: {AUC (source): [60, 70.5], pAUC: [50, 55]}
  valve: {AUC (source): [61, 71], pAUC: [51, 56]}
means: {AUC (source): [60.5, null], pAUC: [50.5, null]}
score: [null, 61.0]
"""


def test_reads_what_is_there(tmp_path):
    path = tmp_path / "dcase2026_development.yaml"
    path.write_text(GOOD)
    table = tables.read_table(path)
    assert (table.board, table.machines, table.measures) == ("dcase2026", ("fan", "valve"), ("AUC (source)", "pAUC"))
    assert table.column("Two")["fan"] == {"AUC (source)": 70.5, "pAUC": 55.0}
    assert table.printed("One") == {"AUC (source)": 60.5, "pAUC": 50.5}
    assert table.printed("Two") == {SCORE: 61.0}
    with pytest.raises(KeyError):
        table.column("Three")


BAD = {
    "an unknown key": ("title: Small", "titel: Small", "file: expected some of", "found titel"),
    "a missing key": ("source: A paper\nyear", "year", "file: expected source, found nothing"),
    "another unit": ("percent", "fraction", "unit: expected percent, found fraction"),
    "a missing cell": ("pAUC: [50, 55]", "pAUC: [50]", "cells: fan: pAUC: expected 2 figures, one a system, found 1"),
    "an empty cell": ("[50, 55]", "[50, null]", "cells: fan: pAUC: expected a percentage, 0 to 100, found nothing"),
    "a missing row": (", pAUC: [51, 56]", "", "cells: valve: expected AUC (source), pAUC as in the first"),
    "above 100": ("[50, 55]", "[50, 155]", "cells: fan: pAUC: expected a percentage, 0 to 100, found 155"),
    "below 0": ("[50, 55]", "[-1, 55]", "found -1"),
    "no number": ("[50, 55]", "[50, .nan]", "found nan"),
    "a word": ("[50, 55]", "[50, much]", "found much"),
    "a machine twice": ("  valve:", "  fan:", "fan twice, again in line 11"),
    "a system twice": ("name: Two", "name: One", "systems: expected each system once, found One again"),
    "nobody's figure": ("by: authors", "by: rumour", "systems: 1: by: expected organisers or authors or others"),
    "a key of a system": ("source: A paper}", "sorce: A paper}", "systems: 1: expected some of"),
    "another year": ("year: 2026", "year: 2025", "expected year and split as the name says"),
    "no year": ("year: 2026", "year: soon", "year: expected a year, found soon"),
    "another split": ("split: development", "split: training", "split: expected development or evaluation or test"),
    "other means": ("pAUC: [50.5", "AUC (all): [50.5", "means: expected AUC (source), pAUC"),
    "no yaml": ("title: Small", "title: [", "expected yaml, found"),
    "a list": (GOOD, "[1, 2]", "file: expected keys and values"),
    "nothing": (GOOD, "", "file: expected keys and values, found nothing"),
    "clips": ("score: [null, 61.0]", "clips: {fan: [0, 2]}", "clips: fan: expected counts of normal and of anomalous"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_named(case, tmp_path):
    old, new, *texts = BAD[case]
    assert old in GOOD
    path = tmp_path / "dcase2026_development.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(WheeltapperError) as error:
        tables.read_table(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


def test_absent_table(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a published table, found nothing"):
        tables.read_table(tmp_path / "dcase2026_development.yaml")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("{name: A, by: authors, source: B, evaluation: 60}", "systems: 2: year: expected a year, found nothing"),
        ("{year: 2026, name: A, by: authors, source: B}", "systems: 2: expected development or evaluation"),
        (
            "{year: 2026, name: A, by: authors, source: B, evaluation: 1e3}",
            "systems: 2: evaluation: expected a percentage",
        ),
        ("{year: 2026, name: First, by: authors, source: B, evaluation: 60}", "each system once, found First again"),
        ("{year: 2026, name: A, by: authors, evaluation: 60}", "systems: 2: expected source, found nothing"),
        ("3", "systems: 2: expected keys and values, found 3"),
    ],
)
def test_bad_scores_are_named(row, text, tmp_path):
    path = tmp_path / "scores.yaml"
    first = "  - {year: 2026, name: First, by: authors, source: B, development: 50}"
    path.write_text(f"title: Scores\nunit: percent\nsystems:\n{first}\n  - {row}\n")
    with pytest.raises(WheeltapperError) as error:
        tables.read_scores(path)
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)
