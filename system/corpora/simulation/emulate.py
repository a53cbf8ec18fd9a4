"""A two-channel set shaped like the 2026 challenge from anybody's machine recordings and noise recordings.

Each machine stands in a room of its own (image-source responses to a near and a far microphone) among noise sources at
other places. A noise source plays recordings one after another, equalised to the machine's long-term spectrum and then
coloured at random, anew in every clip; each microphone adds noise of its own. So the far channel is a good, but not a
perfect reference for the noise at the near one: several sources, responses longer than an analysis window and the
incoherent part bound what a subtraction can cancel.

Every machine recording is brought to unit power first: the signal-to-noise ratio is then that of the clip, and how loud
a recorder was set tells nothing. Nor does how loud a fault is.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from system import audio
from system.corpora import folder as folders
from system.corpora.simulation.acoustics import (
    SILENCE,
    Scene,
    coloured_noise,
    draw_scene,
    equaliser,
    generator,
    long_term_spectrum,
    noise_gain,
    power,
    smooth_response,
)
from system.corpora.simulation.noise import NoisePool, split_noise
from system.corpora.splits import Recording, Split, read_table, split_machine
from system.errors import WheeltapperError
from system.files import tree_signature, write_json

RECORD = "emulate.json"
VERSION = 1  # raised whenever the same settings and inputs give other sound
MIN_SECONDS = 0.5
PEAK = 0.9
SPECTRUM_CLIPS = 50  # as many recordings give a machine's long-term spectrum


@dataclass(frozen=True)
class EmulateSettings:
    """How the set is mixed.

    seed: of everything random. snr_low, snr_high: bounds of the near signal-to-noise ratio in dB, drawn evenly; noise
    counts with the incoherent part. rate: of the result in Hz. rt60: reverberation time in seconds.
    sources: number of noise sources. spread_db: standard deviation of their levels, drawn anew for each clip.
    incoherent_db: each microphone's own noise relative to the sources' noise there. colour_db: standard deviation of
    the random response of each clip and source. near_metres, far_metres: bounds of the distances from the machine to
    the microphones. level_db: root mean square of the near channel at the middle SNR, in dB of full scale; all clips
    get the same gain but those that would clip.
    train_source, train_target, test: counts a machine, see splits.split_machine. anonymous: machines whose test names
    say nothing (evaluation machines). noise_group: regular expression for noise file names (relative to their folder);
    files that agree in what it matches (its first group, if it has one) are never on both sides of the split.
    """

    seed: int = 0
    snr_low: float = -20.0
    snr_high: float = -12.0
    rate: int = 16000
    rt60: float = 0.3
    sources: int = 3
    spread_db: float = 6.0
    incoherent_db: float = -10.0
    colour_db: float = 3.0
    near_metres: tuple[float, float] = (0.25, 0.45)
    far_metres: tuple[float, float] = (2.0, 3.5)
    level_db: float = -36.0
    train_source: int = 990
    train_target: int = 10
    test: int | None = None
    anonymous: tuple[str, ...] = ()
    noise_group: str = ""

    def check(self) -> None:
        """Raises WheeltapperError naming the first setting that makes no sense."""
        bounds = {
            "snr_low": (-60, 60),
            "snr_high": (self.snr_low, 60),
            "rate": (1000, 384000),
            "rt60": (0.05, 1.5),
            "sources": (1, 16),
            "incoherent_db": (-120, 40),
            "spread_db": (0, 20),
            "colour_db": (0, 20),
            "level_db": (-60, -6),
            "train_source": (1, 10**6),
            "train_target": (0, 10**6),
            "test": (1, 10**6),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise WheeltapperError(f"{name}: expected {low:g} to {high:g}, found {value:g}")
        for name in ("near_metres", "far_metres"):
            low, high = getattr(self, name)
            if not 0.05 <= low <= high <= 4.0:
                raise WheeltapperError(
                    f"{name}: expected two distances between 0.05 and 4 m, found {low:g} and {high:g}"
                )


@dataclass(frozen=True)
class _Output:
    """A clip to be mixed: a recording and the name under which it is written."""

    recording: Recording
    split: str
    index: int
    file: str = ""

    @property
    def labelled(self) -> str:
        it = self.recording
        tail = it.attributes or "noAttribute"
        return f"section_00_{it.domain}_{self.split}_{it.label}_{self.index:04d}_{tail}.wav"

    @property
    def name(self) -> str:
        return f"{self.recording.machine}/{self.split}/{self.file}"


def emulate(
    table: str | Path,
    noise_folder: str | Path,
    out: str | Path,
    settings: EmulateSettings,
    references: str | Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``out/<machine>/{train,test}/*.wav``, attributes_00.csv, truth.csv and the record emulate.json.

    Training clips are normal; recordings of one group never stand on both sides, nor do noise recordings. A clip
    depends on the seed, its recording, its machine (room, spectrum of the training recordings) and the noise files of
    its side, not on the other clips. Nothing is done where the folder already holds the same set.

    Args:
        table: CSV of machine recordings, see splits.read_table. First channel of each, resampled to settings.rate.
        noise_folder: wav, flac or ogg files at any depth, of any length and rate.
        out: missing, empty or written by an earlier call, which it replaces.
        settings: see EmulateSettings.
        references: where given, also a folder to write ``clean/`` (the machine at the near microphone without noise)
            and ``near/`` (the near channel alone), one channel each, same names and gains, for oracle experiments.
        workers: threads; the bytes written do not depend on it.
        progress: called with (clips done, clips in all).

    Raises WheeltapperError for a table, recording, noise folder or setting that does not serve.
    """
    settings.check()
    table, noise_folder, out = Path(table), Path(noise_folder), Path(out)
    recordings = read_table(table)
    train_noise, test_noise = split_noise(noise_folder, settings.seed, settings.sources, settings.noise_group)
    identity = _identity(settings, table, recordings, noise_folder)
    targets = [out] if references is None else [out, Path(references)]
    _check_places([noise_folder, *targets])
    if all(folders.is_complete(target, RECORD, identity) for target in targets):
        return
    splits = _split(recordings, settings)
    outputs = [output for machine, split in splits.items() for output in _name(machine, split, settings)]
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(folders.replacing(target, RECORD)) for target in targets]
        mixer = _Mixer(settings, {"train": train_noise, "test": test_noise}, splits)
        clips = {}
        for output, facts in _write_all(mixer, outputs, places, workers):
            clips[output.name] = facts
            if progress:
                progress(len(clips), len(outputs))
        _write_tables(places[0], outputs, settings)
        record = {"identity": identity, "machines": mixer.describe(), "clips": clips, "left_out": _left_out(splits)}
        write_json(places[0] / RECORD, record)
        if len(places) > 1:
            copies: dict[str, dict] = {f"{kind}/{name}": {} for kind in ("clean", "near") for name in clips}
            write_json(places[1] / RECORD, {"identity": identity, "clips": copies})


