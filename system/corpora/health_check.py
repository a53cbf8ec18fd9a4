"""What is wrong with a recording, compared with the normal references of its machine.

A recording that cannot be compared with the references is unusable: its score would say nothing about the machine. The
limits are such that no recording of a running machine, healthy or faulty, in the real data sets that the project was
developed with is unusable for its level or its clipping (docs/measurements.md).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from system import channel_choice
from system.corpora.health import BAND, ChannelHealth, Health
from system.corpora.sound_settings import rate_remark
from system.manifest import Clip, Key, group_by

SHORTEST = 0.1  # s; a recording of that length or less is unusable
SHORTEST_SHARE = 0.05  # or one below this share of the shortest reference
LONG = 10.0  # s; of which no more than this counts
LEVEL, LEVEL_DOUBT = 20.0, 15.0  # dB outside the levels of the references: unusable, doubtful
GAIN_DOUBT = 5.0  # dB outside where the recording differs from the references in gain alone: doubtful
SLOW = 3.0  # dB by which other frequencies may be louder where only the lowest ones are
LEVEL_LOUD = 30.0  # dB above them where the machine itself may be so loud: unusable
CLIPPED, CLIPPED_DOUBT = 0.01, 0.001  # share of the samples, above that of the worst reference
CLIPPED_LOUD = 0.07  # the same where the machine itself may be so loud
BALANCE = 3.0  # dB; standard deviation over the bands, below which a recording differs from the references in gain only
WRAPPED, WRAPPED_DOUBT = 1e-4, 1e-5  # share of the samples after an overflow, above that of the worst reference
LOST = 0.01  # share of the recording in dropouts, above that of the worst reference
LOST_DOUBT = 0.02  # s without signal at an end
LOST_AT_ONCE = 0.03  # s of one dropout, above the longest of the references; a new sound, to a spectrogram
DROPOUTS, FEW_DROPOUTS = "dropouts", "few dropouts"  # kinds of findings: more of a recording than ``LOST``, and less
OFFSET, OFFSET_DOUBT = 0.08, 0.01  # of full scale
OFFSET_RATIO = 0.5  # of the root mean square: a smaller offset is neither
LACK_DOUBT = 15.0  # dB that all upper bands lie below those of every reference where a recording is band-limited
LACK, LOST_BANDS = 20.0, 0.25  # the same for most of these bands, and their share of all: unusable
NOISE16 = -101.1  # dBFS; quantisation noise of 16 bits
USUAL = 0.1  # share of the references with a defect from which it is usual
OUTLIER = 30.0  # dB between a reference and the median, from which its level says nothing of what is usual


@dataclass(frozen=True)
class Finding:
    """Something wrong with a recording: its kind, a text with the figure, and whether the recording is unusable."""

    kind: str
    text: str
    unusable: bool


@dataclass(frozen=True)
class Usual:
    """What the normal references of a machine and section show; the default compares with nothing.

    Attributes:
        channels: numbers of channels that occur.
        rates: sampling rates, Hz.
        seconds: length of the shortest.
        used_rate: sampling rate that recordings are brought to, Hz; 0 for their own.
        healths: of the references, as far as they were measured.
    """

    channels: frozenset[int] = frozenset()
    rates: frozenset[int] = frozenset()
    seconds: float = 0.0
    used_rate: int = 0
    healths: tuple[Health, ...] = ()


def usual(references: Sequence[Clip], healths: Mapping[Key, Health], used_rate: int) -> Usual:
    """What references show, given the healths that were measured, by clip.

    A few broken ones in a domain do not make their defect usual.
    """
    counts = Counter(clip.channels for clip in references)
    bare = Usual(
        channels=frozenset(number for number, seen in counts.items() if seen >= USUAL * len(references)),
        rates=frozenset(clip.rate for clip in references),
        seconds=min(clip.seconds for clip in references),
        used_rate=used_rate,
    )
    kept: list[Health] = []
    for members in group_by(references, "domain").values():
        own = [references[index] for index in members if references[index].key in healths]
        off = {clip.key for clip in level_outliers(own, healths, OUTLIER)}
        sound = [
            clip
            for clip in own
            if clip.key not in off and not any(found.unusable for found in check(clip, healths[clip.key], bare))
        ]
        few = len(own) - len(sound) < USUAL * len(own)
        kept += [healths[clip.key] for clip in (sound if few else own)]
    return replace(bare, healths=tuple(kept))


def level_outliers(clips: Sequence[Clip], healths: Mapping[Key, Health], limit: float) -> list[Clip]:
    """Clips that have a living channel ``limit`` dB or more above or below the median of that channel."""
    measured = [[np.nan if own.dead else own.level for own in healths[clip.key].channels] for clip in clips]
    width = max(map(len, measured), default=0)
    levels = np.array([[*row, *[np.nan] * (width - len(row))] for row in measured]).reshape(len(clips), width)
    found = set()
    for column in levels.T:
        living = np.flatnonzero(np.isfinite(column))
        if len(living):
            found |= set(living[np.abs(column[living] - np.median(column[living])) >= limit].tolist())
    return [clips[index] for index in sorted(found)]


def check(clip: Clip, health: Health, known: Usual) -> list[Finding]:
    """What is wrong with a recording; the channels used are compared where it has as many as the references.

    Args:
        clip: the recording; its rate, number and choice of channels count.
        health: of the recording.
        known: what the references show.
    """
    found = [*_length(health, known), *_format(clip, known)]
    references = [own.channels for own in known.healths if len(own.channels) == len(health.channels)]
    columns = [
        _Channel(number, health.channels[number], [channels[number] for channels in references], known)
        for number in channel_choice.used(clip.channel_choice, len(health.channels))
        if number < len(health.channels)
    ]
    found += _dead(columns)
    if known.channels and clip.channels not in known.channels:
        return found
    found += _doubled(columns, bool(known.healths))
    living = [column for column in columns if not column.own.dead]
    for kind in (_level, _clipping, _overflow, _dropouts, _offset, _band):
        problems = [(column, *problem) for column in living if (problem := kind(column))]
        if problems:
            column, _, finding = max(problems, key=lambda item: (item[2].unusable, item[1]))
            where = f"channel {column.number + 1}: " if len(columns) > 1 and len(problems) < len(living) else ""
            found.append(Finding(finding.kind, where + finding.text, finding.unusable))
    return found


def remark(findings: Iterable[Finding]) -> str:
    """The texts of findings in one, those that make a recording unusable first."""
    return "; ".join(found.text for found in sorted(findings, key=lambda found: not found.unusable))


@dataclass(frozen=True)
class _Channel:
    """A channel of a recording, and the same one of the references."""

    number: int
    own: ChannelHealth
    all: Sequence[ChannelHealth]
    known: Usual

    @property
    def references(self) -> list[ChannelHealth]:
        return [other for other in self.all if not other.dead]

    @property
    def full(self) -> float:
        """Full scale: 1, or what the references reach where their scale is another."""
        return max(1.0, self.most(lambda other: other.peak))

    def audible(self, levels: np.ndarray, margin: float) -> np.ndarray:
        """Numbers of the bands whose levels lie ``margin`` dB or more above the quantisation noise of 16 bits."""
        return np.flatnonzero(levels > NOISE16 - 10 * math.log10(max(1, len(self.own.bands))) + margin)

    def bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Levels (bands,) of the recording and (references, bands) in the bands that all have and that are used."""
        every = [other.bands for other in self.references if other.bands]
        used = self.known.used_rate // 2 // BAND if self.known.used_rate else len(self.own.bands)
        count = min([used, len(self.own.bands), *(len(bands) for bands in every)])
        return np.array(self.own.bands[:count]), np.array([bands[:count] for bands in every])

    def most(self, measure: Callable[[ChannelHealth], float]) -> float:
        """The largest of a measurement among the references, 0 without any."""
        return max(map(measure, self.references), default=0.0)


