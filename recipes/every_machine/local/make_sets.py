"""Makes the sets of one seed: every kind of machine in challenge layout, as recorded and in noise.

Clips of training and test never come from the same recording (flight, file of knocks, run of the fan). A seed decides
which recordings train, and the mixtures. Neither depends on where recordings and sets lie. Kinds, with machines and
clips, are described in the recipe's README.

Usage: make_sets.py --data DIR --out DIR --seed N
"""

import argparse
import csv
import os
import runpy
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from system import audio
from system.corpora.folder import is_complete, replacing, write_rows
from system.corpora.simulation.emulate import EmulateSettings, emulate
from system.errors import WheeltapperError
from system.files import read_json, tree_signature, write_json

RECORD = "set.json"
VERSION = 2  # raised if the same seed and recordings give other clips
BOTTLES, FAN, MOTORS = "bottle_knocks", "fan_16k", "cyclic_motors_22k"
PROPELLERS, NOISE = "uav_propeller_16k", "esc50_16k_ogg"
FOLDERS = (BOTTLES, FAN, MOTORS, PROPELLERS)
PROPELLER_TABLE = Path(__file__).resolve().parents[2] / "propeller" / "local" / "make_table.py"
TABLE = "clips.csv"  # of each condition: what --data takes
TABLE_COLUMNS = ("file", "machine", "split", "label", "domain", "group")
COLUMNS = ("file", "machine", "label", "domain", "group", "attributes", "fault")
Row = tuple[str, ...]

KNOCKS = 8  # in a clip of bottles, one a second
KNOCK_SAMPLES = 2048
KNOCK_JITTER = 0.2  # seconds
FLOOR_DB = -60.0  # level of the noise under the knocks
HEADROOM = 0.9  # gain of all knocks: some reach full scale
FAN_DAY = "20200318"
FAN_SECONDS = 5.0
NOISE_GROUP = r"(\d-\d+)-"  # the source recording in the name of a file of ESC-50
SNR_DB = {"propellers": (-20.0, -12.0), "fan": (-16.0, -8.0), "others": (-8.0, 0.0)}  # at the near microphone
MOTOR_TRAIN, MOTOR_OTHERS = 22, 5


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on what they are for."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def manifest(folder: Path, name: str = "manifest.csv") -> list[dict[str, str]]:
    """Rows of a folder's manifest.

    Raises:
        WheeltapperError: there is none.
    """
    path = folder / name
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected the list of these recordings, found nothing")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row(path: Path, machine: str, label: str, group: str, fault: str = "", domain: str = "source") -> Row:
    return (str(path), machine, label, domain, group, "", fault)


