"""Options that several commands share: one name means the same thing, and reads the same, everywhere."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from system.pipeline.frozen_encoder import DEFAULT, RANDOM, frozen_encoder

if TYPE_CHECKING:
    from system.encoders.base import Encoder

Group = argparse._ActionsContainer


class Shared(NamedTuple):
    """What an option means, and how its value is written."""

    meaning: str
    metavar: str | None = None
    type: Any = None


SHARED = {
    "--audio": Shared("recordings", "PATH", Path),
    "--checkpoint": Shared("weights", "FILE"),
    "--conf": Shared("configuration", "YAML"),
    "--csv": Shared("csv file for the results", "FILE", Path),
    "--data": Shared("recordings", "DATA"),
    "--device": Shared("device to compute on", "DEVICE"),
    "--encoder": Shared("encoder", "NAME"),
    "--exp": Shared("experiment folder", "DIR"),
    "--filterbank": Shared("filter bank of the front end", "NAME"),
    "--heads": Shared("number of attention heads, where a checkpoint does not store it", "N", int),
    "--json": Shared("json file for the results", "FILE", Path),
    "--list": Shared("print what can be downloaded, and stop"),
    "--machines": Shared("machines, by name, separated by commas or spaces", "NAME"),
    "--name": Shared("name in tables", "TEXT"),
    "--out": Shared("output", "PATH", Path),
    "--precision": Shared("number format of the encoder", "NAME"),
    "--processes": Shared("number of processes", "N", int),
    "--rate": Shared("sampling rate in Hz", "HZ", int),
    "--seed": Shared("random seed", "N", int),
    "--set": Shared("setting that replaces one of the configuration, may be repeated", "KEY=VALUE"),
    "--simam": Shared("SimAM enhancement of the spectrogram", "NAME"),
    "--stage": Shared("number of the first stage", "N", int),
    "--stop-stage": Shared("number of the last stage", "N", int),
    "--store": Shared("folder in which embeddings are kept", "DIR"),
    "--system": Shared("number of a system, from 1", "K", int),
    "--truth": Shared("csv file with the labels of the test clips", "FILE", Path),
    "--sets": Shared("data sets of the benchmark, by name", "NAME"),
    "--suite": Shared("benchmark whose data sets are taken"),
    "--url": Shared("address to download from", "URL"),
    "--workers": Shared("recordings processed at once", "N", int),
    "--year": Shared("year of the challenge", "YEAR", int),
}


def add(group: Group, name: str, detail: str = "", **settings: Any) -> None:
    """Adds an option of ``SHARED``; its help is the shared meaning, then the detail, then the default.

    Args:
        group: of options.
        name: of the option.
        detail: what the option means in this command beyond the shared meaning.
        settings: arguments of ``add_argument``, over the shared ones.
    """
    shared = SHARED[name]._asdict()
    text = shared.pop("meaning") + (f"{'' if detail.startswith('(') else ':'} {detail}" if detail else "")
    if settings.get("default") not in (None, "", [], ()) and "default" not in text:
        text += " (default: %(default)s)"
    flag = settings.get("action") in ("store_true", "version")
    known = {} if flag else {key: value for key, value in shared.items() if value is not None}
    if "choices" in settings:
        known.pop("metavar", None)  # argparse shows the choices instead
    group.add_argument(name, help=text, **known | settings)


def add_old(group: Group, name: str, **settings: Any) -> None:
    """Adds an earlier spelling of an option, accepted and not shown."""
    group.add_argument(name, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **settings)


def add_example(parser: argparse.ArgumentParser, *lines: str, note: str = "") -> None:
    """Adds an example, a command a line, and a note before it to the end of the help."""
    parser.epilog = "\n".join([*([note, ""] if note else []), "Example:", *(f"  {line}" for line in lines)])


def add_experiment_arguments(parser: argparse.ArgumentParser, required: bool = True, detail: str = "") -> None:
    """Adds --exp, --conf and --set, as run.sh passes them to every stage."""
    group = parser.add_argument_group("experiment")
    add(group, "--exp", detail, required=required)
    add_configuration_arguments(group)


def add_configuration_arguments(group: Group, detail: str = "") -> None:
    """Adds --conf and --set."""
    add(
        group, "--conf", detail or "a yaml file, or a name such as toy.yaml (default: the one in the experiment folder)"
    )
    add(group, "--set", action="append", default=[])


def add_experiments(group: Group, detail: str, several: bool = False) -> None:
    """Adds --exp for one or several folders, which may also be given without the option's name (``experiments``)."""
    either = group.add_mutually_exclusive_group(required=True)
    several_times = {"nargs": "+", "action": "extend"} if several else {}
    add(either, "--exp", detail, type=Path, **several_times)
    either.add_argument("folders", nargs="*", type=Path, default=[], help=argparse.SUPPRESS)


def experiments(args: argparse.Namespace) -> list[Path]:
    """The folders that ``add_experiments`` asks for."""
    return args.folders or (args.exp if isinstance(args.exp, list) else [args.exp])


def add_device(group: Group, **settings: Any) -> None:
    """Adds --device."""
    add(group, "--device", **{"detail": "cuda, mps, cpu, or auto, the first that works", "default": "auto"} | settings)


def add_workers(group: Group, default: int = 0) -> None:
    """Adds --workers."""
    add(group, "--workers", f"0 for one per CPU core (default: {default})", default=default)


def add_stages(parser: argparse.ArgumentParser, last: int) -> None:
    """Adds --stage and --stop-stage."""
    group = parser.add_argument_group("stages")
    add(group, "--stage", default=0)
    add(group, "--stop-stage", default=last)


def add_precision(group: Group, default: str = "auto") -> None:
    """Adds --precision."""
    add(group, "--precision", "fp32, bf16, int8, or auto, which is bf16 where it is fast", default=default)


def add_encoder(group: Group, others: str = "", **checkpoint: Any) -> None:
    """Adds --encoder, --checkpoint and the options of the front end.

    Args:
        group: of options.
        others: more names of encoders.
        checkpoint: arguments of ``add_argument`` for --checkpoint.
    """
    names = (
        "default, FAMILY[-SIZE] such as fisher-small, beats, eat-large, ast, cnn, mn, or a name of download-checkpoint"
    )
    add(
        group,
        "--encoder",
        f"{names}{others} (default: default, the weights that come with the program)",
        default=DEFAULT,
    )
    add(group, "--checkpoint", f"a file, a name of download-checkpoint --list, or {RANDOM} for untrained", **checkpoint)
    add(group, "--filterbank", "mel or even, for families that have one", default="mel")
    add(group, "--simam", "none, global or local", default="none")
    add(group, "--heads", "(default: 0, the checkpoint stores it)", default=0)


def build_encoder(args: argparse.Namespace, checkpoint: str | None, seed: int = 0) -> "Encoder":
    """The encoder that the options of ``add_encoder`` and --exp name, with a checkpoint (``frozen_encoder``)."""
    return frozen_encoder(args.encoder, checkpoint, seed, args.exp, args.filterbank, args.simam, args.heads)
