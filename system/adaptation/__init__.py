"""Adaptation of a pre-trained encoder to the normal training clips of the machines in a run."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from system import processes
from system.adaptation.batches import CropBatches, input_crop
from system.adaptation.lora import all_linear, merge_lora, merge_tensors
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.adaptation.pseudo_attributes import Key
from system.config import EncoderBranchConfig
from system.corpora.attributes import attribute_class
from system.encoders import checkpoints
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.manifest import Clip, check_training
from system.parallel import map_in_order
from system.training import streams
from system.training.state import kept_names, step_seed

ADAPTER = "adapter.safetensors"
ENCODER_PREFIX = "model.encoder."  # of the encoder's tensor names in that file
STREAMS = 2  # parts of a batch that a CPU computes at once, whatever its cores, so that all of them get the same bits
ALIGNMENT_CLIPS = 512  # at most so many training clips determine the initial projection
ALIGNMENT_BATCH = 16  # crops in a forward pass for it


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
    key: str = "loop",
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
        key: where ``config.loop`` stands in the configuration, for messages.

    Returns:
        The trained model with its heads; ``config.loop.precision`` of it is the arithmetic that it was trained in.

    Raises:
        WheeltapperError: a clip is not a normal training clip, or ``config.learn_from`` leaves none.

    Example:
        >>> task = adapt(encoder, clips, EncoderBranchConfig(), rate=16000, folder="adapt/main", seed=0)
        >>> model = load_adapted(new_encoder, "adapt/main/adapter.safetensors", EncoderBranchConfig())
    """
    from system.training.arithmetic import settle
    from system.training.loop import fit  # imports accelerate, which takes seconds and is not needed for inference

    check_training(clips)
    config = replace(config, loop=settle(config.loop, device, folder))
    clips = training_clips(clips, config)
    attributes, domains = attribute_labels(clips, clusters), domain_labels(clips, config.heads.domain_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))
        model = AdaptedEncoder(encoder, config, rate, simam)
        task = AdaptationTask(model, int(attributes.max()) + 1, int(domains.max()) + 1)
        pooled = _pooled_crops(model.eval(), clips, config, seed, device)
        with streams.threads_each(1):  # so that all machines get the same bits
            model.align_projection(pooled)

    kinds = [model.simam_of(clip.machine) for clip in clips]

    batches = CropBatches(clips, attributes, domains, config, rate, seed, kinds)
    number = _streams(task, device)
    fit(task, batches, config.loop, folder, seed, device, progress=progress, key=key, streams=number)
    names, tensors = set(kept_names(task)), task.state_dict()
    classes = [int(attributes.max()) + 1, int(domains.max()) + 1]
    metadata = {"branch": asdict(config), "rate": rate, "classes": classes, "simam": model.simam}
    if processes.is_main():
        checkpoints.save(Path(folder) / ADAPTER, {n: t for n, t in tensors.items() if n in names}, metadata)
    return task


def _streams(task: AdaptationTask, device: str) -> int:
    """Parts of a batch that are computed at once. Adaptive scales depend on the whole batch, which is computed twice if
    it is in parts."""
    loop = task.config.loop
    fits = loop.batch_size % (loop.accumulate * STREAMS) == 0 and loop.precision == "no" and not task.extra_state()
    return STREAMS if fits and device == "cpu" and processes.count() == 1 else 1


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


def _pooled_crops(
    model: AdaptedEncoder, clips: Sequence[Clip], config: EncoderBranchConfig, seed: int, device: str
) -> Tensor:
    """Pooled tokens (N, width) of the first input, for one crop of each of at most ALIGNMENT_CLIPS training clips."""
    generator = np.random.default_rng(step_seed(seed, -2))
    chosen = [clips[index] for index in sorted(generator.permutation(len(clips))[:ALIGNMENT_CLIPS])]
    model.to(device)

    def batches() -> Iterator[tuple[list[Clip], np.ndarray]]:
        for start in range(0, len(chosen), ALIGNMENT_BATCH):
            own = chosen[start : start + ALIGNMENT_BATCH]
            yield own, np.stack([input_crop(clip, config, model.rate, generator)[0] for clip in own])

    @torch.inference_mode()
    def pooled(batch: tuple[list[Clip], np.ndarray]) -> Tensor:
        own, waves = batch
        simam = [model.simam_of(clip.machine) for clip in own]
        return model.pooling(model.tokens(model.spectrogram(torch.from_numpy(waves).to(device), simam)))

    workers = torch.get_num_threads() if device == "cpu" else 1
    with streams.threads_each(1):
        return torch.cat(list(map_in_order(pooled, batches(), workers))).cpu().clone()  # not of inference mode


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


def _number(keys: Sequence[tuple | None]) -> np.ndarray:
    order = {key: number for number, key in enumerate(sorted({key for key in keys if key is not None}))}
    return np.array([-1 if key is None else order[key] for key in keys], dtype=np.int64)
