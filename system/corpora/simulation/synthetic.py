"""Simulated machines in DCASE layout, the data of the default run.

Every clip is a machine model (machines.py) in a room with a near and a far microphone, three noise sources at other
places, and independent noise of each microphone. Source and target domain differ in operating condition, room and
noise. Three machines have labelled test clips (development), two have anonymous ones (evaluation).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from system import audio
from system.corpora import folder as folders
from system.corpora.simulation import machines
from system.corpora.simulation.acoustics import Scene, coloured_noise, draw_scene, generator, smooth_response
from system.errors import WheeltapperError
from system.files import write_json

RECORD = "synthetic.json"
VERSION = 1  # raised if the same settings and seed give different sound
RATE = 16000
DOMAINS = ("source", "target")
CELLS = tuple((domain, label) for domain in DOMAINS for label in ("normal", "anomaly"))


@dataclass(frozen=True)
class Model:
    """A simulated machine.

    Args:
        render: a function of machines.py.
        seconds: length of a clip.
        anonymous: whether test clips are anonymous.
        faults: faults, used in turn.
        conditions: domain to operating conditions, used in turn; each is the attributes of its clips (may be empty),
            and name to limits (low, high) of a uniform distribution.
        ambience: domain to kinds of the three noise sources.
        snr_db: limits of the signal-to-noise ratio at the near microphone for a healthy machine of unit power.
    """

    render: Callable[..., np.ndarray]
    seconds: float
    anonymous: bool
    faults: tuple[str, ...]
    conditions: dict[str, list[tuple[str, dict[str, tuple[float, float]]]]]
    ambience: dict[str, tuple[str, str, str]]
    snr_db: tuple[float, float]


MODELS = {
    "SimFan": Model(
        render=machines.fan,
        seconds=6.0,
        anonymous=False,
        faults=("imbalance", "bearing", "clogging"),
        conditions={
            "source": [(f"spd_{k}", {"hertz": (h - 0.3, h + 0.3)}) for k, h in ((1, 22.0), (2, 25.0), (3, 28.0))],
            "target": [("spd_4", {"hertz": (30.7, 31.3)})],
        },
        ambience={"source": ("ventilation", "motor", "workshop"), "target": ("crowd", "motor", "ventilation")},
        snr_db=(-6.0, 0.0),
    ),
    "SimGearbox": Model(
        render=machines.gearbox,
        seconds=6.0,
        anonymous=False,
        faults=("tooth", "wear", "bearing"),
        conditions={
            "source": [
                (f"spd_{k}_load_{load}", {"hertz": (h - 0.2, h + 0.2), "load": (level - 0.1, level + 0.1)})
                for k, h in ((1, 17.0), (2, 20.0))
                for load, level in ((1, 0.6), (2, 1.0))
            ],
            "target": [("spd_3_load_3", {"hertz": (23.3, 23.7), "load": (1.3, 1.5)})],
        },
        ambience={"source": ("workshop", "ventilation", "motor"), "target": ("workshop", "crowd", "ventilation")},
        snr_db=(-9.0, -3.0),
    ),
    "SimValve": Model(
        render=machines.valve,
        seconds=10.0,
        anonymous=False,
        faults=("leak", "stiction", "looseness"),
        conditions={
            "source": [("", {"period": (0.55, 0.75), "pressure": (0.8, 1.2)})],
            "target": [("", {"period": (0.85, 0.95), "pressure": (1.3, 1.6)})],
        },
        ambience={"source": ("ventilation", "motor", "crowd"), "target": ("workshop", "ventilation", "motor")},
        snr_db=(-4.0, 2.0),
    ),
    "SimPump": Model(
        render=machines.pump,
        seconds=6.0,
        anonymous=True,
        faults=("cavitation", "leak", "bearing"),
        conditions={
            "source": [
                (f"flow_{k}", {"hertz": (h - 0.2, h + 0.2), "flow": (level - 0.05, level + 0.05)})
                for k, h, level in ((1, 10.0, 0.85), (2, 12.0, 1.0))
            ],
            "target": [("flow_3", {"hertz": (13.8, 14.2), "flow": (1.1, 1.2)})],
        },
        ambience={"source": ("motor", "ventilation", "workshop"), "target": ("crowd", "ventilation", "workshop")},
        snr_db=(-4.0, 2.0),
    ),
    "SimSlider": Model(
        render=machines.slider,
        seconds=6.0,
        anonymous=True,
        faults=("dry", "play", "belt"),
        conditions={
            "source": [("", {"strokes": (0.8, 1.1), "travel": (0.9, 1.1)})],
            "target": [("", {"strokes": (1.3, 1.5), "travel": (0.9, 1.1)})],
        },
        ambience={"source": ("ventilation", "crowd", "motor"), "target": ("ventilation", "workshop", "motor")},
        snr_db=(-1.0, 5.0),
    ),
}


@dataclass(frozen=True)
class SyntheticSettings:
    """Size and acoustics of the simulated data.

    Args:
        machines: keys of MODELS.
        train_source: normal source clips for training per machine.
        train_target: normal target clips for training per machine.
        test: test clips per machine for each domain and label.
        shorten: divisor of the clip lengths.
        rt60: reverberation time in seconds.
        incoherent_db: level of the independent noise of each microphone, relative to the noise of the hall.
    """

    machines: tuple[str, ...] = tuple(MODELS)
    train_source: int = 60
    train_target: int = 10
    test: int = 15
    shorten: float = 1.0
    rt60: float = 0.3
    incoherent_db: float = -12.0

    @classmethod
    def of_size(cls, size: str) -> "SyntheticSettings":
        """Settings by name: ``default``, or ``tiny`` (17 clips of 1 to 1.7 s per machine) for tests.

        Raises:
            WheeltapperError: unknown name.
        """
        if size == "default":
            return cls()
        if size == "tiny":
            return cls(train_source=6, train_target=3, test=2, shorten=6.0, rt60=0.15)
        raise WheeltapperError(f"size: expected default or tiny, found {size!r}")


@dataclass(frozen=True)
class _Plan:
    """A clip to render; ``index`` counts within its machine, split, domain and label."""

    machine: str
    split: str
    domain: str
    label: str
    index: int
    file: str = ""

    @property
    def condition(self) -> tuple[str, dict[str, tuple[float, float]]]:
        choices = MODELS[self.machine].conditions[self.domain]
        return choices[self.index % len(choices)]

    @property
    def fault(self) -> str:
        faults = MODELS[self.machine].faults
        return faults[self.index % len(faults)] if self.label == "anomaly" else ""

    @property
    def attributes(self) -> str:
        return self.condition[0]

    @property
    def labelled(self) -> str:
        tail = self.attributes or "noAttribute"
        return f"section_00_{self.domain}_{self.split}_{self.label}_{self.index:04d}_{tail}.wav"


def synthesize(
    folder: str | Path,
    settings: SyntheticSettings,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes simulated machines: ``<machine>/{train,test}/*.wav``, attributes_00.csv, truth.csv and a record.

    A clip depends on the seed, its machine, split, domain, label and index only. If the folder already contains the
    same data, nothing is done.

    Args:
        folder: missing, empty or written by an earlier call; in the last case it is replaced.
        settings: size and acoustics.
        seed: random seed.
        workers: number of threads; the result does not depend on it.
        progress: called with (clips done, total).

    Raises:
        WheeltapperError: setting out of range, or a folder with other content.
    """
    folder = Path(folder)
    _check(settings)
    identity = {"program": "synthesize", "version": VERSION, "seed": seed, "settings": _jsonable(settings)}
    if folders.is_complete(folder, RECORD, identity):
        return
    with folders.replacing(folder, RECORD) as place:
        plans = [plan for machine in settings.machines for plan in _plans(machine, settings, seed)]
        for plan in plans:
            (place / plan.machine / plan.split).mkdir(parents=True, exist_ok=True)

        def work(plan: _Plan) -> dict:
            wave, facts = _render(plan, settings, seed)
            audio.write(place / plan.machine / plan.split / plan.file, wave, RATE)
            return facts

        clips = {}
        for plan, facts in folders.run_all(work, plans, workers):
            clips[f"{plan.machine}/{plan.split}/{plan.file}"] = facts
            if progress:
                progress(len(clips), len(plans))
        _write_tables(place, plans)
        write_json(place / RECORD, {"identity": identity, "clips": clips})


