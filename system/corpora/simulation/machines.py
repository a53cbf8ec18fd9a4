"""Sound models of five machines, their faults, and background noise.

A machine is a function of (body, rng, condition, fault, severity, samples, rate) that returns its sound pressure:

* ``body``: random generator of the properties of an individual machine (numbers of teeth, resonances); it has the same
  seed in every clip, so that all clips are of one machine;
* ``rng``: random generator of what differs between clips (phases, speed fluctuations, noise);
* ``condition``: operating condition, name to physical value;
* ``fault``: one of the machine's faults, or empty;
* ``severity``: from 0 (no fault) to 1 (severe).

A healthy machine has about unit power at a medium condition; a fault changes the level as in reality. Orders are
multiples of the shaft speed. Sources: Randall, Vibration-based Condition Monitoring (2011), for gears and bearings;
Lighthill's and Ffowcs Williams' scaling for flow noise; Brennen (1995) for cavitation.
"""

import numpy as np
from scipy import fft

from system.corpora.simulation.acoustics import coloured_noise, fractional_impulses

BINS = 513
PIECE = 1 << 15  # samples at a time, which stay in a CPU's cache


def shaft_phase(rng: np.random.Generator, samples: int, rate: int, hertz: float, wander: float = 0.004) -> np.ndarray:
    """Shaft angle in radians, float64 (samples,), with a random start and speed fluctuations of relative ``wander``."""
    knots = max(4, int(4 * samples / rate) + 2)
    drift = wander * rng.standard_normal(knots)
    speed = hertz * (
        1 + wander * rng.standard_normal() + np.interp(np.arange(samples), np.linspace(0, samples, knots), drift)
    )
    return rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.cumsum(speed) / rate