def bottles(folder: Path, out: Path, seed: int, cracked: int) -> Iterator[Row]:
    """Clips of eight knocks, of which ``cracked`` of an anomalous clip are on cracked bottles. Six of ten files of
    normal knocks train, the same ones for all ``cracked``, and no knock is in two clips of a machine."""
    machine = f"bottles{cracked}of{KNOCKS}"
    rng = generator(seed, machine)
    files = manifest(folder)
    normal = generator(seed, "bottles").permutation([it["file"] for it in files if it["label"] == "normal"])
    broken = rng.permutation([it["file"] for it in files if it["label"] == "anomaly"])
    cut = round(0.6 * len(normal))
    train, test = knocks(folder, normal[:cut], rng), knocks(folder, normal[cut:], rng)
    faulty = knocks(folder, broken, rng)
    count = min(len(test) // (2 * KNOCKS - cracked), len(faulty) // cracked)
    for number in range(len(train) // KNOCKS):
        path = string(train[number * KNOCKS :][:KNOCKS], out / f"train_{number:03d}.wav", rng)
        yield row(path, machine, "normal", f"train{number}")
    for number in range(count):
        path = string(test[number * KNOCKS :][:KNOCKS], out / f"normal_{number:03d}.wav", rng)
        yield row(path, machine, "normal", "test")
    rest, good = test[count * KNOCKS :], KNOCKS - cracked
    for number in range(count):
        chosen = [*rest[number * good :][:good], *faulty[number * cracked :][:cracked]]
        path = string([chosen[k] for k in rng.permutation(KNOCKS)], out / f"anomaly_{number:03d}.wav", rng)
        yield row(path, machine, "anomaly", "test", f"cracked{cracked}")


def knocks(folder: Path, files: np.ndarray, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Knocks (samples,) of some files in random order, each with its rate in Hz."""
    found = []
    for file in files:
        wave, rate = audio.read(folder / str(file))
        whole = wave.shape[1] // KNOCK_SAMPLES * KNOCK_SAMPLES
        found += [(knock, rate) for knock in wave[0, :whole].reshape(-1, KNOCK_SAMPLES)]
    return [found[k] for k in rng.permutation(len(found))]


def string(chosen: list[tuple[np.ndarray, int]], path: Path, rng: np.random.Generator) -> Path:
    """Writes a clip with a knock in each second."""
    rate = chosen[0][1]
    wave = 10 ** (FLOOR_DB / 20) * rng.standard_normal(len(chosen) * rate)
    for second, (knock, _) in enumerate(chosen):
        start = int((second + rng.uniform(0.2, 0.2 + KNOCK_JITTER)) * rate)
        wave[start : start + len(knock)] += HEADROOM * knock
    return write(path, wave, rate)


def write(path: Path, wave: np.ndarray, rate: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, wave[None].astype(np.float32), rate)
    return path


def fan(folder: Path, out: Path, seed: int, fault: str) -> Iterator[Row]:
    """Clips of 5 s of one day; four of the seven recordings of the healthy fan train, the same ones for all faults."""
    machine = "fan" + fault.split("_")[0].capitalize()
    files = [it for it in manifest(folder) if it["day"] == FAN_DAY]
    healthy = generator(seed, "fan").permutation([it["file"] for it in files if it["state"] == "on"])
    train = set(healthy[: round(0.57 * len(healthy))])
    for file in [*healthy, *(it["file"] for it in files if it["state"] == fault)]:
        wave, rate = audio.read(folder / str(file))
        size = round(FAN_SECONDS * rate)
        for number in range(wave.shape[1] // size):
            path = write(out / f"{Path(str(file)).stem}_{number}.wav", wave[0, number * size :][:size], rate)
            if file in healthy:
                yield row(path, machine, "normal", str(file) if file in train else "test")
            else:
                yield row(path, machine, "anomaly", "test", fault)


def motor(folder: Path, seed: int, kind: str) -> Iterator[Row]:
    """One class is the normal one, five recordings of each other class are the anomalies: of those that do not train
    where their class is the normal one, as systems learn from the training clips of all machines."""
    machine = f"motor{kind}"
    by_class: dict[str, list[str]] = {}
    for it in manifest(folder):
        by_class.setdefault(it["class"], []).append(it["file"])
    ordered = {own: generator(seed, "motor", own).permutation(files).tolist() for own, files in by_class.items()}
    for number, file in enumerate(ordered[kind]):
        yield row(folder / file, machine, "normal", "test" if number >= MOTOR_TRAIN else f"train{number}")
    rng = generator(seed, machine)
    for other in sorted(ordered.keys() - {kind}):
        for file in rng.permutation(ordered[other][MOTOR_TRAIN:])[:MOTOR_OTHERS]:
            yield row(folder / str(file), machine, "anomaly", "test", f"class{other}")


def propellers(folder: Path) -> list[Row]:
    """Machines cw and ccw; the split into training and test is that of ``wheeltapper emulate``."""
    return runpy.run_path(str(PROPELLER_TABLE))["table_rows"](folder / "manifest.csv")


def tables(data: Path, cut: Path, seed: int) -> dict[str, list[Row]]:
    """Rows of COLUMNS by mixture: kinds that are mixed alike. Clips that are cut from recordings lie below ``cut``."""
    fans = [
        *fan(data / FAN, cut / "fan_blade", seed, "blade_fault"),
        *fan(data / FAN, cut / "fan_tapping", seed, "tapping"),
    ]
    others = [
        *bottles(data / BOTTLES, cut / "bottles2", seed, 2),
        *bottles(data / BOTTLES, cut / "bottles8", seed, 8),
        *(row for kind in "ABCDE" for row in motor(data / MOTORS, seed, kind)),
    ]
    return {"propellers": propellers(data / PROPELLERS), "fan": fans, "others": others}


def mixing(seed: int) -> dict[str, EmulateSettings]:
    """Settings of each mixture."""
    return {
        name: EmulateSettings(seed=seed, snr_low=low, snr_high=high, noise_group=NOISE_GROUP)
        for name, (low, high) in SNR_DB.items()
    }


def identity(data: Path, seed: int) -> dict[str, Any]:
    """Everything that the sets depend on.

    Raises:
        WheeltapperError: a folder of recordings, or its manifest, is missing.
    """
    for name in FOLDERS:
        manifest(data / name)
    if not (data / NOISE).is_dir():
        raise WheeltapperError(f"{data / NOISE}: expected a folder of noise recordings, found nothing")
    return {
        "program": "every_machine",
        "version": VERSION,
        "seed": seed,
        "mixtures": {
            name: {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
            for name, settings in mixing(seed).items()
        },
        "recordings": {name: tree_signature(data / name) for name in (*FOLDERS, NOISE)},
    }


def make(data: Path, out: Path, seed: int, workers: int) -> bool:
    """Writes ``out/noisy``, mixtures of two channels, ``out/clean``, the same clips as they were recorded, and the
    record ``out/set.json``. A half-made folder never has the name ``out``.

    Args:
        data: folder of the recordings, see the README.
        out: missing, empty, or written by an earlier call.
        seed: of splits and mixtures.
        workers: number of threads.

    Returns:
        Whether anything was to be done.

    Raises:
        WheeltapperError: recordings are missing, the mixing fails, or ``out`` holds other files.
    """
    state = identity(data, seed)
    if is_complete(out, RECORD, state):
        return False
    with replacing(out, RECORD) as place:
        work = place / "work"
        (work / "mixed").mkdir(parents=True)
        (work / "recordings").symlink_to(data)
        truth: list[list[str]] = []
        clips: dict[str, dict] = {}
        mixtures: dict[str, dict] = {}
        for mixture, rows in tables(data, work / "cut", seed).items():
            # Mixtures depend on the names in the table, so these are relative.
            write_rows(work / f"{mixture}.csv", COLUMNS, ((relative(row[0], data, work), *row[1:]) for row in rows))
            mixed = work / "mixed" / mixture
            emulate(work / f"{mixture}.csv", data / NOISE, mixed, mixing(seed)[mixture], None, workers)
            record = read_json(mixed / "emulate.json")
            for name, facts in record["clips"].items():
                wave, rate = audio.read(work / facts["recording"])
                write(place / "clean" / name, wave[0], rate)
                (place / "noisy" / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(mixed / name, place / "noisy" / name)
                clips |= {f"noisy/{name}": facts, f"clean/{name}": {}}
            mixtures[mixture] = {key: record[key] for key in ("machines", "left_out")}
            head, *own = csv.reader((mixed / "truth.csv").read_text(encoding="utf-8").splitlines())
            truth += own
        for condition in ("noisy", "clean"):
            write_rows(place / condition / "truth.csv", head, truth)
            write_rows(place / condition / TABLE, TABLE_COLUMNS, clip_rows(clips))
        shutil.rmtree(work)
        write_json(place / RECORD, {"identity": state, "mixtures": mixtures, "clips": clips})
    return True


def clip_rows(clips: dict[str, dict]) -> list[Row]:
    """Rows of TABLE_COLUMNS for the clips of either condition. Training clips of one recording are a group; without it
    each would count as a recording of its own, and thresholds would be those of one recording."""
    found = []
    for name, facts in clips.items():
        condition, machine, split, file = name.split("/")
        if condition == "noisy":
            _, _, domain, _, label, *_ = file.split("_")
            group = Path(facts["group"]).stem if split == "train" else ""
            found.append((f"{machine}/{split}/{file}", machine, split, label, domain, group))
    return found


def relative(path: str, data: Path, work: Path) -> str:
    """Name of a clip below the working folder, in which ``recordings`` leads to the recordings; the path itself of a
    recording that is a link to elsewhere."""
    known = {data: "recordings", work: "."}
    known |= {(data / name).resolve(): f"recordings/{name}" for name in FOLDERS}
    for folder, name in known.items():
        if Path(path).is_relative_to(folder):
            return (Path(name) / Path(path).relative_to(folder)).as_posix()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Sets of every kind of machine, clean and in noise.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--seed", type=int, required=True, metavar="N", help="decides splits and mixtures")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="number of threads (default: 2)")
    args = parser.parse_args()
    try:
        made = make(args.data.resolve(), args.out, args.seed, args.workers)
    except WheeltapperError as error:
        parser.exit(1, f"make_sets: {error}\n")
    print(f"{args.out}: {'made' if made else 'complete, nothing to do'}")


if __name__ == "__main__":
    main()
