"""The far microphone as a noise reference: what it hears is subtracted from the near microphone.

Least squares: in every frequency bin the near channel is regressed on the far channel over the frames of the clip, and
the residual is kept. With one tap the gain is H[f] = sum_t N conj(F) / (sum_t |F|^2 + 1e-12); with several, a short
filter over neighbouring frames reaches beyond the window, to longer room responses.

Magnitude: |N| - |F| with the phase of the near channel, floored at a tenth of |N|; the known weaker variant.
"""

from functools import lru_cache

import numpy as np
import torch

from system.errors import WheeltapperError

METHODS = ("least_squares", "magnitude")
PEAK = 0.9
EPSILON = 1e-12
# Neighbouring frames of a steady tone are almost collinear: a relative ridge keeps the several-tap solution bounded.
RIDGE = 1e-9
GAIN_FLOOR = 0.1


def subtract_far(
    wave: np.ndarray, method: str = "least_squares", n_fft: int = 1024, hop: int | None = None, taps: int = 1
) -> np.ndarray:
    """Removes from the near channel what the far channel explains of it.

    Args:
        wave: float32 (channels, samples), channel 0 near, channel 1 far.
        method: ``least_squares`` or ``magnitude``.
        n_fft: STFT window (periodic Hann) in samples.
        hop: step in samples, half the window where not given.
        taps: frames of the far channel per bin, the current one in the middle (an even number has one more past
            frame than future ones); ``least_squares`` only.

    Returns:
        float32 (1, samples): the residual at the scale of the near channel; a mono wave is returned as it is.

    Raises WheeltapperError for an unknown method, impossible sizes, more than two channels, or a clip too short for
    reflection at its ends (expected more than half a window).
    """
    hop = n_fft // 2 if hop is None else hop
    if method not in METHODS:
        raise WheeltapperError(f"far-channel subtraction: expected a method of {', '.join(METHODS)}, found {method!r}")
    if n_fft < 2 or n_fft % 2 or not 1 <= hop <= n_fft // 2 or taps < 1:
        raise WheeltapperError(
            "far-channel subtraction: expected an even window, a hop of at most half of it and one tap or more, "
            f"found window {n_fft}, hop {hop}, {taps} taps"
        )
    if len(wave) == 1:
        return wave
    if len(wave) != 2:
        raise WheeltapperError(f"far-channel subtraction: expected 1 or 2 channels, found {len(wave)}")
    samples = wave.shape[1]
    if samples <= n_fft // 2:
        raise WheeltapperError(
            f"far-channel subtraction: expected more than {n_fft // 2} samples (half a window), found {samples}"
        )
    peak = float(np.abs(wave).max())
    if peak == 0.0:
        return wave[:1]
    scale = PEAK / peak
    with torch.no_grad():
        signal = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float64)) * scale
        near, far = _stft(signal, n_fft, hop)
        residual = near - _explained(near, far, taps) if method == "least_squares" else _magnitude(near, far)
        return (_istft(residual, n_fft, hop, samples) / scale).to(torch.float32).numpy()[None]


def gains(near: torch.Tensor, far: torch.Tensor, taps: int = 1) -> torch.Tensor:
    """Least-squares filter from far to near per bin: the normal equations over all frames.

    Args:
        near, far: complex (bins, frames).

    Returns:
        complex (bins, taps): weights of the frames t + taps // 2, ..., t, ... of ``far`` (see ``_shifted``).
    """
    columns = _shifted(far, taps)
    normal = torch.einsum("ftk,ftl->fkl", columns.conj(), columns)
    right = torch.einsum("ftk,ft->fk", columns.conj(), near)
    ridge = torch.full((len(near),), EPSILON, dtype=normal.real.dtype)
    if taps > 1:
        ridge = ridge + RIDGE * torch.diagonal(normal.real, dim1=1, dim2=2).mean(dim=1)
    normal = normal + ridge[:, None, None] * torch.eye(taps, dtype=normal.dtype)
    return torch.linalg.solve(normal, right)


def _explained(near: torch.Tensor, far: torch.Tensor, taps: int) -> torch.Tensor:
    return torch.einsum("ftk,fk->ft", _shifted(far, taps), gains(near, far, taps))


def _shifted(far: torch.Tensor, taps: int) -> torch.Tensor:
    """Columns of the regression: (bins, frames, taps), offsets -(taps // 2) to (taps - 1) // 2; silence outside."""
    past, future = taps // 2, (taps - 1) // 2
    return torch.nn.functional.pad(far, (past, future)).unfold(1, taps, 1)


def _magnitude(near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    gain = 1.0 - far.abs() / near.abs().clamp(min=EPSILON)
    return near * gain.clamp(min=GAIN_FLOOR)


def _stft(signal: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """(channels, samples) to complex (channels, bins, frames).

    The end is reflected up to a whole number of hops: else the last samples lie under the foot of one window only,
    and its inverse blows up whatever the subtraction leaves there.
    """
    missing = -signal.shape[1] % hop
    if missing:
        signal = torch.nn.functional.pad(signal, (0, missing), mode="reflect")
    return torch.stft(signal, n_fft, hop, window=_window(n_fft), pad_mode="reflect", return_complex=True)


def _istft(spectrum: torch.Tensor, n_fft: int, hop: int, samples: int) -> torch.Tensor:
    return torch.istft(spectrum, n_fft, hop, window=_window(n_fft))[:samples]


@lru_cache(maxsize=16)
def _window(n_fft: int) -> torch.Tensor:
    return torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