def _check_places(places: list[Path]) -> None:
    """Noise, result and references must not lie in one another: one would be read or replaced as another."""
    for k, first in enumerate(places):
        for second in places[k + 1 :]:
            inner, outer = sorted((first.resolve(), second.resolve()), key=lambda path: -len(path.parts))
            if inner.is_relative_to(outer):
                raise WheeltapperError(f"{second}: expected a folder apart from {first}, found one inside the other")


def _identity(settings: EmulateSettings, table: Path, recordings: list[Recording], noise_folder: Path) -> dict:
    """All that the result depends on, short; recordings by size and time of change."""
    states = [(recording.file, recording.path.stat()) for recording in recordings]
    text = "\n".join(f"{file}|{state.st_size}|{state.st_mtime_ns}" for file, state in states)
    return {
        "program": "emulate",
        "version": VERSION,
        "settings": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()
        },
        "table": audio.digest(table),
        "recordings": hashlib.sha256(text.encode()).hexdigest(),
        "noise": tree_signature(noise_folder),
    }


def _split(recordings: list[Recording], settings: EmulateSettings) -> dict[str, Split]:
    by_machine: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_machine.setdefault(recording.machine, []).append(recording)
    for machine in settings.anonymous:
        if machine not in by_machine:
            raise WheeltapperError(f"anonymous: expected some of {', '.join(by_machine)}, found {machine!r}")
    for machine, own in by_machine.items():
        if machine not in settings.anonymous and all(recording.label == "normal" for recording in own):
            raise WheeltapperError(
                f"{machine}: expected at least one anomaly to test with, found none; without any, make it anonymous"
            )
    return {
        machine: split_machine(own, settings.seed, settings.train_source, settings.train_target, settings.test)
        for machine, own in by_machine.items()
    }


