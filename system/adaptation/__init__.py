"""Adaptation of a pre-trained encoder to the normal training clips of the machines in a run."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from system import processes
from system.adaptation.augment import WHOLE, Part, draw
from system.adaptation.lora import all_linear, merge_lora, merge_tensors
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.adaptation.pseudo_attributes import Key
from system.config import SIMAM, EncoderBranchConfig
from system.corpora.attributes import attribute_class
from system.encoders import checkpoints
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.frontends.channels import select_inputs
from system.manifest import Clip, check_training, group_by
from system.training.crops import draw_crop, read_crop
from system.training.state import kept_names, step_seed

ADAPTER = "adapter.safetensors"
ENCODER_PREFIX = "model.encoder."  # of the encoder's tensor names in that file
ALIGNMENT_CLIPS = 512  # at most so many training clips determine the initial projection


def adapt(
    encoder: Encoder,
    clips: Sequence[Clip],
    config: EncoderBranchConfig,
    rate: int,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
    simam: Mapping[str, str] | None = None,
    clusters: Mapping[Key, int] | None = None,
) -> AdaptationTask:
    """Adapts an encoder to normal clips (Wang and Liu 2026, section 3) and writes ``adapter.safetensors``.

    Trains gate, projection, heads, and the part of the encoder that ``config.tune`` selects.

    Args:
        encoder: pre-trained network, changed in place.
        clips: normal training clips of all machines.
        config: settings of the branch.
        rate: sampling rate in Hz to which the clips are resampled.
        folder: receives ``adapter.safetensors``, the training curve and the training state.
        seed: of initialisation and batches.
        device: cpu or cuda.
        progress: called after each step with its number and the losses.
        simam: kind of SimAM by machine, applied after the encoder's front end and stored in the file.
        clusters: pseudo-attributes of training clips without attributes (``pseudo_attributes.py``).

    Returns:
        The trained model with its heads.

    Raises:
        WheeltapperError: a clip is not a normal training clip, or ``config.learn_from`` leaves none.

    Example:
        >>> task = adapt(encoder, clips, EncoderBranchConfig(), rate=16000, folder="adapt/main", seed=0)
        >>> model = load_adapted(new_encoder, "adapt/main/adapter.safetensors", EncoderBranchConfig())
    """
    from system.training.loop import fit  # imports accelerate, which takes seconds and is not needed for inference

    check_training(clips)
    clips = training_clips(clips, config)
    attributes, domains = attribute_labels(clips, clusters), domain_labels(clips, config.heads.domain_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))
        model = AdaptedEncoder(encoder, config, rate, simam)
        task = AdaptationTask(model, int(attributes.max()) + 1, int(domains.max()) + 1)
        model.align_projection(_pooled_crops(model.eval(), clips, config, seed))

    kinds = np.array([SIMAM.index(model.simam_of(clip.machine)) for clip in clips])

    def batch(step: int, part: int, parts: int) -> dict[str, Any]:
        return make_batch(clips, attributes, domains, config, rate, seed, step, kinds, Part(part, parts))

    fit(task, batch, config.loop, folder, seed, device, progress=progress)
    names, tensors = set(kept_names(task)), task.state_dict()
    classes = [int(attributes.max()) + 1, int(domains.max()) + 1]
    metadata = {"branch": asdict(config), "rate": rate, "classes": classes, "simam": model.simam}
    if processes.is_main():
        checkpoints.save(Path(folder) / ADAPTER, {n: t for n, t in tensors.items() if n in names}, metadata)
    return task


def training_clips(clips: Sequence[Clip], config: EncoderBranchConfig) -> list[Clip]:
    """The clips that a branch is trained on, selected by its setting ``learn_from``.

    Raises:
        WheeltapperError: no clip is left.
    """
    kept = [clip for clip in clips if config.learn_from == "all" or clip.domain != "target"]
    if not kept:
        raise WheeltapperError(f"learn_from {config.learn_from}: expected source clips, found target clips only")
    return kept


def nothing_to_learn(
    clips: Sequence[Clip], config: EncoderBranchConfig, clusters: Mapping[Key, int] | None = None
) -> str:
    """Why no training on these clips could lower a loss; empty if it could.

    The losses are those of telling classes apart: with one class they are zero, whatever the network does.

    Args:
        clips: normal training clips of all machines.
        config: settings of the branch.
        clusters: see ``adapt``.
    """
    clips, heads = training_clips(clips, config), config.heads
    attributes, domains = attribute_labels(clips, clusters), domain_labels(clips, heads.domain_classes)
    if (heads.attribute_weight and attributes.max() > 0) or (heads.domain_weight and domains.max() > 0):
        return ""
    unused = " that count" if attributes.max() > 0 or domains.max() > 0 else ""
    return f"the training clips have no two classes of attributes, domains or machines{unused} to tell apart"


def input_crop(clip: Clip, config: EncoderBranchConfig, rate: int, generator: np.random.Generator) -> np.ndarray:
    """The inputs of a branch for a random crop of a recording, float32 (inputs, samples).

    The residual is computed within the crop: over a few seconds its gains are as good as those of the whole clip.
    """
    wave = read_crop(clip, config.crop_seconds, rate, generator)
    return select_inputs(wave, rate, config.inputs, config.subtraction, clip.path)


@torch.inference_mode()
def _pooled_crops(model: AdaptedEncoder, clips: Sequence[Clip], config: EncoderBranchConfig, seed: int) -> Tensor:
    """Pooled tokens (N, width) of the first input, for one crop of each of at most ALIGNMENT_CLIPS training clips."""
    generator = np.random.default_rng(step_seed(seed, -2))
    rows = []
    for index in sorted(generator.permutation(len(clips))[:ALIGNMENT_CLIPS]):
        wave = input_crop(clips[index], config, model.rate, generator)
        simam = [model.simam_of(clips[index].machine)]
        tokens = model.tokens(model.spectrogram(torch.from_numpy(wave[:1]), simam))
        rows.append(model.pooling(tokens)[0])
    return torch.stack(rows)


def load_adapted(encoder: Encoder, path: str | os.PathLike, config: EncoderBranchConfig) -> AdaptedEncoder:
    """Loads the adapted encoder of a branch for inference, with LoRA adapters merged into the weights.

    Args:
        encoder: pre-trained network, changed in place.
        path: ``adapter.safetensors`` as written by ``adapt``.
        config: settings of the branch, the same as in training.

    Raises:
        WheeltapperError: the file is not the adapter of a branch with these settings.
    """
    loaded = checkpoints.load_file(path)
    try:
        metadata = {name: json.loads(text) for name, text in loaded["metadata"].items()}
        rate, (attribute_classes, domain_classes) = int(metadata["rate"]), metadata["classes"]
        simam = dict(metadata.get("simam", {}))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WheeltapperError(f"{path}: expected the adapter of a branch, found other metadata") from error
    tensors, adapters = loaded["model"], {}
    apart = config.tune == "lora" and all_linear(encoder, config.lora)
    if apart:
        adapters = {name: tensor for name, tensor in tensors.items() if name.startswith(ENCODER_PREFIX)}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in adapters}
    plain = replace(config, tune="frozen") if apart else config
    task = AdaptationTask(AdaptedEncoder(encoder, plain, rate, simam), attribute_classes, domain_classes)
    own = task.state_dict(keep_vars=True)
    trained = nn.ParameterDict({name.replace(".", "/"): own[name] for name in kept_names(task)})
    checkpoints.load_strict(trained, {name.replace(".", "/"): t for name, t in tensors.items()}, path)
    if apart:
        merge_tensors(
            encoder, config.lora, {name.removeprefix(ENCODER_PREFIX): tensor for name, tensor in adapters.items()}, path
        )
        task.model.config = task.config = config
    elif config.tune == "lora":
        merge_lora(encoder)
    return task.model.eval().requires_grad_(False)


def attribute_labels(clips: Sequence[Clip], clusters: Mapping[Key, int] | None = None) -> np.ndarray:
    """Attribute class of each clip, int64 (N,); -1 for clips that have neither attributes nor a cluster.

    A class is a combination of machine, section and attributes. Clips without attributes belong to the class of their
    cluster in ``clusters``, whose keys are (machine, section, file).
    """
    return _number([_attribute_key(clip, clusters or {}) for clip in clips])


def _attribute_key(clip: Clip, clusters: Mapping[Key, int]) -> tuple[str, str, str] | None:
    if clip.attributes:
        return (clip.machine, clip.section, attribute_class(clip.attributes))
    cluster = clusters.get((clip.machine, clip.section, clip.file))
    return None if cluster is None else (clip.machine, clip.section, f"cluster {cluster:06d}")


def domain_labels(clips: Sequence[Clip], classes: str) -> np.ndarray:
    """Domain class of each clip, int64 (N,): per machine and section (``machine``), or two in all (``domain``)."""
    if classes == "domain":
        return _number([(c.domain,) for c in clips])
    return _number([(c.machine, c.section, c.domain) for c in clips])


def make_batch(
    clips: Sequence[Clip],
    attributes: np.ndarray,
    domains: np.ndarray,
    config: EncoderBranchConfig,
    rate: int,
    seed: int,
    step: int,
    simam: np.ndarray | None = None,
    part: Part = WHOLE,
) -> dict[str, Any]:
    """A training batch of random crops. Draws a machine, then a domain (``target_share``), then a clip.

    Drawing the domain first keeps the ten target clips of a machine from being lost among its 990 source clips.

    Args:
        clips: N training clips.
        attributes: attribute classes of the clips, (N,).
        domains: domain classes of the clips, (N,).
        config: settings of the branch.
        rate: sampling rate in Hz.
        seed: of the training.
        step: number of the training step; with ``seed`` it determines the batch.
        simam: index of each clip's kind in SIMAM, (N,).
        part: of the batch, whose clips are read, and those that are mixed into them.

    Returns:
        "attribute" (B,), "domain" (B,), and "simam" (B,) if given, of the whole batch; "part"; "rows" (R,), places in
        the batch of the clips that were read, its own ones first; "wave" (R, inputs, samples).
    """
    generator = np.random.default_rng(step_seed(seed, step))
    rows = _rows(config, part, step_seed(seed, step))
    machines = list(group_by(clips, "machine", "section"))
    groups = group_by(clips, "machine", "section", "domain")
    waves: dict[int, np.ndarray] = {}
    chosen = []
    for place in range(config.loop.batch_size):
        machine = machines[generator.integers(len(machines))]
        target = generator.random() < config.target_share
        present = [d for d in ("target", "source", "") if (*machine, d) in groups]
        domain = "target" if target and "target" in present else next((d for d in present if d != "target"), "target")
        group = groups[*machine, domain]
        chosen.append(group[generator.integers(len(group))])
        if place in rows:
            waves[place] = input_crop(clips[chosen[-1]], config, rate, generator)
        else:
            draw_crop(clips[chosen[-1]], config.crop_seconds, generator)
    batch = {
        "wave": torch.from_numpy(np.stack([waves[place] for place in rows])),
        "rows": torch.tensor(rows),
        "part": part,
        "attribute": torch.from_numpy(attributes[chosen]),
        "domain": torch.from_numpy(domains[chosen]),
    }
    return batch if simam is None else {**batch, "simam": torch.from_numpy(simam[chosen])}


def _rows(config: EncoderBranchConfig, part: Part, seed: int) -> list[int]:
    """Places in a batch of a part's own clips, and of those that the training step will mix into them."""
    size = config.loop.batch_size
    own = list(range(size))[part.rows(size)]
    if part == WHOLE or not config.augment.mixup:
        return own
    draws = draw(config.augment, size, len(config.inputs), torch.Generator().manual_seed(seed)).of(torch.tensor(own))
    return list(dict.fromkeys([*own, *draws.partner[draws.share < 1.0].tolist()]))


def _number(keys: Sequence[tuple | None]) -> np.ndarray:
    order = {key: number for number, key in enumerate(sorted({key for key in keys if key is not None}))}
    return np.array([-1 if key is None else order[key] for key in keys], dtype=np.int64)
