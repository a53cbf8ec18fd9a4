"""The official Task 2 autoencoder baseline, both of its scores from one training, at the cost of its arithmetic.

Protocol (DCASE 2023-2026 baseline): five neighbouring log-mel frames of 128 bands make one vector of 640; fully
connected 640 -> 128 x 4 -> 8 -> 128 x 4 -> 640 with batch normalisation (momentum 0.01, epsilon 1e-3) and ReLU after
every layer but the last; Adam 1e-3, batches of 256, 100 epochs on 90 % of the vectors of all training clips of a
machine, drawn at random; the other 10 % give a validation loss that decides nothing, the weights of the last epoch
stay. A clip's score is the mean squared error over its vectors and their elements, or the selective Mahalanobis
distance of its mean residual (``system.references.selective_mahalanobis``).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from system import config as configuration
from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.references import dense
from system.references.selective_mahalanobis import SelectiveMahalanobis, covariances

Progress = Callable[[int, float, float], None]

VALIDATE_EVERY = 10  # epochs; it decides nothing
ROWS = 4096  # vectors through the network at once when scoring


@dataclass
class AutoencoderSettings(configuration.AutoencoderConfig):
    """Settings of the official baseline; ``device`` as torch names it."""

    seed: int = 13711
    device: str = "cpu"


def build(inputs: int, config: AutoencoderSettings) -> nn.Sequential:
    """The network for vectors of ``inputs`` elements: (B, inputs) -> (B, inputs); its weights follow from the seed."""
    sizes = [inputs, *config.hidden, config.bottleneck, *reversed(config.hidden), inputs]
    return dense.build(sizes, config.batch_norm, config.seed)


class Autoencoder:
    """Learns the log-mel spectrograms of normal clips; how badly it gives a clip back is the clip's score.

    After ``fit``: ``network``; ``batch_losses``, the mean squared errors of the batches of the last epoch and then of
    those held out, from which the official baseline takes its threshold; ``curve`` (epochs, 2), training and
    validation loss. With domains also ``selective`` and ``batch_distances``, the same for the Mahalanobis score.
    """

    def __init__(self, config: AutoencoderSettings | None = None) -> None:
        self.config = config or AutoencoderSettings()
        self._network: nn.Sequential | None = None
        self.selective: SelectiveMahalanobis | None = None
        self.batch_losses = self.batch_distances = np.empty(0)
        self.curve = np.empty((0, 2))

    @property
    def network(self) -> nn.Sequential:
        """The trained network; WheeltapperError before ``fit``."""
        if self._network is None:
            raise WheeltapperError("autoencoder: expected a fit before a score, found none")
        return self._network

    def fit(
        self, clips: Sequence[np.ndarray], progress: Progress | None = None, domains: Sequence[str] | None = None
    ) -> "Autoencoder":
        """Trains on spectrograms float32 (frames, bands), any number of frames each.

        All frames stay in memory once; a vector of neighbouring frames is put together in its batch. ``progress`` is
        told epoch (from 1), mean training loss and validation loss, NaN in the epochs that have none. With the
        ``domains`` of the clips the covariances of the selective Mahalanobis score are taken too.

        Raises WheeltapperError where fewer than two vectors are left to train on, or the loss leaves the finite.
        """
        config = self.config
        frames, starts, owners = _vectors(clips, config.frames)
        generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(len(starts), generator=generator)
        held_out = int(np.ceil(config.validation * len(starts)))
        validation, training = order[:held_out], order[held_out:]
        if len(training) < 2:
            raise WheeltapperError(
                f"autoencoder: expected at least two vectors of {config.frames} frames to train on, "
                f"found {len(training)} in {len(clips)} clips"
            )
        vectors = _Vectors(frames.to(config.device), starts, config.frames)
        self._network = build(config.frames * frames.shape[1], config).to(config.device)
        self._train(vectors, training, validation, generator, progress)
        self.network.eval()
        if domains is not None:
            is_target = torch.tensor([domain == "target" for domain in domains])[owners]
            self._fit_selective(vectors, training, validation, is_target, generator)
        return self

    def _train(
        self,
        vectors: "_Vectors",
        training: Tensor,
        validation: Tensor,
        generator: torch.Generator,
        progress: Progress | None,
    ) -> None:
        config = self.config
        step, curve = dense.Steps(self.network, config.learning_rate), []
        for epoch in range(1, config.epochs + 1):
            shuffled = training[torch.randperm(len(training), generator=generator)]
            # Batch normalisation has no variance of a single vector.
            losses = [step(vectors[chosen]) for chosen in shuffled.split(config.batch) if len(chosen) > 1]
            own = torch.stack(losses).cpu().double().numpy()
            if not np.isfinite(own).all():
                raise WheeltapperError(f"autoencoder: epoch {epoch}: expected a finite loss, found {own.mean()}")
            last = epoch == config.epochs
            held_out = float("nan")
            if len(validation) and (last or epoch == 1 or epoch % VALIDATE_EVERY == 0):
                others = self._batch_errors(vectors, validation)
                held_out = float(others.mean())
                self.batch_losses = np.concatenate([own, others])
            elif last:
                self.batch_losses = own
            curve.append((own.mean(), held_out))
            if progress is not None:
                progress(epoch, float(own.mean()), held_out)
        self.curve = np.array(curve)

    def _batch_errors(self, vectors: "_Vectors", chosen: Tensor) -> np.ndarray:
        return np.array([float(x.square().mean()) for x in self._residuals(vectors, chosen.split(self.config.batch))])

    @torch.no_grad()
    def _residuals(self, vectors: "_Vectors", batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Of each batch what the network makes of the vectors less the vectors, (B, frames * bands)."""
        self.network.eval()
        for chosen in batches:
            batch = vectors[chosen]
            yield self.network(batch).sub_(batch)

    def _fit_selective(
        self,
        vectors: "_Vectors",
        training: Tensor,
        validation: Tensor,
        is_target: Tensor,
        generator: torch.Generator,
    ) -> None:
        """The official order: one more pass over the training batches for the covariances, another one and the
        held-out batches for the distances of their mean residuals."""

        def shuffled() -> tuple[Tensor, ...]:
            return training[torch.randperm(len(training), generator=generator)].split(self.config.batch)

        batches = [chosen for chosen in shuffled() if len(chosen) > 1]
        residuals = zip(self._residuals(vectors, batches), (is_target[chosen] for chosen in batches), strict=True)
        self.selective = SelectiveMahalanobis(covariances(residuals, vectors.bands))
        means = [
            residual.view(-1, vectors.bands).cpu().double().mean(0)
            for residual in self._residuals(vectors, (*shuffled(), *validation.split(self.config.batch)))
        ]
        self.batch_distances = self.selective.distances(torch.stack(means)).min(axis=1)

    def score(self, clip: np.ndarray) -> float:
        """Mean squared reconstruction error of one spectrogram float32 (frames, bands); higher is more anomalous."""
        total, count = 0.0, 0
        for error in self._clip_residuals(clip):
            total += float(error.square().mean(dim=1).cpu().sum(dtype=torch.float64))
            count += len(error)
        return total / count

    def residual(self, clip: np.ndarray) -> np.ndarray:
        """Mean residual of one spectrogram (frames, bands), float64 (bands,): over its vectors and their frames."""
        parts = [error.view(-1, clip.shape[1]) for error in self._clip_residuals(clip)]
        total = sum((part.cpu().sum(0, dtype=torch.float64) for part in parts), torch.zeros(()))
        return (total / sum(map(len, parts))).numpy()

    def distances(self, clip: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances (2,) of a spectrogram's mean residual by the source's and by the target's
        covariance; the smaller one is the official score."""
        if self.selective is None:
            raise WheeltapperError("autoencoder: expected a fit with domains before a Mahalanobis score, found none")
        return self.selective.distances(torch.from_numpy(self.residual(clip))[None])[0]

    def _clip_residuals(self, clip: np.ndarray) -> Iterator[Tensor]:
        frames, starts, _ = _vectors([clip], self.config.frames)
        vectors = _Vectors(frames.to(self.config.device), starts, self.config.frames)
        return self._residuals(vectors, torch.arange(len(starts)).split(ROWS))

    def save(self, path: Path) -> None:
        """Writes what ``load`` reads, whole or not at all."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {name: torch.from_numpy(getattr(self, name)) for name in ("batch_losses", "curve")}
        if self.selective is not None:
            tensors["covariances"] = self.selective.covariances
            tensors["batch_distances"] = torch.from_numpy(self.batch_distances)
        checkpoints.save(path, tensors, {"autoencoder": asdict(self.config)})

    @classmethod
    def load(cls, path: Path, config: AutoencoderSettings) -> "Autoencoder":
        """An autoencoder of the network that ``config`` describes; WheeltapperError where the file holds another one,
        or is missing or damaged."""
        tensors = checkpoints.load_file(path)["model"]
        first = tensors.get("network.0.weight")
        if first is None or first.ndim != 2:
            raise WheeltapperError(f"{path}: expected an autoencoder, found the keys {', '.join(tensors) or 'none'}")
        model = cls(config)
        network = build(first.shape[1], config)
        own = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
        checkpoints.load_strict(network, own, path)
        model._network = network.to(config.device).eval()
        for name in ("batch_losses", "covariances", "batch_distances"):
            if name in tensors and not tensors[name].isfinite().all():
                raise WheeltapperError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
        for name in ("batch_losses", "curve", "batch_distances"):
            if name in tensors:
                setattr(model, name, tensors[name].numpy())
        if "covariances" in tensors:
            model.selective = SelectiveMahalanobis(tensors["covariances"])
        return model


@dataclass(frozen=True)
class _Vectors:
    """Vectors of neighbouring frames, put together when asked for."""

    frames: Tensor  # (rows, bands), all clips end to end
    starts: Tensor  # (N,) first frame of each vector
    width: int  # frames of a vector

    @property
    def bands(self) -> int:
        return self.frames.shape[1]

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """Numbers (B,) of vectors to (B, width * bands)."""
        rows = (self.starts[chosen][:, None] + torch.arange(self.width)).view(-1)
        return self.frames.index_select(0, rows.to(self.frames.device)).view(len(chosen), -1)


def _vectors(clips: Sequence[np.ndarray], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """All frames (rows, bands) end to end, the first frames (N,) of the vectors within one clip, their clips (N,).

    Raises WheeltapperError for a clip of fewer frames than one vector needs.
    """
    if not clips:
        raise WheeltapperError("autoencoder: expected at least one clip, found none")
    shortest = min(len(clip) for clip in clips)
    if shortest < width:
        raise WheeltapperError(f"autoencoder: expected clips of {width} frames or more, found one of {shortest}")
    rows = torch.from_numpy(np.concatenate(clips).astype(np.float32, copy=False))
    counts = torch.tensor([len(clip) - width + 1 for clip in clips])
    owners = torch.repeat_interleave(torch.arange(len(clips)), counts)
    # Each clip before has width - 1 frames more than vectors.
    return rows, torch.arange(len(owners)) + owners * (width - 1), owners
