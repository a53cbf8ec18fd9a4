"""What stage 0 asks of the recordings of a run, wherever they are listed: nothing that a later stage would refuse."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from submission.facts import is_test_clip
from system import naming
from system.audio import EXTENSIONS
from system.corpora.dcase import MIN_TRAIN
from system.corpora.names import contradictions
from system.errors import WheeltapperError
from system.manifest import LONGEST, Clip, Key

SHOWN = 10
USED = ("train", "test")  # splits of recordings that stages use


def admit(clips: Sequence[Clip], where: object, places: Sequence[str] = ()) -> list[Clip]:
    """Clips as a run takes them: names of recordings as the challenge's CSVs can hold them (``naming.bare_file``).

    Args:
        clips: what a folder, manifest or table lists, with its properties.
        where: folder or file, for messages.
        places: for each clip where it is listed, such as ``line 2``; empty for a folder, whose clips go by their path.

    Raises:
        WheeltapperError: the first ten problems, and their number. Names: of a machine, a section or a recording that
            the package or a file system refuses, that contradict the manifest, or of which two become one. Sets: an
            anomaly or a recording of a test folder among the training clips, a test clip with the content of a training
            clip, a machine and section with too few training clips, a machine with labelled and anonymous test clips.
    """
    listed = [f"{where}: {place}" for place in places] or [clip.path for clip in clips]
    problems = naming.machine_problems([clip.machine for clip in clips], listed)
    admitted: list[Clip] = []
    seen: dict[Key, str] = {}
    for clip, place in zip(clips, listed, strict=True):
        named = replace(clip, file=naming.bare_file(clip.file))
        problems += [f"{place}: {text}" for text in _clip_problems(named)]
        other = seen.setdefault(named.key, place)
        if other != place:
            problems.append(f"{place}: file: expected names that differ in more than , / \\ and _, found {other}'s too")
        admitted.append(named)
    problems += [f"{where}: {text}" for text in _set_problems(admitted)]
    problems += _leaks(admitted, listed)
    if problems:
        raise WheeltapperError(_message(str(where), problems))
    return admitted


def _message(where: str, problems: list[str]) -> str:
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        return unique[0]
    more = f" (the first {SHOWN} are shown)" if len(unique) > SHOWN else ""
    return "\n  ".join([f"{where}: {len(unique)} problems{more}", *unique[:SHOWN]])


def _clip_problems(clip: Clip) -> list[str]:
    checks = {
        "section": naming.section_problem(clip.section),
        "file": naming.bare_file_problem(clip.file),
        "attributes": naming.text_problem(clip.attributes),
    }
    found = [f"{name}: {problem}" for name, problem in checks.items() if problem]
    if not clip.file.lower().endswith(EXTENSIONS):
        found.append(f"file: expected a name that ends in {', '.join(EXTENSIONS)}, found {naming.shown(clip.file)}")
    if clip.split not in USED:
        return found
    found += contradictions(clip)
    if clip.split == "train" and clip.label == "anomaly":
        found.append("label: expected normal recordings in split train, found an anomaly")
    elif clip.split == "train" and is_test_clip(clip.path):
        found.append(f"path: expected a training recording outside of folders named test, found {clip.path}")
    return found


def _set_problems(clips: Sequence[Clip]) -> list[str]:
    counts = Counter((clip.machine, clip.section, clip.split) for clip in clips)
    groups = dict.fromkeys((clip.machine, clip.section) for clip in clips if clip.split in USED)
    # A long recording is cut into several references; of unopened ones the length is unknown.
    long = {
        (clip.machine, clip.section)
        for clip in clips
        if clip.split == "train" and (not clip.rate or clip.seconds > LONGEST)
    }
    found = [
        f"{machine} section {section}: expected at least {MIN_TRAIN} normal training clips, found "
        f"{counts[machine, section, 'train'] or 'none'} (one of more than {LONGEST:g} s would do)"
        for machine, section in groups
        if counts[machine, section, "train"] < MIN_TRAIN and (machine, section) not in long
    ]
    labelled = Counter((clip.machine, bool(clip.label)) for clip in clips if clip.split == "test")
    return found + [
        f"{machine}: expected test clips all labelled or all anonymous, found {labelled[machine, True]} and "
        f"{labelled[machine, False]}; keep development and evaluation data in two runs"
        for machine in dict.fromkeys(clip.machine for clip in clips)
        if labelled[machine, True] and labelled[machine, False]
    ]


def _leaks(clips: Sequence[Clip], listed: Sequence[str]) -> list[str]:
    """Test clips whose content is among the training clips."""
    learned = {clip.digest: clip.path for clip in clips if clip.split == "train" and clip.digest}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for clip, place in zip(clips, listed, strict=True):
        if clip.split == "test" and clip.digest in learned:
            found[clip.machine].append(f"{place}: {Path(clip.path).name} has the content of {learned[clip.digest]}")
    return [
        f"{texts[0]}: expected no test clip among the training clips, found {len(texts)} of {machine}"
        for machine, texts in found.items()
    ]
