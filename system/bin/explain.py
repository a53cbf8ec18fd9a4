"""What networks looked at: the page of a study, or attention and Grad-CAM of any encoder over any recordings."""

import argparse

from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.machine import choose_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    study = parser.add_argument_group("inputs: a study")
    options.add(study, "--exp", "of wheeltapper study")
    study.add_argument("--scope", default="", metavar="NAME", help="one scope of it (default: all)")
    recordings = parser.add_argument_group("inputs: recordings, instead of a study")
    options.add(
        recordings, "--audio", "a sound file, may be repeated; its first channel is used", action="append", type=str
    )
    model = parser.add_argument_group("model, for recordings")
    options.add_encoder(model)
    options.add(model, "--seed", "of untrained weights", default=0)
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "page", required=True, metavar="PAGE.html")
    only_with(study, "exp", "--exp DIR")
    only_with(model, "audio", "--audio FILE")
    options.add_device(parser.add_argument_group("computing"))
    recording = "exp/default/data/SimFan/test/section_00_source_test_anomaly_0000_spd_1.wav"
    options.add_example(parser, f"wheeltapper explain --audio {recording} --out page.html")


def main(args: argparse.Namespace) -> None:
    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    if bool(args.exp) == bool(args.audio):
        raise WheeltapperError("expected --exp DIR of a study, or --audio FILE ... and an --encoder")
    device = choose_device(args.device)
    if args.exp:
        from system.study.page import write_study_page

        write_study_page(args.exp, args.scope, args.out, device)
    else:
        from system.report.explained import write_explanation

        encoder = options.build_encoder(args, args.checkpoint, args.seed).requires_grad_(False).to(device)
        weights = (
            f"random, seed {args.seed}" if args.checkpoint == options.RANDOM else args.checkpoint or options.DEFAULT
        )
        write_explanation(args.out, encoder, weights, args.audio)
    print(f"wrote {args.out}")
