"""What the stages do for a branch that adapts an encoder."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from system import manifest
from system.bin import common
from system.config import BranchConfig, EncoderConfig
from system.experiment import Experiment
from system.files import write_json
from system.manifest import Clip
from system.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

# What of a branch does not count in training.
LATER = ("scorer", "autoencoder", "spectrum", "of", "readout", "readout_power")


def training_settings(branch: BranchConfig) -> dict:
    """What training depends on: all of a branch but how its network is read and its rows are scored."""
    return {name: value for name, value in asdict(branch).items() if name not in LATER}


def embedding_settings(branch: BranchConfig) -> dict | None:
    """What the rows depend on that the adapter does not hold."""
    return asdict(branch.encoder) if branch.encoder else None


def front_end(encoder: EncoderConfig) -> dict:
    """What of an encoder's settings its weights do not hold."""
    return {name: getattr(encoder, name) for name in ("filterbank", "simam", "simam_machines")}


def adapt(run: Experiment, name: str, clips: Sequence[Clip], rate: int) -> list[Path]:
    """Trains a branch; returns the files written."""
    from system.adaptation import adapt, pseudo_attributes

    config, branch = run.config, run.config.branches[name]
    written = [run.adapter(name), run.card(name)]
    written += [run.pseudo_attributes(name)] if branch.pseudo_attributes.clusters else []
    folder = run.adapter(name).parent
    if all(path.is_file() for path in written):
        (folder / "state.pt").unlink(missing_ok=True)  # of a run that was killed between card and end
        return written
    seed = config.seed * 100 + list(config.branches).index(name)
    encoder = common.base_encoder(run, name)
    choices = _simam(run, name, encoder, clips, rate)
    kinds = {machine: choice["kind"] for machine, choice in choices.items()}
    pseudo = _pseudo_attributes(run, name, encoder, clips, rate, kinds)
    with progress_bar(branch.loop.steps, f"adapting {name}") as bar:
        task = adapt(
            encoder, clips, branch, rate, folder, seed, config.device,
            lambda step, values: bar.update(step + 1 - bar.n), kinds, {row.key: row.cluster for row in pseudo},
        )  # fmt: skip
    seconds = max(clip.seconds for clip in clips)
    card = _card(task, rate, seconds) | front_end(run.encoder_config(name)) | {"simam_choices": choices}
    if branch.pseudo_attributes.clusters:
        card["pseudo_attributes"] = pseudo_attributes.summary(pseudo)
    write_json(run.card(name), card)
    (folder / "state.pt").unlink(missing_ok=True)
    return written


def readouts(run: Experiment, name: str) -> dict[str, tuple[str, float]]:
    """What is read of a branch's network beside its projection, for itself and the branches that share it."""
    sharing = [branch for other, branch in run.config.branches.items() if run.owner(other) == name]
    return {branch.reading: (branch.readout, branch.readout_power) for branch in sharing if branch.reading}


def load(run: Experiment, name: str):
    """A branch's adapted network, ready for inference."""
    from system.adaptation import load_adapted

    return load_adapted(common.base_encoder(run, name), run.adapter(name), run.config.branches[name])


def embed(
    run: Experiment, names: Sequence[str], clips: Sequence[Clip], workers: int
) -> "Iterator[tuple[str, dict[str, np.ndarray]]]":
    """Rows of each branch's clips in every view and reading; a finished machine outlives the end of the process."""
    from system.embeddings import embed as embedding

    config = run.config
    dtype, batch_size = embedding.choose_precision(config.embed.precision, config.device), config.embed.batch_size
    for name in names:
        model, folder, others = load(run, name), parts(run, name), readouts(run, name)
        with progress_bar(len(clips), f"embedding {name}") as bar:
            rows = embedding.embed_branch(
                model, clips, folder, workers, config.device, bar.update, batch_size, dtype, others
            )
        yield name, rows


def alone(run: Experiment, name: str) -> "Callable[[Clip], dict[str, np.ndarray]]":
    """A branch's network, loaded now, as a function of one clip: its row (1, ...) in every view and reading."""
    from system.embeddings import embed as embedding

    device, others = run.config.device, readouts(run, name)
    model = load(run, name).to(device)
    model.encoder.to(embedding.choose_precision(run.config.embed.precision, device))
    return lambda clip: embedding.embed_machine(model, [clip], device=device, readouts=others)


def parts(run: Experiment, name: str) -> Path:
    """Where the machines are kept that are embedded."""
    return run.index(name).parent / "parts"


def clear_parts(run: Experiment, name: str) -> None:
    """Removes them, once the whole is on disk."""
    shutil.rmtree(parts(run, name), ignore_errors=True)


def _simam(run: Experiment, branch: str, encoder, clips: Sequence[Clip], rate: int) -> dict[str, dict]:
    """Kind of SimAM of every machine and what it was chosen by; empty where all machines are heard alike."""
    config = run.encoder_config(branch)
    if not config.per_machine:
        return {}
    from system.adaptation import learned_clips, simam_choice

    own, seed, device = run.config.branches[branch], run.config.seed, run.config.device
    machines, clips = manifest.machines(clips), learned_clips(clips, own)
    with progress_bar(0, f"choosing SimAM for {branch}") as bar:
        return simam_choice.kinds_of_machines(config, machines, encoder, clips, rate, seed, own.depth, device, bar.to)


def _pseudo_attributes(
    run: Experiment, branch: str, encoder, clips: Sequence[Clip], rate: int, simam: dict[str, str]
) -> list:
    """Pseudo-attributes of machines without attributes, those that an interrupted run wrote if there are any."""
    own, path = run.config.branches[branch], run.pseudo_attributes(branch)
    if not own.pseudo_attributes.clusters:
        return []
    from system.adaptation import learned_clips, pseudo_attributes

    if not path.is_file():
        clips, seed, device = learned_clips(clips, own), run.config.seed, run.config.device
        with progress_bar(0, f"clustering clips for {branch}") as bar:
            rows = pseudo_attributes.cluster_clips(encoder, clips, own, rate, seed, device, simam, bar.to)
        pseudo_attributes.write(path, rows)
    return pseudo_attributes.read(path)


def _card(task, rate: int, seconds: float) -> dict:
    """Size and cost of a branch at inference, for meta.yaml: heads left out, all inputs counted."""
    import torch

    from system.encoders.cost import multiply_adds

    model = task.model.eval()
    lora = model.config.tune == "lora"
    spectrogram = model.encoder.spectrogram(torch.zeros(1, int(seconds * rate)), rate)
    encoder = multiply_adds(model.tokens, spectrogram)
    tokens = model.tokens(spectrogram).detach()
    projection = multiply_adds(model.project, tokens)
    both = encoder + projection
    if model.fusion is not None:
        both += encoder + multiply_adds(model.fusion, tokens, tokens)
    return {
        "encoder": model.encoder.family,
        "tune": model.config.tune,
        "adapted_layers": list(model.config.lora.targets or model.encoder.lora_targets) if lora else [],
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_parameters": sum(p.numel() for head in (task.attribute, task.domain) for p in head.parameters()),
        "macs": {"two_channel": both, "left_duplicated": encoder + projection},
        "seconds": seconds,
        "rate": rate,
    }
