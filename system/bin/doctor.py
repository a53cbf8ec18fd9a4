"""``wheeltapper doctor``: what runs here and what does not."""

import argparse
import json

from system import doctor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="do not try the packages, which takes seconds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--exp", default="exp", help="folder whose disk is looked at (default %(default)s)")


def main(args: argparse.Namespace) -> int:
    found = doctor.examine(args.exp, args.quick)
    print(json.dumps(found, indent=1) if args.json else doctor.render(found))
    return 1 if found["problems"] else 0
