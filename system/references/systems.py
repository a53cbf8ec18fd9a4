"""The scores that the reference systems give to a manifest.

Only the normal training clips of the machine itself serve as references: of the same section for ``knn`` and
``mahalanobis``, of all sections for the autoencoder, as in the official baseline. Every test clip is scored on its own,
so that its score does not depend on other test clips, on names or on order, to the last bit.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from system import waveforms
from system.errors import WheeltapperError
from system.frontends.farfield import subtract_far
from system.frontends.logmel import log_mel
from system.machine import threads
from system.manifest import Clip, machines
from system.parallel import map_in_order
from system.references import CHANNELS, SYSTEMS

if TYPE_CHECKING:
    from system.references.autoencoder import Autoencoder
    from system.scoring import Scorer

Scores = dict[tuple[str, str], dict[str, float]]
Say = Callable[[str], None]

AUTOENCODERS = ("autoencoder", "autoencoder_mahalanobis")  # methods that share one network


def available(clips: Iterable[Clip]) -> list[str]:
    """Names of the systems these clips can feed: those of the near channel alone where any clip is mono."""
    mono = any(clip.model_channels < 2 for clip in clips)
    return [name for name, system in SYSTEMS.items() if not mono or system.channel == "near"]


def select_channel(wave: np.ndarray, channel: str) -> np.ndarray:
    """float32 (channels, samples) to (1, samples): near, far, or near less what the far channel explains of it.

    Raises WheeltapperError for an unknown channel or where ``far`` is asked of a mono wave.
    """
    if channel not in CHANNELS:
        raise WheeltapperError(f"expected a channel of {', '.join(CHANNELS)}, found {channel!r}")
    if channel == "subtracted":
        return subtract_far(wave)
    if channel == "far" and len(wave) < 2:
        raise WheeltapperError(f"expected two channels to take the far one, found {len(wave)}")
    return wave[1:2] if channel == "far" else wave[:1]


def spectrograms(clips: Sequence[Clip], channel: str) -> list[np.ndarray]:
    """Log-mel spectrograms float32 (frames, bands) of one channel.

    Raises WheeltapperError naming the file that cannot be read, has another rate than the first, or lacks a channel.
    """
    found = []
    for clip in clips:
        wave, rate = waveforms.read(clip)
        if rate != clips[0].rate:
            raise WheeltapperError(
                f"{clip.path}: expected {clips[0].rate} Hz as the machine's first clip, found {rate}"
            )
        try:
            found.append(log_mel(select_channel(wave, channel), rate)[0])
        except WheeltapperError as error:
            raise WheeltapperError(f"{clip.path}: {error}") from error
    return found


def score_manifest(
    clips: Sequence[Clip], names: Sequence[str], seed: int = 13711, epochs: int = 100, say: Say = lambda text: None
) -> dict[str, Scores]:
    """Scores of all test clips by the named systems.

    Args:
        clips: manifest rows with ``train`` and ``test`` clips; test labels and domains are not looked at.
        names: keys of SYSTEMS.
        seed: of the autoencoder; the others have nothing random.
        epochs: of the autoencoder, 100 in the official protocol.
        say: is told in a line what was done.

    Returns:
        name -> (machine, section) -> file -> score, higher is more anomalous.

    Raises WheeltapperError for an unknown name, a section without training clips, or no test clips at all.
    """
    for name in names:
        if name not in SYSTEMS:
            raise WheeltapperError(f"expected a reference system of {', '.join(SYSTEMS)}, found {name!r}")
    scores: dict[str, Scores] = {name: {} for name in names}
    tested = machines(clip for clip in clips if clip.split == "test")
    workers = min(threads(), len(tested)) or 1
    with _one_thread_each(names):
        for found in map_in_order(lambda name: _score_systems(name, clips, names, seed, epochs, say), tested, workers):
            for name in names:
                scores[name] |= found[name]
    if not any(scores.values()):
        raise WheeltapperError(f"expected test clips to score, found none among {len(clips)} clips")
    return scores


def _one_thread_each(names: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """One thread of torch for each machine's autoencoder; without one torch is not imported."""
    if not any(SYSTEMS[name].method in AUTOENCODERS for name in names):
        return contextlib.nullcontext()
    from system.references import dense

    return dense.one_thread()


