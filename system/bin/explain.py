"""What networks looked at: the page of a study, or attention and Grad-CAM of any encoder over any recordings."""

import argparse
from pathlib import Path

from system.bin import encoder_options
from system.errors import WheeltapperError
from system.machine import check_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    study = parser.add_argument_group("the figures of a study")
    study.add_argument("--exp", metavar="EXP", help="folder of wheeltapper study")
    study.add_argument("--scope", default="", metavar="NAME", help="one scope of it (default: all)")
    direct = parser.add_argument_group("an encoder over recordings, instead of --exp")
    direct.add_argument("--encoder", default=encoder_options.DEFAULT, help=encoder_options.ENCODER_HELP)
    direct.add_argument("--checkpoint", metavar="FILE", help=encoder_options.CHECKPOINT_HELP)
    direct.add_argument(
        "--audio", action="append", metavar="FILE", help="a recording, may be repeated; channel 0 is heard"
    )
    direct.add_argument("--seed", type=int, default=0, help="of random weights (default: 0)")
    encoder_options.add_front_end_arguments(direct)


def main(args: argparse.Namespace) -> None:
    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    if bool(args.exp) == bool(args.audio):
        raise WheeltapperError("expected --exp EXP of a study, or --audio FILE ... and an --encoder")
    check_device(args.device)
    if args.exp:
        from system.study.page import write_study_page

        write_study_page(args.exp, args.scope, args.out, args.device)
    else:
        from system.report.explained import write_explanation

        encoder = encoder_options.build_encoder(args, args.checkpoint, args.seed).requires_grad_(False).to(args.device)
        weights = (
            f"random, seed {args.seed}"
            if args.checkpoint == encoder_options.RANDOM
            else args.checkpoint or encoder_options.DEFAULT
        )
        write_explanation(args.out, encoder, weights, args.audio)
    print(f"wrote {args.out}")
