"""``wheeltapper doctor``: what runs here and what does not."""

import argparse
import json

from system import doctor
from system.bin import options
from system.files import open_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    checks = parser.add_argument_group("inputs")
    options.add(checks, "--exp", "whose disk is examined", default="exp")
    checks.add_argument("--quick", action="store_true", help="do not import the packages, which takes seconds")
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--json", "without FILE, json is printed", nargs="?", const="-", type=str)
    options.add_example(parser, "wheeltapper doctor --quick")


def main(args: argparse.Namespace) -> int:
    found = doctor.examine(args.exp, args.quick)
    text = json.dumps(found, indent=1)
    if args.json not in (None, "-"):
        with open_atomic(args.json) as file:
            file.write(f"{text}\n")
    print(text if args.json == "-" else doctor.render(found))
    return 1 if found["problems"] else 0
