"""What is said of the false alarms of a threshold."""

import numpy as np
import pytest

from system.false_alarms import expected_false_alarms, false_alarm_text
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
        (1, 0, "1 reference: a rate below 50 % cannot be promised"),
        (3, 0, "3 references: a rate below 25 % cannot be promised"),
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
