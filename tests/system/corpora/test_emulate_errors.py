import re
from dataclasses import replace

import numpy as np
import pytest
from emulate_inputs import HEADER, QUICK, RATE, make_inputs, rows_of, write_table, write_wave

from system.corpora.simulation.emulate import emulate
from system.errors import WheeltapperError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def expect(message, table, noise, out, settings=QUICK):
    with pytest.raises(WheeltapperError, match=message) as caught:
        emulate(table, noise, out, settings)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("file", "gone.wav", r"line 2: file: expected a recording, found no file 'gone\.wav'"),
        ("label", "broken", r"line 2: label: expected normal or anomaly, found 'broken'"),
        ("domain", "", r"line 2: domain: expected source or target, found ''"),
        ("machine", "big saw", r"line 2: machine: expected letters, digits and hyphens, found 'big saw'"),
        ("attributes", "spd", r"line 2: attributes: expected key_value pairs, found 'spd'"),
        ("attributes", "spd__2_x", r"line 2: attributes: expected key_value pairs"),
    ],
)
def test_bad_table_cells_are_named(inputs, tmp_path, column, value, message):
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    rows[0][HEADER.index(column)] = value
    expect(message, write_table(tmp_path / "table.csv", rows), inputs[1], tmp_path / "data")


def test_bad_tables_are_named(inputs, tmp_path):
    rows = [[str(inputs[0].parent / row["file"]), row["machine"], row["label"]] for row in rows_of(inputs[0])]
    table = write_table(tmp_path / "table.csv", rows, header=HEADER[:3])
    expect(r"line 1: expected the columns .* \(missing: domain, group\)", table, inputs[1], tmp_path / "data")
    expect(r"expected a table of recordings, found nothing", tmp_path / "no.csv", inputs[1], tmp_path / "data")
    expect(r"at least one recording, found none", write_table(tmp_path / "e.csv", []), inputs[1], tmp_path / "data")
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    twice = write_table(tmp_path / "twice.csv", [*rows, rows[3]])
    expect(r"twice for saw", twice, inputs[1], tmp_path / "data")
    normal = write_table(tmp_path / "normal.csv", [row for row in rows if row[2] == "normal"])
    expect(r"saw: expected at least one anomaly", normal, inputs[1], tmp_path / "data")
    one = write_table(tmp_path / "one.csv", [[*row[:4], "g" + row[2], *row[5:]] for row in rows])
    expect(r"saw: expected at least 2 groups of normal source", one, inputs[1], tmp_path / "data")


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(RATE), "expected a machine's sound in the first channel, found silence"),
        (np.full(RATE, np.nan), "expected finite samples, found 8000 that are NaN"),
        (0.1 * np.ones(100), "expected at least 0.5 s of sound, found 0.013 s"),
    ],
)
def test_bad_recordings_are_named(inputs, tmp_path, wave, message):
    write_wave(tmp_path / "bad.wav", wave, subtype="FLOAT")
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    rows[0][0] = "bad.wav"
    table = write_table(tmp_path / "table.csv", rows)
    expect(rf"bad\.wav: {re.escape(message)}", table, inputs[1], tmp_path / "data")


def test_bad_noise_is_named(inputs, tmp_path):
    table, noise = inputs
    expect(r"expected a folder of noise recordings, found no folder", table, tmp_path / "no", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    expect(r"expected noise recordings \(wav, flac or ogg\), found none", table, tmp_path / "empty", tmp_path / "data")
    few = replace(QUICK, sources=5)
    expect(r"at least 10 different noise recordings .* found 9", table, noise, tmp_path / "data", few)
    expect(
        r"noise_group: expected a regular expression", table, noise, tmp_path / "data", replace(QUICK, noise_group="(")
    )
    expect(r"noise_group: expected 'x' to match", table, noise, tmp_path / "data", replace(QUICK, noise_group="x"))
    for k in range(6):
        (tmp_path / "empty" / f"{k}.wav").write_bytes(b"RIFF")
    expect(r"\d\.wav: expected a readable", table, tmp_path / "empty", tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_low": 0.0, "snr_high": -5.0}, "snr_high: expected 0 to 60, found -5"),
        ({"snr_low": float("nan")}, "snr_low: expected"),
        ({"rt60": 9.0}, "rt60: expected"),
        ({"sources": 0}, "sources: expected"),
        ({"test": 0}, "test: expected"),
        ({"far_metres": (3.0, 2.0)}, "far_metres: expected"),
        ({"anonymous": ("lathe",)}, "anonymous: expected some of saw, drill, found 'lathe'"),
    ],
)
def test_bad_settings_are_named(inputs, tmp_path, change, message):
    expect(f"^{message}", *inputs, tmp_path / "data", replace(QUICK, **change))


def test_folders_inside_one_another_and_foreign_ones_are_refused(inputs, tmp_path):
    with pytest.raises(WheeltapperError, match="one inside the other"):
        emulate(*inputs, inputs[1] / "data", QUICK)
    with pytest.raises(WheeltapperError, match="one inside the other"):
        emulate(*inputs, tmp_path / "data", QUICK, references=tmp_path / "data" / "clean")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(WheeltapperError, match=r"expected an empty folder or one with emulate\.json"):
        emulate(*inputs, tmp_path / "mine", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
