"""Voices, tones, noises, strikes and grains for pre-training, each a function of (rng, samples, rate).

A source returns its waveform, float32 (samples,) with about unit power while it sounds, and a few facts about it that
can be measured (numbers or short words). Its parameters are drawn once per clip. The sources are models of the physics
of such sounds; none copies a recording.
"""

import numpy as np
from scipy import fft

from system.corpora.simulation.acoustics import coloured_noise
from system.corpora.simulation.machines import crossings, strike
from system.corpora.simulation.procedural_parts import (
    CONTROL,
    GRID,
    bell,
    body,
    colour,
    control_points,
    draw_out,
    envelope,
    filtered,
    impulses,
    knots,
    log_uniform,
    moments,
    noise,
    phase_of,
    resonate,
    stack,
    track,
    unit,
)


def calls(rng, samples, rate):
    """Voices of people and animals: glottal pulses and breath through formants, in syllables of similar shape."""
    seconds = samples / rate
    hertz = log_uniform(rng, 60, min(2500, rate / 10))
    level, course = _syllables(rng, seconds)
    depth, turns = log_uniform(rng, 1e-3, 0.06), log_uniform(rng, 3, 14) * np.arange(len(course)) / CONTROL
    course = course + depth * np.sin(2 * np.pi * turns)
    course = course + log_uniform(rng, 5e-4, 0.03) * knots(rng, seconds, 0.006)
    phase = phase_of(rng, hertz, np.clip(course, -2, 2), samples, rate)
    times = crossings(phase, 2 * np.pi) / rate
    gains = np.interp(times * CONTROL, np.arange(len(level)), level)
    gains = gains * np.maximum(1 + log_uniform(rng, 0.01, 0.5) * rng.standard_normal(len(gains)), 0)
    gains[::2] *= 1 - rng.choice((0.0, 0.5), p=(0.75, 0.25)) * rng.random()  # a voice that breaks by an octave
    breath = log_uniform(rng, 0.003, 3) * np.sqrt(hertz / rate)
    white = rng.standard_normal(samples, dtype=np.float32) * draw_out(level, samples)
    excitation = impulses(rng, times, gains, samples, rate) + np.float32(breath) * white
    closed, opened = filtered(excitation, *(_formants(rng, hertz, rate) for _ in range(2)))
    # The mouth does not move, opens with loudness (meow), or moves freely (speech).
    moving = (np.zeros_like(level), level, rng.uniform(0, 2) * knots(rng, seconds, log_uniform(rng, 0.06, 0.6)) + 0.5)
    shape = draw_out(np.clip(moving[rng.integers(3)], 0, 1), samples)
    return unit(closed + shape * (opened - closed)), {"hertz": hertz}


def _syllables(rng, seconds):
    """Level and pitch track (octaves) of repeated syllables, at CONTROL values per second."""
    points = control_points(seconds)
    level, course = np.zeros(points), np.zeros(points)
    length = log_uniform(rng, 0.05, 1.6)
    pause = log_uniform(rng, 0.03, 1.5)
    bout, rest = int(rng.geometric(0.25)), log_uniform(rng, 0.1, 3)
    attack, release = log_uniform(rng, 0.02, 0.5), log_uniform(rng, 0.1, 0.7)
    shape = rng.uniform(0.02, 0.5) * rng.standard_normal(4)
    loose = log_uniform(rng, 0.01, 0.3)
    t, count = rng.uniform(0, 0.5) * seconds * rng.random(), 0
    while t < seconds:
        own = length * np.exp(loose * rng.standard_normal())
        start, stop = int(t * CONTROL), min(points, int((t + own) * CONTROL) + 2)
        x = np.linspace(0, 1, stop - start)
        bend = np.interp(x, np.linspace(0, 1, 4), shape + 0.3 * loose * rng.standard_normal(4))
        level[start:stop] = np.minimum(np.minimum(x / attack, (1 - x) / release), 1) * rng.lognormal(0, loose)
        course[start:stop] = bend
        count += 1
        t += own + pause * np.exp(loose * rng.standard_normal()) + (rest if count % bout == 0 else 0)
    return level, course


