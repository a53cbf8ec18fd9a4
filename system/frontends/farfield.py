"""Noise reduction with the far microphone as a noise reference, which is subtracted from the near microphone.

Least squares: in every frequency bin the near channel N is regressed on the far channel F over the frames of the clip,
and the residual is kept. With one tap the gain is H[f] = sum_t N conj(F) / (sum_t |F|^2 + 1e-12). With several taps, a
short filter over neighbouring frames models room responses longer than the window. Three variants of our own:

* local: sums only include frames near each frame. Noise from several places has no common gain, but over a few seconds
  one source is often louder than the others, and its gain fits.
* balanced: frames have the weight |F|^(-2p), so that the loudest moments do not dominate.
* coherence: the subtracted part is scaled by the share of the near channel's energy that the far channel explains.

Magnitude: |N| - |F| with the phase of the near channel, floored at a tenth of |N|. It assumes equally loud noise in
both microphones. Scaled magnitude, our own: |N| - g |F|, with g by least squares of the magnitudes over the clip or
over the neighbouring frames.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from system.errors import WheeltapperError

METHODS = ("least_squares", "magnitude", "scaled_magnitude")
PEAK = 0.9
EPSILON = 1e-12
# Neighbouring frames of a steady tone are almost collinear: a relative ridge keeps the several-tap solution bounded.
RIDGE = 1e-9
GAIN_FLOOR = 0.1
LEVEL_FRAMES = 1  # frames on either side that the far power is averaged over, for the balancing weights
LEVEL_FLOOR = 1e-6  # as a fraction of the mean far power, so that weights of silent frames stay finite


def subtract_far(
    wave: np.ndarray,
    method: str = "least_squares",
    n_fft: int = 1024,
    hop: int | None = None,
    taps: int = 1,
    stretch: int = 0,
    balance: float = 0.0,
    coherence: bool = False,
) -> np.ndarray:
    """Removes noise from the near channel by subtracting the part that the far channel explains.

    Args:
        wave: float32 (channels, samples); channel 0 is near, channel 1 is far.
        method: ``least_squares``, ``magnitude`` or ``scaled_magnitude``.
        n_fft: STFT window (periodic Hann) in samples.
        hop: hop in samples; None for half the window.
        taps: number of far frames per bin, centred on the current one (an even number has one more past frame). Only
            for ``least_squares``, like ``balance`` and ``coherence``.
        stretch: length in samples of the neighbourhood that a frame's gain is estimated from; 0 for the whole clip.
        balance: exponent p of the balancing weights, 0 to 1.
        coherence: whether to scale the subtracted part by the explained share of the near channel's energy.

    Returns:
        Float32 (1, samples), the residual at the scale of the near channel. A mono wave is returned unchanged.

    Raises:
        WheeltapperError: unknown method, invalid sizes, more than two channels, or a clip not longer than half a window
            (its ends are reflected).
    """
    hop = n_fft // 2 if hop is None else hop
    if method not in METHODS:
        raise WheeltapperError(f"far-channel subtraction: expected a method of {', '.join(METHODS)}, found {method!r}")
    if n_fft < 2 or n_fft % 2 or not 1 <= hop <= n_fft // 2 or taps < 1:
        raise WheeltapperError(
            "far-channel subtraction: expected an even window, a hop of at most half of it and one tap or more, "
            f"found window {n_fft}, hop {hop}, {taps} taps"
        )
    if stretch < 0 or not 0.0 <= balance <= 1.0:
        raise WheeltapperError(
            "far-channel subtraction: expected a stretch of 0 or more and a balance from 0 to 1, found "
            f"{stretch} and {balance:g}"
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
        half = max(1, round(stretch / hop / 2)) if stretch else None
        if method == "magnitude":
            residual = _magnitude(near, far.abs())
        elif method == "scaled_magnitude":
            residual = _magnitude(near, explained(near.abs(), far.abs(), 1, half))
        else:
            part = explained(near, far, taps, half, _weights(far, balance))
            residual = near - (explained_share(near, part, half) * part if coherence else part)
        return (_istft(residual, n_fft, hop, samples) / scale).to(torch.float32).numpy()[None]


def gains(near: Tensor, far: Tensor, taps: int = 1, half: int | None = None, weights: Tensor | None = None) -> Tensor:
    """Least-squares filters from the far to the near channel, by the normal equations in each bin.

    Args:
        near: complex (bins, frames).
        far: complex (bins, frames).
        taps: length of the filter in frames.
        half: number of frames on either side that a frame's filter is estimated from; None for one filter per clip.
        weights: real (bins, frames), weights of the frames in the sums; None for equal weights.

    Returns:
        Complex (bins, taps), or (bins, frames, taps) if ``half`` is given; taps in the order of ``_shifted``.
    """
    columns = _shifted(far, taps)
    weighted = columns.conj() if weights is None else columns.conj() * weights.unsqueeze(2)
    if half is None:
        normal = torch.einsum("ftk,ftl->fkl", weighted, columns)
        right = torch.einsum("ftk,ft->fk", weighted, near)
    else:
        normal = _box(weighted.unsqueeze(3) * columns.unsqueeze(2), half)
        right = _box(weighted * near.unsqueeze(2), half)
    if taps == 1:
        return right / (normal[..., 0] + EPSILON)
    ridge = EPSILON + RIDGE * torch.diagonal(normal.real, dim1=-2, dim2=-1).mean(dim=-1)
    normal = normal + ridge[..., None, None] * torch.eye(taps, dtype=normal.dtype)
    return torch.linalg.solve(normal, right)


def explained(
    near: Tensor, far: Tensor, taps: int = 1, half: int | None = None, weights: Tensor | None = None
) -> Tensor:
    """Part of the near channel that the far channel explains, complex (bins, frames); arguments as in ``gains``."""
    found = gains(near, far, taps, half, weights)
    return torch.einsum("ftk,fk->ft" if half is None else "ftk,ftk->ft", _shifted(far, taps), found)


def explained_share(near: Tensor, part: Tensor, half: int | None) -> Tensor:
    """Share of the near channel's energy that is explained, per bin, and per frame if ``half`` is given.

    For one tap this is the squared coherence, for several the coefficient of determination.

    Args:
        near: complex (bins, frames).
        part: complex (bins, frames), the explained part.
        half: see ``gains``.
    """
    energy, total = part.abs().square(), near.abs().square()
    if half is None:
        share = energy.sum(1, keepdim=True) / (total.sum(1, keepdim=True) + EPSILON)
    else:
        share = _box(energy, half) / (_box(total, half) + EPSILON)
    return share.clamp(max=1.0)


def _weights(far: Tensor, balance: float) -> Tensor | None:
    if balance == 0.0:
        return None
    power = far.abs().square()
    level = _box(power, LEVEL_FRAMES)
    return (level + LEVEL_FLOOR * level.mean() + EPSILON).pow(-balance)


def _box(values: Tensor, half: int) -> Tensor:
    """Moving sums over frames t - half to t + half, fewer at the ends; (bins, frames, ...) in and out."""
    frames = values.shape[1]
    total = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], 1)
    place = torch.arange(frames)
    return total[:, (place + half + 1).clamp(max=frames)] - total[:, (place - half).clamp(min=0)]


def _shifted(far: Tensor, taps: int) -> Tensor:
    """Regressors (bins, frames, taps): far frames at offsets -(taps // 2) to (taps - 1) // 2, zero outside the clip."""
    past, future = taps // 2, (taps - 1) // 2
    return torch.nn.functional.pad(far, (past, future)).unfold(1, taps, 1)


def _magnitude(near: Tensor, noise: Tensor) -> Tensor:
    """Subtracts noise magnitudes (bins, frames) from a complex spectrum (bins, frames)."""
    gain = 1.0 - noise / near.abs().clamp(min=EPSILON)
    return near * gain.clamp(min=GAIN_FLOOR)


def _stft(signal: Tensor, n_fft: int, hop: int) -> Tensor:
    """STFT, complex (channels, bins, frames), of a signal (channels, samples).

    The end is extended by reflection to a whole number of hops. Otherwise the last samples would only be covered by the
    edge of one window, and the inverse would amplify any residual there.
    """
    missing = -signal.shape[1] % hop
    if missing:
        signal = torch.nn.functional.pad(signal, (0, missing), mode="reflect")
    return torch.stft(signal, n_fft, hop, window=_window(n_fft), pad_mode="reflect", return_complex=True)


def _istft(spectrum: Tensor, n_fft: int, hop: int, samples: int) -> Tensor:
    return torch.istft(spectrum, n_fft, hop, window=_window(n_fft))[:samples]


@lru_cache(maxsize=16)
def _window(n_fft: int) -> Tensor:
    return torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
