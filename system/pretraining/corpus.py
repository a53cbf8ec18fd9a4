"""Sources of training crops: manifests and folders of shards, single or mixed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from system import audio, manifest
from system.config import SourceConfig
from system.errors import WheeltapperError
from system.manifest import Clip
from system.pretraining.shards import ShardFolder
from system.training.crops import place_crop

TRIES = 100  # number of constant crops in a row after which drawing fails


class TrainingCorpus(Protocol):
    """N recordings by index: ``rates`` (Hz), ``samples`` (per channel) and ``channels`` are integer arrays (N,)."""

    rates: np.ndarray
    samples: np.ndarray
    channels: np.ndarray

    def __len__(self) -> int: ...

    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        """Reads part of a channel of a recording.

        Args:
            index: of the recording.
            channel: of the recording.
            start: first sample.
            samples: number of samples.

        Returns:
            float32 (samples,).
        """
        ...


class ClipCorpus:
    """The clips of a manifest, or windows of them; each crop is read from its sound file.

    For more than some ten thousand clips use shards.
    """

    def __init__(self, clips: Sequence[Clip]):
        self.paths, self.starts = [clip.path for clip in clips], [clip.start for clip in clips]
        self.rates, self.samples, self.channels = (
            np.array([getattr(clip, name) for clip in clips], np.int64) for name in ("rate", "held", "channels")
        )

    def __len__(self) -> int:
        return len(self.paths)

    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        """See ``TrainingCorpus.crop``. Raises WheeltapperError if the file does not agree with the manifest."""
        wave, rate = audio.read(self.paths[index], self.starts[index] + start, samples)
        expected, found = (self.rates[index], self.channels[index]), (rate, len(wave))
        if found != expected:
            raise WheeltapperError(
                f"{self.paths[index]}: expected {expected[0]} Hz and {expected[1]} channels (manifest), found "
                f"{found[0]} Hz and {found[1]}"
            )
        return wave[channel]


def open_corpus(path: str | os.PathLike) -> TrainingCorpus:
    """Opens a manifest.csv or a folder of shards.

    Raises:
        WheeltapperError: the path is neither, is damaged, or contains a clip that is not for training.
    """
    if Path(path).is_dir():
        return ShardFolder(path)
    return ClipCorpus(_training_clips(path))


def describe(source: SourceConfig) -> dict[str, Any]:
    """Name, number of clips, hours, relative weight and fingerprint of a source."""
    path = Path(source.path)
    if path.is_dir():
        record = ShardFolder(path).record
        count, hours, fingerprint = record["clips"], record["hours"], record["fingerprint"]
    else:
        clips = _training_clips(path)
        count, hours, fingerprint = len(clips), sum(c.seconds for c in clips) / 3600, manifest.fingerprint(clips)
    return {
        "name": name_of(source),
        "clips": count,
        "hours": round(hours, 4),
        "weight": source.weight or count,
        "fingerprint": fingerprint,
    }


def name_of(source: SourceConfig) -> str:
    """Name of a source, from that of its file or folder."""
    path = Path(source.path)
    return path.resolve().parent.name if path.name == "manifest.csv" else path.resolve().name.removesuffix(".csv")


@dataclass(frozen=True)
class Pick:
    """A channel of a recording that was drawn for a batch of the given rate (Hz)."""

    corpus: int
    index: int
    channel: int
    rate: int


class Mixture:
    """Draws from several corpora by weight, and only recordings that fill the frequency range of the batch.

    A clip recorded at 8 kHz and resampled to 16 kHz contains nothing above 4 kHz, so its upper sub-bands would be
    trained on silence. A batch therefore draws from recordings of its own rate and above (our rule; the FISHER paper
    does not state one). For the same reason constant crops, such as digital silence, are replaced by others.
    """

    def __init__(self, corpora: Sequence[TrainingCorpus], weights: Sequence[float] = ()):
        """Args:
        corpora: sources.
        weights: share of the draws of each corpus, renormalised if some have no recording that fits. If empty or all
            zero, all recordings that fit are equally likely.
        """
        weights = list(weights) or [0.0] * len(corpora)
        if not corpora or not all(len(corpus) for corpus in corpora):
            raise WheeltapperError("recordings to pre-train on: expected one or more in each source, found none")
        if min(weights) < 0 or (min(weights) == 0 < max(weights)):
            raise WheeltapperError(f"weights of the sources: expected one above 0 for each, or none, found {weights}")
        self.corpora, self.weights = list(corpora), np.array(weights, np.float64)
        # Sorted by rate, highest first, so that the recordings that fit a rate come first.
        self._orders = [np.argsort(-np.asarray(corpus.rates, np.int64), kind="stable") for corpus in corpora]
        self._rates = [-np.asarray(c.rates, np.int64)[order] for c, order in zip(corpora, self._orders, strict=True)]
        self.top_rate = max(-int(rates[0]) for rates in self._rates)

    @classmethod
    def open(cls, sources: Sequence[SourceConfig]) -> "Mixture":
        """Opens the corpora of a configuration; raises WheeltapperError as ``open_corpus`` does."""
        return cls([open_corpus(source.path) for source in sources], [source.weight for source in sources])

    @classmethod
    def of_clips(cls, clips: Sequence[Clip]) -> "Mixture":
        """A mixture of one corpus of clips; raises WheeltapperError if a clip is not for training."""
        manifest.check_training(clips, "recordings to pre-train on")
        return cls([ClipCorpus(clips)])

    def batch_rates(self, base: int, lowest: int, highest: int) -> list[int]:
        """The possible rates of a batch in Hz (FISHER paper, section 3.1).

        These are the multiples of ``base`` from ``lowest`` to ``highest`` for which there are recordings of that rate
        or above; if there are none, the highest rate of a recording not above ``highest``.

        Raises:
            WheeltapperError: there is no such rate.
        """
        multiples = [rate for rate in range(base, min(highest, self.top_rate) + 1, base) if rate >= lowest]
        if multiples:
            return multiples
        native = [-int(rates[at]) for rates in self._rates if (at := np.searchsorted(rates, -highest)) < len(rates)]
        if not native:
            raise WheeltapperError(
                f"rates: expected a multiple of {base} Hz (base_rate) from {lowest} to {highest} Hz, or recordings of "
                f"at most {highest} Hz, found neither; the recordings have up to {self.top_rate} Hz"
            )
        return [max(native)]

    def draw(self, rate: int, count: int, rng: np.random.Generator) -> list[Pick]:
        """Draws ``count`` random channels of random recordings of at least ``rate`` Hz.

        The time does not depend on the number of recordings.

        Raises:
            WheeltapperError: there are no such recordings.
        """
        sizes = np.array([np.searchsorted(rates, -rate, side="right") for rates in self._rates])
        if not sizes.any():
            raise WheeltapperError(
                f"recordings to pre-train on: expected some of {rate} Hz or above, found up to {self.top_rate} Hz"
            )
        shares = (self.weights if self.weights.any() else sizes) * (sizes > 0)
        corpora = rng.choice(len(sizes), size=count, p=shares / shares.sum())
        clips = rng.integers(0, sizes[corpora])
        picks = []
        for corpus, place, chance in zip(corpora.tolist(), clips.tolist(), rng.random(count).tolist(), strict=True):
            index = int(self._orders[corpus][place])
            channel = int(chance * int(self.corpora[corpus].channels[index]))
            picks.append(Pick(corpus, index, channel, rate))
        return picks

    def crop(self, pick: Pick, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Reads a random crop of a pick; if it is constant, of another pick drawn instead.

        Returns:
            float32 waveform of ``seconds`` plus one sample, or all of a shorter recording, and its own rate in Hz.

        Raises:
            WheeltapperError: ``TRIES`` crops in a row are constant.
        """
        for _ in range(TRIES):
            corpus = self.corpora[pick.corpus]
            rate = int(corpus.rates[pick.index])
            start, samples = place_crop(int(corpus.samples[pick.index]), rate, seconds, rng)
            wave = corpus.crop(pick.index, pick.channel, start, samples)
            if wave.min() < wave.max():
                return wave, rate
            pick = self.draw(pick.rate, 1, rng)[0]
        raise WheeltapperError(
            f"recordings of {pick.rate} Hz or above: expected sound, found {TRIES} crops of {seconds:g} s in a row "
            "that are constant"
        )


def _training_clips(path: str | os.PathLike) -> list[Clip]:
    clips = manifest.read(path)
    manifest.check_training(clips, path)
    return clips