Problem = tuple[float, Finding] | None  # how bad it is, and what it is


def _length(health: Health, known: Usual) -> list[Finding]:
    least = SHORTEST_SHARE * min(known.seconds, LONG)
    if health.seconds > SHORTEST and health.seconds >= least:
        return []
    than = f"the references last {known.seconds:.3g} s" if known.seconds else f"{SHORTEST:g} s is too short"
    return [Finding("too short", f"{1000 * health.seconds:.3g} ms long, {than}", True)]


def _format(clip: Clip, known: Usual) -> list[Finding]:
    found = []
    if known.channels and clip.channels not in known.channels:
        have = " or ".join(str(count) for count in sorted(known.channels))
        text = f"{clip.channels} channel{'s' * (clip.channels > 1)}, the references have {have}"
        found.append(Finding("channels", text, True))
    if known.rates and (text := rate_remark(clip.rate, known.rates, known.used_rate)):
        found.append(Finding("rate", text, False))
    return found


def _dead(columns: Sequence[_Channel]) -> list[Finding]:
    texts = {"zero": "all samples are zero", "dither": "only the last bit moves"}
    found = []
    for column in columns:
        if column.own.dead and not _is_usual(bool(other.dead) for other in column.all):
            value = f"all samples are {column.own.offset:.3g}"
            found.append((column.number, column.own.dead, texts.get(column.own.dead, value)))
    if not found:
        return []
    if len(found) == len(columns) and len({text for *_, text in found}) == 1:
        kind = {"zero": "silent", "constant": "constant"}.get(found[0][1], "dead")
        return [Finding("dead", f"{kind} ({found[0][2]})", True)]
    return [Finding("dead", f"channel {number + 1} is dead ({text})", True) for number, _, text in found]


