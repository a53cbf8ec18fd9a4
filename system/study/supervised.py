"""Fine-tuning of a pre-trained encoder on normal and anomalous recordings (MIMII paper, sections IV.B and C)."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.config import LoopConfig, StudyModelConfig
from system.encoders import cards, checkpoints, family_class
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.files import open_atomic
from system.training.loop import fit, step_seed

HIDDEN, DROPOUT = 256, 0.1  # of the head
BETAS = [0.9, 0.999]  # of Adam
UNCLIPPED = 1e9  # no gradient clipping, as in the paper
FACTS = "classifier"  # key of the metadata in the file


class Classifier(nn.Module):
    """An encoder and a head that predicts from its embedding whether a recording is anomalous.

    In training the encoder behaves as at inference: batch normalisation keeps its statistics, also in trained layers.

    Args:
        encoder: of any family.
        mode: one of the encoder's modes, by which it embeds a recording.
        rate: sampling rate of the recordings in Hz, for encoders that accept any rate.
    """

    def __init__(self, encoder: Encoder, mode: str = "official", rate: int = 0):
        super().__init__()
        encoder.check_mode(mode)
        self.encoder, self.mode, self.rate = encoder, mode, encoder.rate or rate
        self.head = nn.Sequential(
            nn.Linear(encoder.dim * encoder.bands(self.rate), HIDDEN),
            nn.Dropout(DROPOUT),
            nn.ReLU(),
            nn.Linear(HIDDEN, 1),
        )

    def features(self, spectrogram: Tensor) -> Tensor:
        """Embeddings (B, D) of spectrograms (B, T, F), the input of the head."""
        return self.encoder.embed_spectrogram(spectrogram, self.mode, self.rate)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Logits (B,) of spectrograms (B, T, F); higher is more anomalous."""
        return self.head(self.features(spectrogram)).squeeze(1)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.encoder.eval()
        return self

    def save(self, path: str | os.PathLike) -> None:
        """Writes encoder and head as one safetensors file, which ``load_classifier`` reads without other
        information.
        """
        encoder = self.encoder
        facts = {
            "family": cards.key(encoder.family),
            "config": asdict(encoder.config),
            "filterbank": encoder.filterbank,
            "simam": encoder.simam,
            "mode": self.mode,
            "rate": self.rate,
        }
        tensors = {f"encoder.{name}": t for name, t in encoder.to_published(encoder.state_dict()).items()}
        tensors |= {f"head.{name}": t for name, t in self.head.state_dict().items()}
        checkpoints.save(path, tensors, {FACTS: facts})


