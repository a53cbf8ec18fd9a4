"""MATLAB files of both kinds give the arrays that were written."""

import numpy as np
import pytest
from faults_files import put_mat, put_mat73

from system.corpora.faults.mat import open_mat
from system.errors import WheeltapperError

MATRIX = np.arange(12.0).reshape(4, 3)  # [rows, columns] in MATLAB


@pytest.mark.parametrize("put", [put_mat, put_mat73])
def test_both_versions(tmp_path, put):
    path = put(tmp_path / "x.mat", Many=MATRIX, Down=MATRIX[:, :1], Along=MATRIX[:, :1].T, Whole=MATRIX.astype("i2"))
    with open_mat(path) as mat:
        assert sorted(mat.names) == ["Along", "Down", "Many", "Whole"]
        columns = mat.columns(3, "Many")
        assert [len(column) for column in columns] == [4, 4, 4]
        assert [column[1:3].tolist() for column in columns] == [[3, 6], [4, 7], [5, 8]]
        assert mat.columns(3, "Whole")[2][:].tolist() == [2, 5, 8, 11]
        for name in ("Down", "Along"):
            assert len(mat.vector(name)) == 4
            assert mat.vector(name)[0:2].tolist() == [0, 3]
        with pytest.raises(WheeltapperError, match=r"x\.mat: Many: expected 4 columns, found 4 x 3"):
            mat.columns(4, "Many")
        with pytest.raises(WheeltapperError, match=r"x\.mat: Many: expected one row or column, found 4 x 3"):
            mat.vector("Many")
        with pytest.raises(WheeltapperError, match=r"x\.mat: expected Signal\.y, found Many|expected Signal\.y, found"):
            mat.vector("Signal", "y")


def test_structures(tmp_path):
    values = {"y_values": {"values": MATRIX}, "name": "noise"}
    lines = np.zeros((1, 2), dtype=[("Data", object)])
    lines[0, 0], lines[0, 1] = (MATRIX[:1],), (MATRIX[1:2],)
    path = put_mat(tmp_path / "x.mat", Signal=values, Run={"Y": lines})
    with open_mat(path) as mat:
        assert mat.columns(3, "Signal", "y_values", "values")[1][:].tolist() == [1, 4, 7, 10]
        assert mat.vector("Run", "Y", 1, "Data")[:].tolist() == [3, 4, 5]
        for keys in (("Signal", "x_values"), ("Run", "Y", 2, "Data"), ("Signal", "name", "deeper")):
            with pytest.raises(WheeltapperError, match=f"expected {'.'.join(map(str, keys))}, found Signal, Run"):
                mat.matrix(*keys)
        for keys in (("Signal",), ("Signal", "name"), ("Run", "Y")):
            with pytest.raises(WheeltapperError, match="expected a matrix of numbers"):
                mat.matrix(*keys)


def test_structures_of_version_73(tmp_path):
    import h5py

    path = put_mat73(tmp_path / "x.mat", Other=MATRIX)
    with h5py.File(path, "a") as file:
        file["Signal/y_values/values"] = MATRIX.T
    with open_mat(path) as mat:
        assert mat.columns(3, "Signal", "y_values", "values")[1][:].tolist() == [1, 4, 7, 10]
        with pytest.raises(WheeltapperError, match="Signal: expected a matrix of numbers"):
            mat.matrix("Signal")


def test_no_file(tmp_path):
    with (
        pytest.raises(WheeltapperError, match=r"no\.mat: expected a MATLAB file, found nothing"),
        open_mat(tmp_path / "no.mat"),
    ):
        pass


@pytest.mark.parametrize("put", [put_mat, put_mat73])
def test_every_truncation_is_an_error_that_names_the_file(tmp_path, put):
    values = np.random.default_rng(0).standard_normal((500, 2))
    whole = put(tmp_path / "x.mat", Data=values).read_bytes()
    path = tmp_path / "cut.mat"
    for keep in [*range(0, 1024, 64), *range(1024, len(whole) - 1, 512)]:
        path.write_bytes(whole[:keep])
        problem = ""
        try:
            with open_mat(path) as mat:
                found = mat.columns(2, "Data")[0][:]
        except WheeltapperError as error:
            problem = str(error)
        # Or the missing part contained no numbers.
        assert problem.startswith(f"{path}: expected ") or np.array_equal(found, values[:, 0])
