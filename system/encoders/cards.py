"""Cards of published checkpoints: what each is, where it lies and under which licence; to fetch and to find them, and
to tell from its tensors which family a file belongs to."""

import difflib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from system.config import CHECKPOINTS, EncoderConfig
from system.errors import WheeltapperError
from system.fetch import Progress, digest, fetch
from system.files import lock


@dataclass(frozen=True)
class Card:
    """A published checkpoint; cards.yaml says what the fields mean."""

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
OWN = Path(__file__).with_name("weights")  # that come with the program, each beside its model card


def card(name: str) -> Card:
    """The card of a name; WheeltapperError with the nearest one where there is none."""
    if name not in CARDS:
        raise WheeltapperError(f"checkpoint: expected a name that --list shows, found {name!r}{_nearest(name)}")
    return CARDS[name]


def find(name_or_path: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """The file of a checkpoint: a path to a file as it is, or the name of a card whose file comes with the program or
    lies in ``folder``.

    Raises WheeltapperError that says how to come by it.
    """
    path = Path(name_or_path)
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
    fetching = f"wheeltapper download-checkpoint {known.name} --to {folder} fetches it, or " if known.url else ""
    raise WheeltapperError(f"{known.name}: expected {path}, found nothing; {fetching}{_by_hand(known, folder)}")


def checkpoint_file(config: EncoderConfig, folder: str | os.PathLike) -> Path | None:
    """The file of an encoder's checkpoint: a path, or a name that download-checkpoint knows; None for untrained.

    Args:
        folder: of the recordings, in which ``checkpoints/`` lies.

    Raises WheeltapperError where the name is of another family or size than the configuration says.
    """
    if not config.checkpoint:
        return None
    known = CARDS.get(config.checkpoint)
    if known and (known.family, known.size) != (config.family, config.size):
        raise WheeltapperError(
            f"checkpoint {known.name}: expected an encoder of family {known.family}, size {known.size}, found "
            f"{config.family}, {config.size}; without a checkpoint the weights are random"
        )
    return find(config.checkpoint, Path(folder) / CHECKPOINTS)


def download(
    known: Card,
    folder: str | os.PathLike,
    url: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    pause: float = 2.0,
) -> Path:
    """Fetches a checkpoint into a folder; only a file that was fetched whole and checked gets its name there.

    Args:
        url: other address than the card's.
        progress: called with (name, bytes so far, bytes in all or 0).
        say: told what is done.
        pause: seconds before the second attempt, doubled for each further one.

    Raises WheeltapperError, which says what else can be done, where no address is known, the link is dead, or the file
    is not the published one.
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
        # Parts of one address are never continued from another.
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
            raise WheeltapperError(f"{address}: thrown away after fetching ({reason}); {instead}") from error
        os.replace(incoming, path)
        for left in path.parent.glob(f"incoming-*-{path.name}.part"):
            left.unlink()
    return path


def check(path: str | os.PathLike, known: Card) -> None:
    """Compares a file with the card's hash, or opens it where none is known; WheeltapperError where it is another."""
    if not known.sha256:
        from system.encoders import checkpoints  # loads torch

        checkpoints.load_file(path)
        return
    found = digest(path, "sha256")
    if found != known.sha256:
        raise WheeltapperError(f"{path}: expected SHA-256 {known.sha256}, found {found}")


def family_of(path: str | os.PathLike) -> str | None:
    """The family (as a configuration names it) whose checkpoint a file looks like; None for no known one.

    Raises WheeltapperError where the file cannot be read.
    """
    from system.encoders import checkpoints  # loads torch

    return identify(checkpoints.load_file(path))


def identify(loaded: Mapping[str, Any]) -> str | None:
    """``family_of`` what ``checkpoints.load_file`` gives: by our own metadata, the cfg, and the names of tensors."""
    metadata = loaded.get("metadata")
    if isinstance(metadata, Mapping) and "config" in metadata and "family" in metadata:
        return key(str(metadata["family"]))
    inside = (loaded.get(name) for name in ("model", "encoder", "state_dict"))
    family = recognise(next((tensors for tensors in inside if isinstance(tensors, Mapping)), loaded))
    cfg = loaded.get("cfg")
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    if family in _SUBBAND and isinstance(model, Mapping):
        return "fisher" if "band_width" in model else "eat"
    return family


def key(family: str) -> str:
    """A class's ``family`` as a configuration names it."""
    return {"resnext": "cnn"}.get(family.lower(), family.lower())


# Ends of tensor names that a family's checkpoints have and no other's, under whatever prefix.
_SIGNS = {
    "beats": ("patch_embedding.weight", "layers.0.self_attn.q_proj.weight"),
    "echo": ("patch_embed.proj.weight", "layers.0.self_attn.in_proj_weight"),
    "eat": ("extra_tokens", "local_encoder.proj.weight", "pre_norm.weight"),
    "fisher": ("extra_tokens", "local_encoder.proj.weight"),
    "ast": ("embeddings.distillation_token", "embeddings.patch_embeddings.projection.weight"),
    "audiomae": ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    "cnn": ("conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.conv3.weight"),
}
KNOWN = tuple(_SIGNS)
_SUBBAND = ("fisher", "eat")
_FISHER_ROWS = 6400  # of the position table; EAT's has 6144 or fewer


def recognise(tensors: Mapping[str, Any] | Iterable[str]) -> str | None:
    """The family whose checkpoints have tensors of these names; None for no known one.

    Args:
        tensors: names, or tensors by name. EAT and FISHER name theirs alike: the length of the position table tells
            them apart, or else a decoder, which only EAT publishes.
    """
    names = [str(name) for name in tensors]

    def have(end: str) -> bool:
        return any(f".{name}".endswith(f".{end}") for name in names)

    family = next((family for family, ends in _SIGNS.items() if all(have(end) for end in ends)), None)
    if family != "fisher":
        return family
    table = next((name for name in names if name.endswith("positions")), None)
    shape: tuple[int, ...] = ()
    if isinstance(tensors, Mapping) and table:
        shape = getattr(tensors[table], "shape", ())
    if len(shape) == 3:
        return "fisher" if shape[1] == _FISHER_ROWS else "eat"
    return "eat" if any(".decoder." in name or name.startswith("_ema") for name in names) else "fisher"


def _by_hand(known: Card, folder: str | os.PathLike) -> str:
    return (
        f"give --checkpoint FILE, put the file into {folder} as {known.file}, or fetch it from elsewhere with "
        f"wheeltapper download-checkpoint {known.name} --url URL"
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), CARDS, 1)
    return f"; did you mean {near[0]}?" if near else ""
