"""``wheeltapper emulate TABLE NOISE_DIR OUT``: a two-channel set from anybody's recordings."""

import argparse
import sys

from system.machine import threads
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("table", metavar="TABLE", help="CSV with the columns file,machine,label,domain,group[,attributes][,fault]")
    add("noise", metavar="NOISE_DIR", help="folder of noise recordings: wav, flac or ogg, at any depth")
    add("out", metavar="OUT", help="folder to write; refused where it holds anything else")
    add("--seed", type=int, default=0, help="of everything random (default 0)")
    add("--snr", nargs=2, type=float, default=(-20.0, -12.0), metavar=("LO", "HI"), help="near SNR in dB (-20 -12)")
    add("--rate", type=int, default=16000, help="sampling rate of the result in Hz (default 16000)")
    add("--rt60", type=float, default=0.3, help="reverberation time in seconds (default 0.3)")
    add(
        "--near-metres",
        nargs=2,
        type=float,
        default=(0.25, 0.45),
        metavar=("LO", "HI"),
        help="machine to near microphone",
    )
    add("--far-metres", nargs=2, type=float, default=(2.0, 3.5), metavar=("LO", "HI"), help="machine to far microphone")
    add("--sources", type=int, default=3, help="noise sources in the room (default 3)")
    add("--incoherent", type=float, default=-10.0, metavar="DB", help="each microphone's own noise (default -10 dB)")
    add("--colour", type=float, default=3.0, metavar="DB", help="random response of each clip and source (default 3)")
    add("--train-source", type=int, default=990, metavar="N", help="source training clips at most (default 990)")
    add("--train-target", type=int, default=10, metavar="N", help="target training clips (default 10)")
    add("--test", type=int, metavar="N", help="test clips per domain and label at most (default: balanced, up to 50)")
    add("--anonymous", nargs="+", default=(), metavar="MACHINE", help="machines whose test names say nothing")
    add("--noise-group", default="", metavar="REGEX", help="noise files that agree in its match stay on one side")
    add("--references", metavar="DIR", help="also write clean/ and near/ there, for oracle experiments")
    add("--workers", type=int, default=min(4, threads()), help="threads; the result does not depend on it")


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
        emulate(args.table, args.noise, args.out, settings, args.references, max(1, args.workers), bar.to)
    print(f"emulate: {args.out} is complete; emulate.json says what went into it", file=sys.stderr)
