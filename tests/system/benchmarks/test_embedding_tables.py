"""Files of embeddings: reading, and errors that name the position."""

import numpy as np
import pytest

from system.benchmarks.embedding_tables import read_labelled, read_machines
from system.errors import WheeltapperError


def labelled(**changes) -> dict[str, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    fields = {
        "embeddings": rows,
        "label": np.array([0, 0, 1, 1, 2, 2]),
        "class_names": np.array(["good", "worn", "broken"]),
        "ori": np.array([f"rec_{i // 2}" for i in range(6)]),
        "file_name": np.array([f"{i}.wav" for i in range(6)]),
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def machines(**changes) -> dict[str, np.ndarray]:
    fields = {
        "embeddings": np.random.default_rng(0).normal(size=(6, 4)),
        "file_name": np.array([f"{i}.wav" for i in range(6)]),
        "machine": np.array(["fan"] * 3 + ["pump"] * 3),
        "subset": np.array(["dev"] * 3 + ["eval"] * 3),
        "split": np.array(["train", "test", "test"] * 2),
        "section": np.array([0, 0, 0, 1, 1, 1]),
        "domain": np.array([0, 1, 0] * 2),
        "anomaly": np.array([0, 0, 1] * 2),
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


@pytest.fixture
def write(tmp_path):
    def save(fields: dict[str, np.ndarray]):
        np.savez(tmp_path / "x.npz", **fields)
        return tmp_path / "x.npz"

    return save


def changed(values: np.ndarray, row: int, value) -> np.ndarray:
    values = values.copy()
    values[row] = value
    return values


def test_what_is_read(write):
    found = read_labelled(write(labelled(group=np.arange(6), split=np.array(["train", "test"] * 3))))
    assert found.embeddings.shape == (6, 4)
    assert found.classes == ["good", "worn", "broken"]
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.group.tolist() == [str(i) for i in range(6)]
    assert found.split[1] == "test"
    assert read_labelled(write(labelled(ori=None))).ori is None
    other = read_labelled(write(labelled(features=np.arange(1.0, 13.0).reshape(6, 2))), "features")
    assert other.embeddings.shape == (6, 2)
    found = read_machines(write(machines()))
    assert found.section.tolist() == ["0", "0", "0", "1", "1", "1"]
    assert found.anomalous.tolist() == [False, False, True] * 2


ROWS = labelled()["embeddings"]
BAD_LABELLED = {
    r"x.npz: expected a field ori, found the fields embeddings, label, class_names, file_name$": {"ori": None},
    r"expected a field embeddings, found the fields label, class_names": {"embeddings": None},
    r"embeddings: expected floats \(N, D\), found float32 \(6, 2, 2\)": {"embeddings": ROWS.reshape(6, 2, 2)},
    r"embeddings: expected floats \(N, D\), found int64 \(6, 4\)": {"embeddings": np.ones((6, 4), np.int64)},
    r"embeddings: expected floats \(N, D\), found float32 \(0, 4\)": {"embeddings": ROWS[:0]},
    r"label: expected one value for each of the 6 rows of embeddings, found \(5,\)": {"label": np.arange(5)},
    r"ori: expected one value for each of the 6 rows of embeddings, found \(6, 1\)": {"ori": np.ones((6, 1))},
    r"NaN or infinity in row 3 \(3.wav\)$": {"embeddings": changed(ROWS, (3, 1), np.nan)},
    r"NaN or infinity in row 0 \(0.wav\), row 1 \(1.wav\), row 2 \(2.wav\) and 3 more": {"embeddings": ROWS * np.inf},
    r"embeddings: expected values other than 0, found only 0 in row 5 \(5.wav\)": {"embeddings": changed(ROWS, 5, 0)},
    r"embeddings: expected rows that differ, found 6 times the same$": {"embeddings": ROWS[[0] * 6]},
    r"file_name: expected each file once, found again 1.wav$": {
        "file_name": changed(labelled()["file_name"], 4, "1.wav")
    },
    r"label: expected 0 to 2, a row of class_names, found 3 in row 2 \(2.wav\)": {
        "label": np.array([0, 0, 3, 1, 2, 2])
    },
    r"label: expected 0 to 2, a row of class_names, found -1 in row 0": {"label": np.array([-1, 0, 1, 1, 2, 2])},
    r"label: expected whole numbers, found <U4": {"label": np.array(["good"] * 6)},
    r"expected rows of every class, found none of worn$": {"label": np.array([0, 0, 0, 2, 2, 2])},
    r"class_names: expected distinct names, found good, worn, good": {
        "class_names": np.array(["good", "worn", "good"])
    },
    r"expected at least 2 classes, found good": {"class_names": np.array(["good"]), "label": np.zeros(6, int)},
    r"split: expected train or test, found valid in row 5 \(5.wav\)": {"split": np.array(["train"] * 5 + ["valid"])},
    r"expected an npz file of plain arrays, found Object arrays": {"ori": np.array([None, "a"] * 3)},
}


@pytest.mark.parametrize("text", BAD_LABELLED)
def test_bad_classes(write, text):
    with pytest.raises(WheeltapperError, match=text):
        read_labelled(write(labelled(**BAD_LABELLED[text])), needed=["ori"])


BAD_MACHINES = {
    r"expected a field domain, found the fields": {"domain": None},
    r"subset: expected dev or eval, found test in row 0 \(0.wav\)": {"subset": np.array(["test"] * 6)},
    r"split: expected train or test, found dev in row 1": {
        "split": np.array(["train", "dev", "test", "train", "test", "test"])
    },
    r"domain: expected 0 or 1, found 2 in row 0": {"domain": np.array([2] * 6)},
    r"domain: expected whole numbers, found float64": {"domain": np.zeros(6)},
    r"anomaly: expected 0 or 1, found -1 in row 2 \(2.wav\)": {"anomaly": np.array([0, 0, -1] * 2)},
    r"expected normal training clips, found an anomalous one: row 3 \(3.wav\)": {
        "anomaly": np.array([0, 0, 1, 1, 0, 1])
    },
    r"NaN or infinity in row 5 \(5.wav\)": {"embeddings": changed(machines()["embeddings"], 5, -np.inf)},
    r"found again 0.wav, 1.wav": {"file_name": np.array(["0.wav", "1.wav", "2.wav", "0.wav", "1.wav", "3.wav"])},
}


@pytest.mark.parametrize("text", BAD_MACHINES)
def test_bad_machines(write, text):
    with pytest.raises(WheeltapperError, match=text):
        read_machines(write(machines(**BAD_MACHINES[text])))


def test_damaged_files(write, tmp_path):
    with pytest.raises(WheeltapperError, match=r"nowhere.npz: expected an npz file with embeddings, found nothing"):
        read_labelled(tmp_path / "nowhere.npz")
    whole = write(labelled())
    for name, content in (
        ("text.npz", b"embeddings,label"),
        ("empty.npz", b""),
        ("half.npz", whole.read_bytes()[:400]),
        ("flipped.npz", whole.read_bytes().replace(ROWS.tobytes(), bytes(ROWS.nbytes))),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WheeltapperError, match=f"{name}: expected an npz file of plain arrays"):
            read_labelled(tmp_path / name)
    np.save(tmp_path / "single.npy", ROWS)
    with pytest.raises(WheeltapperError, match="found a single array"):
        read_labelled(tmp_path / "single.npy")
