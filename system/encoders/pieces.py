"""Recordings of any length: checked, and what their pieces give averaged."""

import torch
from torch import Tensor

from system.errors import WheeltapperError


def check_wave(wave: Tensor) -> None:
    """Raises WheeltapperError if a waveform is not (B, samples) or has no samples."""
    if wave.dim() != 2 or wave.shape[1] == 0:
        raise WheeltapperError(f"waveform: expected (recordings, samples), found shape {tuple(wave.shape)}")


def pairs(near: list[Tensor], far: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pieces (B, T, F) of two signals side by side; WheeltapperError if one has more."""
    if len(near) != len(far):
        frames, found = (sum(piece.shape[1] for piece in pieces) for pieces in (near, far))
        raise WheeltapperError(f"far signal: expected about {frames} frames, found {found}")
    return list(zip(near, far, strict=True))


def weighted_mean(values: list[Tensor], pieces: list[Tensor]) -> Tensor:
    """Mean of values (B, ...) of the pieces (B, T, F) of recordings, weighted by their lengths."""
    total = sum(piece.shape[1] for piece in pieces)
    parts = (value * (piece.shape[1] / total) for value, piece in zip(values, pieces, strict=True))
    return sum(parts, torch.zeros(()))
