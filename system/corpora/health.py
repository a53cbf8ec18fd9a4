"""Health of a recording: what its samples say about the sensor, measured in one pass over blocks."""

import math
from dataclasses import dataclass

import numpy as np

PIECE = 1 << 16  # samples measured at a time
STEP16 = 1 / 32768  # quantisation step of 16 bits; amplitudes have full scale 1
LOWEST = -200.0  # dBFS; level of silence
LOUDEST = 100  # dBFS; in floating point, full scale may be passed
BAND = 500  # Hz; width of the bands whose levels are measured
TOP = 24_000  # Hz; no band above
FRAME = 1024  # samples of a spectrum
EVERY = 4  # one frame in so many is transformed
DROPOUT = 0.005  # s; shortest run without movement that counts
DROPOUT_SAMPLES = 16  # and in samples
LIVELY = 32  # steps of 16 bits between neighbours, root mean square, from which a single step is no movement
FEW = 3  # levels: a channel that has no more, and these close together, is dead
SMALL = 2 / 128  # close together, peak to peak: 3 levels of 8 bits
SMALL_STEPS = 1.01 * 3 / 128  # peak to peak, of 4 levels of 8 bits
PEAKS = 4  # samples at a limit in a piece; fewer are no clipping
SPIKE = 4  # clipped: so many times as many samples at the limit as just inside it
NEAR = 0.005  # of peak to peak: just inside; one step of the samples where that is more
COARSE = 0.25  # but never more of peak to peak
LARGEST = 1e9  # of full scale; larger samples of a float file are taken for it
JUMP, STEP = 1.5, 1.0  # of full scale: step between neighbours after an overflow, and one that is seldom without
ALIKE = 0.9999  # magnitude of the correlation coefficient from which channels hold the same sound
WINDOW = np.hanning(FRAME + 1)[:-1].astype(np.float32)
SQUARES = float((WINDOW**2).sum())


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Measurements of one channel of a recording; amplitudes have full scale 1.

    Attributes:
        level: root mean square without the mean, dBFS.
        median_level: median of the levels of frames of 1,024 samples, to 1 dB, dBFS.
        peak: largest magnitude.
        offset: mean.
        clipped: share of the samples that lie at a flat top or bottom.
        wrapped: share of the samples at which an overflow wrapped the signal around.
        dropouts: number of runs without movement between the beginning and the end.
        dropout_seconds: their total length.
        start_seconds: length of the run without movement at the beginning.
        end_seconds: length of the one at the end.
        longest_seconds: length of the longest of the dropouts.
        lost: share of the samples in all these runs.
        dead: ``zero``, ``constant`` or ``dither`` (at most 3 small levels) for a channel without signal; else empty.
        same_as: number, from 1, of an earlier channel with the same sound, whatever its gain and sign; 0 for none.
        bands: level in each band of 500 Hz, dBFS.
    """

    level: float
    median_level: float
    peak: float
    offset: float
    clipped: float
    wrapped: float
    dropouts: int
    dropout_seconds: float
    start_seconds: float
    end_seconds: float
    longest_seconds: float
    lost: float
    dead: str
    same_as: int
    bands: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Measurements of a recording: its length in seconds, and those of each channel."""

    seconds: float
    channels: tuple[ChannelHealth, ...]


def measure(wave: np.ndarray, rate: int) -> Health:
    """Health of a waveform.

    Args:
        wave: (channels, samples), finite.
        rate: sampling rate in Hz.
    """
    meter = HealthMeter(len(wave), rate)
    meter.add(wave)
    return meter.result()


class HealthMeter:
    """Measures the health of a recording that comes in blocks; its memory does not grow with their number."""

    def __init__(self, channels: int, rate: int) -> None:
        self.rate, self.samples = rate, 0
        self.mean, self.moment = np.zeros(channels), np.zeros((channels, channels))
        self.channels = [_Channel(rate) for _ in range(channels)]

    def add(self, wave: np.ndarray) -> None:
        """Takes in the next block (channels, samples)."""
        for start in range(0, wave.shape[1], PIECE):
            piece = wave[:, start : start + PIECE]
            if max(-piece.min(), piece.max()) > LARGEST:
                piece = piece.clip(-LARGEST, LARGEST)  # whose squares are finite in single precision
            self._add_moments(piece)
            for channel, values in zip(self.channels, piece, strict=True):
                channel.add(values)

    def result(self) -> Health:
        """The health of what was taken in."""
        power = np.diag(self.moment)
        scale = np.sqrt(np.outer(power, power))
        alike = np.abs(self.moment) > ALIKE * np.where(scale > 0, scale, np.inf)
        found = []
        for number, channel in enumerate(self.channels):
            same = next((other + 1 for other in range(number) if alike[number, other]), 0)
            found.append(channel.result(self.samples, self.mean[number], power[number], same))
        return Health(self.samples / self.rate, tuple(found))

    def _add_moments(self, piece: np.ndarray) -> None:
        """Updates means and centred second moments (Chan, Golub, LeVeque 1979)."""
        count = piece.shape[1]
        values = piece.astype(np.float64)
        mean = values.mean(axis=1)
        values -= mean[:, None]
        total, shift = self.samples + count, mean - self.mean
        self.moment += values @ values.T + np.outer(shift, shift) * (self.samples * count / total)
        self.mean += shift * (count / total)
        self.samples = total


