"""A folder in DCASE layout to a checked manifest.csv. With --exp: stage 0, whatever --data names."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from system.bin import common
from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.experiment import Experiment
    from system.manifest import Clip

HEADER = ("machine", "phase", "sections", "train", "source", "target", "test", "normal", "anomaly", "extra", "seconds")


SYNTHETIC = "synthetic"
CHALLENGE = "dcase"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="holds <machine>/{train,test}/*.wav")
    parser.add_argument("--out", type=Path, metavar="CSV", help="manifest to write")
    parser.add_argument("--corpus", default="", metavar="NAME", help="name of the corpus (default: dcase)")
    common.add_experiment_arguments(parser, required=False)
    parser.add_argument("--data", default=SYNTHETIC, help="with --exp: synthetic | dcase<year> | DIR")


def main(args: argparse.Namespace) -> None:
    if args.exp:
        with common.experiment(args) as run:
            return _stage(run, args.data)
    if args.folder is None or args.out is None:
        raise WheeltapperError("expected DIR --out CSV, or --exp EXP --data DATA (stage of a recipe)")
    clips = prepare(args.folder, args.corpus or "dcase")
    _write(args.out, clips)


def _write(path: Path, clips: "list[Clip]") -> None:
    from system import manifest

    manifest.write(path, clips)
    print(summary(clips))
    print(f"wrote {path}: {len(clips)} clips")


def _stage(run: "Experiment", data: str) -> None:
    folder = _folder(run, data)
    settings = {"data": data if data == SYNTHETIC else str(folder.resolve()), "corpus": run.config.data.corpus}
    if data == SYNTHETIC:
        settings |= {"synthetic": run.config.data.synthetic, "seed": run.config.seed}
    elif not data.startswith(CHALLENGE) and not folder.is_dir():
        raise WheeltapperError(f"--data {data}: expected synthetic, dcase<year> or a folder, found no such folder")
    stage = run.stage("data", settings, [], owns=["manifest.csv", "data"], watched=folder)
    common.run_stage(stage, lambda: _work(run, data, folder))


def _folder(run: "Experiment", data: str) -> Path:
    """Where the recordings are, or will be."""
    if data == SYNTHETIC:
        return run.folder / "data"
    if data.startswith(CHALLENGE) and data[len(CHALLENGE) :].isdigit():
        return Path(run.config.data.folder) / data
    return Path(data)


def _work(run: "Experiment", data: str, folder: Path) -> Iterable[Path]:
    corpus = run.config.data.corpus or Path(data).name
    if data == SYNTHETIC:
        from system.corpora.synthetic import SyntheticSettings, synthesize

        settings = SyntheticSettings.of_size(run.config.data.synthetic)
        with common.progress_bar(0, "simulating") as bar:
            synthesize(folder, settings, run.config.seed, workers=2, progress=bar.to)
    elif _folder(run, data) != Path(data):
        from system.corpora.download import download_dcase

        year = int(data[len(CHALLENGE) :])
        with common.progress_bar(0, "downloading") as bar:
            found = download_dcase(
                year,
                folder,
                progress=lambda name, done, total: bar.to(done, total),
                say=lambda text: print(text, file=sys.stderr),
            )
        if len(found) != 1:
            raise WheeltapperError(
                f"--data {data}: development and evaluation share machine names in {year}; the recordings lie in "
                f"{', '.join(map(str, found))}: give one of them as --data"
            )
        folder = found[0]
    _write(run.manifest, prepare(folder, corpus))
    return [run.manifest]


def prepare(folder: Path, corpus: str = "dcase") -> "list[Clip]":
    """prepare_dcase with a progress bar (on a terminal only)."""
    from tqdm import tqdm

    from system.corpora.dcase import prepare_dcase

    with tqdm(desc="reading", unit="clip", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return prepare_dcase(folder, corpus, progress=progress)


def summary(clips: "list[Clip]") -> str:
    """A table, one line per machine: phase, clips per split and domain, clip length in s, channels, rate in Hz."""
    from system import manifest

    development = manifest.is_development(clips)
    rows = [(*HEADER, "channels", "rate")]
    for machine in manifest.machines(clips):
        own = [clip for clip in clips if clip.machine == machine]
        train = [clip for clip in own if clip.split == "train"]
        test = [clip for clip in own if clip.split == "test"]
        shortest, longest = min(clip.seconds for clip in own), max(clip.seconds for clip in own)
        rows.append(
            (
                machine,
                ("dev" if development[machine] else "eval") if test else "train",
                ",".join(sorted({clip.section for clip in own})),
                len(train),
                sum(clip.domain == "source" for clip in train),
                sum(clip.domain == "target" for clip in train),
                len(test),
                sum(clip.label == "normal" for clip in test),
                sum(clip.label == "anomaly" for clip in test),
                len(own) - len(train) - len(test),
                f"{shortest:.4g}" if shortest == longest else f"{shortest:.4g}-{longest:.4g}",
                own[0].channels,
                own[0].rate,
            )
        )
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)