def load_classifier(path: str | os.PathLike) -> Classifier:
    """Reads a file of ``Classifier.save``; the classifier is in evaluation mode.

    Raises:
        WheeltapperError: the file is missing, damaged, or not a classifier.
    """
    loaded = checkpoints.load_file(path)
    try:
        facts = json.loads(loaded["metadata"][FACTS])
        kind = family_class(facts["family"])
        config = kind.make_config(facts["config"], path)
        front_end, mode, rate = (facts["filterbank"], facts["simam"]), facts["mode"], int(facts["rate"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WheeltapperError(f"{path}: expected a classifier of wheeltapper study, found other metadata") from error
    with torch.device("meta"):  # allocates no memory before the file's shapes are checked
        classifier = Classifier(kind(config).set_front_end(*front_end), mode, rate)
    whose: dict[str, dict[str, Tensor]] = {part: {} for part in ("encoder", "head")}
    for name, tensor in loaded["model"].items():
        part, _, inner = name.partition(".")
        whose.setdefault(part, {})[inner] = tensor
    whose["encoder"] = kind.from_published(whose["encoder"])
    tensors = {f"{part}.{name}": tensor for part, inner in whose.items() for name, tensor in inner.items()}
    checkpoints.load_strict(classifier, tensors, path)
    return classifier.eval()


def unfreeze(classifier: Classifier, trained_layers: int, decay: float) -> dict[str, float]:
    """Freezes the encoder except for its upper layers, and disables gradients below them.

    Returns:
        Factor of the learning rate of each trainable parameter, by name: 1 in the head, then for each layer from the
            top
        1 / ``decay`` of that of the layer above.

    Raises:
        WheeltapperError: the encoder has fewer layers, or does not list them.
    """
    layers = classifier.encoder.layer_groups() if trained_layers else []
    if trained_layers > len(layers):
        raise WheeltapperError(f"trained_layers: expected at most {len(layers)}, found {trained_layers}")
    classifier.encoder.requires_grad_(False)
    factors = {
        parameter: decay**-number for number, layer in enumerate(layers[:trained_layers], 1) for parameter in layer
    }
    for parameter in factors:
        parameter.requires_grad_(True)
    factors |= dict.fromkeys(classifier.head.parameters(), 1.0)
    return {name: factors[parameter] for name, parameter in classifier.named_parameters() if parameter in factors}


class _Task(nn.Module):
    """Binary cross-entropy of a batch {"spectrogram": (B, T, F), "anomalous": (B,)}."""

    def __init__(self, classifier: Classifier, weight: float, factors: dict[str, float]):
        super().__init__()
        self.classifier = classifier
        self.weight: Tensor
        self.register_buffer("weight", torch.tensor(weight), persistent=False)
        self._factors = {f"classifier.{name}": factor for name, factor in factors.items()}

    def learning_rate_factor(self, name: str) -> float:
        """See ``training.loop.fit``."""
        return self._factors[name]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, target = self.classifier(batch["spectrogram"]), batch["anomalous"]
        return {"loss": F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weight)}


def fine_tune(
    encoder: Encoder,
    spectrograms: Sequence[np.ndarray],
    train: Sequence[bool],
    anomalous: Sequence[bool],
    config: StudyModelConfig,
    folder: str | os.PathLike,
    seed: int,
    rate: int = 0,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Classifier:
    """Trains a classifier.

    Args:
        encoder: changed in place.
        spectrograms: N spectrograms (T, F) of equal size, read when their batch is due.
        train: clips to train on, (N,).
        anomalous: labels, (N,); those of other clips are not used.
        config: settings of the model.
        folder: receives curve.csv and the training state, which the caller may remove afterwards.
        seed: of the head and of the order of the clips.
        rate: sampling rate in Hz, for encoders that accept any rate.
        device: cpu or cuda.
        progress: called after each step with its number and the loss.
    """
    rows = np.flatnonzero(train)
    target = np.asarray(anomalous, np.float32)
    positives = int(target[rows].sum())
    if not 0 < positives < len(rows):
        raise WheeltapperError(
            f"fine-tuning: expected normal and anomalous recordings, found {positives} anomalous ones of {len(rows)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))
        classifier = Classifier(encoder, config.mode, rate)
    weight = (len(rows) - positives) / positives if config.balance == "weight" else 1.0
    factors = unfreeze(classifier, config.trained_layers, config.decay)
    batches = -(-len(rows) // config.batch_size)

    def make_batch(step: int, part: int, parts: int) -> dict[str, Tensor]:
        epoch, number = divmod(step, batches)
        order = rows[np.random.default_rng(step_seed(seed, -2 - epoch)).permutation(len(rows))]
        chosen = order[number * config.batch_size : (number + 1) * config.batch_size]
        return {
            "spectrogram": torch.from_numpy(np.stack([spectrograms[i] for i in chosen])),
            "anomalous": torch.from_numpy(target[chosen]),
        }

    loop = _loop(config, config.epochs * batches)
    asked = {name: value for name, value in asdict(config).items() if name not in ("encoder", "save_every")}
    task = _Task(classifier, weight, factors)
    fit(task, make_batch, loop, folder, seed, device, progress=progress, settings=asked, key="study.models.NAME")
    return classifier.eval()


def _loop(config: StudyModelConfig, steps: int) -> LoopConfig:
    """Adam with a constant learning rate, as in the paper."""
    return LoopConfig(
        steps=steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        final_learning_rate=config.learning_rate,
        warmup_steps=0,
        clip_norm=UNCLIPPED,
        log_every=1,
        save_every=config.save_every,
        betas=BETAS,
        weight_decay=0.0,  # AdamW without decay of weights is Adam
    )


@torch.inference_mode()
def apply(
    classifier: Classifier,
    spectrograms: Sequence[np.ndarray],
    device: str = "cpu",
    batch_size: int = 1,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, float32 (N, D), and logits, float32 (N,), of N spectrograms (T, F) of equal size.

    Raises:
        WheeltapperError: a result is not finite.
    """
    classifier = classifier.to(device).eval()
    features, logits = [], []
    for start in range(0, len(spectrograms), batch_size):
        batch = torch.from_numpy(np.stack(spectrograms[start : start + batch_size])).to(device)
        found = classifier.features(batch)
        features.append(found.cpu().numpy())
        logits.append(classifier.head(found).squeeze(1).cpu().numpy())
        if progress:
            progress(len(batch))
    embeddings, scores = np.concatenate(features), np.concatenate(logits)
    if not (np.isfinite(embeddings).all() and np.isfinite(scores).all()):
        raise WheeltapperError("fine-tuned network: expected finite embeddings, found NaN or infinity")
    return embeddings, scores


def write_embeddings(
    path: str | os.PathLike, names: Sequence[str], labels: Sequence[str], parts: Sequence[str], **embeddings: np.ndarray
) -> Path:
    """Writes embeddings.npz atomically: names, labels, parts (N,) and arrays (N, D)."""
    with open_atomic(path, "wb") as file:
        texts = {"names": np.array(names), "labels": np.array(labels), "parts": np.array(parts)}
        np.savez(file, **texts, **embeddings)  # type: ignore[arg-type]  # NumPy's stub has a bool among the keywords
    return Path(path)
