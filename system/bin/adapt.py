"""Stage 2: adapt each branch to the normal clips of the run's machines."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.bin import autoencoder_branch, common
from system.config import EncoderConfig
from system.experiment import Experiment
from system.stage import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        config = run.config
        settings = {
            "branches": {name: _settings(branch) for name, branch in config.branches.items()},
            "front_ends": {name: front_end(run.encoder_config(name)) for name in run.encoder_branches},
            "rate": config.data.rate,
            "seed": config.seed,
            "clips": manifest.fingerprint(common.training_clips(run)),
        }
        adapted = [branch for branch in config.branches.values() if branch.autoencoder is None]
        own = [common.checkpoint_file(b.encoder, config.data.folder) for b in adapted if b.encoder]
        reads = [*([run.encoder] if run.has_encoder else []), *filter(None, own)]
        common.run_stage(run.stage("adapt", settings, reads, owns=["adapt"], partly=[run.manifest]), lambda: _work(run))


def _settings(branch) -> dict:
    """What training depends on: all of a branch but its scorer."""
    if branch.autoencoder is not None:
        return autoencoder_branch.training_settings(branch)
    return {name: value for name, value in asdict(branch).items() if name not in ("scorer", "autoencoder")}


def front_end(encoder: EncoderConfig) -> dict:
    """What of an encoder's settings its weights do not hold."""
    return {name: getattr(encoder, name) for name in ("filterbank", "simam", "simam_machines")}


def _work(run: Experiment) -> Iterable[Path]:
    device = common.prepare_torch(run)
    clips = common.training_clips(run)
    rate = run.config.data.rate or _common_rate(clips)
    written: list[Path] = []
    for number, (name, branch) in enumerate(run.config.branches.items()):
        if branch.autoencoder is not None:
            written += autoencoder_branch.adapt(run, name, clips, rate)
            continue
        from system.adaptation import adapt, pseudo_attributes

        own = [run.adapter(name), run.card(name)]
        own += [run.pseudo_attributes(name)] if branch.pseudo_attributes.clusters else []
        written += own
        if all(path.is_file() for path in own):
            continue
        folder = run.adapter(name).parent
        encoder = common.base_encoder(run, name)
        choices = _simam(run, name, encoder, clips, rate)
        kinds = {machine: choice["kind"] for machine, choice in choices.items()}
        pseudo = _pseudo_attributes(run, name, encoder, clips, rate, kinds)
        with common.progress_bar(branch.loop.steps, f"adapting {name}") as bar:
            task = adapt(
                encoder,
                clips,
                branch,
                rate,
                folder,
                run.config.seed * 100 + number,
                device,
                lambda step, values, bar=bar: bar.update(step + 1 - bar.n),
                kinds,
                {row.key: row.cluster for row in pseudo},
            )
        seconds = max(clip.seconds for clip in clips)
        card = _card(task, rate, seconds) | front_end(run.encoder_config(name)) | {"simam_choices": choices}
        if branch.pseudo_attributes.clusters:
            card["pseudo_attributes"] = pseudo_attributes.summary(pseudo)
        write_json(run.card(name), card)
        (folder / "state.pt").unlink(missing_ok=True)
    return written


def _simam(run: Experiment, branch: str, encoder, clips, rate: int) -> dict[str, dict]:
    """Kind of SimAM of every machine and what it was chosen by; empty where all machines are heard alike."""
    config = run.encoder_config(branch)
    if not config.per_machine:
        return {}
    from system.adaptation import learnt_clips, simam_choice

    own, seed, device = run.config.branches[branch], run.config.seed, run.config.device
    machines, clips = manifest.machines(clips), learnt_clips(clips, own)
    with common.progress_bar(0, f"choosing SimAM for {branch}") as bar:
        return simam_choice.kinds_of_machines(config, machines, encoder, clips, rate, seed, own.depth, device, bar.to)


def _pseudo_attributes(run: Experiment, branch: str, encoder, clips, rate: int, simam: dict[str, str]) -> list:
    """Pseudo-attributes of machines without attributes, those that an interrupted run wrote if there are any."""
    own, path = run.config.branches[branch], run.pseudo_attributes(branch)
    if not own.pseudo_attributes.clusters:
        return []
    from system.adaptation import learnt_clips, pseudo_attributes

    if not path.is_file():
        clips, seed, device = learnt_clips(clips, own), run.config.seed, run.config.device
        with common.progress_bar(0, f"clustering clips for {branch}") as bar:
            rows = pseudo_attributes.cluster_clips(encoder, clips, own, rate, seed, device, simam, bar.to)
        pseudo_attributes.write(path, rows)
    return pseudo_attributes.read(path)


def _card(task, rate: int, seconds: float) -> dict:
    """Size and cost of a branch at inference, for meta.yaml: heads left out, both channels counted."""
    import torch

    from system.encoders.cost import multiply_adds

    model = task.model.eval()
    lora = model.config.tune == "lora"
    spectrogram = model.encoder.spectrogram(torch.zeros(1, int(seconds * rate)), rate)
    encoder = multiply_adds(model.tokens, spectrogram)
    tokens = model.tokens(spectrogram).detach()
    gate, projection = multiply_adds(model.fusion, tokens, tokens), multiply_adds(model.project, tokens)
    return {
        "encoder": model.encoder.family,
        "tune": model.config.tune,
        "adapted_layers": list(model.config.lora.targets or model.encoder.lora_targets) if lora else [],
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_parameters": sum(p.numel() for head in (task.attribute, task.domain) for p in head.parameters()),
        "macs": {"two_channel": 2 * encoder + gate + projection, "left_duplicated": encoder + projection},
        "seconds": seconds,
        "rate": rate,
    }


def _common_rate(clips) -> int:
    from system.errors import WheeltapperError

    rates = sorted({clip.rate for clip in clips})
    if len(rates) > 1:
        raise WheeltapperError(f"data.rate is 0 (as recorded): expected one rate in all recordings, found {rates} Hz")
    return rates[0]