def _doubled(columns: Sequence[_Channel], compared: bool) -> list[Finding]:
    numbers = {column.number + 1 for column in columns}
    return [
        Finding("doubled", f"channels {own.own.same_as} and {own.number + 1} hold the same sound", compared)
        for own in columns
        if own.own.same_as in numbers and not _is_usual(bool(other.same_as) for other in own.all)
    ]


def _is_usual(seen: Iterable[bool]) -> bool:
    flags = list(seen)
    return bool(flags) and sum(flags) >= USUAL * len(flags)


def _level(channel: _Channel) -> Problem:
    own, others = channel.own, channel.references
    if not others:
        return None
    quieter = min(other.level for other in others) - own.level
    louder = own.level - channel.most(lambda other: other.level)
    outside = max(quieter, louder)
    if outside < GAIN_DOUBT:
        return None
    gain = _gain(channel)
    if outside < LEVEL_DOUBT:
        where = "at all frequencies: gain changed?" if abs(gain or 0.0) >= GAIN_DOUBT else _slow(channel, louder)
        than = "quieter than the quietest" if quieter > louder else "louder than the loudest"
        text = f"{outside:.0f} dB {than} reference, {where}"
        return (outside, Finding("level", text, False)) if where else None
    if quieter > louder:
        text, cause = f"{quieter:.0f} dB quieter than the quietest reference", "machine off or gain changed"
        unusable = quieter >= LEVEL
    else:
        # A bang is loud for a moment, a change of the gain all the time and at all frequencies.
        always = min(louder, own.median_level - channel.most(lambda other: other.median_level))
        text, cause = f"{louder:.0f} dB louder than the loudest reference", "gain changed"
        unusable = always >= (LEVEL_LOUD if gain is None else LEVEL)
    return outside, Finding("level", text + f": {cause}" * unusable, unusable)


def _slow(channel: _Channel, louder: float) -> str:
    """Says that what makes a recording louder lies below the frequencies that ``median_level`` counts; else empty."""
    own, others = channel.bands()
    if louder < GAIN_DOUBT or not len(others):
        return ""
    same = channel.own.median_level - channel.most(lambda other: other.median_level) < SLOW
    above = own[1:] - others[:, 1:].max(axis=0)
    return "at the lowest frequencies alone: drift or wind?" if same and bool((above < SLOW).all()) else ""


