"""Two-channel data like the 2026 challenge, mixed from recordings of machines and recordings of noise.

Each machine is in a room of its own (image-source responses to a near and a far microphone) with noise sources at other
places. A noise source plays noise recordings one after another, equalised to the machine's long-term spectrum and then
randomly filtered for every clip. Each microphone adds independent noise. So the far channel is a good but imperfect
reference for the noise at the near microphone: several sources, responses longer than an analysis window, and the
independent noise limit what subtraction can remove.

Every machine recording is normalised to unit power first, so that neither recording level nor loudness of a fault
reveals anything, and the signal-to-noise ratio is that of the clip.
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
from system.corpora.splits import Split, TableRecording, read_table, split_machine
from system.errors import WheeltapperError
from system.files import tree_signature, write_json

RECORD = "emulate.json"
VERSION = 1  # raised if the same settings and inputs give different sound
MIN_SECONDS = 0.5
PEAK = 0.9
SPECTRUM_CLIPS = 50  # recordings that a machine's long-term spectrum is averaged over


@dataclass(frozen=True)
class EmulateSettings:
    """Settings of the mixing.

    Args:
        seed: random seed.
        snr_low: lower limit of the signal-to-noise ratio at the near microphone, in dB (uniform distribution).
        snr_high: its upper limit; the noise includes the independent part.
        rate: sampling rate in Hz of the result.
        rt60: reverberation time in seconds.
        sources: number of noise sources.
        spread_db: standard deviation of the levels of the sources in each clip.
        incoherent_db: level of the independent noise of each microphone, relative to the noise of the sources there.
        colour_db: standard deviation of the random filter of each source in each clip.
        near_metres: limits of the distance from the machine to the near microphone.
        far_metres: limits of the distance from the machine to the far microphone.
        level_db: root mean square of the near channel at the medium SNR, in dB full scale; all clips have the same
            gain, except those that would overload.
        train_source: see ``splits.split_machine``.
        train_target: see ``splits.split_machine``.
        test: see ``splits.split_machine``.
        anonymous: evaluation machines, whose test clips get anonymous names.
        noise_group: regular expression for noise files, see ``noise.split_noise``.
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
        """Raises WheeltapperError with the first setting that is out of range."""
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
    """A clip to mix: a recording, and the file name to write."""

    recording: TableRecording
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

    Training clips are normal. Recordings of one group, and noise recordings, are used either for training or for
    testing. A clip depends on the seed, its recording, its machine (room, spectrum of the training recordings) and the
    noise files of its split, but not on other clips. If the folder already contains the same data, nothing is done.

    Args:
        table: CSV of machine recordings, see ``splits.read_table``; their first channels are resampled to
            ``settings.rate``.
        noise_folder: wav, flac or ogg files at any depth, of any length and sampling rate.
        out: missing, empty or written by an earlier call; in the last case it is replaced.
        settings: settings of the mixing.
        references: folder for ``clean/`` (the machine at the near microphone without noise) and ``near/`` (the near
            channel), one channel each with the same names and gains, for oracle experiments; None for none.
        workers: number of threads; the result does not depend on it.
        progress: called with (clips done, total).

    Raises:
        WheeltapperError: invalid table, recording, noise folder or setting.
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
    """Checks that noise, output and references are not inside one another, because one would be read or replaced."""
    for k, first in enumerate(places):
        for second in places[k + 1 :]:
            inner, outer = sorted((first.resolve(), second.resolve()), key=lambda path: -len(path.parts))
            if inner.is_relative_to(outer):
                raise WheeltapperError(f"{second}: expected a folder apart from {first}, found one inside the other")


def _identity(settings: EmulateSettings, table: Path, recordings: list[TableRecording], noise_folder: Path) -> dict:
    """Everything that the result depends on; recordings are identified by size and modification time."""
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


def _split(recordings: list[TableRecording], settings: EmulateSettings) -> dict[str, Split]:
    by_machine: dict[str, list[TableRecording]] = {}
    for recording in recordings:
        by_machine.setdefault(recording.machine, []).append(recording)
    for machine in settings.anonymous:
        if machine not in by_machine:
            raise WheeltapperError(f"anonymous: expected some of {', '.join(by_machine)}, found {machine!r}")
    for machine, own in by_machine.items():
        if machine not in settings.anonymous and all(recording.label == "normal" for recording in own):
            raise WheeltapperError(
                f"{machine}: expected at least one anomaly to test with, found none; without any, list it in anonymous"
            )
    return {
        machine: split_machine(own, settings.seed, settings.train_source, settings.train_target, settings.test)
        for machine, own in by_machine.items()
    }


