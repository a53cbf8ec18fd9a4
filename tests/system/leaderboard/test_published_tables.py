"""The published tables: what they say, whether their printed means follow, and how damage is named."""

import csv
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean

import pytest

from system.corpora.challenge import load_year
from system.errors import WheeltapperError
from system.leaderboard import comparison, published
from system.leaderboard.published import DEVELOPMENT, EVALUATION
from system.leaderboard.table import SCORE, disagreements

TRANSCRIBED = Path(__file__).parents[2] / "fixtures" / "metrics" / "published_2026_development.csv"
# Official scores as they stand in print: text of the paper, read-mes of the evaluators.
OFFICIAL = {
    ("dcase2026", DEVELOPMENT): [56.66, 57.66, 61.43, 61.28, 61.27, 61.04],
    ("dcase2026", EVALUATION): [59.80, 54.76],
    ("dcase2025", EVALUATION): [54.43, 56.51],
    ("dcase2024", EVALUATION): [56.51, 56.49],
    ("dcase2023", EVALUATION): [59.25, 61.05],
}
CHALLENGE = [table for table in published.tables() if table.rule]


def test_second_transcription_is_the_same():
    table = published.find("dcase2026", DEVELOPMENT)
    names = dict(zip(["MSE", "MAHALA"], published.BASELINES, strict=True))
    with open(TRANSCRIBED, newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 21
    for line in lines:
        key = line.pop("machine"), line.pop("measure")
        assert [entry.figures[key] for entry in table.entries] == [(float(value),) for value in line.values()]
    assert [names.get(name, name) for name in lines[0]] == [entry.name for entry in table.entries]


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_printed_means_follow_from_the_cells(table):
    official = OFFICIAL[table.board, table.split]
    for entry, score in zip(table.entries, official, strict=True):
        column = [list(entry.values(machine).values()) for machine in table.groups]
        assert round(harmonic_mean([value for row in column for value in row]), 2) == score
        assert table.computed(entry.name)[SCORE] == pytest.approx(score, abs=0.005)
        for number, measure in enumerate(table.names):
            expected = harmonic_mean([row[number] for row in column])
            assert table.computed(entry.name)[measure] == pytest.approx(expected, abs=1e-9)
            if measure in entry.given:
                assert entry.given[measure] == pytest.approx((expected,), abs=0.0075)  # the cells are rounded, too
    assert disagreements(table) == []


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_a_wrong_digit_is_noticed(table):
    """Half a point more in any cell, of any system, is caught by its printed mean or official score."""
    for entry in table.entries:
        for key, (value,) in entry.figures.items():
            changed = replace(entry, figures={**entry.figures, key: (value + 0.5,)})
            told = {name for _, name, *_ in disagreements(replace(table, entries=(changed,)))}
            assert (key[1] if key[1] in entry.given else SCORE) in told


def test_a_printed_mean_that_does_not_follow_is_told():
    table = published.find("dcase2026", DEVELOPMENT)
    changed = replace(table.entry("task2_1"), given={SCORE: (61.45,)})
    ((entry, name, printed, computed),) = disagreements(replace(table, entries=(changed,)))
    assert (entry.name, name, printed) == ("task2_1", SCORE, 61.45)
    assert computed == pytest.approx(61.426, abs=5e-4)


@pytest.mark.parametrize("table", CHALLENGE, ids=lambda table: f"{table.board} {table.split}")
def test_machines_are_those_of_the_year(table):
    year = load_year(table.year)
    assert set(table.groups) == set(year.dev if table.split == DEVELOPMENT else year.eval)
    assert table.names == ("AUC (source)", "AUC (target)", "pAUC")
    assert [system.name for system in table.entries[:2]] == list(published.BASELINES)


def test_mimii_table_says_what_its_paper_says():
    """Sentences of the text beside Table III, and the counts of the recordings in Table II."""
    table = published.find("mimii", "test")
    auc = {entry.name: {scope: entry.values(scope)["AUC"] for scope in table.groups} for entry in table.entries}
    assert list(auc) == ["Autoencoder", "CNN - supervised", "AST - supervised", "CNN - LOF", "AST - LOF"]
    assert all(auc["AST - supervised"][scope] >= auc["CNN - supervised"][scope] for scope in table.groups)
    better = {scope for scope in table.groups if auc["AST - LOF"][scope] > auc["CNN - LOF"][scope]}
    assert better == {"fan_00", "pump_all", "valve_all", "slide_all"}
    kinds = table.groups[1:]
    for name in ("CNN - supervised", "AST - supervised"):
        assert max(kinds, key=auc[name].get) == "slide_all"
        assert min(kinds, key=auc[name].get) == "fan_all"
    assert auc["Autoencoder"] == dict(zip(table.groups, (77.70, 90.81, 87.20, 57.57, 86.84), strict=True))
    assert table.clips["fan_00"] == (1011, 407)
    assert sum(normal for normal, _ in table.clips.values()) - 1011 == 4075 + 3749 + 3691 + 3204
    assert sum(wrong for _, wrong in table.clips.values()) - 407 == 1475 + 456 + 479 + 890
    assert disagreements(table) == []


def test_scores_of_a_year():
    found = {entry.name: entry for entry in published.scores(2026)}
    development, evaluation = ("", DEVELOPMENT), ("", EVALUATION)
    assert found["Baseline MSE"].figures == {development: (56.66,), evaluation: (59.80,)}
    assert found["Baseline MSE"].source.name == "DCASE 2026 Task 2 page; DCASE 2026 Task 2 evaluator, read-me"
    assert found["task2_2"].figures == {development: (61.28,)}  # not printed: computed
    winner = found["Fujimura_MERL_task2_3"]
    assert (winner.figures, winner.source.by) == ({evaluation: (70.24,)}, "organisers")
    assert winner.source.copied_from
    assert {found[name].source.by for name in found if name.startswith("reproduction")} == {"others"}
    (paper,) = (entry for entry in published.scores(2024) if entry.source.name == "EFB paper")
    assert (paper.figures, paper.source.parameters) == ({evaluation: (66.40,)}, "90M")
    assert published.scores(2022) == []


def test_every_figure_has_a_source():
    for table in published.tables():
        for entry in table.entries:
            assert entry.source.name
            assert entry.source.address.startswith("https://") or entry.source.name == "Wang and Liu 2026, Table 1"
    years = ["dcase2023", "dcase2024", "dcase2025", "dcase2026"]
    assert comparison.boards() == ["rmis", "rmis-multisplit", "siren", *years, "mimii"]


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
    table = published.read_table(path)
    assert (table.board, table.groups, table.names) == ("dcase2026", ("fan", "valve"), ("AUC (source)", "pAUC"))
    assert table.entry("Two").values("fan") == {"AUC (source)": 70.5, "pAUC": 55.0}
    assert table.entry("One").given == {"AUC (source)": (60.5,), "pAUC": (50.5,)}
    assert table.entry("Two").given == {SCORE: (61.0,)}
    with pytest.raises(KeyError):
        table.entry("Three")


BAD = {
    "an unknown key": ("title: Small", "titel: Small", "titel: Extra inputs are not permitted"),
    "a missing key": ("source: A paper\nyear", "year", "source: Field required, found nothing"),
    "another unit": ("percent", "fraction", "unit: Input should be 'percent', found fraction"),
    "a missing cell": ("pAUC: [50, 55]", "pAUC: [50]", "cells.fan.pAUC: expected 2 figures, one a system, found 1"),
    "an empty cell": ("[50, 55]", "[50, null]", "cells.fan.pAUC.1: Input should be a valid number, found nothing"),
    "a missing row": (", pAUC: [51, 56]", "", "cells.valve: expected AUC (source), pAUC as in the first"),
    "above 100": ("[50, 55]", "[50, 155]", "cells.fan.pAUC.1: Input should be less than or equal to 100, found 155"),
    "below 0": ("[50, 55]", "[-1, 55]", "found -1"),
    "no number": ("[50, 55]", "[50, .nan]", "found nan"),
    "a word": ("[50, 55]", "[50, much]", "found much"),
    "a machine twice": ("  valve:", "  fan:", "fan twice, again in line 11"),
    "a system twice": ("name: Two", "name: One", "systems: expected each system once, found One again"),
    "nobody's figure": (
        "by: authors",
        "by: rumour",
        "systems.0.by: Input should be 'organisers', 'authors' or",
    ),
    "a key of a system": ("source: A paper}", "sorce: A paper}", "systems.0.sorce: Extra inputs"),
    "another year": ("year: 2026", "year: 2025", "expected year and split as the name says"),
    "no year": ("year: 2026", "year: soon", "year: Input should be a valid integer, found soon"),
    "another split": (
        "split: development",
        "split: training",
        "split: Input should be 'development'",
    ),
    "other means": ("pAUC: [50.5", "AUC (all): [50.5", "means: expected AUC (source), pAUC"),
    "no yaml": ("title: Small", "title: [", "expected YAML, found"),
    "a list": (GOOD, "[1, 2]", "file: Input should be a valid dictionary"),
    "nothing": (GOOD, "", "file: Input should be a valid dictionary", "found nothing"),
    "clips": ("score: [null, 61.0]", "clips: {fan: [0, 2]}", "clips.fan.0: Input should be greater than 0, found 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_named(case, tmp_path):
    old, new, *texts = BAD[case]
    assert old in GOOD
    path = tmp_path / "dcase2026_development.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(WheeltapperError) as error:
        published.read_table(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


def test_absent_table(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a published table, found nothing"):
        published.read_table(tmp_path / "dcase2026_development.yaml")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("{name: A, by: authors, source: B, evaluation: 60}", "systems.1.year: Field required, found nothing"),
        ("{year: 2026, name: A, by: authors, source: B}", "systems.1: expected development or evaluation"),
        (
            "{year: 2026, name: A, by: authors, source: B, evaluation: 1000}",
            "systems.1.evaluation: Input should be less than or equal to 100, found 1000",
        ),
        (
            "{year: 2026, name: First, by: authors, source: B, evaluation: 60}",
            "each system once, found First of 2026",
        ),
        ("{year: 2026, name: A, by: authors, evaluation: 60}", "systems.1.source: Field required, found nothing"),
        ("3", "systems.1: Input should be a valid dictionary"),
    ],
)
def test_bad_scores_are_named(row, text, tmp_path):
    path = tmp_path / "scores.yaml"
    first = "  - {year: 2026, name: First, by: authors, source: B, development: 50}"
    path.write_text(f"title: Scores\nunit: percent\nsystems:\n{first}\n  - {row}\n")
    with pytest.raises(WheeltapperError) as error:
        published.read_scores(path)
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)
