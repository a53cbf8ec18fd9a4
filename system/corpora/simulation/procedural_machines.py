"""Engines, rotors, bearings, machines and electric devices for pre-training, see procedural_sources.py."""

import numpy as np

from system.corpora.simulation import machines
from system.corpora.simulation.machines import crossings
from system.corpora.simulation.procedural_parts import (
    body,
    control_points,
    draw_out,
    envelope,
    impulses,
    knots,
    log_uniform,
    noise,
    phase_of,
    resonate,
    stack,
    track,
    unit,
)


def engine(rng, samples, rate):
    """Combustion engines, saws, trains: firing pulses through an exhaust, gear whine, and noise modulated by them."""
    seconds = samples / rate
    hertz = log_uniform(rng, 4, 150)
    fires = int(rng.integers(1, 9)) / 2
    course = np.clip(track(rng, seconds), -2, 1.5)
    phase = phase_of(rng, hertz, course, samples, rate)
    times = crossings(phase * fires, 2 * np.pi) / rate
    times = times + rng.uniform(0, 0.03) / (hertz * fires) * rng.standard_normal(len(times))
    cylinders = 1 + rng.uniform(0, 0.5) * rng.standard_normal(max(1, int(2 * fires)))
    gains = np.maximum(np.resize(cylinders, len(times)) + rng.uniform(0, 0.3) * rng.standard_normal(len(times)), 0)
    exhaust = body(rng, rate, (3, 7), (40, 800), (0.001, 0.04))
    wave = unit(resonate(impulses(rng, times, gains, samples, rate), exhaust, rate))
    breathing = 1 + rng.uniform(0, 1) * np.cos(phase * fires).astype(np.float32)
    wave = wave + log_uniform(rng, 0.02, 0.8) * noise(rng, samples, rate) * breathing
    if rng.random() < 0.5:
        order = rng.uniform(3, 60)
        whine = stack(rng, phase * order, hertz * order * 2 ** course.max(), rate, np.arange(1, 7) ** -1.5)
        wave = wave + log_uniform(rng, 0.02, 1) * whine
    return unit(wave), {"hertz": hertz, "fires": fires}


def rotor(rng, samples, rate):
    """Propellers, drones, helicopters: blade-pass harmonics of rotors at nearly the same speed, and modulated noise.

    A damaged blade adds the shaft rate, to the harmonics and to the modulation.
    """
    seconds = samples / rate
    hertz, blades = log_uniform(rng, 3.5, 160), int(rng.integers(2, 6))
    rotors = int(rng.choice((1, 2, 4, 6)))
    detune, shared = log_uniform(rng, 5e-4, 0.03), np.clip(track(rng, seconds), -1.5, 1)
    slope, damage = rng.uniform(0.3, 1.8), log_uniform(rng, 0.01, 1)
    sharp, depth = log_uniform(rng, 0.5, 12), rng.uniform(0.1, 1)
    wave, air = np.zeros(samples, dtype=np.float32), noise(rng, samples, rate)
    chop = np.zeros(samples, dtype=np.float32)
    for _ in range(rotors):
        own = hertz * (1 + detune * rng.standard_normal())
        phase = phase_of(rng, own, shared, samples, rate)
        levels = damage * 0.3 * np.arange(1, 5 * blades + 1) ** -slope
        levels[blades - 1 :: blades] = np.arange(1, 6) ** -slope
        wave += stack(rng, phase, own * 2 ** shared.max(), rate, levels)
        turn = np.cos(phase).astype(np.float32)
        chop += (0.5 + 0.5 * np.cos(blades * phase).astype(np.float32)) ** sharp * (1 + damage * turn)
    wave = unit(wave) + log_uniform(rng, 0.03, 2) * air * (1 - depth + depth * chop / rotors)
    if rng.random() < 0.4:
        poles = int(rng.integers(5, 15))
        whine = stack(rng, phase * poles, own * poles * 2 ** shared.max(), rate, np.arange(1, 5) ** -1.0)
        wave = wave + log_uniform(rng, 0.02, 0.7) * whine
    return unit(wave), {"hertz": hertz, "blades": blades, "rotors": rotors}