class _Channel:
    """Measurements of one channel so far."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.lowest, self.highest = math.inf, -math.inf
        self.levels: set[float] = set()
        self.clipped, self.jumps, self.steps = 0, 0, 0
        self.runs = _Runs(max(DROPOUT_SAMPLES, round(DROPOUT * rate)))
        self.power, self.frames = np.zeros(FRAME // 2 + 1), 0
        self.histogram = np.zeros(1 - round(LOWEST) + LOUDEST, int)  # of the levels of frames, in dB above LOWEST

    def add(self, values: np.ndarray) -> None:
        """Takes in the next samples."""
        low, high = float(values.min()), float(values.max())
        self.lowest, self.highest = min(low, self.lowest), max(high, self.highest)
        if len(self.levels) <= FEW and self.highest - self.lowest <= SMALL:
            self.levels.update(np.unique(values)[: FEW + 1].tolist())
        living = self.runs.add(values, low, high)
        if len(living) and high > low:
            self.clipped += _at_limit(living, living.max()) + _at_limit(living, living.min())
        if high - low > JUMP:
            self._add_jumps(values, low, high)
        self._add_spectrum(values)

    def result(self, samples: int, mean: float, power: float, same_as: int) -> ChannelHealth:
        """The measurements, with the moments that ``HealthMeter`` took."""
        level = 10 * math.log10(float(power) / samples) if power > 0 else LOWEST
        start, end = self.runs.at_ends
        return ChannelHealth(
            level=max(level, LOWEST),
            median_level=self._median_level(max(level, LOWEST)),
            peak=max(abs(self.lowest), abs(self.highest)),
            offset=float(mean),
            clipped=self.clipped / samples,
            # Large steps are rarer than smaller ones in any sound; only floating-point samples exceed full scale.
            wrapped=self.jumps / samples if self.jumps > self.steps and self.highest <= 1 else 0.0,
            dropouts=self.runs.count,
            dropout_seconds=self.runs.samples / self.rate,
            start_seconds=start / self.rate,
            end_seconds=end / self.rate,
            longest_seconds=self.runs.longest / self.rate,
            lost=(self.runs.samples + start + end) / samples,
            dead=self._dead(),
            same_as=same_as,
            bands=self._bands(),
        )

    def _dead(self) -> str:
        if self.lowest == self.highest:
            return "constant" if self.highest else "zero"
        few = len(self.levels) <= FEW and self.highest - self.lowest <= SMALL
        return "dither" if few else ""

    def _add_jumps(self, values: np.ndarray, low: float, high: float) -> None:
        """Counts large steps; clipping makes some too, but from limit to limit."""
        steps = np.abs(np.diff(values))
        inside = (values > low) & (values < high)
        self.jumps += int(np.count_nonzero((steps >= JUMP) & inside[1:] & inside[:-1]))
        self.steps += int(np.count_nonzero((steps >= STEP) & (steps < JUMP)))

    def _add_spectrum(self, values: np.ndarray) -> None:
        frames = values[: len(values) // FRAME * FRAME].reshape(-1, FRAME)[::EVERY]
        if len(frames):
            power = np.abs(np.fft.rfft(frames * WINDOW)) ** 2
            self.power += power.sum(axis=0)
            self.frames += len(frames)
            levels = _decibels(2 * power[:, 2:].sum(axis=1) / (FRAME * SQUARES))  # the first two hold the mean
            places = np.clip(np.round(levels - LOWEST), 0, len(self.histogram) - 1).astype(int)
            self.histogram += np.bincount(places, minlength=len(self.histogram))

    def _median_level(self, level: float) -> float:
        """The level where no frame fits in."""
        if not self.frames:
            return level
        return LOWEST + float(np.searchsorted(np.cumsum(self.histogram), self.frames / 2))

    def _bands(self) -> tuple[float, ...]:
        if not self.frames:
            return ()
        power = 2 * self.power / (self.frames * FRAME * SQUARES)
        band = (np.arange(len(power)) * self.rate / FRAME // BAND).astype(int)
        count = int(min(TOP, self.rate / 2) // BAND)
        return tuple(_decibels(np.bincount(band, power, minlength=count)[:count]).tolist())


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, 10 ** (LOWEST / 10)))


class _Runs:
    """Runs of a channel without movement, at least ``shortest`` samples long, that are no part of a living signal.

    No movement is equal neighbours, or neighbours one step of 16 bits apart where most are many steps apart. The
    largest and the smallest value of a piece are limits unless they are zero: a run there is clipping. A run that the
    signal enters and leaves by its smallest step is a slow signal in coarse steps.
    """

    def __init__(self, shortest: int) -> None:
        self.shortest = shortest
        self.count, self.samples, self.longest = 0, 0, 0  # between the ends
        self.start, self.moved = 0, False  # length of the run at the beginning, whether it has ended
        self.open, self.entered = 0, 0.0  # samples since the last movement, and its size
        self.last: float | None = None
        self.lively = 0.0  # largest root mean square of the steps between neighbours in a piece

    @property
    def at_ends(self) -> tuple[int, int]:
        """Samples of the run at the beginning, and of the one at the end."""
        opened = self.open if self.open >= self.shortest else 0
        return (self.start, opened) if self.moved else (opened, 0)

    def add(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """Takes in the next samples; returns those that are in no run."""
        steps, tolerance = self._steps(values)
        moves = steps > tolerance
        count, begin = len(values), values[0] if self.last is None else self.last
        moving = bool(moves.any())
        first, last = (int(moves.argmax()), count - 1 - int(moves[::-1].argmax())) if moving else (count, 0)
        spans = [(0, first, self.open + first, self.entered)]
        spans += [(start, stop, stop - start, float(steps[start])) for start, stop in _gaps(moves, self.shortest)]
        if moving:
            self.open, self.entered = 0, float(steps[last])
            spans.append((last, count, count - last, self.entered))
        self.open += count - last
        living = np.ones(count, bool)
        smallest = None
        for number, (start, stop, length, entered) in enumerate(spans):
            value = float(values[start] if number else begin)
            if length < self.shortest or (value and low < high and min(high - value, value - low) <= tolerance):
                continue
            if stop == count:  # it may go on
                living[start:] = False
            elif not number and not self.moved:
                living[:stop], self.start = False, length
            else:
                smallest = float(steps[moves].min()) if smallest is None else smallest
                if max(entered, float(steps[stop])) > 1.5 * smallest:
                    living[start:stop] = False
                    self.count, self.samples = self.count + 1, self.samples + length
                    self.longest = max(self.longest, length)
        self.moved |= moving
        self.last = float(values[-1])
        return values if living.all() else values[living]

    def _steps(self, values: np.ndarray) -> tuple[np.ndarray, float]:
        """Magnitude of the step to each sample from the one before, (samples,), and the one that is no movement."""
        steps = np.empty_like(values)
        np.subtract(values[1:], values[:-1], out=steps[1:])
        steps[0] = values[0] - (values[0] if self.last is None else self.last)
        self.lively = max(self.lively, math.sqrt(float(np.dot(steps, steps)) / len(steps)))
        return np.abs(steps, out=steps), 1.01 * STEP16 if self.lively >= LIVELY * STEP16 else 0.0


def _gaps(moves: np.ndarray, shortest: int) -> list[tuple[int, int]]:
    """Starts and stops of the runs between two moves, bool (samples,), of at least ``shortest`` samples."""
    half = shortest // 2  # such a run holds one whole group of so many samples
    if moves[: len(moves) // half * half].reshape(-1, half).any(axis=1).all():
        return []
    starts = np.flatnonzero(moves)
    long = np.flatnonzero(np.diff(starts) >= shortest)
    return list(zip(starts[long].tolist(), starts[long + 1].tolist(), strict=True))


def _at_limit(values: np.ndarray, limit: float) -> int:
    """Number of samples at the largest or smallest value where the signal is cut off there, else 0.

    Many more samples lie at the limit of a clipped signal than just inside it. Noise has fewer there than inside, a
    sine wave at most 2.4 times as many, in however coarse steps.
    """
    at = values == limit
    count = int(np.count_nonzero(at))
    if count < PEAKS:
        return 0
    distance = np.abs(values[~at] - limit)
    if not len(distance):
        return 0
    span = float(distance.max())
    if span <= SMALL_STEPS and distance.min() > COARSE * span:
        return 0  # a soft sound in so coarse steps has no levels just inside
    near = min(max(1.01 * float(distance.min()), NEAR * span), COARSE * span)
    return count if count > SPIKE * np.count_nonzero(distance <= near) else 0