def _name(machine: str, split: Split, settings: EmulateSettings) -> list[_Output]:
    """Clips of a machine, in the order of writing."""
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
    # Written in the order of the anonymous names, so that file times reveal nothing.
    return train + [replace(test[old], file=f"section_00_{new:04d}.wav") for new, old in enumerate(order)]


class _Mixer:
    """Mixer with the rooms and long-term spectra of the machines, and the noise of both splits."""

    def __init__(self, settings: EmulateSettings, noise: dict[str, NoisePool], splits: dict[str, Split]):
        self.settings, self.noise, self.splits = settings, noise, splits
        self.scenes = {machine: self._scene(machine) for machine in splits}
        self.spectra = {machine: self._spectrum(split.train) for machine, split in splits.items()}

    def _scene(self, machine: str) -> Scene:
        it = self.settings
        rng = generator(it.seed, machine, "room")
        return draw_scene(rng, it.rate, it.rt60, it.sources, it.near_metres, it.far_metres)

    def _spectrum(self, train: list[TableRecording]) -> np.ndarray:
        """Long-term power spectrum of a machine, from training recordings only."""
        chosen = train[:: -(-len(train) // SPECTRUM_CLIPS)]
        rate = self.settings.rate
        return np.mean([long_term_spectrum(load_machine(it.path, rate), rate) for it in chosen], axis=0)

    def mix(self, output: _Output) -> tuple[np.ndarray, np.ndarray, dict]:
        """The clip (2, samples), the machine without noise at the near microphone (samples,), random parameters."""
        it, machine = self.settings, output.recording.machine
        scene, spectrum = self.scenes[machine], self.spectra[machine]
        rng = generator(it.seed, machine, output.recording.file)
        snr_db = rng.uniform(it.snr_low, it.snr_high)
        dry = load_machine(output.recording.path, it.rate)
        waves, names = self.noise[output.split].draw(rng, it.sources, len(dry) + scene.taps - 1, it.rate)
        clean, noise = render_parts(rng, it, scene, spectrum, dry, waves, snr_db)
        wave = clean + noise
        peak = max(float(np.abs(wave).max()), float(np.abs(clean[0]).max()))
        # One gain for all clips, as on a recorder, so that clips with louder noise are louder.
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
        """Numbers of clips, and attenuation and delay of each machine at the far relative to the near microphone."""
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


def render_parts(
    rng: np.random.Generator,
    settings: EmulateSettings,
    scene: Scene,
    spectrum: np.ndarray,
    dry: np.ndarray,
    waves: np.ndarray,
    snr_db: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Machine and noise at both microphones; their sum is a mixture.

    Args:
        rng: random generator.
        settings: of the mixing.
        scene: room with the places of machine, microphones and noise sources.
        spectrum: long-term power spectrum to which the noise is equalised.
        dry: (samples,), the machine.
        waves: (sources, samples + taps - 1), the noise sources.
        snr_db: signal-to-noise ratio at the near microphone in dB.

    Returns:
        Both float32 (2, samples).
    """
    # The end of the recording is repeated before its start, for reverberation from the first sample on.
    clean = scene.render_machine(np.pad(dry, (scene.taps - 1, 0), mode="wrap"))
    levels = 10 ** (settings.spread_db * rng.standard_normal(settings.sources) / 20)
    gains = [
        level
        * equaliser(long_term_spectrum(wave, settings.rate), spectrum, len(spectrum))
        * smooth_response(rng, settings.colour_db, len(spectrum), settings.rate)
        for level, wave in zip(levels, waves, strict=True)
    ]
    noise = scene.render_noises(waves, np.stack(gains))
    own = coloured_noise(rng, len(dry), np.sqrt(spectrum), channels=2)
    noise += own * np.sqrt(np.square(noise).mean(axis=1, keepdims=True)) * 10 ** (settings.incoherent_db / 20)
    return clean, noise_gain(clean[0], noise[0], snr_db) * noise


def load_machine(path: Path, rate: int) -> np.ndarray:
    """Reads the first channel of a machine recording, resampled and normalised to unit power.

    Args:
        path: the recording.
        rate: sampling rate in Hz of the result.

    Returns:
        Float32 (samples,).

    Raises:
        WheeltapperError: the recording cannot be read, is silent, or is shorter than MIN_SECONDS.
    """
    wave, found = audio.read(path)
    if wave.shape[1] < MIN_SECONDS * found:
        raise WheeltapperError(
            f"{path}: expected at least {MIN_SECONDS} s of sound, found {wave.shape[1] / found:.3f} s"
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
