"""Tables of samples written by NumPy and by hand, read back and as sound files."""

import numpy as np
import pytest
import soundfile

from system.bin import main
from system.corpora import signal_tables
from system.errors import WheeltapperError

RATE = 12800


@pytest.fixture
def samples() -> np.ndarray:
    """Acceleration (rows, 3), beyond what integers of sound files hold."""
    return np.random.default_rng(0).normal(0, 30, (400, 3)).round(4)


def text(samples: np.ndarray, separator: str, decimal: str = ".") -> str:
    return "\n".join(separator.join(f"{value:.4f}".replace(".", decimal) for value in row) for row in samples) + "\n"


@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), ("   ", ",")]
)
@pytest.mark.parametrize("head", ["", "x|y|z\n", "Recorder 7\n\nunit: m/s²\nax|ay|az\n"])
def test_separators_decimals_and_heads(tmp_path, samples, separator, decimal, head):
    path = tmp_path / "a.csv"
    path.write_text(head.replace("|", separator) + text(samples, separator, decimal), encoding="utf-8")
    np.testing.assert_allclose(signal_tables.read(path), samples.T, atol=1e-4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_ends_of_lines(tmp_path, samples, encoding, newline):
    path = tmp_path / "a.csv"
    content = '"größe";"y";"z";\n' + text(samples, ";", ",").replace("\n", ";\n") + "\n"
    path.write_bytes(content.replace("\n", newline).encode(encoding))
    np.testing.assert_allclose(signal_tables.read(path), samples.T, atol=1e-4)


def test_one_column(tmp_path, samples):
    path = tmp_path / "a.txt"
    path.write_text("acc\n" + text(samples[:, :1], ";", ","))
    np.testing.assert_allclose(signal_tables.read(path), samples[:, :1].T, atol=1e-4)
    path.write_text(text(np.round(samples[:, :1]), ";").replace(".0000", ""))
    np.testing.assert_allclose(signal_tables.read(path), np.round(samples[:, :1]).T)


def test_a_column_of_times_is_no_channel_unless_it_is_asked_for(tmp_path, samples):
    path, times = tmp_path / "a.csv", np.arange(400) / RATE
    np.savetxt(path, np.c_[times, samples], delimiter=",", header="whatever,ax,ay,az", comments="")
    np.testing.assert_allclose(signal_tables.read(path), samples.T, rtol=1e-6)
    np.testing.assert_allclose(signal_tables.read(path, ["1", "az"]), [times, samples[:, 2]], rtol=1e-6)
    np.savetxt(path, np.c_[times.round(3), samples], delimiter=",", header="Time (s),ax,ay,az", comments="")
    np.testing.assert_allclose(signal_tables.read(path), samples.T, rtol=1e-6)
    np.savetxt(path, np.c_[samples, times], delimiter=",")
    assert len(signal_tables.read(path)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a row of numbers within the first 200 lines, found nothing"),
        (b"name,label\na.wav,normal\n", "expected a row of numbers within .* found 'name,label'"),
        (b"x,y\n1,2\n3,on\n", "line 3: expected a number, found 'on'"),
        (b"x,y\n1,2\n\n3\n", "line 4: expected 2 columns, found 1"),
        (b"1,2\n3,4,5\n", "line 2: expected 2 columns, found 3"),
        (b"1,2\n3,nan\n", "line 2: expected a number, found 'nan'|row 2 of the numbers"),
        (b"1,2\n1e999,2\n", "found NaN or infinity in row 2"),
        (b"RIFF\0\0\0\0WAVEfmt ", "expected a table of samples as text"),
        (b"\xff\xfe1", "expected text, found damaged UTF-16"),
        (b"\n" * 300, "within the first 200 lines"),
    ],
)
def test_what_is_no_table_of_samples_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(WheeltapperError, match=rf"a.csv: .*({message})"):
        signal_tables.read(path)


def test_unknown_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n3,5\n")
    for column in ("z", "0", "3"):
        with pytest.raises(WheeltapperError, match=f"a.csv: expected a column of x, y, or 1 to 2, found '{column}'"):
            signal_tables.read(path, [column])


def test_the_command_writes_what_it_can_and_names_the_rest(tmp_path, samples, capsys):
    for name in ("raw/Pump/train/a.csv", "raw/Pump/test/b.TXT"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(samples, ";", ","))
    raw, out = str(tmp_path / "raw"), tmp_path / "out"
    assert main(["convert", raw, str(out), "--rate", str(RATE), "--columns", "3,1"]) == 0
    for name in ("Pump/train/a.wav", "Pump/test/b.wav"):
        wave, rate = soundfile.read(out / name)
        assert rate == RATE
        np.testing.assert_allclose(wave, samples[:, [2, 0]], atol=1e-4)
    (tmp_path / "raw" / "bad.csv").write_text("hello\n")
    (tmp_path / "raw" / "more.csv").write_text("1;2;3\n4;5\n")
    assert main(["convert", raw, str(tmp_path / "again"), "--rate", str(RATE)]) == 1
    told = capsys.readouterr()
    assert told.out.endswith("again: 2 recordings of 12800 Hz, 2 left out\n")
    assert [line.split(": ")[1].rsplit("/", 1)[1] for line in told.err.splitlines()] == ["bad.csv", "more.csv"]
    assert len(list((tmp_path / "again").rglob("*.wav"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --rate HZ, the sampling rate of the tables"),
        (["--rate", "1"], "expected a sampling rate of 10 to 10,000,000 Hz, found 1 Hz"),
        (["--rate", "2147483647"], "found 2,147,483,647 Hz"),
    ],
)
def test_the_rate_is_needed(tmp_path, capsys, options, message):
    (tmp_path / "a.csv").write_text("1\n2\n")
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_tables_of_one_name_and_none(tmp_path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--rate", "100"]) == 1
    assert "expected tables of samples (.csv, .tsv, .txt, .dat), found none" in capsys.readouterr().err
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("1\n2\n")
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--rate", "100"]) == 1
    assert "expected one table for each recording, found several for a.wav" in capsys.readouterr().err


def test_a_folder_of_tables_says_what_makes_recordings_of_them(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("1\n2\n")
    assert main(["prepare", str(tmp_path), "--layout", "files", "--out", str(tmp_path / "m.csv")]) == 1
    assert "found none (but 1 .csv); wheeltapper convert TABLES OUT --rate HZ" in capsys.readouterr().err
