"""How much frozen encoders tell by nearest neighbours: classes of labelled recordings, anomalies of machines."""

import argparse
from typing import TYPE_CHECKING

from system.bin import options
from system.errors import WheeltapperError
from system.machine import choose_device, one_thread_each

if TYPE_CHECKING:
    from system.benchmarks.probe import Probed

READOUTS = ("cls", "tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    options.add(
        inputs,
        "--data",
        "name and manifest of labelled recordings, may be repeated. Test clips with labels: official score of 1-NN and "
        "Mahalanobis on the near channel; classes in folds (the sections): 1-NN; classes alone: leave one file out",
        action="append",
        default=[],
        metavar="NAME=MANIFEST",
    )
    options.add_old(inputs, "--set", dest="data", action="append")
    model = parser.add_argument_group("model")
    options.add_encoder(model, nargs="+")
    options.add(model, "--exp", "the run whose pre-trained encoder is the default one")
    model.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="seeds of random weights (default: 0)"
    )
    model.add_argument(
        "--against",
        choices=(options.RANDOM,),
        help="measure the same network with random weights too, and the ratio",
    )
    model.add_argument(
        "--readout",
        nargs="+",
        choices=READOUTS,
        default=list(READOUTS),
        help="cls: the summary, in sub-band families the CLS of every band; tokens: mean of the others over time "
        "(default: both)",
    )
    model.add_argument("--baselines", action="store_true", help="measure statistics of log-mel and log spectrum too")
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--json")
    options.add_old(outputs, "--out", dest="json", type=options.SHARED["--json"].type)
    options.add(outputs, "--csv")
    computing = parser.add_argument_group("computing")
    options.add_device(computing)
    options.add_workers(computing)
    options.add_example(parser, "wheeltapper probe --data machines=exp/default/manifest.csv --json probe.json")


def main(args: argparse.Namespace) -> None:
    from system.benchmarks import probe
    from system.files import write_json

    device = choose_device(args.device)
    if args.workers < 0:
        raise WheeltapperError(f"--workers: expected 0 or more, found {args.workers}")
    data = {name: probe.read_data_set(path) for name, path in _named(args.data).items()}
    probed = [each._replace(encoder=each.encoder.to(device)) for each in _encoders(args)]
    found = probe.measure(probed, data, args.readout, args.baselines, one_thread_each(args.workers))
    print(probe.table(found, bool(args.against)))
    if args.json:
        write_json(args.json, probe.document(probed, data, found, bool(args.against)))
        print(f"wrote {args.json}")
    if args.csv:
        probe.write_csv(args.csv, found, bool(args.against))
        print(f"wrote {args.csv}")


def _named(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in found:
            raise WheeltapperError(f"--data: expected NAME=MANIFEST, each name once, found {text!r}")
        found[name] = path
    if not found:
        raise WheeltapperError("--data: expected NAME=MANIFEST at least once, found none")
    return found


def _encoders(args: argparse.Namespace) -> "list[Probed]":
    """The encoders to compare: those of --checkpoint, and with --against random ones of the same sizes."""
    from system.benchmarks import probe

    named = args.checkpoint or [None]
    if options.RANDOM in named:
        if len(named) > 1 or args.against:
            raise WheeltapperError("--checkpoint random: expected it alone; --against random stands beside files")
        made = [options.build_encoder(args, options.RANDOM, seed) for seed in args.seeds]
        return [probe.Probed(probe.RANDOM, f"seed {seed}", each) for seed, each in zip(args.seeds, made, strict=True)]
    trained = [probe.Probed(probe.TRAINED, name or args.encoder, options.build_encoder(args, name)) for name in named]
    probe.check_sizes(trained)
    return [*trained, *(probe.random_weights(trained[0].encoder, args.seeds) if args.against else [])]
