"""Checks of the score and decision files of a system, and of their content."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from submission.archive import Tree
from submission.findings import Collector, listing, printable
from system.evaluation import challenge_csv, coinciding
from system.evaluation.challenge_csv import DECISION, KINDS, SCORE

# Of the lines of a CSV those that name recordings: wav for the challenge, others for rehearsals with one's own.
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".opus")
MAX_CSV = 16 << 20
MAX_LINE_FINDINGS = 1000
TIES = 0.05
ORDERED = 20  # clips that two systems do not rank alike by chance
LITERAL = rb",\s*[01]\s*$"


@dataclass
class OutputFile:
    """One score or decision file.

    Args:
        kind: ``SCORE`` or ``DECISION``.
        machine: machine in the file name.
        section: section in the file name.
        relative: path in the package.
        lines: text in column 1 to its first line number.
        values: file name of a clip to value, for lines without errors.
        intact: whether no line has an error.
    """

    kind: str
    machine: str
    section: str
    relative: str
    lines: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    intact: bool = False

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name in self.lines if name.lower().endswith(AUDIO))

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.machine, self.section


def read_outputs(tree: Tree, files: Iterable[str], collector: Collector) -> list[OutputFile]:
    """Reads the CSVs of a system, one OutputFile per kind, machine and section; reports wrong names and lines."""
    outputs: dict[tuple[str, str, str], OutputFile] = {}
    for relative in sorted(files):
        where, name = tree.where(relative), relative.rsplit("/", 1)[-1]
        parsed = challenge_csv.parse_name(name)
        if parsed is None:
            collector.error(where, f"expected {_name(SCORE)} or {_name(DECISION)}, found another name")
            continue
        output = OutputFile(*parsed, relative)
        _check_name(name, output, where, collector)
        if output.key in outputs:
            other = outputs[output.key].relative.rsplit("/", 1)[-1]
            collector.error(
                where, f"expected one file for {output.machine} section {output.section}, found also {other}"
            )
            continue
        outputs[output.key] = output
        _read(tree, output, collector)
    return list(outputs.values())


def _check_name(name: str, output: OutputFile, where: str, collector: Collector) -> None:
    wanted = f"{output.kind}_{output.machine}_section_{output.section}_test.csv"
    if name == wanted:
        return
    if challenge_csv.BASELINE.fullmatch(name):
        collector.warning(where, f"expected {wanted}, found the baseline program's name (the evaluator takes it too)")
    else:
        collector.error(where, f"expected {wanted}, found {name}")


def _read(tree: Tree, output: OutputFile, collector: Collector) -> None:
    where, path = tree.where(output.relative), tree.files[output.relative]
    try:
        size = path.stat().st_size
        if size > MAX_CSV:
            collector.error(where, f"expected at most {MAX_CSV >> 20} MiB of CSV, found {size >> 20} MiB")
            return
        content = path.read_bytes()
    except OSError as error:
        collector.error(where, f"expected a readable file, found {error.strerror or error}")
        return
    rows, findings = challenge_csv.scan_bytes(content, output.kind)
    for line, message in findings[:MAX_LINE_FINDINGS]:
        collector.error(where, message if len(message) < 300 else message[:300] + "...", line)
    if len(findings) > MAX_LINE_FINDINGS:
        collector.error(where, f"{len(findings) - MAX_LINE_FINDINGS} more lines are wrong")
    output.intact = not findings
    output.values = dict(rows)
    output.lines = _first_column(content)
    if output.kind == DECISION and output.intact:
        lines = enumerate(content.split(b"\n"), 1)
        odd = [line for line, text in lines if text.strip() and not re.search(LITERAL, text)]
        if odd:
            collector.warning(
                where, f"expected decisions written 0 or 1, found other forms in {len(odd)} lines", odd[0]
            )


def _first_column(content: bytes) -> dict[str, int]:
    """Names on all lines, including those with a wrong value, so that a wrong value is not a missing clip too."""
    text = content.decode("utf-8-sig", errors="replace")
    places: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        name = re.split("[,\t]", line, maxsplit=1)[0].strip().strip('"')
        places.setdefault(name, number)
    return places


def check_complete(
    outputs: list[OutputFile],
    expected: Iterable[tuple[str, str]],
    where: str,
    collector: Collector,
) -> None:
    """Checks that every machine and section has a score and a decision file."""
    present = {output.key for output in outputs}
    for machine, section in sorted(expected):
        for kind in KINDS:
            if (kind, machine, section) not in present:
                collector.error(
                    where,
                    f"expected {kind}_{machine}_section_{section}_test.csv, found none (the evaluator skips systems "
                    "with a missing file)",
                )


def reference_names(outputs: list[OutputFile]) -> tuple[frozenset[str], str]:
    """Clips in the majority of the files of one machine and section, and one of these files, as the reference."""
    counts = Counter(output.names for output in outputs)
    best = max(counts, key=lambda names: (counts[names], len(names), sorted(names)))
    return best, next(output.relative for output in outputs if output.names == best)


def check_names(
    output: OutputFile, expected: frozenset[str], source: str, tree: Tree, collector: Collector, rehearsal: bool = False
) -> None:
    """Checks that a file has exactly the expected clips; ``source`` names their origin in messages.

    The challenge's recordings are wav files; those of a rehearsal need not be.
    """
    where = tree.where(output.relative)
    missing, extra = sorted(expected - output.names), sorted(output.names - expected)
    if missing or extra:
        found = []
        if missing:
            found.append(f"{len(missing)} missing ({_names(missing)})")
        if extra:
            found.append(f"{len(extra)} unknown ({_names(extra)})")
        collector.error(
            where,
            f"expected the {len(expected)} clips of {source}, found {len(output.names)}: {', '.join(found)}",
            min((output.lines[name] for name in extra), default=0),
        )
    other = sorted(name for name in output.names if re.match(r"section_\d\d_", name) and name[8:10] != output.section)
    if other:
        first = min(output.lines[name] for name in other)
        collector.error(
            where, f"expected clips of section {output.section}, found {len(other)} others ({_names(other)})", first
        )
    bare = sorted(name for name in output.values if not name.endswith(".wav"))
    if bare:
        first = min(output.lines.get(name, 0) for name in bare)
        text = f"expected file names that end in .wav, found {len(bare)} others ({_names(bare)})"
        (collector.warning if rehearsal else collector.error)(where, text, first)


def check_values(outputs: list[OutputFile], tree: Tree, collector: Collector) -> None:
    """Warns about implausible values: constant or tied scores, equal decisions, decisions that contradict scores."""
    by_key = {output.key: output for output in outputs}
    for output in outputs:
        where, values = tree.where(output.relative), list(output.values.values())
        if not output.intact or len(values) < 2:
            continue
        counts = Counter(values)
        tied = sum(count for count in counts.values() if count > 1)
        if len(counts) == 1:
            what = "scores that differ" if output.kind == SCORE else "decisions of both kinds"
            collector.warning(where, f"expected {what}, found {values[0]:g} for all {len(values)} clips")
        elif output.kind == SCORE and tied > TIES * len(values):
            collector.warning(where, f"expected few ties, found {tied} of {len(values)} clips that share their score")
        if output.kind == DECISION:
            scores = by_key.get((SCORE, output.machine, output.section))
            if scores is not None and scores.intact:
                _check_monotone(output, scores, where, collector)


def check_copies(systems: list[list[OutputFile]], tree: Tree, collector: Collector) -> None:
    """Warns about equal scores: in two machines of a system, and in two systems; of systems also an equal order."""
    scores = [[output for output in outputs if output.kind == SCORE and _differs(output)] for outputs in systems]
    for number, outputs in enumerate(scores):
        known: dict[frozenset, OutputFile] = {}
        for output in outputs:
            other = known.setdefault(frozenset(output.values.items()), output)
            if other is not output:
                where, name = tree.where(output.relative), other.relative.rsplit("/", 1)[-1]
                collector.warning(where, f"expected scores of {output.machine}, found the same ones as in {name}")
        for others in scores[:number]:
            before = {output.key: output.values for output in others}
            same = [each for each in outputs if coinciding.are_equal(before.get(each.key, {}), each.values)]
            if same:
                _tell_copies(others[0].relative, same, len(outputs), tree, collector)
            elif outputs and all(_same_order(before.get(each.key, {}), each.values) for each in outputs):
                first, own = (each[0].relative.split("/")[-2] for each in (others, outputs))
                text = f"expected systems that differ, found the order of {first} in all machines: the AUC is the same"
                collector.warning(tree.where(own), text)


def _same_order(first: dict[str, float], second: dict[str, float]) -> bool:
    """Whether two systems rank the same clips, enough of them to be no chance, alike."""
    if len(first) < ORDERED or first.keys() != second.keys():
        return False
    one, other = (np.unique([scores[clip] for clip in first], return_inverse=True)[1] for scores in (first, second))
    return bool(np.array_equal(one, other))


def _differs(output: OutputFile) -> bool:
    """Whether a file is intact and has values that differ; files that do not are named elsewhere."""
    return output.intact and len(set(output.values.values())) > 1


def _tell_copies(other: str, copies: list[OutputFile], scores: int, tree: Tree, collector: Collector) -> None:
    """One line about a system with the scores of the system that the file ``other`` is of, in all machines or some."""
    other, own = other.split("/")[-2], copies[0].relative
    where = own.rpartition("/")[0] if len(copies) == scores else own
    machines = "all machines" if len(copies) == scores else listing([output.machine for output in copies])
    collector.warning(tree.where(where), f"expected systems that differ, found the scores of {other} for {machines}")


def _check_monotone(decisions: OutputFile, scores: OutputFile, where: str, collector: Collector) -> None:
    common = decisions.values.keys() & scores.values.keys()
    positive = [scores.values[name] for name in common if decisions.values[name] == 1]
    if not positive:
        return
    lowest = min(positive)
    against = sorted(name for name in common if decisions.values[name] == 0 and scores.values[name] > lowest)
    if against:
        collector.warning(
            where,
            f"expected decisions that follow the scores, found {len(against)} clips decided 0 with scores above "
            f"{lowest:g}, which is decided 1 ({_names(against)})",
            min(decisions.lines.get(name, 0) for name in against),
        )


def _names(names: list[str]) -> str:
    return printable(listing([name[:80] for name in names], 3))


def _name(kind: str) -> str:
    return f"{kind}_<machine>_section_<NN>_test.csv"
