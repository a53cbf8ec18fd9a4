"""Pictures of SimAM: for each machine a normal and an anomalous clip as spectrogram, weights, and enhanced spectrogram.

For inspection afterwards: nothing is chosen by it, and the clips are the first of their kind. A machine without
labelled anomalies shows a normal clip only.

Usage: simam_pictures.py EXP OUT.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from system import audio, manifest
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import open_atomic, read_json
from system.frontends.simam import enhance, weights
from system.manifest import Clip
from system.pipeline import resources
from system.pipeline.settings import open_experiment

COLUMNS = ("spectrogram", "weights, global", "weights, local", "enhanced, global", "enhanced, local")
LEAST_WEIGHT = 1.0 / (1.0 + np.exp(-0.5))  # of a value like its surroundings


def choose_clips(clips: Sequence[Clip]) -> list[tuple[str, Clip]]:
    """("normal" or "anomaly", clip): for each machine the first test clip of each label; a machine without labelled
    ones shows its first training clip."""
    chosen = []
    for machine in manifest.machines(clips):
        own = [clip for clip in clips if clip.machine == machine]
        for label in ("normal", "anomaly"):
            found = [clip for clip in own if clip.split == "test" and clip.label == label]
            if label == "normal" and not found:
                found = [clip for clip in own if clip.split == "train"]
            chosen += [(label, found[0])] if found else []
    return chosen


def panels(encoder: Encoder, clip: Clip) -> list[np.ndarray]:
    """The near channel's pictures (T, F), one for each of COLUMNS."""
    wave, rate = audio.read(clip.path)
    spectrogram = encoder.spectrogram(torch.from_numpy(wave[:1]), rate)
    shown = [spectrogram, *(weights(spectrogram, kind) for kind in ("global", "local"))]
    shown += [enhance(spectrogram, kind) for kind in ("global", "local")]
    return [picture[0].numpy() for picture in shown]


def draw(encoder: Encoder, clips: Sequence[tuple[str, Clip]], kinds: dict[str, str], path: Path) -> None:
    """Draws the clips, one row each, and writes a PNG whole or not at all.

    Args:
        clips: as ``choose_clips`` gives them. kinds: SimAM by machine, where it is known. path: of the PNG.
    """
    figure = Figure(figsize=(16, 2.1 * len(clips) + 0.6))
    axes = figure.subplots(len(clips), len(COLUMNS), squeeze=False)
    for row, (label, clip) in zip(axes, clips, strict=True):
        pictures = panels(encoder, clip)
        low, high = (float(np.quantile(pictures[0], q)) for q in (0.005, 0.995))
        for number, (place, picture) in enumerate(zip(row, pictures, strict=True)):
            limits = {"vmin": LEAST_WEIGHT, "vmax": 1.0} if number in (1, 2) else {"vmin": low, "vmax": high}
            colours = "viridis" if number in (1, 2) else "magma"
            extent = (0.0, clip.seconds, 0.0, float(picture.shape[1]))
            place.imshow(picture.T, origin="lower", aspect="auto", cmap=colours, extent=extent, **limits)
            place.tick_params(labelsize=7)
        kind = f"\nSimAM {kinds[clip.machine]}" if clip.machine in kinds else ""
        row[0].set_ylabel(f"{clip.machine}, {label}{kind}\nfilter", fontsize=8)
    for place, title in zip(axes[0], COLUMNS, strict=True):
        place.set_title(title, fontsize=10)
    for place in axes[-1]:
        place.set_xlabel("s", fontsize=8)
    figure.tight_layout()
    with open_atomic(path, "wb") as file:
        figure.savefig(file, format="png", dpi=80)


def plain_encoder(run: Experiment) -> Encoder:
    """The first branch's encoder without SimAM."""
    encoder = resources.base_encoder(run, next(iter(run.config.branches)))
    return encoder.set_front_end(encoder.filterbank, "none")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of what SimAM does to each machine's recordings.")
    parser.add_argument("exp", type=Path, metavar="EXP", help="experiment folder of a run")
    parser.add_argument("out", type=Path, metavar="PNG")
    args = parser.parse_args()
    try:
        run = open_experiment(args.exp, None, [])
        clips = choose_clips(manifest.read(run.manifest))
        card = run.card(next(iter(run.config.branches)))
        choices = read_json(card)["simam_choices"] if card.is_file() else {}
        draw(plain_encoder(run), clips, {m: choice["kind"] for m, choice in choices.items()}, args.out)
    except WheeltapperError as error:
        parser.exit(1, f"simam_pictures: {error}\n")
    print(f"wrote {args.out}: {len(clips)} clips")


if __name__ == "__main__":
    main()
