"""What is said of the false alarms of a threshold."""

from dataclasses import replace

import numpy as np
import pytest

from system.config import Config, SystemConfig
from system.experiment import Experiment
from system.false_alarms import expected_false_alarms, false_alarm_text
from system.files import read_json, write_json
from system.pipeline import verdict_table
from system.pipeline.judging import Judged
from system.pipeline.verdicts import Verdict
from system.score_tables import ScoreRow

GROUP = ("Fan", "00")


def references(source: int, target: int = 0, copies: int = 1) -> list[ScoreRow]:
    rows = []
    for domain, count in (("source", source), ("target", target)):
        for number in range(count):
            name = f"{domain}{number}"
            rows += [
                ScoreRow(*GROUP, "train", f"{name}_{c}", domain, float(number), name * (copies > 1))
                for c in range(copies)
            ]
    return rows


@pytest.mark.parametrize("copies", [1, 2])
def test_the_range_of_each_domain(copies):
    found = expected_false_alarms(references(20, 10, copies), {GROUP: 8.5}, 0.1)["Fan_section_00"]
    assert found["asked"] == 0.1
    assert [found["domains"][name]["references"] for name in ("source", "target")] == [20, 10]
    assert found["domains"]["source"]["low"] < 11 / 20 < found["domains"]["source"]["high"]
    assert found["domains"]["target"]["low"] < 1 / 10 < found["domains"]["target"]["high"]
    assert found["remark"] == ""
    assert false_alarm_text(found) == (
        "false alarms expected, where 10 % were asked: 35 to 74 % of source clips (20 references), 1 to 39 % of target "
        "clips (10 references)"
    )


@pytest.mark.parametrize(
    ("source", "target", "remark"),
    [
        (1, 0, "1 reference: a rate below 50 % cannot be promised, and faults may be missed"),
        (3, 0, "3 references: a rate below 25 % cannot be promised, and faults may be missed"),
        (12, 4, "12 source and 4 target references: a rate below 14 % cannot be promised"),
        (9, 0, ""),
    ],
)
def test_what_cannot_be_promised(source, target, remark):
    rows = references(source, target)
    if source + target < 2:
        rows += references(source)  # the same clip again: one reference
        rows = [ScoreRow(*row.key, row.domain, row.score, "one") for row in rows]
    found = expected_false_alarms(rows, {GROUP: np.inf}, 0.1)["Fan_section_00"]
    assert found["remark"] == remark
    assert ("cannot be promised" in false_alarm_text(found)) == bool(remark)


def test_parts_of_one_recording_count_once():
    whole = references(12, 6)
    parts = [replace(row, start=start, window=100) for row in whole for start in range(0, 500, 100)]
    texts = [false_alarm_text(expected_false_alarms(r, {GROUP: 8.5}, 0.1)["Fan_section_00"]) for r in (parts, whole)]
    assert texts[0] == texts[1]
    assert "(12 references)" in texts[0]


def test_score_states_them_for_the_machines_that_it_judged(tmp_path, capsys):
    run = Experiment(tmp_path, Config(systems=[SystemConfig(), SystemConfig()]))
    found: dict = {}
    for group in (GROUP, ("Pump", "01")):
        rows = [replace(row, machine=group[0], section=group[1]) for row in references(20, 3)]
        found |= expected_false_alarms(rows, {group: 18.5}, 0.1)
    write_json(run.system(run.labels[1]) / "false_alarms.json", found)
    rows = [verdict_table.row(Judged(tmp_path / "a.wav", Verdict("a.wav", *GROUP, 1.0, 18.5, 0.0)))]
    verdict_table.write_results(tmp_path / "o.json", rows, run, 2)
    assert read_json(tmp_path / "o.json")["false_alarms"] == {"Fan_section_00": found["Fan_section_00"]}
    verdict_table.show_false_alarms(rows, run, 2)
    assert capsys.readouterr().err == f"note: Fan section 00: {false_alarm_text(found['Fan_section_00'])}\n"
    verdict_table.show_false_alarms(rows, run, 1)  # a run made before
    assert capsys.readouterr().err == ""
