"""Where a run computes and how long that will take, said before its long stages begin.

What cannot take long by its arithmetic is not measured. Of the rest a training step and an embedding are timed with the
real network and the run's own recordings, on a few clips, and multiplied.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from system import manifest, processes, windows
from system.accelerator import is_cuda
from system.config import EncoderBranchConfig, EncoderConfig
from system.corpora.sound_settings import common_rate
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.machine import describe_device, threads
from system.manifest import Clip
from system.pipeline import resources, stages

if TYPE_CHECKING:
    from system.encoders.base import Encoder

STAGES = ("pretrain", "adapt", "embed")
SHORT = 600.0  # seconds; what takes less is not measured
LONG = 3600.0  # seconds from which each part is named
HOURS = 2 * LONG  # from which a GPU is recommended
RATE = {"cpu": 2e10, "cuda": 5e12, "mps": 5e11}  # operations per second, of a CPU per thread: a low estimate
TOKENS = 500  # of a clip of ten seconds
ENOUGH = 0.5  # seconds that a trial should take
PATIENCE = 30.0  # seconds of a first trial after which there is no second

Part = tuple[str, float]  # what, seconds


def announce(run: Experiment, names: Iterable[str]) -> None:
    """Prints a line with the device and the time that the stages among ``names`` will take that are not complete.

    What fails while it is measured has no time here, and fails with its reason in its stage.
    """
    pending = [name for name in names if name in STAGES and not _is_complete(run, name)]
    if not pending:
        return
    device = resources.prepare_torch(run)
    if not processes.is_main():
        return
    print(f"on {describe_device(device, run.config.threads)}{_duration(run, pending, device)}", flush=True)


def text(parts: Sequence[Part], device: str) -> str:
    """What the line says of the time, beginning with a colon.

    Args:
        parts: what takes how many seconds.
        device: cuda, mps or cpu.
    """
    total = sum(seconds for _, seconds in parts)
    if total < LONG:
        return f": about {max(1, round(total / 60))} min"
    long = [f"{_hours(seconds)} for {name}" for name, seconds in parts if seconds >= min(LONG, total / 2)]
    advice = "; a GPU is recommended" * (device == "cpu" and total >= HOURS)
    return f": about {', '.join(long)}{advice}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h"


def _is_complete(run: Experiment, name: str) -> bool:
    try:
        return stages.module(name).stage(run).is_complete()
    except (WheeltapperError, OSError):  # an earlier stage has not left its files yet
        return False


def _duration(run: Experiment, pending: Sequence[str], device: str) -> str:
    import torch

    try:
        works = list(_works(run, pending))
        speed = RATE[device.split(":")[0]] * (threads(run.config.threads) if device == "cpu" else 1)
        if sum(work.operations for work in works) / speed < SHORT:
            return f": under {SHORT / 60:.0f} min of training and embedding" if works else ""
        with torch.random.fork_rng(devices=[]):
            return text([(work.name, work.measure(device)) for work in works], device)
    except (WheeltapperError, OSError, RuntimeError):
        return ""


@dataclass(frozen=True)
class _Work:
    """Something that takes time.

    Args:
        name: for the line.
        operations: a low estimate of what it computes.
        measure: function of the device that returns its seconds.
    """

    name: str
    operations: float
    measure: Callable[[str], float]


def _works(run: Experiment, pending: Sequence[str]) -> Iterator[_Work]:
    clips = manifest.read(run.manifest)
    training = [clip for clip in clips if clip.split == "train"]
    rate = run.config.data.rate or common_rate(training)
    loop = run.config.pretrain.loop
    if "pretrain" in pending and run.has_encoder and loop.steps:
        passes = loop.steps * loop.batch_size * run.config.pretrain.mask.clones
        operations = 6.0 * passes * _size(run.config.encoder) * TOKENS * run.config.pretrain.crop_seconds / 10
        yield _Work("pre-training", operations, partial(_pretraining, run))
    for name, own in run.encoder_branches.items():
        encoder, inputs = run.encoder_config(name), len(own.inputs)
        if "adapt" in pending and own.loop.steps:
            passes = own.loop.steps * own.loop.batch_size * inputs
            operations = 6.0 * passes * _size(encoder) * TOKENS * own.crop_seconds / 10
            yield _Work(f"branch {name}", operations, partial(_training, run, own, encoder, training, rate))
        if "embed" in pending:
            all_clips = windows.expand([clip for clip in clips if clip.split in ("train", "test")], run.config.data)
            seconds = sum(clip.seconds for clip in all_clips)
            operations = 2.0 * inputs * _size(encoder) * TOKENS * seconds / 10
            measure = partial(_embedding, run, own, encoder, all_clips, rate)
            yield _Work(f"embedding with {name}", operations, measure)


def _size(config: EncoderConfig) -> int:
    """Parameters of an encoder of a known size; those of a base transformer where the checkpoint alone knows."""
    from system.encoders import family_class
    from system.encoders.shapes import building_shapes

    kind = family_class(config.family)
    if config.size not in kind.SIZES:
        return 90_000_000
    with building_shapes():
        return sum(parameter.numel() for parameter in kind(kind.sized(config.size)).parameters())


def _training(
    run: Experiment, own: EncoderBranchConfig, config: EncoderConfig, clips: Sequence[Clip], rate: int, device: str
) -> float:
    """Seconds of the training of a branch."""
    import numpy as np
    import torch

    from system.adaptation import input_crop
    from system.adaptation.model import AdaptationTask, AdaptedEncoder

    size, generator = own.loop.batch_size, np.random.default_rng(0)
    began = time.monotonic()
    crops = [torch.from_numpy(input_crop(clip, own, rate, generator)) for clip in _some(clips, 2)]
    reading = (time.monotonic() - began) / len(crops) * size
    task = AdaptationTask(AdaptedEncoder(_encoder(run, config), own, rate), 2, 2).to(device).train()

    def step(rows: int) -> None:
        labels = torch.zeros(rows, dtype=torch.int64, device=device)
        waves = torch.stack([crops[row % len(crops)] for row in range(rows)]).to(device)
        with _arithmetic(own.loop.precision, device):
            loss = task({"wave": waves, "attribute": labels, "domain": labels})["loss"]
        loss.backward()
        task.zero_grad()

    computing = _per_row(step, size, device) * size
    return own.loop.steps * _together(reading, computing, device) / processes.count()


def _pretraining(run: Experiment, device: str) -> float:
    """Seconds of the pre-training."""
    from accelerate.utils import send_to_device

    from system.pretraining.batches import Batches
    from system.pretraining.objectives import build_objective

    config = run.config.pretrain
    mixture = stages.module("pretrain").mixture(run)
    task = build_objective(_encoder(run, run.config.encoder), config).train()

    def step(rows: int) -> None:
        own = replace(config, loop=replace(config.loop, batch_size=rows))
        batch = send_to_device(Batches(task.to("cpu"), mixture, own, 0)(0), device)
        with _arithmetic(config.loop.precision, device):
            loss = task.to(device)(batch)["loss"]
        loss.backward()
        task.zero_grad()

    size = config.loop.batch_size
    # Spreads over the recordings of a batch need two.
    return config.loop.steps * _per_row(step, size, device, 2) * size / processes.count()


def _embedding(
    run: Experiment, own: EncoderBranchConfig, config: EncoderConfig, clips: Sequence[Clip], rate: int, device: str
) -> float:
    """Seconds of the embedding of all clips with a branch."""
    import torch

    from system.adaptation.model import AdaptedEncoder
    from system.embeddings import embed, precision

    device = precision.device_of(run.config.embed.precision, device)

    model = AdaptedEncoder(_encoder(run, config), replace(own, tune="frozen"), rate).to(device).eval()
    chosen = precision.choose_precision(run.config.embed.precision, device, model.encoder)
    precision.set_precision(model.encoder, chosen)
    workers, before = threads(run.config.threads) if device == "cpu" else 1, torch.get_num_threads()
    if device == "cpu":  # each worker has one
        torch.set_num_threads(1)
    machine = [clip for clip in clips if clip.machine == clips[0].machine]

    def some(rows: int) -> None:
        embed.embed_machine(model, _some(machine, rows), device=device, batch_size=rows if device != "cpu" else 1)

    try:
        seconds = _per_row(some, 8, device)
    finally:
        torch.set_num_threads(before)
    return seconds * len(clips) / workers / processes.count()


def _encoder(run: Experiment, config: EncoderConfig) -> "Encoder":
    return resources.configured_encoder(run, config)


def _some(clips: Sequence[Clip], count: int) -> list[Clip]:
    """The longest of some clips, which stands for all of usual recordings of one length."""
    return [max(clips[:100], key=lambda clip: clip.seconds)] * count


def _per_row(work: Callable[[int], None], most: int, device: str, fewest: int = 1) -> float:
    """Seconds per row of ``work``, a function of the number of rows; of ``most`` rows where that is quick."""
    rows = most if device != "cpu" else min(fewest, most)
    first = _timed(work, rows, device)  # what is done once, such as importing or choosing kernels, counts here
    if first > PATIENCE:
        return first / rows
    second = _timed(work, rows, device) / rows
    return _timed(work, most, device) / most if rows < most and second * most < ENOUGH else second


def _timed(work: Callable[[int], None], rows: int, device: str) -> float:
    began = time.monotonic()
    work(rows)
    _wait(device)
    return time.monotonic() - began


def _wait(device: str) -> None:
    import torch

    if is_cuda(device):
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _arithmetic(precision: str, device: str) -> Any:
    """The context in which the training loop computes with a setting of ``precision``."""
    import torch

    half = precision == "bf16" or (precision == "auto" and is_cuda(device) and torch.cuda.is_bf16_supported())
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.split(":")[0], kind, enabled=half or precision == "fp16")


def _together(reading: float, computing: float, device: str) -> float:
    """Seconds of a step whose batch is read ahead: beside the computation where another device does that."""
    return max(reading, computing) if device != "cpu" else computing + reading / threads()
