"""Reader of MATLAB files: versions 5 to 7.2 by SciPy, read whole, and 7.3 by h5py, read on demand."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from system.errors import WheeltapperError

HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # bytes of MATLAB's header before the HDF5 data

Key = str | int


class Matrix(Protocol):
    """Numbers in MATLAB's order, [rows, columns], read on demand."""

    shape: tuple[int, ...]

    def __getitem__(self, index: tuple) -> np.ndarray: ...


class LazyVector:
    """A column (axis 0) or row (axis 1) of a matrix, read on demand."""

    def __init__(self, matrix: Matrix, axis: int, index: int) -> None:
        self.matrix, self.axis, self.index = matrix, axis, index

    def __len__(self) -> int:
        return self.matrix.shape[self.axis]

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.matrix[part, self.index] if self.axis == 0 else self.matrix[self.index, part]


class Mat:
    """An open MATLAB file. ``names`` are its variables in the order of the file."""

    names: list[str]

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, keys: tuple[Key, ...]) -> Matrix | None:
        """Value at a path of keys, None if missing; not two-dimensional if it is not numeric."""
        raise NotImplementedError

    def matrix(self, *keys: Key) -> Matrix:
        """Two-dimensional numbers at a path of keys.

        Args:
            *keys: name of a variable, then names of structure fields or indices in arrays of structures.

        Raises:
            WheeltapperError: missing, or not a matrix of numbers.
        """
        found = self.find(keys)
        name = ".".join(map(str, keys))
        if found is None:
            raise WheeltapperError(f"{self.path}: expected {name}, found {', '.join(self.names) or 'no variable'}")
        if len(found.shape) != 2:
            raise WheeltapperError(f"{self.path}: {name}: expected a matrix of numbers, found something else")
        return found

    def vector(self, *keys: Key) -> LazyVector:
        """Matrix of one row or one column; raises WheeltapperError for other shapes."""
        found = self.matrix(*keys)
        if min(found.shape) != 1:
            name = ".".join(map(str, keys))
            raise WheeltapperError(f"{self.path}: {name}: expected one row or column, found {_shape(found)}")
        return LazyVector(found, int(found.shape[0] == 1), 0)

    def columns(self, count: int, *keys: Key) -> list[LazyVector]:
        """Columns of a matrix; raises WheeltapperError unless there are ``count``."""
        found = self.matrix(*keys)
        if found.shape[1] != count:
            name = ".".join(map(str, keys))
            raise WheeltapperError(f"{self.path}: {name}: expected {count} columns, found {_shape(found)}")
        return [LazyVector(found, 0, index) for index in range(count)]


class _Version5(Mat):
    def __init__(self, path: Path) -> None:
        from scipy.io import loadmat

        super().__init__(path)
        self.variables = loadmat(str(path))
        self.names = [name for name in self.variables if not name.startswith("__")]

    def find(self, keys: tuple[Key, ...]) -> Matrix | None:
        value: Any = self.variables if keys[0] in self.names else None
        for key in keys:
            names = value if isinstance(value, dict) else getattr(getattr(value, "dtype", None), "names", None) or ()
            if isinstance(key, int):
                value = value.flat[key] if isinstance(value, np.ndarray) and key < value.size else None
            else:
                value = value[key] if key in names else None
            while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
                value = value.item()
            if value is None:
                return None
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
        return value if numbers else np.empty(())


class _Transposed:
    """An HDF5 data set, transposed, since it stores MATLAB's columns as rows."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path, self.dataset, self.shape = path, dataset, dataset.shape[::-1]

    def __getitem__(self, index: tuple) -> np.ndarray:
        with _whole(self.path):
            return self.dataset[index[::-1]]


class _Version73(Mat):
    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(path)
        self.file, self.names = file, [name for name in file if not name.startswith("#")]

    def find(self, keys: tuple[Key, ...]) -> Matrix | None:
        value: Any = self.file
        with _whole(self.path):
            for key in keys:
                if not isinstance(key, str) or not hasattr(value, "keys") or key not in value:
                    return None
                value = value[key]
            numbers = hasattr(value, "dtype") and value.dtype.kind in "fiu"
            return _Transposed(self.path, value) if numbers else np.empty(())


@contextlib.contextmanager
def open_mat(path: Path) -> Iterator[Mat]:
    """Opens a MATLAB file of any version.

    Raises:
        WheeltapperError: the file is missing or damaged; damage may also be found later, while reading.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(USER_BLOCK + len(HDF5))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a MATLAB file, found nothing") from error
    if HDF5 not in (head[: len(HDF5)], head[USER_BLOCK:]):
        with _whole(path):
            mat = _Version5(path)
        yield mat
        return
    import h5py

    with _whole(path):
        file = h5py.File(path, "r")
    with file:
        yield _Version73(path, file)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Converts exceptions of SciPy and h5py, which may be of any kind for damaged files, to WheeltapperError."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WheeltapperError(f"{path}: expected a MATLAB file, found damage ({reason})") from error


def _shape(matrix: Matrix) -> str:
    return " x ".join(map(str, matrix.shape))
