"""The page of ``wheeltapper explain``: attention or Grad-CAM of an encoder for any recordings, in one HTML file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from system import __version__, audio
from system.encoders.base import Encoder
from system.encoders.convolutional import ConvolutionalEncoder
from system.errors import WheeltapperError
from system.explain.attention import attend
from system.explain.gradcam import grad_cam, squared_length
from system.explain.grid import frequencies
from system.files import open_atomic
from system.report import attention, heatmap
from system.report.sound import SECONDS_SHOWN
from system.report.template import template


@dataclass(frozen=True)
class EncoderInput:
    """A recording as the input of an encoder.

    Attributes:
        spectrogram: (1, T, F).
        hertz: frequencies of its bins, (F,).
        ground: spectrogram on which maps are drawn.
    """

    spectrogram: torch.Tensor
    hertz: np.ndarray
    ground: heatmap.Ground


def encoder_input(encoder: Encoder, wave: torch.Tensor, rate: int, mode: str) -> EncoderInput:
    """The input of an encoder for one channel (1, samples) at ``rate`` Hz, in one of the encoder's modes."""
    spectrogram = encoder.spectrogram(wave.to(encoder.device), rate, mode)
    samples = wave.numpy()
    if encoder.rate:
        samples, rate = audio.resample(samples, rate, encoder.rate), encoder.rate
    return EncoderInput(spectrogram, frequencies(encoder, spectrogram.shape[2], rate), heatmap.ground(samples[0], rate))


def write_explanation(
    path: str | os.PathLike, encoder: Encoder, weights: str, recordings: Sequence[str | os.PathLike]
) -> None:
    """Writes the page atomically; the same recordings and weights give the same page.

    The page shows attention for transformers and Grad-CAM for CNNs, for the first minute of long recordings.

    Args:
        path: html file.
        encoder: any family.
        weights: description of the encoder's weights for the page.
        recordings: sound files, of which the near channel is used.

    Raises:
        WheeltapperError: there are no recordings, or one is missing or damaged.
    """
    if not recordings:
        raise WheeltapperError("recordings: expected at least one, found none")
    is_cnn = isinstance(encoder, ConvolutionalEncoder)
    shown, distances, bands = [], [], 1
    for file in recordings:
        info = audio.probe(file)
        wave, rate = audio.read(file, samples=min(info.samples, int(SECONDS_SHOWN * info.rate)))
        encoded = encoder_input(encoder, torch.from_numpy(wave[:1]), rate, encoder.full_length_mode)
        name = os.path.basename(file)
        unit: dict[str, Any] = {"name": name, "file": os.fspath(file), "cut": info.seconds > SECONDS_SHOWN}
        unit["silent"] = not wave[0].any()
        unit["panels"] = [{"title": "Spectrogram", "words": "", "chart": spectrogram_panel(name, encoded)}]
        if isinstance(encoder, ConvolutionalEncoder):
            maps = grad_cam(encoder, squared_length(encoder), encoded.spectrogram, encoder.shown)
            unit["panels"] += [
                evidence_panel(name, encoded, found, stage, encoder.depth)
                for stage, found in zip(encoder.shown, maps, strict=True)
            ]
        else:
            looked = attend(encoder, encoded.spectrogram)
            bands = max(bands, encoder.bands(encoder.rate or rate))
            distances.append((looked.distance, looked.even))
            unit["panels"] += attention_panels(name, encoded, looked)
        shown.append(unit)
    distance = np.mean([distance for distance, _ in distances], 0) if distances else None
    page = template("explain.html.j2").render(
        encoder=encoder,
        weights=weights,
        is_cnn=is_cnn,
        layers=encoder.depth,
        bands=bands,
        units=shown,
        distance=distance,
        distances=distance is not None
        and attention.distance_chart(encoder.family, distance, float(np.mean([even for _, even in distances]))),
        scale=heatmap.scale(),
        seconds_shown=SECONDS_SHOWN,
        version=__version__,
    )
    with open_atomic(path) as file:
        file.write(page)


def spectrogram_panel(name: str, encoded: EncoderInput) -> Markup:
    """The spectrogram."""
    return heatmap.spectrogram_figure(encoded.ground, f"{name}: spectrogram")


def attention_panels(name: str, encoded: EncoderInput, looked: Any) -> list[dict[str, Any]]:
    """Attention of the middle and the last layer, and rollout through all layers."""
    layers = len(looked.maps)
    middle = max(1, layers // 2)
    entries = [
        (f"Attention, layer {middle} of {layers}", looked.maps[middle - 1]),
        (f"Attention, layer {layers} of {layers}", looked.maps[-1]),
        ("Attention rollout", looked.rollout),
    ]
    panels = []
    for title, values in entries:
        chart, words = heatmap.attention_figure(encoded.ground, values, encoded.hertz, f"{name}: {title}")
        panels.append({"title": title, "words": words, "chart": chart})
    return panels


def evidence_panel(name: str, encoded: EncoderInput, values: np.ndarray, stage: int, stages: int) -> dict[str, Any]:
    """Grad-CAM of one stage."""
    title = f"Grad-CAM, stage {stage} of {stages}"
    chart, words = heatmap.evidence_figure(encoded.ground, values, encoded.hertz, f"{name}: {title}")
    return {"title": title, "words": words, "chart": chart}
