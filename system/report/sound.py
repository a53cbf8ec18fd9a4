"""Spectrograms as PNG and excerpts as FLAC, embedded in the page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from system import audio
from system.manifest import Clip
from system.report.svg import WIDTH, Plot, figure

EXCERPT_SECONDS = 3.0  # default length of an excerpt
EXCERPT_RATE = 16000  # maximum sampling rate of an excerpt in Hz
CHANNELS = ("near", "far")
ROWS, COLUMNS = 96, 304  # size of a spectrogram picture
PEAK = 0.7  # peak of the loudest excerpt of a machine
SECONDS_SHOWN = 60.0


@dataclass(frozen=True)
class ChannelSound:
    """One channel of a clip.

    Attributes:
        clip: recording.
        wave: samples, float32 (N,).
        rate: sampling rate in Hz.
        picture: spectrogram in dB, (ROWS, COLUMNS or fewer).
        channel: near, far, or empty for mono.
    """

    clip: Clip
    wave: np.ndarray
    rate: int
    picture: np.ndarray
    channel: str = ""


def listen(clip: Clip) -> list[ChannelSound]:
    """Reads the near channel and, if there is one, the far channel of a clip or its window, at most a minute.

    Raises:
        WheeltapperError: the recording is missing or damaged.
    """
    wave, rate = audio.read(clip.path, clip.start, min(clip.held, int(SECONDS_SHOWN * clip.rate)))
    return [
        ChannelSound(clip, channel, rate, spectrogram(channel, rate), name)
        for channel, name in zip(clip.select(wave), CHANNELS, strict=False)
    ]


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """Mel scale of O'Shaughnessy: mel = 2595 log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, float) / 700.0)


def spectrogram(wave: np.ndarray, rate: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Power spectrogram in dB with rows of equal width in mel, lowest first.

    Args:
        wave: (N,); shorter ones are padded to one window of about 64 ms.
        rate: sampling rate in Hz.
        rows: number of rows.
        columns: maximum number of columns.

    Returns:
        float64 (rows, at most columns).
    """
    size = 2 ** round(np.log2(max(64.0, 0.064 * rate)))
    wave = np.pad(wave.astype(np.float64), (0, max(0, size - len(wave))))
    starts = np.unique(np.linspace(0, len(wave) - size, min(columns, 1 + 4 * len(wave) // size)).astype(int))
    frames = wave[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2 / size
    edges = 700.0 * (10.0 ** (np.linspace(0.0, mel(rate / 2), rows + 1) / 2595.0) - 1.0) * size / rate
    bins = np.arange(power.shape[1])
    overlap = np.minimum(edges[1:, None], bins + 1) - np.maximum(edges[:-1, None], bins)
    weights = np.maximum(overlap, 0.0) / np.diff(edges)[:, None]
    return 10.0 * np.log10(weights @ power.T + 1e-12)


def png(levels: np.ndarray, low: float, high: float) -> bytes:
    """Levels (rows, columns), first row at the bottom, as an indexed PNG from ``low`` (dark) to ``high`` (bright)."""
    from matplotlib import colormaps
    from PIL import Image

    scaled = np.clip((levels - low) / max(high - low, 1e-9), 0.0, 1.0)
    # 64 shades look the same here and take half the size.
    image = Image.fromarray(np.round(63 * scaled[::-1]).astype(np.uint8), mode="P")
    image.putpalette((colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def limits(sounds: list[ChannelSound]) -> tuple[float, float]:
    """Common range of levels of several pictures in dB."""
    values = np.concatenate([sound.picture.ravel() for sound in sounds])
    low, high = np.quantile(values, [0.05, 0.998])
    return float(max(low, high - 70.0)), float(high)


def framed(image: bytes, seconds: float, rate: int, start: float = 0.0) -> Plot:
    """Axes around a PNG of ``seconds`` from ``start``; its rows have equal width in mel, from 0 Hz to half the rate."""
    top_mel = float(mel(rate / 2))
    plot = Plot((start, start + seconds), (0, top_mel), (44, 8, COLUMNS, 120), "time (s)", "kHz", None, [])
    left, top, width, height = plot.box
    plot.parts.append(
        f'<image x="{left}" y="{top}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{_base64(image)}"/>'
    )
    for hertz in (0, 500, 1000, 2000, 4000, 8000, 16000):
        if hertz <= rate / 2:
            plot.text(left - 5, plot.py(float(mel(hertz))) + 4, f"{hertz / 1000:g}", "tick end")
    return plot


def picture(sound: ChannelSound, low: float, high: float, description: str, excerpt: float = EXCERPT_SECONDS) -> Markup:
    """The spectrogram with axes; the playable excerpt is marked below the time axis."""
    first = sound.clip.start / sound.rate
    plot = framed(png(sound.picture, low, high), len(sound.wave) / sound.rate, sound.rate, first)
    left, top, _, height = plot.box
    start = first + excerpt_start(sound, excerpt) / sound.rate
    x, end = plot.px(start), plot.px(min(plot.x[1], start + excerpt))
    plot.parts.append(f'<path class="line both" d="M{x:.1f} {top + height + 3}H{end:.1f}"/>')
    plot.parts.append(f'<path class="playhead" d="M{left} {top}v{height}"/>')
    return figure(description, (WIDTH, 170), [plot])


def excerpt_start(sound: ChannelSound, seconds: float = EXCERPT_SECONDS) -> int:
    """First sample of the excerpt: the middle of what is shown."""
    return max(0, (len(sound.wave) - int(seconds * sound.rate)) // 2)


def excerpts(sounds: list[ChannelSound], seconds: float = EXCERPT_SECONDS) -> list[Markup]:
    """Excerpts of at most ``seconds`` of each clip as data addresses, with one gain for all, so that loudness is
    comparable.
    """
    cuts = []
    for sound in sounds:
        start = excerpt_start(sound, seconds)
        cuts.append(sound.wave[start : start + int(seconds * sound.rate)])
    peak = max((float(np.abs(cut).max(initial=0.0)) for cut in cuts), default=0.0)
    return [
        _player(
            cut * (PEAK / peak if peak > 0 else 0.0),
            s.rate,
            f"{s.clip.file}, {s.channel} microphone" if s.channel else s.clip.file,
        )
        for cut, s in zip(cuts, sounds, strict=True)
    ]


def _player(wave: np.ndarray, rate: int, name: str) -> Markup:
    import soundfile

    if rate > EXCERPT_RATE:
        wave, rate = np.clip(audio.resample(wave[None].astype(np.float32), rate, EXCERPT_RATE)[0], -1, 1), EXCERPT_RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, np.round(32767 * wave).astype(np.int16), rate, format="FLAC", subtype="PCM_16")
    source = f"data:audio/flac;base64,{_base64(buffer.getvalue())}"
    return Markup(f'<audio controls preload="none" aria-label="{escape(name)}" src="{source}"></audio>')


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
