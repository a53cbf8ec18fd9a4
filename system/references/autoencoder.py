"""The official Task 2 autoencoder baseline, MSE mode, at the cost of its arithmetic.

Protocol (DCASE 2023-2026 baseline): five neighbouring log-mel frames of 128 bands make one vector of 640; fully
connected 640 -> 128 x 4 -> 8 -> 128 x 4 -> 640 with batch normalisation (momentum 0.01, epsilon 1e-3) and ReLU after
every layer but the last; Adam 1e-3, batches of 256, 100 epochs on 90 % of the vectors of all training clips of a
machine, drawn at random; the other 10 % give a validation loss that decides nothing, the weights of the last epoch
stay. The score of a clip is the mean squared error over its vectors and their elements.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from system.errors import WheeltapperError

Progress = Callable[[int, float, float], None]


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of the official baseline; ``device`` as torch names it.

    ``hidden`` are the layers up to the bottleneck; the same ones in reverse lead out of it.
    """

    frames: int = 5
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    bottleneck: int = 8
    batch_norm: bool = True
    epochs: int = 100
    batch: int = 256
    learning_rate: float = 1e-3
    validation: float = 0.1
    seed: int = 13711
    device: str = "cpu"


def build(inputs: int, config: AutoencoderConfig) -> nn.Sequential:
    """The network for vectors of ``inputs`` elements: (B, inputs) -> (B, inputs)."""
    sizes = [inputs, *config.hidden, config.bottleneck, *reversed(config.hidden)]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        norm = [nn.BatchNorm1d(after, momentum=0.01, eps=1e-3)] if config.batch_norm else []
        layers += [nn.Linear(before, after), *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], inputs))


class Autoencoder:
    """Learns the log-mel spectrograms of normal clips; the reconstruction error of a clip is its score."""

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        self.config = config or AutoencoderConfig()
        self.network: nn.Sequential | None = None

    def fit(self, clips: Sequence[np.ndarray], progress: Progress | None = None) -> "Autoencoder":
        """Trains on spectrograms float32 (frames, bands), any number of frames each.

        All frames stay in memory once; a vector of neighbouring frames is a window onto them, copied only into its
        batch. ``progress`` is told epoch (from 1), mean training loss and validation loss.

        Raises WheeltapperError where fewer than two vectors are left to train on, or the loss leaves the finite.
        """
        config = self.config
        windows, starts = _windows(clips, config.frames)
        generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(len(starts), generator=generator)
        held_out = int(np.ceil(config.validation * len(starts)))
        validation, training = starts[order[:held_out]], starts[order[held_out:]]
        if len(training) < 2:
            raise WheeltapperError(
                f"autoencoder: expected at least two vectors of {config.frames} frames to train on, "
                f"found {len(training)} in {len(clips)} clips"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = build(windows.shape[1], config).to(config.device)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        for epoch in range(1, config.epochs + 1):
            shuffled = training[torch.randperm(len(training), generator=generator)]
            loss = self._epoch(windows, shuffled, optimizer)
            if not np.isfinite(loss):
                raise WheeltapperError(f"autoencoder: epoch {epoch}: expected a finite loss, found {loss}")
            if progress is not None:
                progress(epoch, loss, self._mean_error(windows, validation))
        self.network.eval()
        return self

    def score(self, clip: np.ndarray) -> float:
        """Mean squared reconstruction error of one spectrogram float32 (frames, bands); higher is more anomalous."""
        windows, starts = _windows([clip], self.config.frames)
        return self._mean_error(windows, starts)

    def _epoch(self, windows: torch.Tensor, starts: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        self.network.train()
        total = torch.zeros((), device=self.config.device)
        count = 0
        for chosen in starts.split(self.config.batch):
            # Batch normalisation has no variance of a single vector.
            if len(chosen) < 2:
                continue
            batch = windows[chosen].to(self.config.device)
            loss = nn.functional.mse_loss(self.network(batch), batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            count += 1
        return float(total) / count

    @torch.no_grad()
    def _mean_error(self, windows: torch.Tensor, starts: torch.Tensor) -> float:
        if self.network is None:
            raise WheeltapperError("autoencoder: expected a fit before a score, found none")
        if not len(starts):
            return float("nan")
        self.network.eval()
        total = 0.0
        for chosen in starts.split(4096):
            batch = windows[chosen].to(self.config.device)
            total += float((self.network(batch) - batch).square_().mean(dim=1).sum(dtype=torch.float64))
        return total / len(starts)


def _windows(clips: Sequence[np.ndarray], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A view (rows, frames * bands) onto all frames laid end to end, and the rows that lie within one clip.

    Raises WheeltapperError for a clip of fewer frames than one vector needs.
    """
    if not clips:
        raise WheeltapperError("autoencoder: expected at least one clip, found none")
    shortest = min(len(clip) for clip in clips)
    if shortest < frames:
        raise WheeltapperError(f"autoencoder: expected clips of {frames} frames or more, found one of {shortest}")
    rows = torch.from_numpy(np.concatenate(clips).astype(np.float32, copy=False))
    bands = rows.shape[1]
    view = rows.as_strided((len(rows) - frames + 1, frames * bands), (bands, 1))
    ends = np.cumsum([len(clip) for clip in clips])
    begins = ends - [len(clip) for clip in clips]
    starts = np.concatenate([np.arange(b, e - frames + 1) for b, e in zip(begins, ends, strict=True)])
    return view, torch.from_numpy(starts)
