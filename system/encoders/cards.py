"""Cards of published checkpoints (cards.yaml): description, source and licence.

Also finds and downloads checkpoint files, and identifies the encoder family of a file by its tensors.
"""

import difflib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from system.config import CHECKPOINTS, EncoderConfig
from system.encoders import layout
from system.errors import WheeltapperError
from system.fetch import Progress, digest, fetch
from system.files import lock


@dataclass(frozen=True)
class Card:
    """Facts about a published checkpoint; the head of cards.yaml explains the fields."""

    name: str
    family: str
    size: str
    rate: int | str
    front_end: str
    normalisation: list[float] | None
    frames: int | None
    dims: Mapping[int, int]
    parameters: int
    licence: str | None
    source: str
    url: str | None
    file: str
    sha256: str | None = None
    note: str = ""
    learned: Mapping[str, str] = field(default_factory=dict)


def _read(path: Path) -> dict[str, Card]:
    return {name: Card(name, **fields) for name, fields in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


CARDS = _read(Path(__file__).with_suffix(".yaml"))
OWN = Path(__file__).with_name("weights")  # weights that come with the program, each with its model card


def card(name: str) -> Card:
    """Card of a checkpoint.

    Args:
        name: key of ``CARDS``.

    Raises:
        WheeltapperError: unknown name; the message suggests the nearest one.
    """
    if name not in CARDS:
        raise WheeltapperError(f"checkpoint: expected a name that --list shows, found {name!r}{_nearest(name)}")
    return CARDS[name]


def find_checkpoint(name_or_path: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """File of a checkpoint.

    Args:
        name_or_path: an existing file, a folder as model hubs have it, or the name of a card.
        folder: folder of downloaded checkpoints; checkpoints that come with the program are found without it.

    Returns:
        An existing file.

    Raises:
        WheeltapperError: no such name or file; the message says how to get it.
    """
    path = layout.main_file(name_or_path)
    if path.is_file():
        return path
    known = CARDS.get(str(name_or_path))
    if known is None:
        found = "a folder" if path.is_dir() else "neither"
        raise WheeltapperError(
            f"{name_or_path}: expected a file or a name that download-checkpoint --list shows, found {found}"
            f"{_nearest(str(name_or_path))}"
        )
    for path in (OWN / known.file, Path(folder) / known.file):
        if path.is_file():
            return path
    fetching = f"wheeltapper download-checkpoint {known.name} --out {folder} fetches it, or " if known.url else ""
    raise WheeltapperError(f"{known.name}: expected {path}, found nothing; {fetching}{_by_hand(known, folder)}")


def checkpoint_file(config: EncoderConfig, folder: str | os.PathLike) -> Path | None:
    """File of the checkpoint that an encoder configuration names.

    Args:
        config: its ``checkpoint`` is a path, the name of a card, or empty.
        folder: folder of the recordings, which contains ``checkpoints/``.

    Returns:
        An existing file, or None for an untrained encoder.

    Raises:
        WheeltapperError: the file is missing, or the card is of another family or size than the configuration.
    """
    if not config.checkpoint:
        return None
    known = CARDS.get(config.checkpoint)
    if known and (known.family, known.size) != (config.family, config.size):
        raise WheeltapperError(
            f"checkpoint {known.name}: expected an encoder of family {known.family}, size {known.size}, found "
            f"{config.family}, {config.size}; without a checkpoint the weights are random"
        )
    return find_checkpoint(config.checkpoint, Path(folder) / CHECKPOINTS)


def checkpoint_files(config: EncoderConfig, folder: str | os.PathLike) -> list[Path]:
    """All files of the checkpoint that an encoder configuration names; see ``checkpoint_file``."""
    file = checkpoint_file(config, folder)
    return layout.parts(file) if file else []


def download(
    known: Card,
    folder: str | os.PathLike,
    url: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    pause: float = 2.0,
) -> Path:
    """Downloads a checkpoint. The file gets its name only after a complete download and a successful check.

    Args:
        known: card of the checkpoint.
        folder: folder to write to.
        url: address to use instead of the card's.
        progress: called with (name, bytes so far, total bytes or 0).
        say: called with messages for the user.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        The file.

    Raises:
        WheeltapperError: no address is known, the download fails, or the file is not the published one; the message
            says what else can be done.
    """
    path, address = Path(folder) / known.file, url or known.url
    instead = f"see {known.source}, {_by_hand(known, folder)}"
    if address and not address.startswith(("http://", "https://")):
        raise WheeltapperError(f"--url: expected http://... or https://..., found {address!r}")
    with lock(folder):
        if path.is_file():
            try:
                check(path, known)
            except WheeltapperError as error:
                raise WheeltapperError(f"{error}; delete it and start again") from error
            say(f"{path}: complete, nothing to do")
            return path
        if not address:
            raise WheeltapperError(f"{known.name}: expected an address, none is known; {instead}")
        # The name contains the address, so that a partial download is never continued from another address.
        incoming = path.with_name(f"incoming-{zlib.crc32(address.encode()):08x}-{path.name}")
        if not incoming.is_file():
            say(f"{known.name}: fetching {address}")
            shown = None if progress is None else lambda _, done, total: progress(known.name, done, total)
            fetch(address, incoming, None, shown, pause, instead)
        try:
            check(incoming, known)
        except WheeltapperError as error:
            incoming.unlink()
            reason = str(error).removeprefix(f"{incoming}: ")
            raise WheeltapperError(f"{address}: deleted after the download ({reason}); {instead}") from error
        os.replace(incoming, path)
        for left in path.parent.glob(f"incoming-*-{path.name}.part"):
            left.unlink()
    return path


def check(path: str | os.PathLike, known: Card) -> None:
    """Compares a file with the SHA-256 of the card; if none is known, only checks that the file can be loaded.

    Raises:
        WheeltapperError: the file differs, or cannot be loaded.
    """
    if not known.sha256:
        from system.encoders import checkpoints  # loads torch

        checkpoints.load_file(path)
        return
    found = digest(path, "sha256")
    if found != known.sha256:
        raise WheeltapperError(f"{path}: expected SHA-256 {known.sha256}, found {found}")


def family_of(path: str | os.PathLike) -> str | None:
    """Identifies the encoder family of a checkpoint file.

    Returns:
        Key of ``FAMILIES``, or None if unknown.

    Raises:
        WheeltapperError: the file cannot be read.
    """
    from system.encoders import wrapped  # loads torch

    return identify(wrapped.read(path))


def identify(loaded: Mapping[str, Any]) -> str | None:
    """Like ``family_of``, for a checkpoint as returned by ``wrapped.read``.

    Decides by our own metadata, the cfg, and the tensor names, in that order.
    """
    metadata = loaded.get("metadata")
    if isinstance(metadata, Mapping) and "config" in metadata and "family" in metadata:
        return key(str(metadata["family"]))
    family = recognise(loaded["model"])
    cfg = loaded.get("cfg")
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    if family in _SUBBAND and isinstance(model, Mapping):
        return "fisher" if "band_width" in model else "eat"
    return family


def key(family: str) -> str:
    """Key of ``FAMILIES`` for an encoder class's ``family``."""
    return {"resnext": "cnn", "efficientat": "mn"}.get(family.lower(), family.lower())


# Endings of tensor names that identify a family's checkpoints, whatever their prefix.
_SIGNS = (
    ("beats", ("patch_embedding.weight", "layers.0.self_attn.q_proj.weight")),
    ("echo", ("patch_embed.proj.weight", "layers.0.self_attn.in_proj_weight")),
    ("eat", ("extra_tokens", "local_encoder.proj.weight", "pre_norm.weight")),
    ("fisher", ("extra_tokens", "local_encoder.proj.weight")),
    ("ast", ("embeddings.distillation_token", "embeddings.patch_embeddings.projection.weight")),
    ("ast", ("dist_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")),
    ("audiomae", ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")),
    ("mn", ("features.1.block.0.0.weight", "features.14.block.2.conc_se_layers.0.fc1.weight", "features.16.0.weight")),
    ("cnn", ("conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv3.weight")),
)
KNOWN = tuple(dict.fromkeys(family for family, _ in _SIGNS))
_SUBBAND = ("fisher", "eat")
_FISHER_ROWS = 6400  # rows of the position table; EAT's has at most 6144


def recognise(tensors: Mapping[str, Any] | Iterable[str]) -> str | None:
    """Identifies the encoder family by tensor names.

    EAT and FISHER use the same names. The length of the position table distinguishes them, or else a decoder, which
    only EAT's files contain.

    Args:
        tensors: tensor names, or name to tensor.

    Returns:
        Key of ``FAMILIES``, or None if unknown.
    """
    names = [layout.plain_name(str(name)) for name in tensors]

    def have(end: str) -> bool:
        return any(f".{name}".endswith(f".{end}") for name in names)

    family = next((family for family, ends in _SIGNS if all(have(end) for end in ends)), None)
    if family != "fisher":
        return family
    table = next((name for name in tensors if str(name).endswith("positions")), None)
    shape: tuple[int, ...] = ()
    if isinstance(tensors, Mapping) and table:
        shape = getattr(tensors[table], "shape", ())
    if len(shape) == 3:
        return "fisher" if shape[1] == _FISHER_ROWS else "eat"
    return "eat" if any(".decoder." in name or name.startswith("_ema") for name in names) else "fisher"


def _by_hand(known: Card, folder: str | os.PathLike) -> str:
    return (
        f"give --checkpoint FILE, put the file into {folder} as {known.file}, or download it from elsewhere with "
        f"wheeltapper download-checkpoint {known.name} --url URL"
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), CARDS, 1)
    return f"; did you mean {near[0]}?" if near else ""


def listing(folder: Path) -> list[tuple[str, ...]]:
    """A table of all checkpoints with a head; the last column says whether the file is in the folder."""
    rows: list[tuple[str, ...]] = [
        ("name", "family", "size", "rate", "numbers at 16/48 kHz", "parameters", "licence", "file")
    ]
    for card in CARDS.values():
        state = "to be fetched" if card.url else "no address known"
        if (OWN / card.file).is_file():
            state = "comes with the program"
        rows.append(
            (
                card.name,
                card.family,
                card.size,
                str(card.rate),
                f"{card.dims[16000]}/{card.dims[48000]}",
                f"{card.parameters / 1e6:.1f} M",
                card.licence or "not stated",
                "in the folder" if (folder / card.file).is_file() else state,
            )
        )
    return rows
