"""Inputs as they are met in practice: ``python tools/real_input_matrix.py`` tries all of them, the tests some."""

import csv
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.append(str(TOOLS))

import real_input_matrix  # noqa: E402
from real_inputs import all_cases  # noqa: E402
from real_inputs.bases import Bases  # noqa: E402
from real_inputs.case import CASES, Case, Failed, Outcome, attempt, case, expect  # noqa: E402

SAMPLE = (
    "1 length/healthy, 1 times the references' length",
    "2 faults within long recordings/setting data.hop=0 is refused",
    "3 sampling rate/healthy at 8000 Hz, which lacks band",
    "3 sampling rate/the kernel is flat: 44.1 to 16 kHz",
    "4 duplicates/different recordings are not called duplicates",
    "5 few references/3 references: what cannot be promised is said",
    "6 broken sensors/not broken: inverted",
    "6 broken sensors/offset of 0.4",
    "7 tables/columns that options name are known",
    "8 names/a good machine of a manifest: pump-1",
    "9 to the end/links: the folder of all",
    "10 partial recordings/no test clips: reference systems",
    "11 moved runs/a copied run of spectra",
    "12 links/an experiment behind a link",
    "12 names and files/a recording to judge: other writing",
    "13 training in parts/a batch that cannot be parted is refused",
    "14 headers/coding 24 bits",
    "14 headers/data size 0xffffffff in a file that goes on",
    "15 formats/a folder with .flac to be judged",
    "16 checkpoints/model: the same embeddings",
    "16 checkpoints/an optimiser alone: refused by name",
    "17 packages/nothing is wrong with a good one",
    "17 numbers in a package/a score: a decimal comma",
    "18 systems that coincide/weights in the same proportion",
)
FOUND = {str(one): one for one in all_cases()}


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Bases:
    """Runs that the cases share."""
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(name, bases):
    outcome = attempt(FOUND[name], bases)
    assert not outcome.problem


def test_the_matrix_is_large_enough_and_covers_every_kind():
    assert len(FOUND) == len(CASES) >= 120
    assert {int(name.split()[0]) for name in FOUND} == set(range(1, 19))


def tried(function, bases) -> Outcome:
    return attempt(Case("kind", "name", function), bases)


def test_failures_are_told(bases):
    def fails(place):
        (place / "file").write_text("x")
        expect(False, "a bird", "a\nfish")

    def breaks(place):
        raise ValueError("no")

    assert tried(fails, bases).problem == "expected a bird; found a fish"
    assert tried(breaks, bases).problem.startswith("expected no exception; found ValueError: no (test_real_input")
    assert not tried(lambda place: (place / "file").write_text("x"), bases).problem
    assert not list(bases.folder.glob("case*"))


def test_shared_runs_are_made_once_and_fail_for_all(bases):
    made = []

    def make(folder):
        made.append(folder)
        raise Failed("broken")

    for _ in range(2):
        with pytest.raises(Failed, match="broken"):
            bases.once("broken", make)
    assert len(made) == 1


def test_cases_of_values_have_names(monkeypatch):
    monkeypatch.setattr("real_inputs.case.CASES", found := [])
    case("kind", "value {}", {"one": 1, "two": 2})(lambda place, value: expect(value == 1, "1", value))
    assert [str(one) for one in found] == ["kind/value one", "kind/value two"]


def test_command_line(tmp_path, monkeypatch, capsys):
    good, bad = (Case("3 kind", name, lambda place, bad=bad: expect(not bad, "x", "y")) for name, bad in CHOSEN)
    monkeypatch.setattr("real_inputs.all_cases", lambda: [good, bad])
    assert real_input_matrix.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["3 kind/good", "3 kind/bad"]
    assert real_input_matrix.main(["--work", str(tmp_path), "--only", "GOOD", "--keep"]) == 0
    (kept,) = tmp_path.glob("case*/case.txt")
    assert kept.read_text() == "3 kind/good\n"
    assert real_input_matrix.main(["--work", str(tmp_path), "--csv", str(tmp_path / "r.csv")]) == 1
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["case"], row["result"]) for row in rows] == [
        ("3 kind", "good", "ok"),
        ("3 kind", "bad", "failed"),
    ]
    assert rows[1]["problem"] == "expected x; found y"
    assert "real inputs: 2 tried, 1 failures" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        real_input_matrix.main(["--only", "nothing of the kind"])


CHOSEN = (("good", False), ("bad", True))
