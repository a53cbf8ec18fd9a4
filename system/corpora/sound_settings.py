"""What the settings of sound (``data.rate``, ``data.channels``) ask of the recordings of a run."""

import itertools
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from system import audio, channel_choice
from system.errors import WheeltapperError
from system.manifest import Clip
from system.resampling import check_rates

log = logging.getLogger(__name__)

ASKED = 20  # references whose coding is looked at


def common_rate(clips: Sequence[Clip]) -> int:
    """Sampling rate (Hz) of all clips; raises WheeltapperError if there are several."""
    rates = sorted({clip.rate for clip in clips})
    if len(rates) > 1:
        first = {clip.rate: clip.path for clip in reversed(clips)}
        examples = "; ".join(f"{rate} Hz: {first[rate]}" for rate in rates[:3])
        raise WheeltapperError(
            f"data.rate is 0 (as recorded): expected one rate in all recordings, found {rates} Hz ({examples}); "
            "data.rate: 16000 resamples all to that rate"
        )
    return rates[0]


def check_rate(clips: Sequence[Clip], rate: int) -> None:
    """Raises WheeltapperError unless clips can be brought to a sampling rate (Hz; 0: have one rate already)."""
    if not rate:
        common_rate(clips)
    for clip in clips if rate else ():
        try:
            check_rates(clip.rate, rate)
        except WheeltapperError as error:
            raise WheeltapperError(f"{clip.path}: {error}") from error


def choose_channels(clips: Sequence[Clip], choice: str) -> list[Clip]:
    """Clips with the channels that models take.

    Args:
        clips: with their number of channels.
        choice: see ``channel_choice``; empty: as the clips say, or the first two, with a warning where there are more.

    Raises:
        WheeltapperError: names the first recording that lacks a channel, and the number of further ones.
    """
    if choice:
        clips = [replace(clip, channel_choice=choice) for clip in clips]
    lacking = [clip for clip in clips if clip.channels < channel_choice.highest(clip.channel_choice)]
    if lacking:
        first, more = lacking[0], f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise WheeltapperError(f"{first.path}: {channel_choice.lacking(first.channel_choice, first.channels)}{more}")
    many = [clip for clip in clips if clip.channels > 2 and not clip.channel_choice]
    if many:
        log.warning(
            "%d recordings of %d channels (%s): the first two are used, as near and far; data.channels chooses others",
            len(many), many[0].channels, many[0].path,
        )  # fmt: skip
    return list(clips)


def rate_remark(rate: int, references: Collection[int], used: int) -> str:
    """What the sampling rate of a recording makes doubtful beside references of other rates; empty for nothing.

    Args:
        rate: of the recording, Hz.
        references: rates of the references, Hz.
        used: that all are brought to, Hz; 0 for that of the references.
    """
    if rate in references:
        return ""
    lowest = min(references)
    used = used or lowest
    text = f"{rate} Hz, the references have {' and '.join(f'{each} Hz' for each in sorted(references))}"
    if rate < min(lowest, used):
        return f"{text}: no sound between {rate // 2} and {min(lowest, used) // 2} Hz, where they have some"
    if lowest < min(rate, used):
        return f"{text}: sound between {lowest // 2} and {min(rate, used) // 2} Hz, where they have none"
    return f"{text}: just below {min(rate, lowest) // 2} Hz, the filter of the lower rate may have weakened the sound"


def coding_remark(path: str | os.PathLike, references: Iterable[str | os.PathLike]) -> str:
    """Says that the coding of a recording lost something, and that of none of its references; empty otherwise."""
    lost = audio.coding_loss(path)
    if not lost or any(audio.coding_loss(each) for each in itertools.islice(references, ASKED)):
        return ""
    return f"{lost}, the references are not"