def _clipping(channel: _Channel) -> Problem:
    own, reach = channel.own, channel.most(lambda other: other.peak)
    excess = own.clipped - channel.most(lambda other: other.clipped)
    if excess < CLIPPED_DOUBT:
        return None
    # A faulty machine may be so loud that it reaches the usual limit; then its spectrum has another shape too.
    by_sensor = own.peak < 0.99 * (reach or channel.full) or _gain(channel) is not None
    share = own.peak / channel.full
    where = "full scale" if share >= 0.99 else f"{100 * share:.2g} % of full scale"
    text = f"clipped: {100 * own.clipped:.2g} % of the samples at {where}"
    return excess, Finding("clipped", text, excess >= (CLIPPED if by_sensor else CLIPPED_LOUD))


def _overflow(channel: _Channel) -> Problem:
    own = channel.own
    excess = own.wrapped - channel.most(lambda other: other.wrapped)
    if excess < WRAPPED_DOUBT:
        return None
    text = f"overflow: {100 * own.wrapped:.2g} % of the samples jump from one end of the scale to the other"
    return excess, Finding("overflow", text, excess >= WRAPPED)


def _gain(channel: _Channel) -> float | None:
    """How much louder a recording is, in dB, than the reference whose spectrum has its shape; None without such one."""
    own, others = channel.bands()
    if not len(others):
        return None
    audible = channel.audible(np.median(others, axis=0), LACK_DOUBT)
    if len(audible) < 2:
        return None
    louder = (own - others)[:, audible]
    spread = np.std(louder, axis=1)
    return float(np.median(louder[spread.argmin()])) if spread.min() < BALANCE else None


def _dropouts(channel: _Channel) -> Problem:
    own = channel.own
    excess = own.lost - channel.most(lambda other: other.lost)
    at_once = own.longest_seconds - channel.most(lambda other: other.longest_seconds)
    parts = []
    if own.dropouts > channel.most(lambda other: other.dropouts):
        places = f"{own.dropouts} place{'s' * (own.dropouts > 1)}"
        parts.append(f"{_duration(own.dropout_seconds)} of dropouts in {places}")
    if own.start_seconds - channel.most(lambda other: other.start_seconds) > LOST_DOUBT:
        parts.append(f"{_duration(own.start_seconds)} without signal at the beginning")
    if own.end_seconds - channel.most(lambda other: other.end_seconds) > LOST_DOUBT:
        parts.append(f"{_duration(own.end_seconds)} without signal at the end")
    if not parts:
        return None
    kind = DROPOUTS if excess > LOST else FEW_DROPOUTS
    return own.lost, Finding(kind, ", ".join(parts), excess > LOST or at_once > LOST_AT_ONCE)


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _offset(channel: _Channel) -> Problem:
    own, offsets = channel.own, [other.offset for other in channel.references] or [0.0]
    shift = max(min(offsets) - own.offset, own.offset - max(offsets))
    if shift < max(OFFSET_DOUBT * channel.full, OFFSET_RATIO * 10 ** (own.level / 20)):
        return None
    text = f"DC offset of {100 * own.offset / channel.full:.2g} % of full scale"
    return shift, Finding("DC offset", text, shift >= OFFSET * channel.full)


def _band(channel: _Channel) -> Problem:
    own, others = channel.bands()
    if not len(others):
        return None
    # Relative to the whole recording too, so that neither a gain nor a low rumble passes for a missing band.
    level = np.array([other.level for other in channel.references])[:, None]
    lack = np.minimum(others.min(axis=0) - own, (others - level).min(axis=0) - (own - channel.own.level))
    audible = channel.audible(others.min(axis=0), LACK_DOUBT)
    present = np.flatnonzero(lack[audible] < LACK_DOUBT)
    lost = audible[present[-1] + 1 if len(present) else 0 :]
    if len(lost) < 2:
        return None
    typical = float(np.median(lack[lost]))
    text = f"no sound above {BAND * lost[0]} Hz, where every reference has some"
    return typical, Finding("band", text, typical >= LACK and len(lost) >= LOST_BANDS * len(lack))