def _jsonable(settings: SyntheticSettings) -> dict:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def _check(settings: SyntheticSettings) -> None:
    for name in settings.machines:
        if name not in MODELS:
            raise WheeltapperError(f"machines: expected some of {', '.join(MODELS)}, found {name!r}")
    for name, least in (("train_source", 1), ("train_target", 0), ("test", 0)):
        if getattr(settings, name) < least:
            raise WheeltapperError(f"{name}: expected {least} or more, found {getattr(settings, name)}")
    if not 1 <= settings.shorten <= 12:
        raise WheeltapperError(f"shorten: expected 1 to 12, found {settings.shorten}")
    if not 0.05 <= settings.rt60 <= 1.0:
        raise WheeltapperError(f"rt60: expected 0.05 to 1 s, found {settings.rt60}")


def _plans(machine: str, settings: SyntheticSettings, seed: int) -> list[_Plan]:
    """Clips of a machine in the order of writing; test clips of evaluation machines get anonymous names."""
    train = [_Plan(machine, "train", "source", "normal", k) for k in range(settings.train_source)]
    train += [_Plan(machine, "train", "target", "normal", k) for k in range(settings.train_target)]
    test = [_Plan(machine, "test", domain, label, k) for domain, label in CELLS for k in range(settings.test)]
    if MODELS[machine].anonymous:
        order = generator(seed, machine, "order").permutation(len(test))
        # Written in the order of the anonymous names, so that file times reveal nothing.
        test = [replace(test[old], file=f"section_00_{new:04d}.wav") for new, old in enumerate(order)]
    return [plan if plan.file else replace(plan, file=plan.labelled) for plan in train + test]