def _formants(rng, hertz, rate):
    f = np.maximum(np.linspace(0, rate / 2, GRID), 10.0)
    gain = np.full(GRID, 10 ** (rng.uniform(-45, -12) / 20))
    for centre in log_uniform(rng, max(150, 0.7 * hertz), min(9000, 0.45 * rate), rng.integers(1, 7)):
        gain = gain + rng.uniform(0.1, 1) * bell(f, centre, log_uniform(rng, 0.08, 0.8))
    return gain * (1 + (f / hertz) ** 2) ** (-rng.uniform(0, 12) / 12.04)


def tones(rng, samples, rate):
    """Sirens, horns, alarms, whistles, melodies: one to four tones with overtones, steady, swept, keyed or stepped."""
    seconds = samples / rate
    points = control_points(seconds)
    t = np.arange(points) / CONTROL
    hertz = log_uniform(rng, 70, min(6000, rate / 5))
    pattern = str(rng.choice(("steady", "siren", "two-tone", "melody", "drawn"), p=(0.3, 0.22, 0.1, 0.18, 0.2)))
    turn = log_uniform(rng, 0.1, 9) * t + rng.random()
    course = np.zeros(points)
    if pattern == "siren":
        wave = (np.sin(2 * np.pi * turn), 2 * np.abs(2 * (turn % 1) - 1) - 1, 2 * (turn % 1) - 1)[rng.integers(3)]
        course = log_uniform(rng, 0.05, 1.2) * wave
    elif pattern == "two-tone":
        course = rng.uniform(0.1, 0.6) * (turn % 1 < 0.5)
    elif pattern == "melody":
        scale = np.array([-12, -7, -5, -3, 0, 2, 4, 5, 7, 9, 12]) / 12
        course = rng.choice(scale, int(turn.max()) + 2)[turn.astype(int)]
    elif pattern == "drawn":
        course = track(rng, seconds)
    highest = hertz * 2 ** np.abs(course).max()
    k = np.arange(1, 25)
    levels = k ** -rng.uniform(0.3, 3)
    levels[1::2] *= rng.choice((1.0, 0.05), p=(0.65, 0.35))
    levels = levels[: rng.integers(1, len(levels) + 1)]
    wave = np.zeros(samples, dtype=np.float32)
    intervals = rng.choice((0, 0.004, 3 / 12, 4 / 12, 7 / 12, 1), rng.integers(1, 4)) if rng.random() < 0.35 else [0]
    for octaves in intervals:
        phase = phase_of(rng, hertz * 2**octaves, course, samples, rate)
        wave += stack(rng, phase, highest * 2**octaves, rate, levels)
    keyed = envelope(rng, seconds, rng.choice(("steady", "gated", ""), p=(0.45, 0.3, 0.25)))
    if pattern == "melody":
        keyed = keyed * np.exp(-(turn % 1) * log_uniform(rng, 0.1, 8))
    wave *= draw_out(keyed, samples)
    wave = unit(wave) + log_uniform(rng, 1e-4, 0.2) * noise(rng, samples, rate)
    return wave, {"hertz": hertz, "pattern": pattern, "voices": len(intervals)}


