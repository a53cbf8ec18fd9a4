"""Noise-aware layers: after every block of a frozen encoder, near tokens attend to those of the far microphone.

Both signals pass the same frozen blocks. After block k the near tokens become ``layer_k(near, far)``; the far tokens
are those of the plain encoder. A new layer is the identity, whatever the far signal, so that an untrained model equals
its encoder bit for bit. The layers are trained so that the last near tokens become those of the frozen encoder for the
near signal without noise (``pretraining.noise_aware``).

Fujimura et al., "NA-BEATs" (arXiv 2607.16688) and the DCASE 2026 system (arXiv 2608.00447). Two kinds: cross-attention,
and FiLM, which knows the mean of the far tokens only. Networks without a stack of tokens of one width (cnn, mn) have no
place for them.

The authors publish the layers alone, as Lightning checkpoints: the encoder's weights and its settings are given by the
user. ``read`` never runs code from such a file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from system.encoders import checkpoints
from system.encoders.base import Encoder
from system.encoders.noise_aware_layers import NoiseAwareLayers
from system.encoders.shapes import building_shapes
from system.errors import WheeltapperError

_PUBLISHED = re.compile(r"(?:model\.)?(?:encoder\.)?fusion_layers\.(\d+)\.(.+)")
_MARK = "film.to_gamma_beta.weight"  # a tensor that FiLM layers alone have


def attach(encoder: Encoder, layers: NoiseAwareLayers, where: str | os.PathLike = "noise-aware layers") -> Encoder:
    """Gives an encoder noise-aware layers; ``encoder(near, depth, far)`` then uses them.

    Args:
        encoder: of a family that is a stack of blocks of one width, changed in place.
        layers: one for each of its blocks.
        where: their file, for messages.

    Returns:
        The encoder itself.

    Raises:
        WheeltapperError: the layers do not fit the encoder.
    """
    if not encoder.takes_far:
        raise WheeltapperError(f"{where}: expected an encoder of a family with one width, found {encoder.family}")
    width = next(layers[0].parameters()).numel()  # of a norm
    if (len(layers), width) != (encoder.depth, encoder.dim):
        raise WheeltapperError(
            f"{where}: expected {encoder.depth} layers of width {encoder.dim} as in this {encoder.family}, found "
            f"{len(layers)} of width {width}"
        )
    encoder.noise_aware = layers.to(encoder.device).eval()
    return encoder


def save(path: str | os.PathLike, layers: NoiseAwareLayers, base: str, **metadata: Any) -> None:
    """Writes layers as safetensors.

    Args:
        path: file to write.
        layers: the layers.
        base: ``checkpoints.weights_hash`` of the encoder without layers that they were trained on.
        **metadata: further facts to store.
    """
    checkpoints.save(path, layers.state_dict(), {"noise_aware": layers.kind, "base": base, **metadata})


def load(encoder: Encoder, path: str | os.PathLike) -> Encoder:
    """Gives an encoder the layers in a file: one that ``save`` wrote, or a published one.

    Args:
        encoder: with the weights that the layers were trained on; for a published file, that is for the user to know.
        path: file.

    Returns:
        The encoder itself.

    Raises:
        WheeltapperError: the file has no such layers, is damaged, or does not fit the encoder.
    """
    loaded = checkpoints.load_file(path, inert=True)
    metadata = loaded.get("metadata")
    base = metadata.get("base", "") if isinstance(metadata, Mapping) else ""
    if base and base != (own := checkpoints.weights_hash(encoder)):
        raise WheeltapperError(f"{path}: expected the encoder that it was trained on, weights {base}, found {own}")
    tensors = dict(_tensors(loaded))
    up = tensors.get("0.ffn.up_proj.weight")
    if not isinstance(up, Tensor) or up.dim() != 2:
        raise WheeltapperError(f"{path}: expected noise-aware layers (fusion_layers.0. ...), found none")
    kind = "film" if f"0.{_MARK}" in tensors else "cross_attention"
    depth = len({name.split(".")[0] for name in tensors})
    with building_shapes():
        layers = NoiseAwareLayers(kind, up.shape[1], depth, hidden=up.shape[0])
    checkpoints.load_strict(layers, tensors, path)
    return attach(encoder, layers, path)


def _tensors(loaded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names as in ``NoiseAwareLayers`` and tensors. In published files they are in ``state_dict``, which has the moving
    average; ``current_model_state``, the raw ones, and the teacher's weights are passed over."""
    if isinstance(loaded.get("metadata"), Mapping) and "noise_aware" in loaded["metadata"]:
        yield from loaded["model"].items()
        return
    inside = next((loaded[key] for key in ("state_dict", "model") if isinstance(loaded.get(key), Mapping)), loaded)
    for name, tensor in inside.items():
        if match := _PUBLISHED.fullmatch(str(name)):
            yield f"{match[1]}.{match[2]}", tensor
