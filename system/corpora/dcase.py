"""Reader of folders in DCASE Task 2 layout, ``<machine>/{train,test}/*.wav``; opens and checks every clip."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from system import naming
from system.audio import EXTENSIONS, list_files, other_sounds, probe, warn_of_others
from system.corpora.attributes import FILE as ATTRIBUTE_FILE
from system.corpora.attributes import Pairs, contradicts, join_pairs, read_attributes
from system.corpora.fingerprints import Fingerprints
from system.corpora.health import Health
from system.corpora.inspection import InspectedSound, inspect_all
from system.corpora.names import composed, is_name, parse_name, split_extension, with_text_names
from system.errors import WheeltapperError
from system.files import walk
from system.manifest import LONGEST, Clip, Key

log = logging.getLogger(__name__)

# folder: (split, domain; empty if the folder does not determine it)
FOLDERS = {
    "train": ("train", ""),
    "test": ("test", ""),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
    "supplemental": ("supplemental", ""),
}
MIN_SECONDS = 0.1
MIN_TRAIN = 2
SHOWN = 10


def prepare_dcase(
    folder: str | os.PathLike,
    corpus: str = "dcase",
    threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
    healths: dict[Key, Health] | None = None,
    channels: str = "",
    fingerprints: Fingerprints | None = None,
) -> list[Clip]:
    """Reads a folder of machine folders.

    Labels, domains and attributes come from the file names (see ``names``); attributes missing there come from
    ``attributes_<NN>.csv``. Supplemental clips of clean machine sound are labelled normal, those of noise have no
    label. Hidden files and files that are no sound are ignored, with a warning those whose names are not UTF-8; sound
    of a kind that cannot be read is counted and named in a warning.

    The following is allowed, with a warning through ``logging``: a machine without training clips of one domain; a
    machine without test clips; a silent test clip, which is scored like any other; a clip with a silent channel; an
    attribute file that contradicts a file name (the file name is used) or lists missing recordings; several sampling
    rates in one machine.

    Args:
        folder: folder with one folder per machine.
        corpus: name of the corpus in the manifest.
        threads: number of files read at a time.
        progress: called with (done, total) after each file.
        healths: receives the health of each recording.
        channels: see ``channel_choice``; without, recordings have one or two channels.
        fingerprints: receives the fingerprint of each recording.

    Returns:
        Clips sorted by machine, section, split and file.

    Raises:
        WheeltapperError: lists the first ten problems, and their number.

    Example:
        >>> clips = prepare_dcase("data/dcase2026/raw")
        >>> manifest.write("manifest.csv", clips)
    """
    folder = Path(folder)
    clips, problems = _named_clips(folder, corpus)
    warn_of_others(folder, [path for machine in _folders(folder) for path in _set_files(machine)])
    sounds = inspect_all([clip.path for clip in clips], threads, progress, fingerprints)
    problems += [sound for sound in sounds if isinstance(sound, str)]
    readable = [(clip, sound) for clip, sound in zip(clips, sounds, strict=True) if isinstance(sound, InspectedSound)]
    _check_sounds(readable, problems, channels)
    if problems:
        raise WheeltapperError(_listing(folder, problems))
    _warn(readable)
    if healths is not None:
        healths.update((clip.key, sound.health) for clip, sound in readable)
    return [
        replace(clip, channels=sound.channels, rate=sound.rate, samples=sound.samples, digest=sound.digest)
        for clip, sound in readable
    ]


def check_layout(folder: str | os.PathLike, corpus: str = "") -> None:
    """Checks a folder like ``prepare_dcase``, without opening recordings.

    Raises:
        WheeltapperError: lists the first ten problems, and their number.
    """
    folder, before = Path(folder), log.disabled
    log.disabled = True  # the warnings come in stage 0
    try:
        _, problems = _named_clips(folder, corpus)
    finally:
        log.disabled = before
    if problems:
        raise WheeltapperError(_listing(folder, problems), problems[:SHOWN])


def _named_clips(folder: Path, corpus: str) -> tuple[list[Clip], list[str]]:
    """Clips as described by their names, and problems with names, folders and numbers of clips."""
    problems: list[str] = []
    clips: list[Clip] = []
    for machine in _machine_folders(folder, problems):
        clips += _list_machine(machine, corpus, problems)
    clips.sort(key=lambda clip: (clip.machine, clip.section, clip.split, clip.file))
    _check_sets(folder, clips, problems)
    return clips, problems


def _machine_folders(folder: Path, problems: list[str]) -> list[Path]:
    expected = f"{folder}: expected a folder of <machine>/{{train,test}}/*.wav"
    if not folder.is_dir():
        raise WheeltapperError(f"{expected}, found {'a file' if folder.exists() else 'nothing'}")
    if _is_machine(folder):
        raise WheeltapperError(
            f"{expected}, found the folder of one machine; give the folder above it: {folder.resolve().parent}"
        )
    inside = _folders(folder)
    machines = [path for path in inside if _is_machine(path)]
    if not machines:
        deeper = [path for path in inside if any(_is_machine(below) for below in _folders(path))]
        advice = f"; machines lie one level down: give {' or '.join(map(str, deeper))}" if deeper else ""
        if not inside and list_files(folder):
            advice = "; wheeltapper prepare --layout files takes a folder of sound files"
        raise WheeltapperError(f"{expected}, found no machine{advice}")
    problems.extend(
        f"{path}: expected train/ and test/ in a machine's folder, found recordings without them"
        for path in inside
        if path not in machines and next(_sounds_below(path), None)
    )
    stray = [path.name for path in _files(folder) if _is_sound(path)]
    if stray:
        problems.append(
            f"{folder}: expected recordings in machine folders, found {len(stray)} beside them ({stray[0]})"
        )
    problems.extend(
        f"{folder}: machine: {problem}" for path in machines if (problem := naming.machine_problem(path.name))
    )
    problems.extend(
        f"{folder}: expected names that differ in more than case, found {naming.shown(one)}, {naming.shown(other)}"
        for one, other in naming.collisions(path.name for path in machines)
    )
    return machines


def _list_machine(machine: Path, corpus: str, problems: list[str]) -> list[Clip]:
    attributes = _read_attribute_files(machine, problems)
    stray = [path.name for path in _files(machine) if _is_sound(path)]
    if stray:
        problems.append(
            f"{machine}: expected recordings in train/ and test/, found {len(stray)} beside them ({stray[0]})"
        )
    clips: list[Clip] = []
    contradictions: list[str] = []
    for inner in _folders(machine):
        if inner.name not in FOLDERS:
            if next(_sounds_below(inner), None):
                log.warning("%s: ignored, only %s are read", inner, ", ".join(f"{name}/" for name in FOLDERS))
            continue
        problems.extend(
            f"{deeper}: expected recordings directly in {inner.name}/, found some in a folder below"
            for deeper in _folders(inner)
            if next(_sounds_below(deeper), None)
        )
        for path in with_text_names(filter(_is_sound, _files(inner)), inner, is_name):
            try:
                clip = _name_clip(path, machine.name, corpus)
            except WheeltapperError as error:
                problems.append(f"{path}: {error}")
                continue
            pairs = attributes.get((inner.name, composed(path.name)))
            if pairs and not clip.attributes:
                clip = replace(clip, attributes=join_pairs(pairs))
            elif pairs and contradicts(clip.attributes, pairs):
                contradictions.append(f"{path.name}, {join_pairs(pairs)}")
            clips.append(clip)
    if contradictions:
        log.warning(
            "%s: %d file names contradict attributes_NN.csv, the file names are used (%s)",
            machine,
            len(contradictions),
            contradictions[0],
        )
    return clips


def _name_clip(path: Path, machine: str, corpus: str) -> Clip:
    """Clip as described by its name and folder; raises WheeltapperError (without the path) if they contradict."""
    split, domain = FOLDERS[path.parent.name]
    fields = parse_name(path.name)
    if bool(fields.content) != (split == "supplemental"):
        raise WheeltapperError(
            "expected section_NN_machine_... or section_NN_noise_... in supplemental/ and only there"
        )
    if fields.split not in ("", split):
        raise WheeltapperError(f"expected a {split} clip in {path.parent.name}/, found a name that says {fields.split}")
    if domain and fields.domain not in ("", domain):
        raise WheeltapperError(
            f"expected the {domain} domain in {path.parent.name}/, found a name that says {fields.domain}"
        )
    if split == "train" and fields.label != "normal":
        found = "an anomaly" if fields.label else "a name without label"
        raise WheeltapperError(f"expected training clips with normal in their name, found {found}")
    return Clip(
        corpus=corpus,
        machine=machine,
        section=fields.section,
        split=split,
        file=path.name,
        path=str(path),
        label="normal" if fields.content == "machine" else fields.label,
        domain=fields.domain or domain,
        attributes=composed(fields.attributes),
    )


def _read_attribute_files(machine: Path, problems: list[str]) -> dict[tuple[str, str], Pairs]:
    found: dict[tuple[str, str], Pairs] = {}
    for path in _files(machine):
        if ATTRIBUTE_FILE.fullmatch(path.name):
            try:
                found.update(read_attributes(path))
            except WheeltapperError as error:
                problems.append(str(error))
    there = {(path.parent.name, composed(path.name)) for path in _set_files(machine)} if found else set()
    gone = ["/".join(key) for key in found if key[0] in FOLDERS and key not in there]
    if gone:
        log.warning("%s: attributes_NN.csv lists %d recordings that do not exist (%s)", machine, len(gone), gone[0])
    return found


def _check_sets(folder: Path, clips: list[Clip], problems: list[str]) -> None:
    """Checks each machine as a whole, without opening recordings."""
    seen: dict[tuple[str, str, str], Clip] = {}
    for clip in clips:
        key = (clip.machine, clip.split, split_extension(clip.file)[0])
        if key in seen:
            problems.append(f"{clip.path}: expected a unique name, found the same in {seen[key].path}")
        seen.setdefault(key, clip)
    for machine in sorted({path.name for path in _folders(folder) if _is_machine(path)}):
        own = [clip for clip in clips if clip.machine == machine and clip.split != "supplemental"]
        where = folder / machine
        train = Counter(clip.section for clip in own if clip.split == "train")
        if not train:
            others = other_sounds(_set_files(where))
            problems.append(
                f"{where}: expected at least {MIN_TRAIN} normal training clips in train/, found none"
                f"{f'; {others}' * bool(others)}"
            )
        problems.extend(
            f"{where}: section {section}: expected at least {MIN_TRAIN} normal training clips, found {train[section]} "
            f"(one of more than {LONGEST:g} s would do)"
            for section in sorted({clip.section for clip in own})
            if train and train[section] < MIN_TRAIN and not _has_long([c for c in own if c.section == section])
        )
        labels = Counter(bool(clip.label) for clip in own if clip.split == "test")
        if len(labels) > 1:
            problems.append(
                f"{where}: expected test clips all labelled or all anonymous, found {labels[True]} and "
                f"{labels[False]}; keep development and evaluation data in two folders"
            )


def _has_long(clips: Iterable[Clip]) -> bool:
    """Whether one of the training clips is long enough to be cut into several references."""
    try:
        return any(probe(clip.path).seconds > LONGEST for clip in clips if clip.split == "train")
    except WheeltapperError:
        return False  # reported when it is read


def _check_sounds(readable: list[tuple[Clip, InspectedSound]], problems: list[str], choice: str) -> None:
    formats: dict[str, Counter] = defaultdict(Counter)
    for clip, sound in readable:
        formats[clip.machine][sound.channels] += 1
    for clip, sound in readable:
        # The majority decides; ties are broken by value, never by order.
        channels = max(formats[clip.machine].items(), key=lambda item: (item[1], item[0]))[0]
        if sound.channels > 2 and not choice:
            problems.append(
                f"{clip.path}: expected 1 or 2 channels, found {sound.channels}; --set data.channels=1,3 takes "
                "the first as near and the third as far one"
            )
        elif sound.channels != channels:
            problems.append(
                f"{clip.path}: expected {channels} channel(s) like the other clips of {clip.machine}, "
                f"found {sound.channels}"
            )
        if sound.seconds < MIN_SECONDS:
            problems.append(f"{clip.path}: expected at least {MIN_SECONDS} s of sound, found {sound.seconds:.4f} s")
        if sound.silent and clip.split == "train":
            problems.append(f"{clip.path}: expected sound in a training clip, found silence (all samples are zero)")
        elif sound.constant and clip.split == "train":
            problems.append(f"{clip.path}: expected sound in a training clip, found a constant (no sample differs)")


def _warn(readable: list[tuple[Clip, InspectedSound]]) -> None:
    """Logs warnings about allowed irregularities."""
    for clip, sound in readable:
        if sound.silent:
            log.warning("%s: silent %s clip (all samples are zero), kept", clip.path, clip.split)
        elif sound.silent_channels:
            log.warning("%s: channel %d is silent", clip.path, sound.silent_channels[0])
    for machine in sorted({clip.machine for clip, _ in readable}):
        own = [(clip, sound) for clip, sound in readable if clip.machine == machine]
        domains = {clip.domain for clip, _ in own if clip.split == "train"}
        for missing, other in (("target", "source"), ("source", "target")):
            if other in domains and missing not in domains:
                log.warning("%s: no %s training clips; all its references are %s", machine, missing, other)
        rates = sorted({sound.rate for _, sound in own})
        if len(rates) > 1:
            log.warning("%s: recordings of %s Hz", machine, ", ".join(map(str, rates)))
        if not any(clip.split == "test" for clip, _ in own):
            log.warning("%s: no test clips", machine)


def _listing(folder: Path, problems: list[str]) -> str:
    unique = [problem.replace("\n", "\\n") for problem in dict.fromkeys(problems)]
    if len(unique) == 1:
        return unique[0]
    more = f" (the first {SHOWN} are shown)" if len(unique) > SHOWN else ""
    return "\n  ".join([f"{folder}: {len(unique)} problems{more}", *unique[:SHOWN]])


def _is_machine(path: Path) -> bool:
    return any((path / name).is_dir() for name in ("train", "test", "source_test", "target_test"))


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def _entries(path: Path) -> Iterable[Path]:
    return (entry for entry in sorted(path.iterdir()) if not entry.name.startswith("."))


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def _files(path: Path) -> list[Path]:
    # Dangling links are included, so that the missing recording is reported.
    return [entry for entry in _entries(path) if not entry.is_dir()]


def _set_files(machine: Path) -> list[Path]:
    """Files of any kind in a machine's folders of recordings."""
    return [path for name in FOLDERS if (machine / name).is_dir() for path in _files(machine / name)]


def _sounds_below(path: Path) -> Iterator[Path]:
    for root, folders, names in walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root) / name for name in names if name[0] != "." and _is_sound(Path(name)))