def chirps(rng, samples, rate):
    """Birds, crickets, frogs, ringing devices: trains of short chirps or trills, also frequency-modulated ones."""
    seconds = samples / rate
    hertz = log_uniform(rng, 300, 0.3 * rate)
    level, course = _syllables(rng, seconds)
    if rng.random() < 0.6:
        level = level * envelope(rng, seconds, rng.choice(("chopped", "gated", "flutter")))
    course = np.clip(course * log_uniform(rng, 0.05, 2), -2, np.log2(0.45 * rate / hertz))
    phase = phase_of(rng, hertz, course, samples, rate)
    if rng.random() < 0.3:
        phase = phase + log_uniform(rng, 0.1, 8) * np.sin(phase * log_uniform(rng, 0.01, 2))
    levels = np.arange(1, 6) ** -rng.uniform(1, 5)
    wave = stack(rng, phase, hertz * 2 ** course.max(), rate, levels) * draw_out(level, samples)
    return unit(wave), {"hertz": hertz}


def noises(rng, samples, rate):
    """Wind, sea, rain, steam, fans, brushing: one to three coloured noises, each with its own envelope."""
    seconds = samples / rate
    wave = np.zeros(samples, dtype=np.float32)
    for _ in range(rng.integers(1, 4)):
        layer = noise(rng, samples, rate) * draw_out(envelope(rng, seconds), samples)
        wave += log_uniform(rng, 0.05, 1) * unit(layer)
    if rng.random() < 0.2:  # a whistle: narrow noise around a wandering frequency
        slow = coloured_noise(rng, samples, bell(np.linspace(0, rate / 2, GRID) + 1, 1.0, 10.0))[0]
        hertz = log_uniform(rng, 200, rate / 4)
        course = np.clip(track(rng, seconds), -3, np.log2(0.47 * rate / hertz))
        carrier = np.cos(phase_of(rng, hertz, course, samples, rate)).astype(np.float32)
        wave += log_uniform(rng, 0.05, 2) * slow * carrier * draw_out(envelope(rng, seconds), samples)
    return unit(wave), {}


def bells(rng, samples, rate):
    """Bells, glass, gongs, plucked strings: few strikes, long ringing bodies."""
    return _struck(rng, samples, rate, (0.2, 8), (4, 12), (80, 5000), (0.04, 3.0))


def knocks(rng, samples, rate):
    """Footsteps, doors, clocks, hammers, keys, claps: strikes on short bodies, each with a burst of noise."""
    wave, facts = _struck(rng, samples, rate, (0.3, 14), (2, 7), (50, 4000), (0.001, 0.1))
    return wave, facts


def _struck(rng, samples, rate, per_second, modes, hertz, decay):
    seconds = samples / rate
    often = log_uniform(rng, *per_second)
    times, gains, pattern = moments(rng, seconds, often)
    bodies = int(rng.choice((1, 1, 2, 4)))
    which = rng.integers(0, bodies, len(times)) if rng.random() < 0.5 else np.arange(len(times)) % bodies
    wave = np.zeros(samples, dtype=np.float32)
    for k in range(bodies):
        if (which == k).any():
            struck = impulses(rng, times[which == k], gains[which == k], samples, rate)
            if rng.random() < 0.5:  # a soft hammer
                struck = filtered(struck, _soft(rng, rate))[0]
            wave += resonate(struck, body(rng, rate, modes, hertz, decay), rate)
    wave = unit(wave)
    if rng.random() < 0.6:
        wave = wave + log_uniform(rng, 0.03, 2) * unit(strike(times * rate, gains, _puff(rng, rate), samples))
    return wave, {"per_second": often, "pattern": pattern, "bodies": bodies}


def _soft(rng, rate):
    f = np.linspace(0, rate / 2, GRID)
    return (1 + (f / log_uniform(rng, 150, 4000)) ** 2) ** -1.0


def _puff(rng, rate):
    """Decaying noise with a random spectrum: response of a clap, a step on gravel, a key."""
    seconds = log_uniform(rng, 0.0008, 0.15)
    count = max(64, int(6 * seconds * rate))
    t = np.arange(count) / rate
    rise = np.minimum(t / log_uniform(rng, 1e-4, 0.02), 1)
    return (coloured_noise(rng, count, colour(rng, rate))[0] * rise * np.exp(-t / seconds)).astype(np.float32)