@lru_cache(maxsize=64)
def _scene(seed: int, machine: str, domain: str, rt60: float) -> Scene:
    return draw_scene(generator(seed, machine, domain, "room"), RATE, rt60)


def _render(plan: _Plan, settings: SyntheticSettings, seed: int) -> tuple[np.ndarray, dict]:
    """The clip, float32 (2, samples), and its random parameters."""
    model = MODELS[plan.machine]
    rng = generator(seed, plan.machine, plan.split, plan.domain, plan.label, plan.index)
    scene = _scene(seed, plan.machine, plan.domain, settings.rt60)
    samples = round(model.seconds * RATE / settings.shorten)
    dry = samples + scene.taps - 1
    condition = {name: rng.uniform(*limits) for name, limits in plan.condition[1].items()}
    severity = rng.uniform(0.25, 1.0) if plan.fault else 0.0
    snr_db = rng.uniform(*model.snr_db)
    body = generator(seed, plan.machine, "body")
    machine = model.render(body, rng, condition, plan.fault, severity, dry, RATE)
    machine *= 10 ** (rng.normal(0, 0.7) / 20)
    wave = scene.render_machine(machine)
    kinds = model.ambience[plan.domain]
    sources = np.stack([machines.ambience(kind, rng, dry, RATE) for kind in kinds])
    levels = 10 ** (rng.normal(0, 2.0, len(kinds)) / 20)
    colours = np.stack([level * smooth_response(rng, 1.5, machines.BINS, RATE) for level in levels])
    hall = scene.render_noises(sources, colours)
    hall *= 10 ** (-snr_db / 20) / np.sqrt(np.square(hall[0]).mean())
    own = coloured_noise(rng, samples, machines.haystack(400, 3.0, RATE), channels=2)
    own *= 10 ** ((settings.incoherent_db - snr_db) / 20)
    wave = wave + hall + own
    # A fixed amplifier gain, reduced for the rare clips that would overload.
    gain = min(0.03, 0.95 / float(np.abs(wave).max()))
    facts: dict[str, Any] = {name: round(value, 4) for name, value in condition.items()}
    facts |= {"domain": plan.domain, "fault": plan.fault, "severity": round(severity, 4), "snr_db": round(snr_db, 3)}
    return (gain * wave).astype(np.float32), facts


def _write_tables(place: Path, plans: list[_Plan]) -> None:
    tests = [plan for plan in plans if plan.split == "test"]
    folders.write_rows(
        place / "truth.csv",
        ("machine", "section", "file", "domain", "label", "fault"),
        [(plan.machine, "00", plan.file, plan.domain, plan.label, plan.fault) for plan in tests],
    )
    for machine in dict.fromkeys(plan.machine for plan in plans):
        known = [
            (f"{machine}/{plan.split}/{plan.file}", plan.attributes)
            for plan in plans
            if plan.machine == machine and (plan.split == "train" or not MODELS[machine].anonymous)
        ]
        folders.write_rows(place / machine / "attributes_00.csv", *folders.attribute_rows(known))
