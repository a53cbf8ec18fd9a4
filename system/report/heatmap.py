"""Maps of attention and Grad-CAM, drawn as colour over the spectrogram."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from system.report import sound
from system.report.svg import WIDTH, figure

# Colours from zero to maximum. None is dark, because dark means loud in the spectrogram below.
HEAT = np.array([[255, 255, 255], [255, 222, 150], [255, 158, 48], [232, 84, 0]], float)
PALE = 0.3  # lightness of the loudest parts, so that the colour is visible there
CUT = (0.02, 0.998)  # quantiles of a map that correspond to minimum and maximum colour
SHADES = 96  # number of colours of a picture


@dataclass(frozen=True)
class Ground:
    """The spectrogram on which maps are drawn.

    Attributes:
        levels: (rows, columns) in dB, rows of equal width in mel from 0 Hz to half of ``rate``.
        rate: sampling rate in Hz.
        seconds: duration.
        low: level in dB drawn white.
        high: level in dB drawn dark.
    """

    levels: np.ndarray
    rate: int
    seconds: float
    low: float
    high: float


def ground(wave: np.ndarray, rate: int) -> Ground:
    """The spectrogram of samples (N,)."""
    levels = sound.spectrogram(wave, rate)
    return Ground(levels, rate, len(wave) / rate, *_limits(levels))


def alike(grounds: Sequence[Ground]) -> list[Ground]:
    """The spectrograms with a common range of levels, so that their loudness is comparable."""
    low, high = _limits(np.concatenate([under.levels.ravel() for under in grounds]))
    return [replace(under, low=low, high=high) for under in grounds]


def _limits(levels: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(levels, [0.05, 0.998])
    return float(low), float(high)


def spread(values: np.ndarray, hertz: np.ndarray, under: Ground) -> np.ndarray:
    """Interpolates a map (T, F), whose bins are at ``hertz`` (F,), to the pixels of the spectrogram."""
    rows, columns = under.levels.shape
    centres = 700.0 * (10.0 ** ((np.arange(rows) + 0.5) / rows * sound.mel(under.rate / 2) / 2595.0) - 1.0)
    frames = (np.arange(columns) + 0.5) / columns * len(values) - 0.5
    in_time = np.stack([np.interp(frames, np.arange(len(values)), column) for column in values.T], 1)
    return np.stack([np.interp(centres, hertz, row) for row in in_time], 1)


def colours(heat: np.ndarray) -> np.ndarray:
    """Colours (..., 3), 0 to 255, of values from 0 to 1."""
    places = np.linspace(0.0, 1.0, len(HEAT))
    return np.stack([np.interp(heat, places, HEAT[:, channel]) for channel in range(3)], -1)


def tinted(under: Ground, heat: np.ndarray | None = None) -> bytes:
    """PNG of the spectrogram, dark where loud, multiplied by the colour of ``heat`` (rows, columns), 0 to 1."""
    from PIL import Image

    loud = np.clip((under.levels - under.low) / max(under.high - under.low, 1e-9), 0.0, 1.0)
    colour = colours(np.zeros_like(loud) if heat is None else np.clip(heat, 0.0, 1.0))
    pixels = (1.0 - (1.0 - PALE) * loud)[..., None] * colour
    image = Image.fromarray(np.round(pixels[::-1]).astype(np.uint8))
    buffer = io.BytesIO()
    image.quantize(SHADES, Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def spectrogram_figure(under: Ground, description: str) -> Markup:
    """The spectrogram without a map."""
    return _figure(under, None, description)


def attention_figure(under: Ground, values: np.ndarray, hertz: np.ndarray, description: str) -> tuple[Markup, str]:
    """A map (T, F) of attention from its minimum to its maximum, and a text with these values."""
    shown = spread(values, hertz, under)
    low, high = (float(value) for value in np.quantile(shown, CUT))
    heat = (shown - low) / (high - low) if high > low else np.zeros_like(shown)
    return _figure(under, heat, description), f"{low:.2f} to {high:.2f} × even"


def evidence_figure(under: Ground, values: np.ndarray, hertz: np.ndarray, description: str) -> tuple[Markup, str]:
    """A map (T, F) of Grad-CAM from zero to its maximum, and a text if it is all zero."""
    shown = spread(values, hertz, under)
    most = float(np.quantile(shown, CUT[1]))
    if most <= 0.0:
        return _figure(under, None, description), "nothing speaks for it"
    return _figure(under, shown / most, description), ""


def _figure(under: Ground, heat: np.ndarray | None, description: str) -> Markup:
    return figure(description, (WIDTH, 170), [sound.framed(tinted(under, heat), under.seconds, under.rate)])


def scale() -> Markup:
    """The colour scale for a legend."""
    steps = 12
    bars = "".join(
        f'<rect x="{8 * step}" y="2" width="8.5" height="10" fill="rgb({r:.0f},{g:.0f},{b:.0f})"/>'
        for step, (r, g, b) in enumerate(colours(np.linspace(0, 1, steps)))
    )
    return Markup(f'<svg class="scale" viewBox="0 0 {8 * steps} 14" aria-hidden="true">{bars}</svg>')
