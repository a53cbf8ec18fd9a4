"""FISHER in NumPy, written from the paper only, as an independent reference; also our convolutions before patches."""

import math

import numpy as np


def hann(size: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def log_magnitude(wave: np.ndarray, rate: int, floor: float = 1e-10) -> np.ndarray:
    """(samples,) to (frames, bins), one discrete Fourier transform a frame."""
    window, hop = 25 * rate // 1000, 10 * rate // 1000
    wave = wave.astype(np.float64) - wave.astype(np.float64).mean()
    frames = [
        np.abs(np.fft.rfft(wave[start : start + window] * hann(window)))
        for start in range(0, len(wave) - window + 1, hop)
    ]
    return np.log(np.array(frames) + floor)


def layer_norm(x: np.ndarray, weight=1.0, bias=0.0, eps: float = 1e-6) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def plain_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """Convolution of (C, H, W) with (D, C, k, k)."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,dcij->dhw", windows, weight, optimize=True) + bias[:, None, None]


def position(row: int, dim: int, columns: int = 50) -> np.ndarray:
    """One row of the table: frequency in the first half, time in the second, sines before cosines."""
    quarter = dim // 4
    value = []
    for place in (row % columns, row // columns):
        angles = [place * 10000.0 ** -(j / quarter) for j in range(quarter)]
        value += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return np.array(value)


class NumpyFisher:
    """The encoder with the tensors of a published checkpoint (names to arrays)."""

    def __init__(self, tensors: dict[str, np.ndarray], heads: int, depth: int, columns: int = 50):
        self.tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
        self.heads, self.depth, self.columns = heads, depth, columns

    def embed(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """A recording (samples,) of at most ten seconds to the CLS of its bands of 4 kHz, one after another."""
        rows = (log_magnitude(wave, rate) + 3.017344307886898) / (2 * 2.1531635155379805)
        bands = [rows[:, start : start + 100] for start in range(0, rows.shape[1] - 99, 100)]
        return np.concatenate([self.band(band)[0][0] for band in bands])

    def band(self, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """One sub-band (T, width) to its tokens with CLS first (1 + N, D) and each block's MLP output."""
        prefix = "modality_encoders.IMAGE."
        kernel, bias = (self.tensors[f"{prefix}local_encoder.proj.{n}"] for n in ("weight", "bias"))
        x = rows[None, : rows.shape[0] // 16 * 16]
        for layer in (0, 2) if "stem.0.weight" in self.tensors else ():
            weights = (self.tensors[f"stem.{layer}.{n}"] for n in ("weight", "bias"))
            x = gelu(plain_convolution(x, *weights, 2, 1))
        grid = plain_convolution(x, kernel, bias, kernel.shape[-1], 0).reshape(len(kernel), -1).T
        patches = [patch + position(place, len(kernel), self.columns) for place, patch in enumerate(grid)]
        x = np.stack([self.tensors[f"{prefix}extra_tokens"][0, 0], *patches])
        x = layer_norm(x, *(self.tensors[f"{prefix}context_encoder.norm.{n}"] for n in ("weight", "bias")))
        updates = []
        for number in range(self.depth):
            x, update = self._block(x, f"blocks.{number}.")
            updates.append(update)
        return x, updates

    def _block(self, x: np.ndarray, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        x = self._norm(x + self._attention(x, prefix), f"{prefix}norm1")
        update = self._linear(gelu(self._linear(x, f"{prefix}mlp.fc1")), f"{prefix}mlp.fc2")
        return self._norm(x + update, f"{prefix}norm2"), update

    def _attention(self, x: np.ndarray, prefix: str) -> np.ndarray:
        q, k, v = np.split(self._linear(x, f"{prefix}attn.qkv"), 3, axis=1)
        size = q.shape[1] // self.heads
        heads = []
        for h in range(self.heads):
            part = slice(h * size, (h + 1) * size)
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        return self._linear(np.concatenate(heads, axis=1), f"{prefix}attn.proj")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return layer_norm(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
