"""Recordings, a table and noise for the tests of emulate."""

import csv

import numpy as np
import soundfile
from scipy import signal

from system.corpora.simulation.emulate import EmulateSettings

RATE = 8000
QUICK = EmulateSettings(seed=1, rate=RATE, rt60=0.1, train_target=3)
HEADER = ("file", "machine", "label", "domain", "group", "attributes", "fault")


def write_wave(path, wave, rate=RATE, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(wave).T, rate, subtype=subtype)


def machine_wave(rng, seconds, rate, pitch):
    t = np.arange(int(seconds * rate)) / rate
    hum = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
    return 0.05 * hum + 0.01 * rng.standard_normal(len(t))


def write_table(path, rows, header=HEADER):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def make_inputs(root, machines=("saw", "drill")):
    """A table of two machines, 8 source and 5 target flights of normals in pairs, anomalies, and a folder of noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number, machine in enumerate(machines):
        groups = [("source", "normal", k) for k in range(8)] + [("target", "normal", k) for k in range(5)]
        groups += [(domain, "anomaly", k) for domain in ("source", "target") for k in range(3)]
        for domain, label, k in groups:
            for cut in range(2):
                name = f"recordings/{machine}_{domain}_{label}_{k}_{cut}.wav"
                pitch = 150 + 60 * number + 20 * (domain == "target") + 35 * (label == "anomaly")
                write_wave(root / name, machine_wave(rng, 1.0, RATE, pitch))
                attributes = "spd_2_tool_b" if machine == "drill" and domain == "target" else ""
                fault = "blunt" if label == "anomaly" else ""
                rows.append((name, machine, label, domain, f"{domain}{label}{k}", attributes, fault))
    for k in range(9):
        rate = (RATE, 11025, 16000)[k % 3]
        colour = signal.lfilter([1], [1, -0.1 * k], rng.standard_normal(int((0.4 + 0.3 * k) * rate)))
        write_wave(root / "noise" / f"kind{k % 2}" / f"{k}.wav", 0.02 * colour, rate)
    return write_table(root / "table.csv", rows), root / "noise"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
