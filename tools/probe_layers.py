"""Official score of each layer of a frozen encoder on a labelled manifest.

Near channel, no adaptation: Mahalanobis (domain banks, standardised) and 1-NN cosine on time means, from the mean log
spectrum through the patch embeddings to the tokens and the CLS token of every block.

Usage: probe_layers.py MANIFEST ENCODER.safetensors
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from system import audio, manifest
from system.benchmarks.labelled import OVERALL, SCORERS, official
from system.encoders.fisher import Fisher
from system.machine import threads


@torch.inference_mode()
def layers(encoder: Fisher, path: str) -> dict[str, np.ndarray]:
    """Time means of one recording's near channel at every depth, each a vector."""
    wave, rate = audio.read(path)
    spectrogram = encoder.spectrogram(torch.from_numpy(wave[:1]), rate)
    found = {"log spectrum": spectrogram[0].mean(0).numpy()}
    patches = encoder.embed_patches(encoder.split_bands(spectrogram))
    found["patches"] = patches.unflatten(1, (-1, encoder.patches_per_band)).mean(1).flatten().numpy()
    for depth in range(1, len(encoder.blocks) + 1):
        tokens = encoder(spectrogram, depth)
        found[f"block {depth} tokens"] = tokens.grid[0].mean(0).flatten().numpy()
        found[f"block {depth} CLS"] = tokens.summary.flatten().numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Official score per layer of a frozen encoder.")
    parser.add_argument("manifest")
    parser.add_argument("encoder")
    args = parser.parse_args()
    clips = manifest.read(args.manifest)
    development = manifest.is_development(clips)
    clips = [clip for clip in clips if development[clip.machine] and clip.split in ("train", "test")]
    torch.set_num_threads(1)
    trained = Fisher.load(args.encoder)
    for label, encoder in (("pre-trained", trained), ("untrained", Fisher.untrained(trained.config, 0))):
        with ThreadPoolExecutor(threads()) as pool:
            rows = list(pool.map(lambda clip, encoder=encoder: layers(encoder, clip.path), clips))
        for layer in rows[0]:
            vectors = np.stack([row[layer] for row in rows])
            figures = (f"{name} {official(clips, vectors, *how)[OVERALL]:.2f}" for name, how in SCORERS.items())
            print(f"{label}, {layer} ({vectors.shape[1]}): {', '.join(figures)}", flush=True)


if __name__ == "__main__":
    main()
