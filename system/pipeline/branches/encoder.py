"""A branch that adapts a pre-trained encoder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submission.texts import BranchText, subtraction_text
from system import manifest, processes
from system.config import EncoderBranchConfig, EncoderConfig, SharedBranchConfig
from system.experiment import Experiment
from system.files import read_json, write_json
from system.manifest import Clip
from system.pipeline import resources
from system.pipeline.branches import encoder_texts
from system.pipeline.branches.base import Branch, Rows
from system.progress import progress_bar
from system.stage import LOOP_FREE

if TYPE_CHECKING:
    from system.adaptation.model import AdaptationTask, AdaptedEncoder
    from system.encoders.base import Encoder

# Settings of a branch that training does not depend on.
NOT_IN_TRAINING = ("kind", "scorer", "readout", "readout_power")


class EncoderBranch(Branch[EncoderBranchConfig]):
    """See ``pipeline.branches.base.Branch``."""

    features = "log-amplitude spectrogram"
    settings = EncoderBranchConfig

    @property
    def encoder_config(self) -> EncoderConfig:
        """The settings of its encoder: its own, or those of the pre-training stage."""
        return self.run.encoder_config(self.name)

    def training_settings(self) -> dict[str, Any]:
        settings = {name: value for name, value in asdict(self.config).items() if name not in NOT_IN_TRAINING}
        return settings | {"loop": {key: value for key, value in settings["loop"].items() if key not in LOOP_FREE}}

    def embedding_settings(self) -> dict[str, Any] | None:
        return asdict(self.config.encoder) if self.config.encoder else None

    def front_end(self) -> dict[str, Any]:
        """Front-end settings that are not stored in the checkpoint."""
        return {name: getattr(self.encoder_config, name) for name in ("filterbank", "simam", "simam_machines")}

    def weights(self) -> list[Path]:
        return [self.run.adapter(self.name)]

    def readouts(self) -> dict[str, tuple[str, float]]:
        """Readouts beside the projection, of this branch and those that share it: name to (pooling, power)."""
        run = self.run
        sharing = [branch for name, branch in run.config.branches.items() if run.network_branch(name) == self.name]
        return {
            branch.readout_name: (branch.readout, branch.readout_power)
            for branch in sharing
            if isinstance(branch, EncoderBranchConfig | SharedBranchConfig) and branch.readout_name
        }

    def adapt(self, clips: Sequence[Clip], rate: int, device: str) -> list[Path]:
        from system.adaptation import adapt, nothing_to_learn, pseudo_attributes

        run, branch, name = self.run, self.config, self.name
        written = [run.adapter(name), run.card(name)]
        written += [run.pseudo_attributes(name)] if branch.pseudo_attributes.clusters else []
        folder = run.adapted(name)
        if processes.broadcast(all(path.is_file() for path in written)):
            if processes.is_main():
                (folder / "state.pt").unlink(missing_ok=True)  # of a run that was killed between card and end
            return written
        seed = run.config.seed * 100 + list(run.config.branches).index(name)
        encoder = resources.base_encoder(run, name)
        clips = self.windows(clips)
        recordings = [clip for clip in clips if not clip.start]  # each by its beginning
        choices = self._choose_simam(encoder, recordings, rate, device)
        kinds = {machine: choice["kind"] for machine, choice in choices.items()}
        pseudo = self._cluster(encoder, recordings, rate, device, kinds)
        clusters = {row.key: row.cluster for row in pseudo}
        idle = nothing_to_learn(clips, branch, clusters) if branch.loop.steps else ""
        if idle:
            processes.say(f"note: the adaptation of {name} is skipped, the encoder stays as it is: {idle}")
            branch = replace(branch, loop=replace(branch.loop, steps=0))
        with progress_bar(branch.loop.steps, f"adapting {name}") as bar:
            task = adapt(
                encoder, clips, branch, rate, folder, seed, device,
                lambda step, values: bar.update(step + 1 - bar.n), kinds, clusters, f"branches.{name}.loop",
            )  # fmt: skip
        if not processes.is_main():
            return written
        card = _card(task, rate, max(clip.seconds for clip in clips)) | self.front_end() | {"simam_choices": choices}
        if branch.loop.steps:
            card["trained_in"] = task.config.loop.precision
        if idle:
            card["skipped"] = idle
        if branch.pseudo_attributes.clusters:
            card["pseudo_attributes"] = pseudo_attributes.summary(pseudo)
        write_json(run.card(name), card)
        (folder / "state.pt").unlink(missing_ok=True)
        return written

    def load(self) -> "AdaptedEncoder":
        """The adapted network, ready for inference."""
        from system.adaptation import load_adapted

        return load_adapted(resources.base_encoder(self.run, self.name), self.run.adapter(self.name), self.config)

    @classmethod
    def embed(
        cls, run: Experiment, branches: Sequence["EncoderBranch"], clips: Sequence[Clip], workers: int, device: str
    ) -> Iterator[tuple[str, Rows]]:
        """Rows of each branch in every view and readout."""
        from system.embeddings import embed
        from system.embeddings.precision import device_of, set_precision

        batch_size = run.config.embed.batch_size
        for branch in branches:
            model = branch.load()
            precision = branch._settled_precision(device, model.encoder)
            set_precision(model.encoder, precision)
            own = device_of(precision, device)
            processes.say(f"embeddings of {branch.name} in {precision} on {own}")
            parts = cls.parts(run, [branch])
            with progress_bar(len(clips), f"embedding {branch.name}") as bar:
                rows = embed.embed_branch(
                    model, clips, parts, workers, own, bar.update, batch_size, branch.readouts(),
                )  # fmt: skip
            if processes.is_main():
                yield branch.name, rows

    def clip_embedder(self, device: str) -> Callable[[Clip], Rows]:
        from system.embeddings import embed
        from system.embeddings.precision import device_of, set_precision

        readouts, model = self.readouts(), self.load()
        precision = self._precision(device, model.encoder)
        device = device_of(precision, device)
        set_precision(model.to(device).encoder, precision)
        return lambda clip: embed.embed_machine(model, [clip], device=device, readouts=readouts)

    def notes(self) -> list[Path]:
        return [self.run.precision(self.name)]

    def _precision(self, device: str, encoder: "Encoder") -> str:
        """The precision of the rows on record, so that rows of one kind are never compared with rows of another.

        Without a record, as at the start of the stage, it is chosen for this device.
        """
        from system.embeddings.precision import choose_precision, device_of

        path = self.run.precision(self.name)
        if path.is_file():
            return str(read_json(path)["precision"])
        setting = self.run.config.embed.precision
        return choose_precision(setting, device_of(setting, device), encoder)

    def _settled_precision(self, device: str, encoder: "Encoder") -> str:
        """``_precision`` left on record, the same for all processes."""
        found = ""
        if processes.is_main():
            found = self._precision(device, encoder)
            write_json(self.run.precision(self.name), {"precision": found})
        return str(processes.broadcast(found))

    def text(self, name: str) -> BranchText:
        config, own, card, training = self.config, self.run.config.branches[name], self.card, self.training
        two_channels = max(clip.model_channels for clip in training) > 1
        trained = bool(config.loop.steps) and "skipped" not in card
        family = encoder_texts.family(self.encoder_config, card["encoder"])
        tuned = encoder_texts.TUNED[config.tune if trained else "frozen"]
        subtraction = subtraction_text(config.inputs, config.subtraction) if two_channels else ""
        simam = encoder_texts.simam(card)
        if name == self.name:
            system = encoder_texts.system_lines(name, config, family, card, subtraction, simam)
        else:
            assert isinstance(own, SharedBranchConfig)
            how = "projection" if own.readout == "projection" else f"{own.readout} pooling without projection"
            system = [f"Branch {name}: the network of branch {self.name}, read by {how}."]
        pretrained = self.run.config.pretrain.loop.steps and config.encoder is None
        known = any(clip.attributes for clip in training) or config.pseudo_attributes.clusters
        return BranchText(
            name=name,
            kind="encoder",
            subject=f"{family} {tuned}",
            inputs=tuple(config.inputs) if two_channels else tuple(config.inputs[:1]),
            features=self.features,
            embedding=family,
            tuning=tuned,
            front_end=tuple(text for text in (subtraction, simam) if text),
            augmentation=tuple(encoder_texts.augmentation(config.augment, two_channels)) if trained else (),
            attributes=encoder_texts.attributes(config) if trained and known else "",
            gate=two_channels and len(config.inputs) > 1 and not self.encoder_config.noise_aware,
            data_usage=(*["pre-training"] * bool(pretrained), "fine-tuning" if trained else "references"),
            external=tuple(encoder_texts.resources(self.encoder_config, family)),
            system=tuple(system),
            training=(encoder_texts.training_line(name, config, card),) * (trained and name == self.name),
            **self.scorer_text(name),
        )

    def _choose_simam(
        self, encoder: "Encoder", clips: Sequence[Clip], rate: int, device: str
    ) -> dict[str, dict[str, Any]]:
        """SimAM of every machine with what it was chosen by; empty where all machines share one front end."""
        config, own, run = self.encoder_config, self.config, self.run
        if not config.per_machine:
            return {}
        from system.adaptation import simam_choice, training_clips

        machines, clips = manifest.machines(clips), training_clips(clips, own)
        with progress_bar(0, f"choosing SimAM for {self.name}") as bar:
            return simam_choice.kinds_of_machines(
                config, machines, encoder, clips, rate, run.config.seed, own.depth, device, bar.to
            )

    def _cluster(
        self, encoder: "Encoder", clips: Sequence[Clip], rate: int, device: str, simam: dict[str, str]
    ) -> list:
        """Pseudo-attributes of machines without attributes; those that an interrupted run wrote if there are any."""
        own, path = self.config, self.run.pseudo_attributes(self.name)
        if not own.pseudo_attributes.clusters:
            return []
        from system.adaptation import pseudo_attributes, training_clips

        if not processes.broadcast(path.is_file()):
            clips, seed = training_clips(clips, own), self.run.config.seed
            with progress_bar(0, f"clustering clips for {self.name}") as bar:
                rows = pseudo_attributes.cluster_clips(encoder, clips, own, rate, seed, device, simam, bar.to)
            if processes.is_main():
                pseudo_attributes.write(path, rows)
        read = [astuple(row) for row in pseudo_attributes.read(path)] if processes.is_main() else []
        return [pseudo_attributes.PseudoAttribute(*row) for row in processes.broadcast(read)]


def _card(task: "AdaptationTask", rate: int, seconds: float) -> dict[str, Any]:
    """Size and cost of a branch at inference, for meta.yaml: heads left out, all inputs counted."""
    import torch

    from system.encoders.cost import multiply_adds

    model = task.model.eval()
    lora = model.config.tune == "lora"
    silence = torch.zeros(1, int(seconds * rate), device=model.encoder.device)
    spectrogram = model.encoder.spectrogram(silence, rate)
    encoder = multiply_adds(model.tokens, spectrogram)
    tokens = model.tokens(spectrogram).detach()
    projection = multiply_adds(model.project, tokens)
    both = encoder + projection
    if model.fusion is not None:
        both += encoder + multiply_adds(model.fusion, tokens, tokens)
    elif model.encoder.noise_aware:
        both = projection + multiply_adds(model.tokens, spectrogram, spectrogram)
    return {
        "encoder": model.encoder.family,
        "tune": model.config.tune,
        "adapted_layers": list(model.config.lora.targets or model.encoder.lora_targets) if lora else [],
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "head_parameters": sum(p.numel() for head in (task.attribute, task.domain) for p in head.parameters()),
        "macs": {"two_channel": both, "near_only": encoder + projection},
        "seconds": seconds,
        "rate": rate,
    }
