"""Parts of a study: shares, groups, scopes, data of unsupervised models."""

import csv
import random
from collections import Counter

import numpy as np
import pytest
import soundfile

from system import manifest
from system.config import ScopeConfig
from system.errors import WheeltapperError
from system.manifest import Clip
from system.study import data

COUNTS = {("fan", "00", "normal"): 1011, ("fan", "00", "anomaly"): 407, ("fan", "02", "normal"): 31}
COUNTS |= {("fan", "02", "anomaly"): 6, ("pump", "00", "normal"): 20, ("pump", "00", "anomaly"): 9}


def recordings(counts=COUNTS, group=lambda number: "") -> list[Clip]:
    return [
        Clip("mimii", machine, section, "test", f"{label}/{number:08d}.wav", "x.wav", label, group=group(number))
        for (machine, section, label), count in counts.items()
        for number in range(count)
    ]


def shares(clips, parts) -> dict:
    return Counter((clip.machine, clip.section, clip.label, parts[data.name_of(clip)]) for clip in clips)


def test_shares_of_every_machine_section_and_label():
    clips = recordings()
    found = shares(clips, data.split(clips, 1, 0.25, 0.1))
    assert found["fan", "00", "normal", "test"] == 253  # 252.75
    assert found["fan", "00", "normal", "validation"] == 76  # 75.8 of 758
    assert found["fan", "00", "anomaly", "test"] == 102  # 101.75
    assert found["fan", "00", "anomaly", "validation"] == 31  # 30.5 of 305
    assert found["fan", "02", "anomaly", "test"] == 2  # 1.5
    assert found["pump", "00", "anomaly", "test"] == 2  # 2.25
    assert sum(found.values()) == len(clips)


def test_the_split_is_a_function_of_the_seed_alone():
    clips = recordings()
    parts = data.split(clips, 1, 0.25, 0.1)
    shuffled = random.Random(0).sample(clips, len(clips))
    assert data.split(shuffled, 1, 0.25, 0.1) == parts
    assert data.split(clips, 2, 0.25, 0.1) != parts
    # A machine's split does not depend on other machines.
    alone = [clip for clip in clips if (clip.machine, clip.section) == ("fan", "00")]
    assert data.split(alone, 1, 0.25, 0.1).items() <= parts.items()


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_sizes_near_the_shares(seed):
    clips = recordings({("a", "00", "normal"): 300, ("b", "00", "anomaly"): 90}, lambda n: f"flight{n // 3}")
    parts = data.split(clips, seed, 0.25, 0.1, grouped=True)
    sides: dict[str, set[str]] = {}
    for clip in clips:
        sides.setdefault(clip.group, set()).add(parts[data.name_of(clip)])
    assert all(len(found) == 1 for found in sides.values())  # flight0 to flight29 have clips of both machines
    counted = Counter(parts.values())
    assert abs(counted["test"] - 0.25 * 390) <= 6
    assert abs(counted["validation"] - 0.1 * 0.75 * 390) <= 6


def test_without_grouping_groups_are_torn():
    clips = recordings({("a", "00", "normal"): 300}, lambda n: f"flight{n // 3}")
    parts = data.split(clips, 0, 0.25, 0.1)
    sides = Counter((clip.group, parts[data.name_of(clip)]) for clip in clips)
    assert len(sides) > 100


def test_scopes_choose_machines_and_sections():
    clips = recordings()
    chosen = data.choose(clips, {"one": ScopeConfig(["fan"], ["00"]), "all": ScopeConfig(["fan", "pump"])})
    assert {(c.machine, c.section) for c in chosen["one"]} == {("fan", "00")}
    assert len(chosen["all"]) == len(clips)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (ScopeConfig(["fun"]), r"study.scopes.s.machines: expected some of fan, pump, found fun"),
        (ScopeConfig(["fan"], ["06"]), r"study.scopes.s.sections: expected some of 00, 02, found 06"),
    ],
)
def test_scopes_of_what_is_not_there(scope, expected):
    with pytest.raises(WheeltapperError, match=expected):
        data.choose(recordings(), {"s": scope})


