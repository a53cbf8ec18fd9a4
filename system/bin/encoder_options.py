"""The frozen encoder that --encoder and --checkpoint name, for the commands that take any."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from system.config import DataConfig
from system.errors import WheeltapperError
from system.experiment import Experiment

if TYPE_CHECKING:
    from system.encoders.base import Encoder

DEFAULT, RANDOM = "default", "random"
ENCODER_HELP = (
    "default: the weights that come with the program, or with --exp what a run pre-trained; or FAMILY[-SIZE]: "
    "fisher-small, echo, beats, eat-large, audiomae, ast, cnn, ..."
)
CHECKPOINT_HELP = "weights to load: a file, a name that download-checkpoint knows, or 'random' (untrained)"


def add_front_end_arguments(group: argparse._ArgumentGroup) -> None:
    """--filterbank, --simam and --heads."""
    group.add_argument("--filterbank", default="mel", help="mel or even, of the families with a filter bank")
    group.add_argument("--simam", default="none", help="none, global or local enhancement of the spectrogram")
    group.add_argument("--heads", type=int, default=0, help="attention heads, where a checkpoint does not say them")


def build_encoder(args: argparse.Namespace, checkpoint: str | None, seed: int = 0) -> "Encoder":
    """The encoder of --encoder, --exp and the front end's options, with the weights that ``checkpoint`` names.

    Args:
        checkpoint: file, name that download-checkpoint knows, ``random``, or None for the default encoder's own.
        seed: of random weights.
    """
    from system.config import EncoderConfig, load
    from system.encoders import cards, family_class, load_encoder

    front_end = {"filterbank": args.filterbank, "simam": args.simam, "heads": args.heads}
    named = "" if checkpoint == RANDOM else checkpoint or ""
    path = None
    if args.encoder == DEFAULT and args.exp:
        run = Experiment(Path(args.exp), None)
        saved = run.folder / "config.yaml"
        config = replace(load(saved).encoder if saved.is_file() else EncoderConfig(), checkpoint=named)
        if not checkpoint:
            path = run.encoder
            if not path.is_file():
                raise WheeltapperError(
                    f"{path}: expected the weights of a run, found nothing: ./run.sh --stop-stage 1 --exp {run.folder} "
                    "makes them; or give --checkpoint FILE"
                )
    elif args.encoder == DEFAULT:
        own = cards.card(DEFAULT)
        config = EncoderConfig(own.family, own.size, named if checkpoint else DEFAULT)
    else:
        family, _, size = args.encoder.replace("_", "-").partition("-")
        known = cards.CARDS.get(named)
        usual = known.size if known else next(iter(list(family_class(family).SIZES)[1:]))
        config = EncoderConfig(family, size or usual, named)
        if not checkpoint:
            raise WheeltapperError(
                f"--encoder {args.encoder}: expected --checkpoint FILE, or random for untrained weights"
            )
    if config.checkpoint:
        path = cards.checkpoint_file(config, DataConfig().folder)
    return load_encoder(replace(config, **front_end), seed, path)
