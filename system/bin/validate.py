"""``wheeltapper validate``: checks a submission package and lists everything that is wrong or odd."""

import argparse
import sys
from pathlib import Path

from system.bin import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.challenge import first_shot_years

    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("package", metavar="PACKAGE", help="the zip, or the folder that holds task2/")
    options.add(inputs, "--audio", "folder with <machine>/test/*.wav, the clips to expect", metavar="DIR", type=str)
    options.add(inputs, "--year", "whose rules count (default: by the machines)", choices=first_shot_years())
    options.add(parser.add_argument_group("outputs"), "--json", type=str)
    options.add_example(
        parser,
        "wheeltapper validate exp/default/Wheeltapper_Demo_task2.zip --json findings.json",
        note="Exit status: 0 valid (warnings allowed), 1 invalid.",
    )


def main(args: argparse.Namespace) -> int:
    """Prints one line per finding and a summary; returns 0 where there is no error."""
    from submission.validate import ERROR, validate

    findings = validate(args.package, audio_dir=args.audio, year=args.year)
    errors = sum(found.level == ERROR for found in findings)
    warnings = len(findings) - errors
    for found in findings:
        _print(str(found))
    verdict = "invalid" if errors else "valid"
    _print(f"{args.package}: {verdict}, {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if args.json:
        from system.files import write_json

        write_json(
            Path(args.json),
            {
                "package": str(args.package),
                "valid": not errors,
                "errors": errors,
                "warnings": warnings,
                "findings": [
                    {"level": found.level, "path": found.where, "line": found.line, "message": found.message}
                    for found in findings
                ],
            },
        )
    return 1 if errors else 0


def _print(text: str) -> None:
    """A package can hold names that the terminal's encoding cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