def vibration(rng, samples, rate):
    """Vibration of a bearing housing: impacts at a defect rate on a stiff structure, shaft orders, gears, noise.

    Impacts slip by about 1 % and are modulated by shaft or cage (Randall 2011, chapter 2); one housing in three is
    healthy.
    """
    seconds = samples / rate
    hertz = log_uniform(rng, 4, 80)
    phase = phase_of(rng, hertz, log_uniform(rng, 1e-4, 0.02) * knots(rng, seconds, 0.25), samples, rate)
    structure = body(rng, rate, (3, 9), (150, 5000), (0.0004, 0.006))
    wave = unit(resonate(rng.standard_normal(samples, dtype=np.float32), structure, rate))
    wave = wave * log_uniform(rng, 0.03, 1) + log_uniform(rng, 0.01, 1) * noise(rng, samples, rate)
    orders = stack(rng, phase, hertz, rate, np.arange(1, 13) ** -rng.uniform(0.3, 2))
    wave = wave + log_uniform(rng, 0.01, 2) * orders
    if rng.random() < 0.4:
        teeth = int(rng.integers(8, 60))
        mesh = stack(rng, phase * teeth, hertz * teeth, rate, np.arange(1, 6) ** -rng.uniform(0.5, 2))
        wave = wave + log_uniform(rng, 0.02, 1) * mesh * (1 + rng.uniform(0, 0.5) * np.cos(phase).astype(np.float32))
    defect = hertz * log_uniform(rng, 0.38, 9) if rng.random() < 0.67 else 0.0
    if defect:
        times = crossings(phase * defect / hertz, 2 * np.pi) / rate
        turn = np.interp(times * rate, np.arange(samples), phase * rng.choice((0.0, 0.4, 1.0)))
        times = times + log_uniform(rng, 0.001, 0.02) / defect * rng.standard_normal(len(times))
        gains = (1 + rng.uniform(0, 1) * np.cos(turn)) * (1 + 0.2 * rng.standard_normal(len(times)))
        train = impulses(rng, times, np.maximum(gains, 0.0), samples, rate)
        wave = wave + log_uniform(rng, 0.2, 8) * unit(resonate(train, structure, rate))
    return unit(wave), {"hertz": hertz, "defect": defect}


def machine(rng, samples, rate):
    """One of the five machine models without a fault, with random individual properties and operating condition."""
    name = str(rng.choice(("fan", "gearbox", "valve", "pump", "slider")))
    limits = {  # the highest mesh harmonic of a gearbox is 250 times its speed, the slider's motor goes up to 5 kHz
        "fan": {"hertz": (8, min(80, 0.0045 * rate))},
        "gearbox": {"hertz": (4, min(40, 0.0018 * rate)), "load": (0.4, 1.6)},
        "valve": {"period": (0.12, 1.6), "pressure": (0.5, 2)},
        "pump": {"hertz": (3, 40), "flow": (0.6, 1.4)},
        "slider": {"strokes": (0.3, 1.6), "travel": (0.6, 1.1)},
    }[name]
    condition = {key: log_uniform(rng, *pair) for key, pair in limits.items()}
    wave = getattr(machines, name)(rng, rng, condition, "", 0.0, samples, rate)
    return unit(wave.astype(np.float32)), {"model": name}


def electric(rng, samples, rate):
    """Mains hum, transformers, inverters with carriers and sidebands, turbines and compressors that start and stop."""
    seconds = samples / rate
    mains = float(rng.choice((50.0, 60.0)))
    still = np.zeros(control_points(seconds))
    phase = phase_of(rng, mains, still, samples, rate)
    levels = np.arange(1, 41) ** -rng.uniform(0.2, 1.8)
    levels[0::2] *= log_uniform(rng, 0.01, 1)
    wave = unit(stack(rng, phase, mains, rate, levels[: rng.integers(3, 41)])) * log_uniform(rng, 0.05, 1)
    if rng.random() < 0.6:
        drive = np.clip(track(rng, seconds), -3, 1)
        hertz = log_uniform(rng, 10, 400)
        turn = phase_of(rng, hertz, drive, samples, rate)
        if rng.random() < 0.5:  # carrier and sidebands of pulse-width modulation
            carrier = log_uniform(rng, 1000, 0.4 * rate)
            swing = log_uniform(rng, 0.2, 4) * np.sin(turn * rng.integers(1, 4))
            tone = np.cos(phase_of(rng, carrier, still, samples, rate) + swing).astype(np.float32)
        else:
            order = log_uniform(rng, 5, 60)
            levels = np.arange(1, 9) ** -rng.uniform(0.3, 2)
            tone = stack(rng, turn * order, hertz * order * 2 ** drive.max(), rate, levels)
        wave = wave + log_uniform(rng, 0.03, 3) * tone
    wave = wave + log_uniform(rng, 1e-3, 1) * noise(rng, samples, rate)
    if rng.random() < 0.3:
        wave = wave * draw_out(envelope(rng, seconds, rng.choice(("gated", "swelling", "chopped"))), samples)
    return unit(wave), {"mains": mains}