def harmonics(phase: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """Sum of harmonics, sum_k Re(a_k exp(i k phase)) for k = 1..K, by Clenshaw's recurrence.

    Args:
        phase: (samples,) in radians.
        amplitudes: complex (K,).

    Returns:
        Float32 (samples,).
    """
    turns = phase * (0.5 / np.pi)
    wrapped = ((turns - np.floor(turns)) * (2 * np.pi)).astype(np.float32)
    wave = np.empty(phase.shape, dtype=np.float32)
    for start in range(0, len(phase), PIECE):
        piece = slice(start, start + PIECE)
        cosine, sine = np.cos(wrapped[piece]), np.sin(wrapped[piece])
        total, last = _clenshaw(cosine, amplitudes.real)
        wave[piece] = total * cosine - last
        if np.iscomplexobj(amplitudes):
            wave[piece] -= _clenshaw(cosine, amplitudes.imag)[0] * sine
    return wave


def _clenshaw(cosine: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns u, v with sum_k w_k cos(k x) = u cos(x) - v and sum_k w_k sin(k x) = u sin(x), k = 1..K."""
    twice = 2 * cosine
    total, last, free = np.zeros_like(cosine), np.zeros_like(cosine), np.empty_like(cosine)
    for weight in weights[::-1].astype(np.float32):
        np.multiply(twice, total, out=free)
        free += weight
        free -= last
        total, last, free = free, total, last
    return total, last


def spread(body: np.random.Generator, levels: np.ndarray, decibels: float = 4.0) -> np.ndarray:
    """Complex amplitudes with random phases and deviations from the given levels; the total power is kept."""
    levels = np.asarray(levels, dtype=np.float64)
    phases = body.uniform(0, 2 * np.pi, len(levels))
    drawn = levels * 10 ** (decibels * body.standard_normal(len(levels)) / 20)
    return drawn * np.sqrt(np.square(levels).sum() / np.square(drawn).sum()) * np.exp(1j * phases)


def crossings(phase: np.ndarray, step: float) -> np.ndarray:
    """Fractional sample positions at which an increasing phase passes multiples of ``step`` (radians)."""
    marks = np.arange(np.ceil(phase[0] / step), np.floor(phase[-1] / step) + 1) * step
    return np.interp(marks, phase, np.arange(len(phase)))


def ringing(hertz: np.ndarray, seconds: np.ndarray, gains: np.ndarray, rate: int) -> np.ndarray:
    """Impulse response of damped modes, with unit energy.

    Args:
        hertz: (K,) frequencies of the modes.
        seconds: (K,) times in which the modes decay to 1/e.
        gains: (K,).
        rate: sampling rate in Hz.
    """
    length = int(6 * np.max(seconds) * rate)
    t = np.arange(length)[:, None] / rate
    wave = (gains * np.exp(-t / seconds) * np.sin(2 * np.pi * np.asarray(hertz) * t)).sum(axis=1)
    return (wave / np.sqrt(np.square(wave).sum())).astype(np.float32)


def strike(places: np.ndarray, gains: np.ndarray, response: np.ndarray, samples: int) -> np.ndarray:
    """Impulses at fractional sample positions, convolved with a response; float32 (samples,)."""
    impulses = fractional_impulses(places, gains, samples)
    size = fft.next_fast_len(samples + len(response), real=True)
    return fft.irfft(fft.rfft(impulses, size) * fft.rfft(response, size), size)[:samples]


def haystack(peak: float, slope: float, rate: int, low_cut: float = 30.0) -> np.ndarray:
    """Gain (BINS,) of broad-band noise around ``peak`` Hz that falls by ``slope`` dB per octave above it."""
    f = np.linspace(0, rate / 2, BINS)
    return (f / (f + low_cut)) ** 2 * (1 + (f / peak) ** 2) ** (-slope / 12.04)


def band(centre: float, octaves: float, rate: int) -> np.ndarray:
    """Gain (BINS,) with a bell shape around ``centre`` Hz on a log frequency axis."""
    f = np.maximum(np.linspace(0, rate / 2, BINS), 1.0)
    return np.exp(-0.5 * (np.log2(f / centre) / (octaves / 2)) ** 2)


def hum(rng: np.random.Generator, samples: int, rate: int, mains: float = 50.0) -> np.ndarray:
    """Magnetic hum at twice the mains frequency and its harmonics, with about unit power."""
    phase = shaft_phase(rng, samples, rate, 2 * mains, wander=0.0003)
    return harmonics(phase, np.array([1.2, 0.5, 0.25, 0.3, 0.1, 0.1]))


def bearing(body, rng, phase: np.ndarray, order: float, rate: int) -> np.ndarray:
    """Outer-race defect with unit power: an impulse per ball pass, with slip, louder in the load zone.

    ``order`` is the number of ball passes per turn (BPFO / shaft speed). Slip is about 1 % (Randall 2011, chapter 2).
    """
    response = ringing(body.uniform(2200, 5200, 3), body.uniform(0.0008, 0.002, 3), np.array([1.0, 0.7, 0.5]), rate)
    places = crossings(phase * order, 2 * np.pi)
    turn = np.interp(places, np.arange(len(phase)), phase)
    period = (places[-1] - places[0]) / max(len(places) - 1, 1) if len(places) > 1 else 1.0
    places = places + 0.01 * period * rng.standard_normal(len(places))
    gains = (1 + 0.6 * np.cos(turn)) * (1 + 0.2 * rng.standard_normal(len(places)))
    return _unit(strike(places, gains, response, len(phase)))


def _unit(wave: np.ndarray) -> np.ndarray:
    return wave / np.sqrt(np.square(wave).mean() + 1e-12)


def fan(body, rng, condition, fault, severity, samples, rate) -> np.ndarray:
    """Axial fan: blade-pass harmonics, turbulence modulated by the blades, motor hum.

    The amplitude of turbulence grows with speed^2.5, and its spectrum shifts with speed. Faults: imbalance (shaft
    orders grow, and everything is modulated once per turn), bearing, clogging (less flow: weaker turbulence at lower
    frequencies, and stall rumble).
    """
    blades = int(body.integers(5, 9))
    hertz = condition["hertz"]
    phase = shaft_phase(rng, samples, rate, hertz)
    relative = hertz / 25.0
    tones = harmonics(blades * phase, spread(body, 0.55 / np.arange(1, 13) ** 1.1))
    shaft = spread(body, np.array([0.12, 0.06, 0.03]))
    peak = body.uniform(350, 600) * relative
    flow = 1.0 - 0.5 * severity if fault == "clogging" else 1.0
    air = coloured_noise(rng, samples, haystack(peak * flow**0.5, 5.0, rate))[0] * 0.75 * relative**2.5 * flow
    order = body.uniform(3.0, 4.2)
    if fault == "imbalance":
        shaft = shaft * (1 + 9 * severity)
    turn = np.cos(phase)
    sway = 1 + (0.05 + (0.5 * severity if fault == "imbalance" else 0.0)) * turn.astype(np.float32)
    wave = sway * (tones * relative**1.5 + air * (1 + 0.25 * np.cos(blades * phase).astype(np.float32)))
    wave = wave + harmonics(phase, shaft) + 0.12 * hum(rng, samples, rate)
    if fault == "bearing":
        wave = wave + 0.5 * severity * bearing(body, rng, phase, order, rate)
    if fault == "clogging":
        wave = wave + 0.5 * severity * coloured_noise(rng, samples, haystack(90.0, 9.0, rate))[0]
    return wave


def gearbox(body, rng, condition, fault, severity, samples, rate) -> np.ndarray:
    """Spur gear pair: mesh harmonics with sidebands of both shafts, bearing and oil noise.

    The load raises the mesh harmonics, especially the higher ones. Faults: tooth (one impact per turn), wear (second
    and third mesh harmonic and sidebands grow), bearing.
    """
    pinion, wheel = int(body.integers(17, 26)), int(body.integers(31, 44))
    phase = shaft_phase(rng, samples, rate, condition["hertz"])
    second = phase * pinion / wheel + rng.uniform(0, 2 * np.pi)
    load = condition["load"]
    k = np.arange(1, 11)
    levels = 1.1 * load**0.6 / k ** (1.5 - 0.25 * load)
    worn = severity if fault == "wear" else 0.0
    levels[1:3] *= 1 + 2.0 * worn
    depth = body.uniform(0.12, 0.25, 2) * (1 + 2.0 * worn)
    skew = 0.06 * np.sin(phase) + 0.04 * np.sin(second)
    mesh = harmonics(pinion * phase + skew, spread(body, levels))
    mesh = mesh * (1 + depth[0] * np.cos(phase) + depth[1] * np.cos(second)).astype(np.float32)
    noise = coloured_noise(rng, samples, haystack(body.uniform(500, 900), 6.0, rate))[0]
    case = ringing(body.uniform(700, 3500, 4), body.uniform(0.002, 0.006, 4), np.array([1.0, 0.8, 0.6, 0.5]), rate)
    order = body.uniform(3.0, 5.5)
    wave = mesh + (0.55 + 0.15 * load) * noise * (condition["hertz"] / 20) ** 1.5
    if fault == "tooth":
        places = crossings(phase, 2 * np.pi)
        hits = strike(places, 1 + 0.25 * rng.standard_normal(len(places)), case, samples)
        wave = wave + 0.9 * severity * load**0.5 * _unit(hits)
    if fault == "bearing":
        wave = wave + 0.7 * severity * bearing(body, rng, phase, order, rate)
    return wave


def valve(body, rng, condition, fault, severity, samples, rate) -> np.ndarray:
    """Solenoid valve: a knock at opening and at closing, flow hiss and coil hum in between.

    Faults: leak (hiss while closed), stiction (late, weak and irregular knocks), looseness (rattling after each knock,
    and resonances that are lower and decay more slowly).
    """
    period = condition["period"] * rate
    count = int(samples / period) + 2
    starts = rng.uniform(-1, 0) * period + period * (np.arange(count) + 0.015 * rng.standard_normal(count))
    width = 0.42 * period * (1 + 0.02 * rng.standard_normal(count))
    modes, decays = body.uniform(900, 5500, 5), body.uniform(0.002, 0.009, 5)
    gains, hiss_peak = body.uniform(0.4, 1.0, 5), body.uniform(2200, 3600)
    force = np.ones(count)
    if fault == "stiction":
        starts = starts + 0.12 * severity * period * rng.uniform(0, 1, count)
        force = 1 - severity * rng.uniform(0.2, 0.8, count)
    if fault == "looseness":
        modes, decays = modes * (1 - 0.2 * severity), decays * (1 + severity)
    ring = ringing(modes, decays, gains, rate)
    pressure = condition["pressure"]
    places = np.concatenate([starts, starts + width])
    knocks = np.concatenate([force, 0.7 * force]) * (1 + 0.1 * rng.standard_normal(2 * count)) * pressure**0.5
    if fault == "looseness":
        gap = rate * 0.018 * (1 + 0.3 * rng.standard_normal(2 * count))
        places = np.concatenate([places, places + gap, places + 1.7 * gap])
        knocks = np.concatenate([knocks, 0.9 * severity * knocks, 0.6 * severity * knocks])
    t = np.arange(samples)
    last = np.searchsorted(starts, t, side="right") - 1
    is_open = ((last >= 0) & (t < starts[last] + width[last])).astype(np.float32)
    soft = np.ones(80) / 80
    is_open = np.convolve(is_open, soft, mode="same").astype(np.float32)
    hiss = coloured_noise(rng, samples, band(hiss_peak, 1.4, rate))[0] * 1.2 * pressure
    shut = 0.03 + (0.6 * severity if fault == "leak" else 0.0)
    wave = 24.0 * strike(places, knocks, ring, samples) + hiss * (is_open + shut * (1 - is_open))
    wave = wave + 0.6 * is_open * hum(rng, samples, rate)
    return wave + 0.25 * coloured_noise(rng, samples, haystack(300, 5.0, rate))[0]


def pump(body, rng, condition, fault, severity, samples, rate) -> np.ndarray:
    """Three-piston pump: pulsation at three times the crank speed, valve knocks, flow noise, some cavitation.

    Faults: cavitation (bursts of collapsing bubbles in the suction strokes), leak (one piston delivers less: crank
    orders and a jet), bearing.
    """
    hertz, flow = condition["hertz"], condition["flow"]
    phase = shaft_phase(rng, samples, rate, hertz)
    pulses = harmonics(3 * phase, spread(body, 0.7 * flow / np.arange(1, 15) ** 0.8))
    leak = severity if fault == "leak" else 0.0
    crank = harmonics(phase, spread(body, (0.03 + 0.5 * leak) / np.arange(1, 8) ** 0.7))
    stroke = 1 + 0.3 * np.cos(3 * phase).astype(np.float32)
    noise = coloured_noise(rng, samples, haystack(body.uniform(400, 800), 5.0, rate))[0] * 0.55 * flow**1.5
    jet_centre, order = body.uniform(1800, 3000), body.uniform(2.5, 3.8)
    click = ringing(body.uniform(1200, 4000, 3), body.uniform(0.001, 0.003, 3), np.ones(3), rate)
    places = crossings(3 * phase, 2 * np.pi)
    gains = 1 + 0.2 * rng.standard_normal(len(places))
    gains[np.arange(len(places)) % 3 == 0] *= 1 - 0.8 * leak
    wave = pulses + crank + noise * stroke + 0.25 * flow * _unit(strike(places, gains, click, samples))
    bubbles = 0.08 + (0.9 * severity if fault == "cavitation" else 0.0)
    suction = np.maximum(np.cos(3 * phase + 1), 0).astype(np.float32)
    knots = np.linspace(0, samples, int(100 * samples / rate) + 2)  # bubbles collapse in clusters of about 10 ms
    cluster = np.interp(np.arange(samples), knots, rng.gamma(0.5, 2.0, len(knots))).astype(np.float32)
    wave = wave + bubbles * suction * cluster * coloured_noise(rng, samples, band(4200, 1.6, rate))[0]
    if fault == "leak":
        wave = wave + 0.45 * leak * coloured_noise(rng, samples, band(jet_centre, 1.0, rate))[0] * stroke
    if fault == "bearing":
        wave = wave + 0.5 * severity * bearing(body, rng, phase, order, rate)
    return wave


def slider(body, rng, condition, fault, severity, samples, rate) -> np.ndarray:
    """Linear slide: friction noise that follows the carriage's speed, motor tone, a knock at each end of the stroke.

    Faults: dry (stick-slip squeal at a resonance of the guide), play (stronger double knocks), belt (a worn tooth hits
    several times per stroke, and the speed ripples).
    """
    worn = severity if fault == "belt" else 0.0
    phase = shaft_phase(rng, samples, rate, condition["strokes"], wander=0.01)
    speed = np.abs(np.sin(phase)) * (1 + 0.3 * worn * np.sin(23 * phase))
    grain = haystack(body.uniform(700, 1400), 4.0, rate) + 0.6 * band(body.uniform(2000, 4000), 0.6, rate)
    pace = condition["strokes"] * condition["travel"]
    friction = coloured_noise(rng, samples, grain)[0] * (1.25 * speed**0.8 * pace**0.7).astype(np.float32)
    motor = np.cumsum(np.abs(speed)) * 2 * np.pi * body.uniform(450, 700) * pace / rate
    tone = harmonics(motor, spread(body, np.array([0.3, 0.15, 0.1, 0.06]))) * np.minimum(speed, 1).astype(np.float32)
    knock = ringing(body.uniform(250, 1800, 4), body.uniform(0.004, 0.012, 4), np.ones(4), rate)
    squeal_hertz = body.uniform(1500, 2600)
    ends = crossings(phase, np.pi)
    play = severity if fault == "play" else 0.0
    gains = (1 + 2.5 * play) * (1 + 0.15 * rng.standard_normal(len(ends)))
    wave = friction + tone + 9.0 * strike(ends, gains, knock, samples)
    if fault == "play":
        wave = wave + 15.0 * play * strike(ends + 0.035 * rate, gains, knock, samples)
    if fault == "dry":
        wobble = shaft_phase(rng, samples, rate, squeal_hertz, wander=0.004)
        gate = np.clip(1.6 * speed - 0.5, 0, 1) * np.clip(1.5 - speed, 0, 1)
        wave = wave + 0.8 * severity * gate.astype(np.float32) * harmonics(wobble, np.array([1.0, 0.4, 0.2]))
    if fault == "belt":
        hits = crossings(phase, 2 * np.pi / 5)
        wave = wave + 11.0 * worn * strike(hits, 1 + 0.2 * rng.standard_normal(len(hits)), knock, samples)
    return wave


def ambience(kind: str, rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Random background noise with unit power, float32 (samples,).

    Args:
        kind: ``ventilation`` (steady), ``motor`` (harmonics of another machine), ``workshop`` (clanks at random times)
            or ``crowd`` (speech-like: bands modulated at about 4 Hz).
        rng: random generator.
        samples: length.
        rate: sampling rate in Hz.
    """
    floor = coloured_noise(rng, samples, haystack(rng.uniform(150, 600), rng.uniform(4, 7), rate))[0]
    if kind == "ventilation":
        return floor
    if kind == "motor":
        phase = shaft_phase(rng, samples, rate, rng.uniform(18, 60), wander=0.01)
        levels = 1 / np.arange(1, 21) ** rng.uniform(0.5, 1.0)
        return _unit(_unit(harmonics(phase, spread(rng, levels, 6.0))) + 0.5 * floor)
    if kind == "workshop":
        count = rng.poisson(1.5 * samples / rate) + 1
        ring = ringing(rng.uniform(400, 5000, 6), rng.uniform(0.01, 0.06, 6), rng.uniform(0.3, 1, 6), rate)
        clanks = strike(rng.uniform(0, samples, count), rng.lognormal(0, 0.7, count), ring, samples)
        return _unit(_unit(clanks) + 0.8 * floor)
    if kind == "crowd":
        knots = np.linspace(0, samples, int(8 * samples / rate) + 2)
        voices = np.zeros(samples, dtype=np.float32)
        for centre in rng.uniform(300, 2800, 3):
            swell = np.interp(np.arange(samples), knots, rng.gamma(0.8, 1.0, len(knots))).astype(np.float32)
            voices += swell * coloured_noise(rng, samples, band(centre, 1.0, rate))[0]
        return _unit(_unit(voices) + 0.5 * floor)
    raise ValueError(f"ambience: expected ventilation, motor, workshop or crowd, found {kind!r}")