def _score_systems(
    machine: str, clips: Sequence[Clip], names: Sequence[str], seed: int, epochs: int, say: Say
) -> dict[str, Scores]:
    """As ``score_manifest``, of one machine."""
    scores: dict[str, Scores] = {}
    own = [clip for clip in clips if clip.machine == machine and clip.split in ("train", "test")]
    _check(machine, own)
    for channel in dict.fromkeys(SYSTEMS[name].channel for name in names):
        begin = time.monotonic()
        features = spectrograms(own, channel)
        say(f"{machine}: {channel} spectrograms of {len(own)} clips in {time.monotonic() - begin:.1f} s")
        own_names = [name for name in names if SYSTEMS[name].channel == channel]
        network = None
        if any(SYSTEMS[name].method in AUTOENCODERS for name in own_names):
            begin = time.monotonic()
            network = _fit_autoencoder(own, features, seed, epochs, say)
            say(f"{machine}: autoencoder trained in {time.monotonic() - begin:.1f} s")
        for name in own_names:
            begin, method = time.monotonic(), SYSTEMS[name].method
            scores[name] = _score_machine(method, own, features, network if method in AUTOENCODERS else None)
            say(f"{machine}: {name} in {time.monotonic() - begin:.1f} s")
    return scores


def _check(machine: str, clips: Sequence[Clip]) -> None:
    trained = {clip.section for clip in clips if clip.split == "train"}
    for section in sorted({clip.section for clip in clips} - trained):
        raise WheeltapperError(f"{machine} section {section}: expected training clips as references, found none")


def _score_machine(
    method: str, clips: Sequence[Clip], features: Sequence[np.ndarray], network: "Autoencoder | None"
) -> Scores:
    sections = list(dict.fromkeys(clip.section for clip in clips if clip.split == "test"))
    scores: Scores = {}
    for section in sections:
        pairs = [pair for pair in zip(clips, features, strict=True) if pair[0].section == section]
        if network is not None:
            score = network.score if method == "autoencoder" else lambda x: float(network.distances(x).min())
        else:
            score = _fit_statistics(method, [pair for pair in pairs if pair[0].split == "train"])
        scores[clips[0].machine, section] = {clip.file: score(x) for clip, x in pairs if clip.split == "test"}
    return scores


def _fit_autoencoder(
    clips: Sequence[Clip], features: Sequence[np.ndarray], seed: int, epochs: int, say: Say
) -> "Autoencoder":
    from system.references.autoencoder import Autoencoder, AutoencoderSettings

    def progress(epoch: int, loss: float, validation: float) -> None:
        if epoch % 10 == 0 or epoch == epochs:
            say(f"{clips[0].machine}: epoch {epoch} of {epochs}, loss {loss:.3f}, validation {validation:.3f}")

    train = [(clip, x) for clip, x in zip(clips, features, strict=True) if clip.split == "train"]
    model = Autoencoder(AutoencoderSettings(epochs=epochs, seed=seed))
    return model.fit([x for _, x in train], progress, [clip.domain for clip, _ in train])


def _fit_statistics(method: str, train: Sequence[tuple[Clip, np.ndarray]]) -> Callable[[np.ndarray], float]:
    """A scorer of ``system.scoring`` over the pooled spectrograms of the training clips."""
    pool = mean if method == "mahalanobis" else mean_and_deviation
    try:
        scorer = fit_statistics(
            method, np.stack([pool(x) for _, x in train]), np.array([clip.domain for clip, _ in train])
        )
    except WheeltapperError as error:
        raise WheeltapperError(f"{train[0][0].machine} section {train[0][0].section}: {error}") from error
    return lambda x: float(scorer.score(pool(x)[None])[0])


def fit_statistics(method: str, features: np.ndarray, domains: np.ndarray) -> "Scorer":
    """Fits a scorer of ``system.scoring``.

    Args:
        method: ``knn``, on ``mean_and_deviation``, or ``mahalanobis``, on ``mean``.
        features: (N, D) of the training clips.
        domains: (N,) their domains.

    Raises:
        WheeltapperError: too few training clips.
    """
    from system.scoring.knn import KnnScorer
    from system.scoring.mahalanobis import MahalanobisScorer

    scorer: Scorer = MahalanobisScorer(bank="domain") if method == "mahalanobis" else KnnScorer(k=1, bank="global")
    scorer.fit(features, domains)
    return scorer


def mean(spectrogram: np.ndarray) -> np.ndarray:
    """(frames, bands) to (bands,): mean over time."""
    return spectrogram.mean(axis=0)


def mean_and_deviation(spectrogram: np.ndarray) -> np.ndarray:
    """(frames, bands) to (2 * bands,): mean and standard deviation over time."""
    return np.concatenate([spectrogram.mean(axis=0), spectrogram.std(axis=0)])
