"""What every encoder is: recordings in, tokens over time and frequency out.

A family is one module beside this one with one subclass of ``Encoder``. Tensor names inside a module are its own;
``to_published`` and ``published`` translate to and from the layouts in which the weights were released.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, get_args, get_type_hints

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from system import audio
from system.encoders import checkpoints
from system.encoders.shapes import building_shapes
from system.errors import WheeltapperError
from system.frontends.simam import SIMAM, enhance

PASS_TOKENS = 1024  # of one pass on a CPU
FRAMES_PER_SECOND = 100  # about as many in all front ends
HEAD_DIM = 64  # of every published transformer here


class Tokens(NamedTuple):
    """What an encoder gives: ``grid`` (B, T, bands, D), tokens over time and frequency; ``summary`` (B, n, D)."""

    grid: Tensor
    summary: Tensor


@dataclass(frozen=True)
class Mode:
    """How a published program turns a recording of any length into what the network sees at once.

    ``frames``: ``cut`` keeps the first ``frame_limit`` frames; ``pad`` fills shorter ones up to it as well; ``tail``
    averages pieces of that length, the last one being the last frames of the recording, so that it overlaps its
    neighbour; ``split`` averages pieces one after another, weighted with their lengths; ``whole`` is one pass over all,
    where a family can.
    """

    used_by: str
    frames: str


class Encoder(nn.Module):
    """Base of all families.

    A subclass sets ``family``, ``rate``, ``modes``, ``lora_targets`` and ``SIZES`` and writes ``_front_end``,
    ``_forward_piece``, ``grid_bands`` and ``published``.
    """

    family: ClassVar[str]  # as its authors write it
    rate: ClassVar[int] = 0  # Hz that the network knows; 0 for any
    neper: ClassVar[float] = 0.0  # what an amplitude e times as large adds to the spectrogram, where it is a logarithm
    modes: ClassVar[Mapping[str, Mode]]
    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)
    filterbanks: ClassVar[tuple[str, ...]] = ()  # that the front end can be built with
    SIZES: ClassVar[Mapping[str, Any]]

    pad_value: float = 0.0  # what fills missing frames, after normalisation
    filterbank: str = "mel"
    simam: str = "none"

    def __init__(self, config):
        super().__init__()
        self.config = config

    # What a family writes.

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        """(B, samples) at a rate that the network knows to a normalised spectrogram (B, T, F)."""
        raise NotImplementedError

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        """Tokens of (B, T, F), patch_frames <= T <= frame_limit."""
        raise NotImplementedError

    def grid_bands(self, rate: int) -> int:
        """Frequency positions of the token grid at a rate in Hz."""
        raise NotImplementedError

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """Configuration and tensors (own names) of a checkpoint as ``checkpoints.load_file`` gives it.

        ``settings`` are what the file does not say, from a config.json beside it or the caller. Raises
        WheeltapperError where the layout is not one of the family's.
        """
        raise NotImplementedError

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the tensor names of the published checkpoints."""
        return dict(state)

    def layers(self) -> list[list[nn.Module]]:
        """Modules of each layer that can be trained by itself, the last layer first; what is in none of them lies
        below. Raises WheeltapperError where a family does not say.
        """
        raise WheeltapperError(f"layers: expected a family that can be trained layer by layer, found {self.family}")

    # What most have alike.

    @property
    def dim(self) -> int:
        """D of the last block's tokens."""
        return self.config.embed_dim

    @property
    def patch_frames(self) -> int:
        """Frames that one token spans."""
        return self.config.patch_size

    @property
    def frame_limit(self) -> int:
        """Frames that one pass takes at most."""
        return self.config.target_length

    def bands(self, rate: int) -> int:
        """Vectors of the summary at a rate in Hz."""
        return 1

    # What all share.

    @property
    def depth(self) -> int:
        """Blocks that ``forward`` can run."""
        return self.config.depth

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """All parameters, from the top of the network down: one list for each of ``layers``, the rest last."""
        groups = [[p for module in layer for p in module.parameters()] for layer in self.layers()]
        known = {id(p) for group in groups for p in group}
        return [*groups, [p for p in self.parameters() if id(p) not in known]]

    @property
    def dtype(self) -> torch.dtype:
        """Type that the network computes in."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.parameters()).device

    def spectrogram(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Front end: waveforms (B, samples) at any rate in Hz to what the network sees, normalised (B, T, F).

        Raises WheeltapperError for recordings of no samples.
        """
        check_wave(wave)
        if self.rate and rate != self.rate:
            wave, rate = audio.resampler(rate, self.rate)(wave), self.rate
        return enhance(self._front_end(wave, rate, mode), self.simam)

    def forward(self, spectrogram: Tensor, depth: int | None = None) -> Tokens:
        """Spectrogram (B, T, F) of any length to Tokens; ``depth`` blocks of the network, all where None.

        Clips longer than ``frame_limit`` frames go in pieces of that length, each with positions from zero; the rest
        is a shorter piece, dropped where it is shorter than a patch. Tokens of the pieces follow one another in time;
        the summary is the pieces' mean, weighted with their lengths.
        """
        if depth is not None and not 1 <= depth <= self.depth:
            raise WheeltapperError(f"{self.family} depth: expected 1 to {self.depth} blocks, found {depth}")
        pieces = self._split(spectrogram.to(self.dtype))
        outputs = [self._forward_piece(piece, depth) for piece in pieces]
        if len(outputs) == 1:
            tokens = outputs[0]
        else:
            summary = _weighted_mean([output.summary for output in outputs], pieces)
            tokens = Tokens(torch.cat([output.grid for output in outputs], 1), summary)
        return tokens if self.dtype == torch.float32 else Tokens(tokens.grid.float(), tokens.summary.float())

    def embed(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Frozen embedding of recordings of one length as the authors, or another published program, make it.

        Args:
            wave: (B, samples) at ``rate`` Hz, full scale 1. mode: one of ``modes``.

        Returns:
            (B, numbers).
        """
        self.check_mode(mode)

        def embed(part: Tensor) -> Tensor:
            return self._embed_spectrogram(self.spectrogram(part, rate, mode), mode, rate)

        return self._passes(embed, wave, math.ceil(FRAMES_PER_SECOND * wave.shape[-1] / rate))

    @property
    def whole(self) -> str:
        """The mode that hears recordings of any length to their end."""
        return "chunks" if "chunks" in self.modes else "official"

    def check_mode(self, mode: str) -> None:
        """Raises WheeltapperError for a mode that the family does not have."""
        if mode not in self.modes:
            raise WheeltapperError(f"mode: expected one of {', '.join(self.modes)}, found {mode!r}")

    def embed_spectrogram(self, spectrogram: Tensor, mode: str = "official", rate: int = 0) -> Tensor:
        """``embed`` of what ``spectrogram`` gives, (B, T, F) to float32 (B, numbers).

        ``rate`` in Hz, 0 for unknown, is for the families whose tokens know their frequency.
        """
        return self._passes(lambda part: self._embed_spectrogram(part, mode, rate), spectrogram, spectrogram.shape[1])

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        spectrogram = spectrogram.to(self.dtype)
        limit, frames = self.frame_limit, self.modes[mode].frames
        if frames == "split":
            pieces = self._split(spectrogram)
            return _weighted_mean([self._embed_piece(piece, mode).float() for piece in pieces], pieces)
        if frames == "tail":
            pieces = self._chunks(spectrogram)
        else:
            pieces = [self._fill(spectrogram[:, :limit], limit if frames == "pad" else 0)]
        return torch.stack([self._embed_piece(self._fill(piece), mode).float() for piece in pieces]).mean(0)

    def _embed_piece(self, spectrogram: Tensor, mode: str) -> Tensor:
        return self._forward_piece(spectrogram, None).summary.flatten(1)

    def _passes(self, function: Callable[[Tensor], Tensor], rows: Tensor, tokens: int) -> Tensor:
        """``function(rows)``; at inference on a CPU a few rows of ``tokens`` tokens (or frames) at a time, so that what
        lies between the layers stays in the caches."""
        size = max(1, PASS_TOKENS // max(1, tokens))
        if torch.is_grad_enabled() or rows.device.type != "cpu" or len(rows) <= size:
            return function(rows)
        return torch.cat([function(part) for part in rows.split(size)])

    def _split(self, spectrogram: Tensor) -> list[Tensor]:
        pieces = [piece for piece in spectrogram.split(self.frame_limit, 1) if piece.shape[1] >= self.patch_frames]
        return pieces or [self._fill(spectrogram)]

    def _chunks(self, spectrogram: Tensor) -> list[Tensor]:
        """Pieces of ``frame_limit`` frames; where some are left over, the last piece is the last frames of all."""
        length, limit = spectrogram.shape[1], self.frame_limit
        pieces = [spectrogram[:, start : start + limit] for start in range(0, length - limit + 1, limit)]
        return pieces if pieces and length % limit == 0 else [*pieces, spectrogram[:, -limit:]]

    def _fill(self, spectrogram: Tensor, frames: int = 0) -> Tensor:
        """Fills up to ``frames`` frames, at least to one patch."""
        missing = max(frames, self.patch_frames) - spectrogram.shape[1]
        return F.pad(spectrogram, (0, 0, 0, missing), value=self.pad_value) if missing > 0 else spectrogram

    def set_front_end(self, filterbank: str = "mel", simam: str = "none") -> "Encoder":
        """Chooses the filter bank and SimAM; WheeltapperError for what the family does not have."""
        allowed = self.filterbanks or ("mel",)
        if filterbank not in allowed:
            raise WheeltapperError(
                f"filterbank: expected {' or '.join(allowed)} with {self.family}, found {filterbank!r}"
            )
        if simam not in SIMAM:
            raise WheeltapperError(f"simam: expected one of {', '.join(SIMAM)}, found {simam!r}")
        self.filterbank, self.simam = filterbank, simam
        return self

    # Weights.

    @classmethod
    def build(cls, size: str, seed: int) -> "Encoder":
        """An untrained encoder of a named size (``SIZES``)."""
        return cls.untrained(cls.sized(size), seed)

    @classmethod
    def sized(cls, size: str) -> Any:
        """The settings of a named size; WheeltapperError for an unknown one."""
        if size not in cls.SIZES:
            raise WheeltapperError(f"{cls.family} size: expected one of {', '.join(cls.SIZES)}, found {size!r}")
        return cls.SIZES[size]

    @classmethod
    def untrained(cls, config, seed: int) -> "Encoder":
        """An encoder with random weights, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config).eval()

    @classmethod
    def load(cls, path: str | os.PathLike, settings: dict[str, Any] | None = None) -> "Encoder":
        """Loads a published checkpoint or one of ours (``save``); strict, runs no code that a file brings along.

        Args:
            path: checkpoint; a ``config.json`` beside it, as model hubs keep it, is read too.
            settings: of the configuration, where the file does not say them, such as ``num_heads``.

        Raises WheeltapperError for a file that is missing, damaged, unsafe, of another family, or does not fit.
        """
        loaded = checkpoints.load_file(path)
        try:
            return cls._from_loaded(loaded, settings or {}, path)
        except WheeltapperError as error:
            from system.encoders import cards  # a table that only the error needs

            likely = cards.identify(loaded)
            if likely in (None, cards.key(cls.family)):
                raise
            raise WheeltapperError(f"{error}; it looks like a checkpoint of the family {likely}") from error

    @classmethod
    def _from_loaded(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike) -> "Encoder":
        metadata = loaded.get("metadata")
        if isinstance(metadata, dict) and "config" in metadata:
            config, tensors = cls._own_config(metadata, path), cls.from_published(loaded["model"])
        else:
            beside = checkpoints.read_config_beside(path)
            config, tensors = cls.published(loaded, {**beside, **settings}, path)
        with building_shapes():
            module = cls(config)
        checkpoints.load_strict(module, tensors, path)
        return module.eval()

    def save(self, path: str | os.PathLike, **metadata) -> None:
        """Writes the encoder as safetensors under the published tensor names, with its config in the metadata."""
        facts = {"family": self.family, "config": asdict(self.config)}
        checkpoints.save(path, self.to_published(self.state_dict()), facts | metadata)

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of ``to_published``; unknown names pass through so that a strict load can list them."""
        return dict(tensors)

    @classmethod
    def _own_config(cls, metadata: dict, path: str | os.PathLike):
        try:
            family, settings = metadata.get("family", cls.family), json.loads(metadata["config"])
        except (ValueError, RecursionError):
            family, settings = cls.family, None
        if family != cls.family or not isinstance(settings, dict):
            found = family if isinstance(settings, dict) else "none"
            raise WheeltapperError(f"{path}: expected a {cls.family} config in its metadata, found {found}")
        return cls.make_config(settings, path)

    @classmethod
    def make_config(cls, settings: Mapping[str, Any], path: str | os.PathLike):
        """A configuration from a dict that may hold more; values are converted, impossible sizes refused."""
        kind = type(next(iter(cls.SIZES.values())))
        hints = get_type_hints(kind)
        values = {
            name: settings[name]
            for name, hint in hints.items()
            if name in settings and (settings[name] is not None or type(None) in get_args(hint))
        }  # without null where that is no value of the field: other programs write it for the default
        try:
            config = TypeAdapter(kind).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            expected = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            found = "nothing" if first["type"] == "missing" else repr(first["input"])
            raise WheeltapperError(f"{path}: cfg.{name}: expected {expected}, found {found:.80}") from error
        if not cls.is_possible(config):
            raise WheeltapperError(f"{path}: cfg: impossible sizes {asdict(config)}")
        return config

    @classmethod
    def is_possible(cls, config) -> bool:
        """Whether the sizes of a configuration, as transformers have them, can be built at all. A value that one of
        ``SIZES`` has is always possible."""
        known = [asdict(size) for size in cls.SIZES.values()]
        odd = {
            name: value
            for name, value in asdict(config).items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and all(value != size[name] for size in known)
        }
        return (
            all(0 < value <= 16384 for value in odd.values())
            and odd.get("depth", 1) <= 256
            and odd.get("embed_dim", 4) % 4 == 0
            and getattr(config, "embed_dim", 0) % getattr(config, "num_heads", 1) == 0
        )


def check_wave(wave: Tensor) -> None:
    """Raises WheeltapperError unless a waveform is (B, samples) with at least one sample."""
    if wave.dim() != 2 or wave.shape[1] == 0:
        raise WheeltapperError(f"a waveform: expected (recordings, samples), found shape {tuple(wave.shape)}")


def heads_of(dim: int) -> int:
    """Heads of a checkpoint that does not say them: of 64 channels each as in all published ones, at least two."""
    return max(2, dim // HEAD_DIM)


def _weighted_mean(values: list[Tensor], pieces: list[Tensor]) -> Tensor:
    total = sum(piece.shape[1] for piece in pieces)
    parts = (value * (piece.shape[1] / total) for value, piece in zip(values, pieces, strict=True))
    return sum(parts, torch.zeros(()))