def grains(rng, samples, rate):
    """Rain, crackling, frying, applause, gravel: many short strikes on a few bodies, with varying density."""
    seconds = samples / rate
    per_second = log_uniform(rng, 4, 2500)
    density = np.maximum(envelope(rng, seconds), 0)
    total = np.cumsum(density)
    count = 1 + rng.poisson(per_second * seconds)
    times = np.interp(rng.uniform(0, total[-1], count), total, np.arange(len(total)) / CONTROL)
    gains = rng.lognormal(0, log_uniform(rng, 0.2, 2), count)
    groups = int(rng.integers(1, 5))
    which = rng.integers(0, groups, count)
    wave = np.zeros(samples, dtype=np.float32)
    for k in range(groups):
        train = np.bincount((times[which == k] * (rate - 1)).astype(int), gains[which == k], samples)[:samples]
        if rng.random() < 0.6:
            modes = body(rng, rate, (1, 3), (100, 9000), (0.0002, 0.02))
            wave += log_uniform(rng, 0.2, 1) * unit(resonate(train, modes, rate))
        else:
            wave += log_uniform(rng, 0.2, 1) * unit(_convolved(train, _puff(rng, rate)))
    return unit(wave), {"per_second": per_second}


def _convolved(wave, response):
    size = fft.next_fast_len(len(wave) + len(response), real=True)
    spectrum = fft.rfft(wave.astype(np.float32), size) * fft.rfft(response, size)
    return fft.irfft(spectrum, size)[: len(wave)]


def drops(rng, samples, rate):
    """Drops, bubbles, pouring: damped tones that rise as a bubble nears the surface (van den Doel 2005)."""
    seconds = samples / rate
    often = log_uniform(rng, 0.5, 300)
    times, gains, pattern = moments(rng, seconds, often)
    middle, wide = log_uniform(rng, 250, 0.2 * rate), rng.uniform(0.02, 1.0)
    decay, rise = log_uniform(rng, 0.004, 0.12), rng.uniform(-0.2, 1.2)
    kinds = int(rng.integers(2, 9))
    which = rng.integers(0, kinds, len(times))
    wave = np.zeros(samples, dtype=np.float32)
    for k in range(kinds):
        if (which == k).any():
            own = decay * rng.uniform(0.6, 1.6)
            t = np.arange(int(6 * own * rate)) / rate
            hertz = np.minimum(middle * 2 ** (wide * rng.standard_normal() + rise * t / own / 4), 0.46 * rate)
            response = np.exp(-t / own) * np.sin(2 * np.pi * np.cumsum(hertz) / rate)
            wave += strike(times[which == k] * rate, gains[which == k], response.astype(np.float32), samples)
    return unit(wave), {"per_second": often, "pattern": pattern}


def friction(rng, samples, rate):
    """Sawing, scraping, zips, squeaks: teeth passing at the speed of a moving hand, and noise that follows it."""
    seconds = samples / rate
    pace = np.maximum(envelope(rng, seconds, rng.choice(("chopped", "swelling", "bursts"))), 0)
    pace = pace / max(pace.max(), 1e-6)
    teeth = log_uniform(rng, 20, 900)
    phase = 2 * np.pi * np.cumsum(draw_out(teeth * pace, samples), dtype=np.float64) / rate
    times = crossings(phase, 2 * np.pi) / rate
    wave = np.zeros(samples, dtype=np.float32)
    if len(times):
        gains = rng.lognormal(0, log_uniform(rng, 0.02, 0.8), len(times))
        train = impulses(rng, times, gains, samples, rate)
        wave = unit(resonate(train, body(rng, rate, (2, 6), (200, 5000), (0.0003, 0.03)), rate))
    rub = noise(rng, samples, rate) * draw_out(pace ** rng.uniform(0.5, 2), samples)
    return unit(wave + log_uniform(rng, 0.02, 3) * unit(rub)), {"teeth": teeth}
