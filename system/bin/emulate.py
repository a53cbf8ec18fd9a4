"""``wheeltapper emulate TABLE NOISE_DIR OUT``: a two-channel set from anybody's recordings."""

import argparse
import sys
from typing import Any

from system.bin import options
from system.machine import threads
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "table", metavar="TABLE", help="csv with the columns file,machine,label,domain,group[,attributes][,fault]"
    )
    inputs.add_argument("noise", metavar="NOISE_DIR", help="folder of noise recordings: wav, flac or ogg, at any depth")
    inputs.add_argument(
        "--noise-group",
        default="",
        metavar="REGEX",
        help="noise files that agree in its match are used in training or test only (default: each on its own)",
    )
    _add_room_arguments(parser.add_argument_group("simulated room and microphones"))
    _add_clip_arguments(parser.add_argument_group("clips"))
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("out", metavar="OUT", help="folder to write; refused where it holds anything else")
    outputs.add_argument(
        "--references", metavar="DIR", help="also write clean/ and near/ there, for oracle experiments"
    )
    options.add_workers(parser.add_argument_group("computing"), default=4)
    options.add_example(parser, "wheeltapper emulate table.csv noise recordings --snr -20 -12")


def _add_room_arguments(room: options.Group) -> None:
    pair: dict[str, Any] = {"nargs": 2, "type": float, "metavar": ("LOW", "HIGH")}
    room.add_argument(
        "--snr",
        default=(-20.0, -12.0),
        help="signal-to-noise ratio at the near microphone, in dB (default: -20 -12)",
        **pair,
    )
    room.add_argument(
        "--near-metres", default=(0.25, 0.45), help="machine to near microphone, in m (default: 0.25 0.45)", **pair
    )
    room.add_argument(
        "--far-metres", default=(2.0, 3.5), help="machine to far microphone, in m (default: 2 3.5)", **pair
    )
    for name, default, metavar, text in (
        ("--rt60", 0.3, "S", "reverberation time in s"),
        ("--incoherent", -10.0, "DB", "level of each microphone's own noise in dB"),
        ("--colour", 3.0, "DB", "deviation of the random frequency response of each clip and source in dB"),
    ):
        room.add_argument(name, type=float, default=default, metavar=metavar, help=f"{text} (default: %(default)g)")
    room.add_argument(
        "--sources", type=int, default=3, metavar="N", help="number of noise sources (default: %(default)s)"
    )


def _add_clip_arguments(clips: options.Group) -> None:
    options.add(clips, "--rate", "of the result", default=16000)
    options.add(clips, "--seed", default=0)
    for name, default, text in (
        ("--train-source", 990, "training clips of the source domain at most (default: %(default)s)"),
        ("--train-target", 10, "training clips of the target domain (default: %(default)s)"),
        ("--test", None, "test clips for each domain and label at most (default: as many of each label, up to 50)"),
    ):
        clips.add_argument(name, type=int, default=default, metavar="N", help=text)
    clips.add_argument(
        "--anonymous",
        nargs="+",
        default=(),
        metavar="NAME",
        help="machines whose test file names do not tell domain and label (default: none)",
    )


def main(args: argparse.Namespace) -> None:
    from system.corpora.simulation.emulate import EmulateSettings, emulate

    settings = EmulateSettings(
        seed=args.seed,
        snr_low=args.snr[0],
        snr_high=args.snr[1],
        rate=args.rate,
        rt60=args.rt60,
        near_metres=tuple(args.near_metres),
        far_metres=tuple(args.far_metres),
        sources=args.sources,
        incoherent_db=args.incoherent,
        colour_db=args.colour,
        train_source=args.train_source,
        train_target=args.train_target,
        test=args.test,
        anonymous=tuple(args.anonymous),
        noise_group=args.noise_group,
    )
    with progress_bar(0, "emulating") as bar:
        emulate(args.table, args.noise, args.out, settings, args.references, max(1, threads(args.workers)), bar.to)
    print(f"emulate: {args.out} is complete; emulate.json says what went into it", file=sys.stderr)
