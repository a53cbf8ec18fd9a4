"""Small recordings in the publishers' layouts, for tests of the data sets of machine faults."""

import os
from pathlib import Path

import numpy as np
import soundfile
from scipy.io import savemat

DATA = Path(os.environ.get("WHEELTAPPER_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def signal(samples: int, seed: int = 0, peak: float = 0.5) -> np.ndarray:
    """Noise (samples,) whose largest magnitude is the given one, reached exactly once."""
    wave = np.random.default_rng(seed).uniform(-0.9, 0.9, samples) * peak
    wave[samples // 3] = -peak
    return wave


def put_wav(path: Path, wave: np.ndarray, rate: int, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def put_mat(path: Path, **variables) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, appendmat=False)
    return path


def put_mat73(path: Path, **variables: np.ndarray) -> Path:
    """MATLAB 7.3: HDF5 after 512 bytes of MATLAB's own; a matrix [n, c] is stored as (c, n)."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file.create_dataset(name, data=np.atleast_2d(value).T, chunks=True, compression="gzip")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def put_csv(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, delimiter=",", fmt="%.6g")
    return path


def put_pu(path: Path, channels: list[np.ndarray], nested: bool = False) -> Path:
    """A structure with the name of the file and seven elements in Y; ``nested`` as in RMIS's replacement."""
    lines = np.zeros((1, len(channels)), dtype=[("Name", object), ("Data", object)])
    for k, channel in enumerate(channels):
        lines[0, k] = (f"signal {k + 1}", channel[None])
    name = path.stem.removesuffix("_new")
    inner = {name: {"X": np.zeros((1, 1)), "Y": lines}}
    return put_mat(path, **({"a": inner} if nested else inner))


def pcm(wave: np.ndarray) -> np.ndarray:
    """A wave within [-1, 1], quantised to 16 bits."""
    return np.rint(wave * 32767).astype(np.int16)


def heard(path: Path) -> np.ndarray:
    """The stored 16-bit numbers (samples,) of a mono file."""
    assert soundfile.info(path).subtype == "PCM_16"
    return soundfile.read(path, dtype="int16")[0]
