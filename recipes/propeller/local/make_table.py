"""Writes the table for ``wheeltapper emulate`` from the manifest of the UAV propeller recordings.

The machines are the two directions of rotation, cw and ccw; the source domain is square flights, the target domain
figure-eight flights. Anomalies have one or two broken propellers; recordings with more are left out, because they are
easy to detect. All pieces of one flight form a group.

Usage: make_table.py MANIFEST OUT
"""

import argparse
import csv
from pathlib import Path

from system.corpora.folder import write_rows
from system.errors import WheeltapperError

COLUMNS = ("file", "machine", "label", "domain", "group", "attributes", "fault")
NEEDED = ("file", "label", "n_broken", "propellers", "direction", "mission", "recording")
DOMAINS = {"square": "source", "f8": "target"}
MOST_BROKEN = 2


def table_rows(manifest: Path) -> list[tuple[str, ...]]:
    """Rows of COLUMNS for the recordings that serve, files as absolute paths.

    Raises WheeltapperError where the manifest is missing, lacks a column, or has another mission or no usable row.
    """
    if not manifest.is_file():
        raise WheeltapperError(f"{manifest}: expected the propeller set's manifest.csv, found nothing")
    with open(manifest, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or [])]
        if missing:
            raise WheeltapperError(f"{manifest}: line 1: expected the columns {','.join(NEEDED)}, missing {missing[0]}")
        rows = []
        for row in reader:
            if row["mission"] not in DOMAINS:
                raise WheeltapperError(
                    f"{manifest}: line {reader.line_num}: mission: expected square or f8, found {row['mission']!r}"
                )
            broken = int(row["n_broken"])
            if broken > MOST_BROKEN:
                continue
            flight = f"rec{row['recording']}_{row['direction']}_{row['mission']}_{row['propellers']}"
            path = str((manifest.parent / row["file"]).resolve())
            fault = f"broken{broken}" if broken else ""
            rows.append((path, row["direction"], row["label"], DOMAINS[row["mission"]], flight, "", fault))
    if not rows:
        raise WheeltapperError(f"{manifest}: expected recordings, found none")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Table for wheeltapper emulate from the propeller set's manifest.")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest.csv of the propeller recordings")
    parser.add_argument("out", type=Path, metavar="OUT", help="table to write")
    args = parser.parse_args()
    try:
        rows = table_rows(args.manifest)
    except WheeltapperError as error:
        parser.exit(1, f"make_table: {error}\n")
    write_rows(args.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
