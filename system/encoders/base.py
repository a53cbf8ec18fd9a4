"""Base class of the encoders, which turn recordings into tokens over time and frequency.

Each family is one module of this package with one subclass of ``Encoder``. Tensor names inside a subclass are our own;
``to_published`` and ``published`` convert to and from the layouts of the released checkpoints.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system import audio
from system.accelerator import without_autocast
from system.encoders import checkpoints, configs, wrapped
from system.encoders.noise_aware_layers import NoiseAwareLayers
from system.encoders.pieces import check_wave, pairs, weighted_mean
from system.encoders.shapes import building_shapes
from system.errors import WheeltapperError
from system.frontends.simam import SIMAM, enhance

PASS_TOKENS = 1024  # tokens that a CPU processes at once
FRAMES_PER_SECOND = 100  # approximate; all front ends have a hop of about 10 ms


class Tokens(NamedTuple):
    """Output of an encoder: ``grid`` (B, T, bands, D), tokens over time and frequency; ``summary`` (B, n, D)."""

    grid: Tensor
    summary: Tensor


@dataclass(frozen=True)
class Mode:
    """How a published program feeds recordings of any length to the network.

    Args:
        used_by: the program and its particularities, for listings.
        frames: ``cut`` keeps the first ``frame_limit`` frames. ``pad`` does so and pads shorter recordings to that
            length. ``tail`` averages pieces of that length; the last piece ends with the recording and may overlap its
            neighbour. ``split`` averages consecutive pieces, weighted by length. ``whole`` is one pass over everything,
            if the family supports it.
    """

    used_by: str
    frames: str


class Encoder(nn.Module):
    """Base class of all encoder families.

    A subclass sets ``family``, ``rate``, ``modes``, ``lora_targets`` and ``SIZES`` and implements ``_front_end``,
    ``_forward_piece``, ``grid_bands`` and ``published``.
    """

    family: ClassVar[str]  # in the authors' spelling
    rate: ClassVar[int] = 0  # sampling rate in Hz that recordings are resampled to; 0 to keep their own
    # Increase of a logarithmic spectrogram if the amplitude grows by one neper (factor e); 0 if it is not logarithmic.
    log_gain_per_neper: ClassVar[float] = 0.0
    modes: ClassVar[Mapping[str, Mode]]
    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)  # layers that get low-rank adapters
    filterbanks: ClassVar[tuple[str, ...]] = ()  # filter banks that the front end supports
    stacks: ClassVar[tuple[str, ...]] = ("blocks",)  # submodules whose children are its blocks, from first to last
    takes_far: ClassVar[bool] = False  # whether noise-aware layers fit, that is whether ``_forward_pair`` is there
    SIZES: ClassVar[Mapping[str, Any]]

    pad_value: float = 0.0  # value of padded frames, after normalisation
    noise_aware: NoiseAwareLayers | None  # see noise_aware.attach
    filterbank: str = "mel"
    simam: str = "none"

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.noise_aware = None

    # A family implements these.

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        """Normalised spectrogram (B, T, F) of waveforms (B, samples) at the network's rate."""
        raise NotImplementedError

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        """Tokens of a spectrogram (B, T, F) with patch_frames <= T <= frame_limit."""
        raise NotImplementedError

    def grid_bands(self, rate: int) -> int:
        """Number of frequency positions of the token grid at a sampling rate in Hz."""
        raise NotImplementedError

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """Converts a published checkpoint.

        Args:
            loaded: checkpoint as returned by ``wrapped.read``.
            settings: settings that are not stored in the checkpoint, from a config.json beside it or from the caller.
            path: file, for messages.

        Returns:
            Configuration, and tensors under our own names.

        Raises:
            WheeltapperError: the layout is not one of this family.
        """
        raise NotImplementedError

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Renames the tensors of a state dict to the names in the published checkpoints."""
        return dict(state)

    def layers(self) -> list[list[nn.Module]]:
        """Modules of each layer, for layer-wise training, last layer first; modules below all layers are not listed.

        Raises:
            WheeltapperError: the family does not support layer-wise training.
        """
        raise WheeltapperError(f"layers: expected a family that can be trained layer by layer, found {self.family}")

    # Some families override these.

    def _forward_pair(self, near: Tensor, far: Tensor, depth: int | None) -> Tokens:
        """Tokens of the near one of two spectrograms (B, T, F), by noise-aware layers."""
        raise WheeltapperError(f"far signal: expected a family that takes one, found {self.family}")

    @property
    def dim(self) -> int:
        """Dimension D of the tokens of the last block."""
        return self.config.embed_dim

    @property
    def patch_frames(self) -> int:
        """Number of frames that one token spans."""
        return self.config.patch_size

    @property
    def frame_limit(self) -> int:
        """Largest number of frames in one pass."""
        return self.config.target_length

    def bands(self, rate: int) -> int:
        """Number of summary vectors at a sampling rate in Hz."""
        return 1

    # All families share these.

    @property
    def depth(self) -> int:
        """Number of blocks that ``forward`` can run."""
        return self.config.depth

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """All parameters from the top of the network down: one list per layer (see ``layers``), the rest last."""
        groups = [[p for module in layer for p in module.parameters()] for layer in self.layers()]
        known = {id(p) for group in groups for p in group}
        return [*groups, [p for p in self.parameters() if id(p) not in known]]

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the network."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.parameters()).device

    @without_autocast
    def spectrogram(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Front end: converts waveforms to the normalised spectrogram that the network takes.

        Args:
            wave: (B, samples), full scale 1.
            rate: sampling rate in Hz; resampled if the family needs another one.
            mode: one of ``modes``.

        Returns:
            (B, T, F).

        Raises:
            WheeltapperError: recordings without samples.
        """
        check_wave(wave)
        if self.rate and rate != self.rate:
            wave, rate = audio.official_resampler(rate, self.rate)(wave), self.rate
        return enhance(self._front_end(wave, rate, mode), self.simam)

    def forward(self, spectrogram: Tensor, depth: int | None = None, far: Tensor | None = None) -> Tokens:
        """Encodes spectrograms of any length.

        Clips longer than ``frame_limit`` frames are processed in pieces of that length, each with positions from zero.
        The remainder is a shorter piece, and is dropped if shorter than a patch. The grid concatenates the pieces in
        time; the summary is their mean, weighted by length.

        Args:
            spectrogram: (B, T, F).
            depth: number of blocks to run; None for all.
            far: spectrograms of the far microphone, for noise-aware layers; None for the plain encoder.

        Returns:
            Float32 tokens.

        Raises:
            WheeltapperError: ``depth`` out of range, or ``far`` of another length.
        """
        if depth is not None and not 1 <= depth <= self.depth:
            raise WheeltapperError(f"{self.family} depth: expected 1 to {self.depth} blocks, found {depth}")
        pieces = self._split(spectrogram.to(self.dtype))
        others = pieces if far is None else self._split(far.to(self.dtype))
        both = pairs(pieces, others)
        outputs = [self._forward_piece(a, depth) if far is None else self._forward_pair(a, b, depth) for a, b in both]
        tokens = outputs[0]
        if len(outputs) > 1:
            summary = weighted_mean([output.summary for output in outputs], pieces)
            tokens = Tokens(torch.cat([output.grid for output in outputs], 1), summary)
        return tokens if self.dtype == torch.float32 else Tokens(tokens.grid.float(), tokens.summary.float())

    def embed(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Embeds recordings of equal length in the way of the authors or of another published program.

        Args:
            wave: (B, samples), full scale 1.
            rate: sampling rate in Hz.
            mode: one of ``modes``.

        Returns:
            Float32 (B, D); in families with several summary vectors they are concatenated.

        Raises:
            WheeltapperError: unknown mode, or recordings without samples.
        """
        self.check_mode(mode)

        def embed(part: Tensor) -> Tensor:
            return self._embed_spectrogram(self.spectrogram(part, rate, mode), mode, rate)

        return self._passes(embed, wave, math.ceil(FRAMES_PER_SECOND * wave.shape[-1] / rate))

    @property
    def full_length_mode(self) -> str:
        """Name of the mode that uses recordings of any length to their end."""
        return "chunks" if "chunks" in self.modes else "official"

    def check_mode(self, mode: str) -> None:
        """Raises WheeltapperError if the family does not have the mode."""
        if mode not in self.modes:
            raise WheeltapperError(f"mode: expected one of {', '.join(self.modes)}, found {mode!r}")

    def embed_spectrogram(self, spectrogram: Tensor, mode: str = "official", rate: int = 0) -> Tensor:
        """Embeds spectrograms; ``embed`` without the front end.

        Args:
            spectrogram: (B, T, F) as returned by ``spectrogram``.
            mode: one of ``modes``.
            rate: sampling rate of the recordings in Hz, 0 if unknown; used by families that encode frequency in Hz.

        Returns:
            Float32 (B, D).
        """
        return self._passes(lambda part: self._embed_spectrogram(part, mode, rate), spectrogram, spectrogram.shape[1])

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        spectrogram = spectrogram.to(self.dtype)
        limit, frames = self.frame_limit, self.modes[mode].frames
        if frames == "split":
            pieces = self._split(spectrogram)
            return weighted_mean([self._embed_piece(piece, mode).float() for piece in pieces], pieces)
        if frames == "tail":
            pieces = self._chunks(spectrogram)
        else:
            pieces = [self._fill(spectrogram[:, :limit], limit if frames == "pad" else 0)]
        return torch.stack([self._embed_piece(self._fill(piece), mode).float() for piece in pieces]).mean(0)

    def _embed_piece(self, spectrogram: Tensor, mode: str) -> Tensor:
        return self._forward_piece(spectrogram, None).summary.flatten(1)

    def _passes(self, function: Callable[..., Tensor], rows: Tensor, tokens: int, *far: Tensor) -> Tensor:
        """Applies ``function`` to rows of ``tokens`` tokens or frames each, and to the same rows of ``far``.

        At inference on a CPU only a few rows are processed at a time, so that activations stay in the cache.
        """
        size = max(1, PASS_TOKENS // max(1, tokens))
        if torch.is_grad_enabled() or rows.device.type != "cpu" or len(rows) <= size:
            return function(rows, *far)
        parts = zip(*(each.split(size) for each in (rows, *far)), strict=True)
        return torch.cat([function(*part) for part in parts])

    def _split(self, spectrogram: Tensor) -> list[Tensor]:
        pieces = [piece for piece in spectrogram.split(self.frame_limit, 1) if piece.shape[1] >= self.patch_frames]
        return pieces or [self._fill(spectrogram)]

    def _chunks(self, spectrogram: Tensor) -> list[Tensor]:
        """Pieces of ``frame_limit`` frames; if there is a remainder, the last piece ends with the spectrogram."""
        length, limit = spectrogram.shape[1], self.frame_limit
        pieces = [spectrogram[:, start : start + limit] for start in range(0, length - limit + 1, limit)]
        return pieces if pieces and length % limit == 0 else [*pieces, spectrogram[:, -limit:]]

    def _fill(self, spectrogram: Tensor, frames: int = 0) -> Tensor:
        """Pads to ``frames`` frames, and at least to one patch."""
        missing = max(frames, self.patch_frames) - spectrogram.shape[1]
        return F.pad(spectrogram, (0, 0, 0, missing), value=self.pad_value) if missing > 0 else spectrogram

    def set_front_end(self, filterbank: str = "mel", simam: str = "none") -> "Encoder":
        """Sets front-end options that are not stored in the checkpoint.

        Args:
            filterbank: ``mel`` or ``even``, if the family supports it.
            simam: ``none``, ``global`` or ``local``, see ``frontends.simam``.

        Returns:
            The encoder itself.

        Raises:
            WheeltapperError: an option that the family does not support.
        """
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
        """Builds an untrained encoder of a size in ``SIZES``."""
        return cls.untrained(cls.sized(size), seed)

    @classmethod
    def sized(cls, size: str) -> Any:
        """Configuration of a size in ``SIZES``; raises WheeltapperError if unknown."""
        if size not in cls.SIZES:
            raise WheeltapperError(f"{cls.family} size: expected one of {', '.join(cls.SIZES)}, found {size!r}")
        return cls.SIZES[size]

    @classmethod
    def untrained(cls, config, seed: int) -> "Encoder":
        """Builds an encoder with random weights that depend on the seed only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config).eval()

    @classmethod
    def load(cls, path: str | os.PathLike, settings: dict[str, Any] | None = None) -> "Encoder":
        """Loads a published checkpoint or one written by ``save``.

        Loading is strict, and never runs code from the file.

        Args:
            path: checkpoint; a ``config.json`` beside it, as on model hubs, is read too.
            settings: settings that are not stored in the checkpoint, such as ``num_heads``.

        Returns:
            The encoder in evaluation mode.

        Raises:
            WheeltapperError: the file is missing, damaged, unsafe, of another family, or does not fit the network.
        """
        loaded = wrapped.read(path)
        try:
            encoder = cls._from_loaded(loaded, settings or {}, loaded["file"])
        except WheeltapperError as error:
            from system.encoders import cards  # only needed for the message

            likely = cards.identify(loaded)
            if likely in (None, cards.key(cls.family)):
                raise
            raise WheeltapperError(f"{error}; it looks like a checkpoint of the family {likely}") from error
        wrapped.say(path, loaded)
        return encoder

    @classmethod
    def _from_loaded(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike) -> "Encoder":
        metadata = loaded.get("metadata")
        if isinstance(metadata, dict) and "config" in metadata:
            config = cls.make_config(configs.saved_settings(metadata, cls.family, path), path)
            tensors = cls.from_published(loaded["model"])
        else:
            beside = checkpoints.read_config_beside(path)
            config, tensors = cls.published(loaded, {**beside, **settings}, path)
        with building_shapes():
            module = cls(config)
        tensors = wrapped.without_heads(tensors, module.state_dict(), loaded["left_out"])
        checkpoints.load_strict(module, tensors, path)
        return module.eval()

    def save(self, path: str | os.PathLike, **metadata) -> None:
        """Writes the encoder as safetensors under the published tensor names.

        Args:
            path: file to write.
            **metadata: values to store with the family and the configuration.
        """
        facts = {"family": self.family, "config": asdict(self.config)}
        checkpoints.save(path, self.to_published(self.state_dict()), facts | metadata)

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of ``to_published``; unknown names are kept, so that the strict load can list them."""
        return dict(tensors)

    @classmethod
    def make_config(cls, settings: Mapping[str, Any], path: str | os.PathLike):
        """Builds a configuration.

        Args:
            settings: field name to value; other keys are ignored.
            path: checkpoint, for messages.

        Raises:
            WheeltapperError: a missing value, one of another type, or sizes that cannot be built.
        """
        kind = type(next(iter(cls.SIZES.values())))
        config = configs.config_of(kind, settings, path)
        if not cls.is_possible(config):
            raise WheeltapperError(f"{path}: cfg: impossible sizes {asdict(config)}")
        return config

    @classmethod
    def is_possible(cls, config) -> bool:
        """Whether a network with the sizes of the configuration can be built."""
        return configs.has_possible_sizes(config, cls.SIZES.values())