def test_a_scope_of_one_label():
    clips = recordings({("fan", "00", "normal"): 20})
    with pytest.raises(WheeltapperError, match="scope s: expected normal and anomalous recordings, found only normal"):
        data.choose(clips, {"s": ScopeConfig(["fan"])})


def test_too_few_anomalies_for_the_split():
    clips = recordings({("fan", "00", "normal"): 20, ("fan", "00", "anomaly"): 1})
    rows = data.split_rows(clips, data.split(clips, 1, 0.25, 0.1))
    with pytest.raises(
        WheeltapperError, match="scope s: expected at least 1 anomaly recordings for test, found 0 of 1"
    ):
        data.check_split(rows, "s")


def test_unsupervised_models_see_normal_training_clips_only():
    clips = recordings()
    rows = data.split_rows(clips, data.split(clips, 1, 0.25, 0.1))
    own = data.references(rows)
    assert {(row.label, row.part) for row, kept in zip(rows, own, strict=True) if kept} == {("normal", "train")}
    assert own.sum() == sum(row.label == "normal" and row.part == "train" for row in rows)
    for other in ({"label": "anomaly", "part": "train"}, {"label": "normal", "part": "test"}):
        row = data.SplitRow(**({"name": "n", "machine": "", "section": "", "file": "", "group": ""} | other))
        with pytest.raises(WheeltapperError, match="n: expected a normal clip to train on"):
            data.check_normal([row])


def test_a_split_is_read_as_it_was_written(tmp_path):
    clips = recordings({("fan", "00", "normal"): 8, ("fan", "00", "anomaly"): 4}, lambda n: f"g,{n}")
    rows = data.split_rows(clips, data.split(clips, 1, 0.25, 0.1))
    data.write_split(tmp_path / "split.csv", rows)
    assert data.read_split(tmp_path / "split.csv") == rows
    (tmp_path / "split.csv").write_text("name,part\nx,test\n")
    with pytest.raises(WheeltapperError, match=r"split.csv: expected a split"):
        data.read_split(tmp_path / "split.csv")


def test_recordings_of_a_table(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.full((800, 2), 0.1), 8000)
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine", "label", "domain", "group"])
        writer.writerows([["a.wav", "cw", "normal", "source", "g"], ["b.wav", "cw", "anomaly", "source", ""]])
    first, second = data.read_recordings(tmp_path / "table.csv")
    assert (first.machine, first.label, first.group, first.samples, first.channels) == ("cw", "normal", "g", 800, 2)
    assert data.name_of(second) == "cw/00/train/b.wav"
    wave = np.full((800, 2), 0.1, np.float32)
    wave[5, 1] = np.nan
    soundfile.write(tmp_path / "b.wav", wave, 8000, subtype="FLOAT")
    with pytest.raises(WheeltapperError, match=r"b.wav: expected finite samples, found 1"):
        data.read_recordings(tmp_path / "table.csv")


def test_recordings_of_a_manifest_without_labels_or_supplemental_are_left_out(tmp_path):
    kept = Clip("c", "fan", "00", "train", "a.wav", "a.wav", "normal", channels=1, rate=8000, samples=9)
    others = [
        Clip("c", "fan", "00", "test", "b.wav", "b.wav", "", channels=1, rate=8000, samples=9),
        Clip("c", "fan", "00", "supplemental", "c.wav", "c.wav", "normal", channels=1, rate=8000, samples=9),
    ]
    manifest.write(tmp_path / "manifest.csv", [kept, *others])
    assert [clip.file for clip in data.read_recordings(tmp_path / "manifest.csv")] == ["a.wav"]
    manifest.write(tmp_path / "manifest.csv", others)
    with pytest.raises(WheeltapperError, match="expected recordings labelled normal or anomaly, found none"):
        data.read_recordings(tmp_path / "manifest.csv")
