"""Our results as columns, and what may stand beside what."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean

import pytest

from system import manifest
from system.corpora.challenge import load_year
from system.errors import WheeltapperError
from system.leaderboard import comparison, our_results, published, writers
from system.leaderboard.comparison import MEASURES, NOT_COMPARABLE
from system.leaderboard.published import DEVELOPMENT, EVALUATION, Published, measured
from system.leaderboard.table import MEASURE_MEANS, SCORE, Cell, Entry, PublishedSource, Table
from system.manifest import Clip

DEV, EVAL = tuple(load_year(2026).dev), tuple(load_year(2026).eval)


def system(machines, source=0.6, target=0.5, partial=0.55) -> dict:
    values = dict(zip(MEASURES, (source, target, partial), strict=True))
    score = harmonic_mean(list(values.values()))
    return {"official_score": score, "per_machine": {machine: dict(values) for machine in machines}}


def text(runs) -> str:
    return str(Cell(tuple(runs), True, "as-coded"))


def means(entry, machines, measures=MEASURES) -> dict[str, tuple[float, ...]]:
    return entry.means(measured(dict.fromkeys(machines, measures)), MEASURE_MEANS)


@pytest.fixture
def run(tmp_path):
    """Writes the metrics of a run with these systems and returns the path."""

    def write(name="run", year=2026, evaluation=None, **systems) -> Path:
        path = tmp_path / name / "metrics.json"
        path.parent.mkdir(parents=True)
        labels = {f"Me_There_{label}": values for label, values in systems.items()}
        path.write_text(json.dumps({"year": year, "systems": labels, "evaluation": evaluation or {}}))
        return path

    return write


@pytest.fixture
def study(tmp_path):
    """Writes the results of a study and returns the path."""

    def write(name, areas, clips) -> Path:
        path = tmp_path / name / "results.json"
        path.parent.mkdir(parents=True)
        counts = {"train": {"normal": clips[0] - 1, "anomaly": clips[1] - 1}, "test": {"normal": 1, "anomaly": 1}}
        scopes = {
            scope: {"clips": counts, "results": [{"row": row, "auc": auc} for row, auc in rows.items()]}
            for scope, rows in areas.items()
        }
        path.write_text(json.dumps({"format": 1, "seed": 0, "scopes": scopes}))
        return path

    return write


def test_seeds_give_mean_and_deviation(run):
    paths = [run(f"seed{n}", task2_1=system(DEV, source)) for n, source in enumerate((0.60, 0.62, 0.67))]
    (column,) = our_results.read_metrics("mine", paths, 2026)
    assert column.name == "mine"
    assert column.figures["fan", "AUC (source)"] == pytest.approx((60.0, 62.0, 67.0))
    # Mean 63, squared deviations 9, 1 and 16 over two: 3.6056.
    assert text(column.figures["fan", "AUC (source)"]) == "63.00 ± 3.61"
    assert text(column.figures["fan", "pAUC"]) == "55.00 ± 0.00"
    assert means(column, DEV)["pAUC"] == pytest.approx((55.0,) * 3)
    expected = [100 * harmonic_mean([source, 0.5, 0.55]) for source in (0.60, 0.62, 0.67)]
    assert means(column, DEV)[SCORE] == pytest.approx(expected)
    assert means(column, ("fan",))[SCORE] == pytest.approx(expected)
    assert means(column, ("fan", "pump")) == {}
    assert text(()) == ""
    assert text((61.234,)) == "61.23"


def test_systems_and_parts_become_columns(run):
    path = run(task2_1=system(DEV), task2_3=system(DEV, 0.7), evaluation={"Me_There_task2_1": system(EVAL)})
    columns = our_results.read_metrics("mine", [path], 2026)
    assert [(column.name, column.groups) for column in columns] == [
        ("mine task2_1", DEV),
        ("mine task2_3", DEV),
        ("mine", EVAL),
    ]
    assert [comparison.official_split(2026, column) for column in columns] == [DEVELOPMENT, DEVELOPMENT, EVALUATION]


def test_one_system_of_a_folder_of_scores(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"year": 2026, **system(EVAL)}))
    (column,) = our_results.read_metrics("own", [path], 2026)
    assert (column.name, column.groups) == ("own", EVAL)


def test_score_of_the_run_stands_for_all_its_machines(run):
    values = system(DEV) | {"official_score": 0.5432}  # as where a machine has sections of its own
    (column,) = our_results.read_metrics("mine", [run(task2_1=values)], 2026)
    assert means(column, DEV)[SCORE] == pytest.approx((54.32,))
    assert means(column, DEV[:2])[SCORE] != pytest.approx((54.32,))


def test_blocks_never_mix_foreign_machines(run):
    paths = {
        "whole": run("whole", task2_1=system(DEV)),
        "part": run("part", task2_1=system(("ToyCar", "fan"))),
        "mixed": run("mixed", task2_1=system(("fan", "pump"))),
        "props": run("props", task2_1=system(("cw", "ccw")), evaluation={"Me_There_task2_1": system(EVAL[:4])}),
    }
    own = [column for name, path in paths.items() for column in our_results.read_metrics(name, [path], 2026)]
    found = comparison.compare("dcase2026", own)
    shown = {block.title: [column.name for column in block.entries if column.own] for block in found}
    assert shown == {
        "Development machines of 2026": ["whole", "part"],
        "On fan and ToyCar alone": ["whole", "part"],
        "Evaluation machines of 2026": ["props"],
        "On 4 machines, ToothBrush to Sander alone": ["props"],
        "Other recordings: fan and pump": ["mixed"],
        "Other recordings: cw and ccw": ["props"],
    }
    for block in found:
        others = [column for column in block.entries if not column.own]
        assert bool(others) == (block.lead != NOT_COMPARABLE)
        for column in others:
            assert set(block.groups) <= set(column.groups)
        if not others:
            assert all(set(column.groups) == set(block.groups) for column in block.entries)
    dev, part, *_, mixed, props = found
    assert dev.groups == published.find("dcase2026", DEVELOPMENT).groups
    assert part.groups == ("fan", "ToyCar")
    assert (set(mixed.groups), set(props.groups)) == ({"fan", "pump"}, {"cw", "ccw"})
    expected = harmonic_mean([61.45, 46.94, 53.33, 75.62, 37.87, 54.03])
    assert part.means[0][SCORE] == pytest.approx((expected,))  # not the printed 56.66
    assert dev.means[-1] == {}


@pytest.mark.parametrize(("count", "year", "beside_them"), [(200, 2026, True), (12, 2026, False), (200, 2025, False)])
def test_names_alone_are_not_enough(run, count, year, beside_them):
    path = run(year=year, task2_1=system(("fan",)))
    clip = Clip("mine", "fan", "00", "test", "", "a.wav", "normal", "source", "", "", 1, 16000, 16000)
    rows = [replace(clip, file=f"section_00_{n:04d}.wav") for n in range(count)]
    manifest.write(path.parent / "manifest.csv", rows)
    (column,) = our_results.read_metrics("mine", [path], 2026)
    assert (comparison.official_split(2026, column) == DEVELOPMENT) == beside_them
    titles = [block.title for block in comparison.compare("dcase2026", [column]) if column in block.entries]
    assert ("Other recordings" in titles) != beside_them


def test_development_machines_without_a_table_stand_by_themselves(run):
    year = load_year(2024)
    path = run(year=2024, task2_1=system(year.dev), evaluation={"Me_There_task2_1": system(year.eval)})
    own = our_results.read_metrics("mine", [path], 2024)
    dev, evaluation = comparison.compare("dcase2024", own)
    assert [column.name for column in dev.entries] == ["mine"]
    assert dev.lead != NOT_COMPARABLE
    assert [column.name for column in evaluation.entries] == [*published.BASELINES, "mine"]


def test_standings_hold_whole_results_only(run):
    whole = run(
        "whole", task2_1=system(DEV, 0.8, 0.8, 0.8), evaluation={"Me_There_task2_1": system(EVAL, 0.65, 0.65, 0.65)}
    )
    part = run("part", task2_1=system(DEV[:3]))
    own = [c for name, path in (("whole", whole), ("part", part)) for c in our_results.read_metrics(name, [path], 2026)]
    found = comparison.standings(2026, own)
    names = [standing.name for standing in found.entries]
    assert "part" not in names
    mine = found.entries[names.index("whole")]
    assert mine.own
    assert mine.figures == {("", DEVELOPMENT): pytest.approx((80.0,)), ("", EVALUATION): pytest.approx((65.0,))}
    assert names.index("second place") < names.index("whole") < names.index("reproduction, near channel")
    evaluation = [cell.mean for cell in found.cells[0]]
    evaluated = [score for score in evaluation if score is not None]
    assert evaluated == sorted(evaluated, reverse=True)
    assert evaluation[: len(evaluated)] == evaluated
    assert "Wang and Liu 2026, task2_1" in names


SMALL = Published(
    "Small",
    "",
    measured(dict.fromkeys(("fan", "valve"), ("AUC (source)", "pAUC"))),
    (
        Entry(
            "One | two",
            dict(
                zip(
                    [(m, n) for m in ("fan", "valve") for n in ("AUC (source)", "pAUC")],
                    [(60.0,), (50.0,), (40.0,), (75.0,)],
                    strict=True,
                )
            ),
            {SCORE: (53.34,)},
            PublishedSource("A paper", by="authors"),
        ),
    ),
    MEASURE_MEANS,
    source="A paper, Table 9",
    year=2026,
    split=DEVELOPMENT,
)


def test_markdown_by_hand():
    """Harmonic means: 48 of 60 and 40, 60 of 50 and 75, 53.33 of the four; the official score as printed."""
    figures = {("fan", "AUC (source)"): (61.0, 63.0), ("fan", "pAUC"): (50.0, 50.0)}
    figures |= {("valve", name): runs for (_, name), runs in figures.items()}
    own = Entry("mine", figures, {SCORE: (54.95, 55.75)})
    lone = Entry("lone", {("fan", "AUC (source)"): (70.0,), ("fan", "pAUC"): (60.0,)})
    first = comparison.beside(SMALL, [own, lone])[0]
    assert writers.markdown([first]) == (
        "## Development machines of 2026\n\n"
        "A paper, Table 9, and our systems at the right.\n\n"
        "| Machine | Metric | One \\| two | mine | lone |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| fan | AUC(source) | 60.00 | 62.00 ± 1.41 | 70.00 |\n"
        "|  | pAUC | 50.00 | 50.00 ± 0.00 | 60.00 |\n"
        "| valve | AUC(source) | 40.00 | 62.00 ± 1.41 | - |\n"
        "|  | pAUC | 75.00 | 50.00 ± 0.00 | - |\n"
        "| All (hmean) | AUC(source) | 48.00 | 62.00 ± 1.41 | - |\n"
        "|  | pAUC | 60.00 | 50.00 ± 0.00 | - |\n"
        "| Official score | hmean of all | 53.34 | 55.35 ± 0.57 | - |\n"
    )


def test_csv_has_a_line_a_figure(tmp_path):
    own = Entry("mine", {("fan", "AUC (source)"): (61.0, 63.0), ("fan", "pAUC"): (50.0, 50.0)})
    found = comparison.beside(SMALL, [own])
    path = tmp_path / "table.csv"
    writers.write_figures(path, found)
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == (4 + 2) + 3 + 2 * (2 + 3)  # the whole table, then the machine that ours has
    mine = [line for line in lines if line["system"] == "mine"]
    assert (mine[0]["machine"], mine[0]["measure"], mine[0]["origin"]) == ("fan", "AUC (source)", "measured")
    assert (mine[0]["percent"], mine[0]["deviation"], mine[0]["runs"]) == ("62.0000", "1.4142", "2")
    assert {line["percent"] for line in lines if line["measure"] == SCORE and line["origin"] == "published"} == {
        "53.3400",
        "54.5455",
    }


def test_studies_stand_below_what_they_copy(study):
    areas = {"fan_00": {"AST - LOF": 0.8, "Autoencoder": 0.7, "AST - LOF, factor": 0.9}}
    paths = [study("a", areas, (1011, 407)), study("b", {"fan_00": areas["fan_00"] | {"AST - LOF": 0.9}}, (1011, 407))]
    foreign = study("props", {"cw": {"AST - LOF": 1.0}}, (96, 32))
    few = study("few", {"fan_00": {"AST - LOF": 1.0}}, (100, 40))
    own = our_results.read_study("mine", paths)
    own += our_results.read_study("props", [foreign]) + our_results.read_study("few", [few])
    whole, alone, *others = comparison.compare("mimii", own)
    assert [column.name for column in whole.entries] == [
        *("Autoencoder", "mine Autoencoder", "CNN - supervised", "AST - supervised", "CNN - LOF"),
        *("AST - LOF", "mine AST - LOF", "mine AST - LOF, factor"),
    ]
    assert alone.groups == ("fan_00",)
    assert [[column.name for column in block.entries] for block in others] == [["props AST - LOF"], ["few AST - LOF"]]
    assert {block.lead for block in others} == {NOT_COMPARABLE}
    text = writers.markdown([alone])
    assert "| AUC | fan_00 |\n| --- | ---: |\n| Autoencoder | 77.70 |\n| mine Autoencoder | 70.00 ± 0.00 |\n" in text
    assert "| mine AST - LOF | 85.00 ± 7.07 |" in text
    assert "hmean" not in text


def write(path: Path, value) -> Path:
    path.write_text(json.dumps(value))
    return path


BAD = [
    ([1], "expected the metrics of a run, an object with a year, found another shape"),
    ({"systems": {}}, "expected the metrics of a run"),
    ({"year": 2020, "systems": {}}, "year: expected one that measures AUC (source), AUC (target), pAUC, found 2020"),
    ({"year": 2026}, "expected the official score of a system, found none"),
    ({"year": 2026, "systems": [1]}, "systems: expected an object, found [1]"),
    ({"year": 2026, "systems": {"a": None}}, "systems: a: expected an object, found nothing"),
    ({"year": 2026, "systems": {"a": {"official_score": 61}}}, "systems: a: official_score: expected a fraction"),
    ({"year": 2026, "systems": {"a": {"official_score": 0.6, "per_machine": {}}}}, "a: per_machine: expected machines"),
    (
        {"year": 2026, "systems": {"a": system(["fan"], partial=float("nan")) | {"official_score": 0.5}}},
        "systems: a: fan: pAUC: expected a fraction, 0 to 1, found nan",
    ),
    ({"year": 2026, "systems": {"a": system(["fan"]) | {"per_machine": {"fan": {}}}}}, "AUC (source): expected a frac"),
]


@pytest.mark.parametrize(("value", "text"), BAD, ids=range(len(BAD)))
def test_bad_metrics_are_named(value, text, tmp_path):
    path = write(tmp_path / "metrics.json", value)
    with pytest.raises(WheeltapperError) as error:
        our_results.read_metrics("mine", [path], 2026)
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "scopes: expected an object, found nothing"),
        ({"scopes": {}}, "scopes: expected results, found none"),
        ({"scopes": {"fan_00": {"results": []}}}, "fan_00: expected clips and results, found damage"),
        (
            {"scopes": {"fan_00": {"clips": {}, "results": [{"row": "A", "auc": 77.0}]}}},
            "fan_00: A: auc: expected a fraction",
        ),
    ],
)
def test_bad_studies_are_named(value, text, tmp_path):
    path = write(tmp_path / "results.json", value)
    with pytest.raises(WheeltapperError) as error:
        our_results.read_study("mine", [path])
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)


def test_runs_of_one_name_are_alike(run, study):
    one, two = run("one", task2_1=system(DEV)), run("two", task2_1=system(DEV[:6]))
    for paths, text in (([one, two], f"{two}: expected the systems and machines of {one}"), ([one, one], "2 times")):
        with pytest.raises(WheeltapperError) as error:
            our_results.read_metrics("mine", paths, 2026)
        assert text in str(error.value)
    paths = [study("a", {"cw": {"AST - LOF": 0.8}}, (9, 9)), study("b", {"cw": {"CNN - LOF": 0.8}}, (9, 9))]
    with pytest.raises(WheeltapperError, match="expected the models and scopes of"):
        our_results.read_study("mine", paths)


def test_a_table_of_one_measure_is_printed_by_system():
    assert Table("t", "l", measured({"cw": ["AUC"]}), ()).by_entry
    assert not Table("t", "l", measured({"cw": MEASURES}), ()).by_entry