def _name(machine: str, split: Split, settings: EmulateSettings) -> list[_Output]:
    """The clips of a machine in the order in which they are written."""
    counts: dict[tuple[str, str, str], int] = {}
    outputs = []
    for side, recordings in (("train", split.train), ("test", split.test)):
        for recording in recordings:
            cell = (side, recording.domain, recording.label)
            outputs.append(_Output(recording, side, counts.get(cell, 0)))
            counts[cell] = counts.get(cell, 0) + 1
    train = [replace(output, file=output.labelled) for output in outputs if output.split == "train"]
    test = [output for output in outputs if output.split == "test"]
    if machine not in settings.anonymous:
        return train + [replace(output, file=output.labelled) for output in test]
    order = generator(settings.seed, machine, "order").permutation(len(test))
    # Written in the order of their new names: not even the times of the files tell.
    return train + [replace(test[old], file=f"section_00_{new:04d}.wav") for new, old in enumerate(order)]


class _Mixer:
    """Rooms and long-term spectra of the machines, and the noise of both sides."""

    def __init__(self, settings: EmulateSettings, noise: dict[str, NoisePool], splits: dict[str, Split]):
        self.settings, self.noise, self.splits = settings, noise, splits
        self.scenes = {machine: self._scene(machine) for machine in splits}
        self.spectra = {machine: self._spectrum(split.train) for machine, split in splits.items()}

    def _scene(self, machine: str) -> Scene:
        it = self.settings
        rng = generator(it.seed, machine, "room")
        return draw_scene(rng, it.rate, it.rt60, it.sources, it.near_metres, it.far_metres)

    def _spectrum(self, train: list[Recording]) -> np.ndarray:
        """Long-term power spectrum of the machine, from training recordings alone: the test must not shape it."""
        chosen = train[:: -(-len(train) // SPECTRUM_CLIPS)]
        rate = self.settings.rate
        return np.mean([long_term_spectrum(load_machine(it.path, rate), rate) for it in chosen], axis=0)

    def mix(self, output: _Output) -> tuple[np.ndarray, np.ndarray, dict]:
        """The clip (2, samples), the machine alone at the near microphone (samples,), and what was drawn."""
        it, machine = self.settings, output.recording.machine
        scene, spectrum = self.scenes[machine], self.spectra[machine]
        rng = generator(it.seed, machine, output.recording.file)
        snr_db = rng.uniform(it.snr_low, it.snr_high)
        dry = load_machine(output.recording.path, it.rate)
        # The reverberation of the end stands in for that of what went before the recording.
        clean = scene.hear_machine(np.pad(dry, (scene.taps - 1, 0), mode="wrap"))
        waves, names = self.noise[output.split].draw(rng, it.sources, len(dry) + scene.taps - 1, it.rate)
        levels = 10 ** (it.spread_db * rng.standard_normal(it.sources) / 20)
        gains = [
            level
            * equaliser(long_term_spectrum(wave, it.rate), spectrum, len(spectrum))
            * smooth_response(rng, it.colour_db, len(spectrum), it.rate)
            for level, wave in zip(levels, waves, strict=True)
        ]
        noise = scene.hear_noises(waves, np.stack(gains))
        own = coloured_noise(rng, len(dry), np.sqrt(spectrum), channels=2)
        noise += own * np.sqrt(np.square(noise).mean(axis=1, keepdims=True)) * 10 ** (it.incoherent_db / 20)
        wave = clean + noise_gain(clean[0], noise[0], snr_db) * noise
        peak = max(float(np.abs(wave).max()), float(np.abs(clean[0]).max()))
        # One amplifier gain for all clips, as on a recorder: where the noise is louder, so is the clip.
        usual_db = 10 * np.log10(1 + 10 ** (-(it.snr_low + it.snr_high) / 20))
        gain = min(10 ** ((it.level_db - usual_db) / 20), PEAK / peak)
        facts = {
            "recording": output.recording.file,
            "group": output.recording.group,
            "snr_db": round(float(snr_db), 3),
            "gain_db": round(float(20 * np.log10(gain)), 3),
            "noise": names,
        }
        return (gain * wave).astype(np.float32), (gain * clean[0]).astype(np.float32), facts

    def describe(self) -> dict:
        """Counts, and the machine's attenuation and delay at the far microphone relative to the near one."""
        described = {}
        for machine, scene in self.scenes.items():
            energy = np.square(scene.machine).sum(axis=1)
            first = np.abs(scene.machine).argmax(axis=1)
            split = self.splits[machine]
            described[machine] = {
                "train": len(split.train),
                "test": len(split.test),
                "left_out": len(split.left_out),
                "far_attenuation_db": round(float(10 * np.log10(energy[0] / energy[1])), 2),
                "far_delay_ms": round(float(first[1] - first[0]) / self.settings.rate * 1000, 2),
            }
        return described


def load_machine(path: Path, rate: int) -> np.ndarray:
    """First channel of a machine recording at ``rate`` Hz, of unit power, float32 (samples,).

    Raises WheeltapperError where it is unreadable, silent or shorter than MIN_SECONDS.
    """
    wave, found = audio.read(path)
    if wave.shape[1] < MIN_SECONDS * found:
        raise WheeltapperError(
            f"{path}: expected {MIN_SECONDS} s of sound or more, found {wave.shape[1] / found:.3f} s"
        )
    level = np.sqrt(power(wave[0]))
    if level < SILENCE:
        raise WheeltapperError(f"{path}: expected a machine's sound in the first channel, found silence")
    return audio.resample(wave[:1] / np.float32(level), found, rate)[0]


def _write_all(
    mixer: _Mixer, outputs: list[_Output], places: list[Path], workers: int
) -> Iterator[tuple[_Output, dict]]:
    roots = [places[0], *(place / kind for place in places[1:] for kind in ("clean", "near"))]
    for folder in {Path(output.name).parent for output in outputs}:
        for root in roots:
            (root / folder).mkdir(parents=True, exist_ok=True)

    def work(output: _Output) -> dict:
        wave, clean, facts = mixer.mix(output)
        for root, content in zip(roots, (wave, clean[None], wave[:1]), strict=False):
            audio.write(root / output.name, content, mixer.settings.rate)
        return facts

    return folders.run_all(work, outputs, workers)


def _write_tables(place: Path, outputs: list[_Output], settings: EmulateSettings) -> None:
    tests = [output for output in outputs if output.split == "test"]
    folders.write_rows(
        place / "truth.csv",
        ("machine", "section", "file", "domain", "label", "fault"),
        [
            (it.recording.machine, "00", it.file, it.recording.domain, it.recording.label, it.recording.fault)
            for it in tests
        ],
    )
    for machine in dict.fromkeys(output.recording.machine for output in outputs):
        known = [
            (output.name, output.recording.attributes)
            for output in outputs
            if output.recording.machine == machine and (output.split == "train" or machine not in settings.anonymous)
        ]
        folders.write_rows(place / machine / "attributes_00.csv", *folders.attribute_rows(known))


def _left_out(splits: dict[str, Split]) -> list[dict]:
    return [
        {"machine": machine, "recording": recording.file, "reason": reason}
        for machine, split in splits.items()
        for recording, reason in split.left_out
    ]
