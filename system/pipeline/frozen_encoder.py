"""The frozen encoder that ``--encoder`` and ``--checkpoint`` name, for the commands that accept any encoder.

The command line imports this module for its names, so that its top needs the standard library alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.config import EncoderConfig
    from system.encoders.base import Encoder

DEFAULT, RANDOM = "default", "random"


def frozen_encoder(
    name: str = DEFAULT,
    checkpoint: str | None = None,
    seed: int = 0,
    exp: str | Path | None = None,
    filterbank: str = "mel",
    simam: str = "none",
    heads: int = 0,
) -> "Encoder":
    """Builds an encoder and loads its weights.

    Args:
        name: ``default`` for the weights that come with the program, or those that the run in ``exp`` pre-trained;
            otherwise ``FAMILY`` or ``FAMILY-SIZE``, or the name of a published checkpoint for its architecture.
        checkpoint: file, name of a published checkpoint, ``random`` for untrained weights, or None for the default
            encoder's own weights.
        seed: of random weights.
        exp: experiment folder whose encoder ``default`` stands for.
        filterbank: ``mel`` or ``even``, for families with a filter bank.
        simam: ``none``, ``global`` or ``local`` enhancement of the spectrogram.
        heads: attention heads, for checkpoints that do not store them; 0 otherwise.

    Raises:
        WheeltapperError: no weights are given or found.
    """
    from system.config import DataConfig
    from system.encoders import cards, load_encoder

    if name == DEFAULT:
        config, path = _default(checkpoint, exp)
    else:
        config, path = _of_family(name, checkpoint), None
    if config.checkpoint:
        path = cards.checkpoint_file(config, DataConfig().folder)
    front_end: dict[str, Any] = {"filterbank": filterbank, "simam": simam, "heads": heads}
    return load_encoder(replace(config, **front_end), seed, path)


def _named(checkpoint: str | None) -> str:
    """The checkpoint as the configuration has it, where an empty name stands for random weights."""
    return "" if checkpoint == RANDOM else checkpoint or ""


def _default(checkpoint: str | None, exp: str | Path | None) -> "tuple[EncoderConfig, Path | None]":
    from system.config import Config, EncoderConfig, load
    from system.encoders import cards
    from system.experiment import Experiment

    if not exp:
        own = cards.card(DEFAULT)
        return EncoderConfig(own.family, own.size, _named(checkpoint) if checkpoint else DEFAULT), None
    saved = Path(exp) / "config.yaml"
    run = Experiment(Path(exp), load(saved) if saved.is_file() else Config())
    config = replace(run.config.encoder, checkpoint=_named(checkpoint))
    if checkpoint:
        return config, None
    if not run.encoder.is_file():
        raise WheeltapperError(
            f"{run.encoder}: expected the weights of a run, found nothing: ./run.sh --stop-stage 1 --exp {run.folder} "
            "makes them; or give --checkpoint FILE"
        )
    return config, run.encoder


def _of_family(name: str, checkpoint: str | None) -> "EncoderConfig":
    from system.config import EncoderConfig
    from system.encoders import cards, family_class

    named = cards.CARDS.get(name)
    family, _, size = name.replace("_", "-").partition("-") if named is None else (named.family, "", named.size)
    known = cards.CARDS.get(_named(checkpoint))
    usual = known.size if known else next(iter(list(family_class(family).SIZES)[1:]))
    if not checkpoint:
        raise WheeltapperError(f"--encoder {name}: expected --checkpoint FILE, or random for untrained weights")
    return EncoderConfig(family, size or usual, _named(checkpoint))
