import importlib.util
from pathlib import Path

import numpy as np
import pytest
from emulate_inputs import HEADER, write_table, write_wave
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from system.corpora.splits import TableRecording, read_table, split_machine
from system.errors import WheeltapperError

groups = st.lists(
    st.tuples(
        st.sampled_from("abcdefghij"),
        st.sampled_from(["normal", "normal", "anomaly"]),
        st.sampled_from(["source", "target"]),
    ),
    max_size=40,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(groups, st.integers(0, 5), st.integers(0, 6), st.one_of(st.none(), st.integers(1, 5)))
def test_split_properties(rows, seed, train_target, test):
    rows = [*rows, ("clean1", "normal", "source"), ("clean2", "normal", "source")]
    recordings = [
        TableRecording(str(k), Path(str(k)), "m", label, domain, group) for k, (group, label, domain) in enumerate(rows)
    ]
    split = split_machine(recordings, seed, 990, train_target, test)
    assert split.train
    assert {it.label for it in split.train} == {"normal"}
    assert not {it.group for it in split.train} & {it.group for it in split.test}
    everything = [*split.train, *split.test, *(it for it, _ in split.left_out)]
    assert sorted(it.file for it in everything) == sorted(it.file for it in recordings)
    assert sum(it.domain == "target" for it in split.train) <= train_target
    cells = [(it.domain, it.label) for it in split.test]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    if test is None:
        assert len(set(sizes.values())) <= 1, "balanced"
    else:
        assert all(size <= test for size in sizes.values())
    assert split == split_machine(recordings[::-1], seed, 990, train_target, test), "order of rows must not matter"


def test_normals_of_a_group_with_an_anomaly_never_train():
    rows = [("spoilt", "normal"), ("spoilt", "anomaly"), ("a", "normal"), ("b", "normal"), ("c", "normal")]
    recordings = [
        TableRecording(str(k), Path(str(k)), "m", label, "source", group) for k, (group, label) in enumerate(rows)
    ]
    for seed in range(10):
        split = split_machine(recordings, seed, 990, 10, None)
        assert "spoilt" not in {it.group for it in split.train}


def test_table_with_its_own_folder_and_absolute_paths_and_no_groups(tmp_path):
    write_wave(tmp_path / "x.wav", np.ones(10))
    rows = [("x.wav", "saw", "normal", "source", ""), (str(tmp_path / "x.wav"), "axe", "anomaly", "target", "g")]
    first, second = read_table(write_table(tmp_path / "t.csv", rows, header=HEADER[:5]))
    assert first.path == second.path
    assert (first.group, second.group) == ("file x.wav", "g")
    assert (first.attributes, first.fault) == ("", "")


def load_recipe():
    path = Path(__file__).resolve().parents[3] / "recipes" / "propeller" / "local" / "make_table.py"
    spec = importlib.util.spec_from_file_location("make_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_propeller_table(tmp_path):
    module = load_recipe()
    columns = ["file", "label", "n_broken", "propellers", "direction", "mission", "recording"]
    rows = [
        ["normal/a.flac", "normal", 0, "0000", "cw", "square", 4],
        ["normal/b.flac", "normal", 0, "0000", "cw", "square", 4],
        ["anomaly/c.flac", "anomaly", 2, "0110", "ccw", "f8", 1],
        ["anomaly/d.flac", "anomaly", 3, "0111", "ccw", "f8", 1],
    ]
    for row in rows:
        write_wave(tmp_path / row[0], np.ones(10))
    made = module.table_rows(write_table(tmp_path / "manifest.csv", rows, header=columns))
    module.write_rows(tmp_path / "table.csv", module.COLUMNS, made)
    first, second, third = read_table(tmp_path / "table.csv")
    assert (first.machine, first.label, first.domain, first.fault) == ("cw", "normal", "source", "")
    assert (third.machine, third.label, third.domain, third.fault) == ("ccw", "anomaly", "target", "broken2")
    assert first.group == second.group != third.group
    with pytest.raises(WheeltapperError, match="missing mission"):
        module.table_rows(write_table(tmp_path / "m.csv", [], header=columns[:5]))
    rows[0][5] = "hover"
    strange = write_table(tmp_path / "m.csv", rows, header=columns)
    with pytest.raises(WheeltapperError, match="expected square or f8, found 'hover'"):
        module.table_rows(strange)
