"""Grad-CAM: the parts of a feature map that support a score, by gradient-weighted channels (Selvaraju et al. 2017)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from system.encoders.base import Encoder
from system.encoders.convolutional import ConvolutionalEncoder
from system.errors import WheeltapperError
from system.explain.grid import evaluating, pieces, resize


def grad_cam(
    encoder: Encoder, score: Callable[[Tensor], Tensor], spectrogram: Tensor, stages: Sequence[int] = ()
) -> np.ndarray:
    """Grad-CAM of a recording, for all stages from one pass.

    The weight of a channel is the mean gradient of the score over the map (equation 1); negative values of the weighted
    sum of the channels are set to zero (equation 2). For long recordings the maps of the pieces are concatenated.

    Args:
        encoder: a CNN.
        score: function of a spectrogram (1, T, F) that returns the scalar to explain, such as the logit of a class.
        spectrogram: (1, T, F) of ``Encoder.spectrogram``.
        stages: numbers from 1 on; empty for the last one.

    Returns:
        float32 (stages, T, F), in units of the score; all zeros if no feature supports it.

    Raises:
        WheeltapperError: wrong encoder or stage, wrong shape, values that are not finite, or a score without gradients.
    """
    if not isinstance(encoder, ConvolutionalEncoder):
        raise WheeltapperError(f"Grad-CAM: expected a CNN with feature maps, found {encoder.family}")
    stages = stages or (encoder.depth,)
    wrong = [stage for stage in stages if stage not in range(1, encoder.depth + 1)]
    if wrong:
        raise WheeltapperError(f"Grad-CAM: expected stages of 1 to {encoder.depth}, found {wrong[0]}")
    parts = pieces(encoder, spectrogram)
    features: dict[int, list[Tensor]] = {stage: [] for stage in stages}

    def keep(stage: int) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
            features[stage].append(output if output.requires_grad else output.detach().requires_grad_())
            return features[stage][-1]

        return hook

    modules = encoder.stages()
    hooks = [modules[stage - 1].register_forward_hook(keep(stage)) for stage in features]
    try:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(encoder):
            value = score(spectrogram.clone())
            flat = [feature for stage in features for feature in features[stage]]
            if value.numel() != 1 or not value.requires_grad or len(flat) != len(parts) * len(features):
                raise WheeltapperError("Grad-CAM: expected a scalar score with gradients through the encoder")
            gradients = iter(torch.autograd.grad(value.sum(), flat, allow_unused=True))
    finally:
        for hook in hooks:
            hook.remove()
    found, fewest = {}, encoder.patch_frames if encoder.padded else 1
    for stage in features:
        strip = np.concatenate(
            [
                _cam(feature, next(gradients), (part.shape[1], part.shape[2]), fewest)
                for feature, part in zip(features[stage], parts, strict=True)
            ]
        )
        found[stage] = np.pad(strip, ((0, spectrogram.shape[1] - len(strip)), (0, 0)))
    return np.stack([found[stage] for stage in stages])


def _cam(features: Tensor, gradient: Tensor | None, shape: tuple[int, int], fewest: int) -> np.ndarray:
    """The map over a piece of ``shape`` (T, F) from features and gradient (1, channels, bands, frames).

    ``fewest``: number of frames to which the encoder has padded the piece.
    """
    if gradient is None:
        gradient = torch.zeros_like(features)
    weighed = (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0].relu()
    values = weighed.detach().cpu().double().T.numpy()
    # Each cell covers its share of the pixels, as in image resizing.
    times, bins = (
        (np.arange(count) + 0.5) * (length / count) - 0.5
        for count, length in zip(values.shape, (max(shape[0], fewest), shape[1]), strict=True)
    )
    return resize(values, times, bins, shape)


def squared_length(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    """A score for ``grad_cam`` without a classifier: the squared length of the embedding, to which all dimensions
    contribute.
    """
    return lambda spectrogram: encoder(spectrogram).summary.square().sum()
