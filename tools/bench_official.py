"""Benchmarks the encoders beside their authors' programs: same weights, same recordings, in turn.

Every round computes each recording of 10 s from samples to embedding by our program and by the authors', the one that
begins changing from round to round, and a matrix product of the size of the encoder's MLP. ``clip 1`` is one recording
by one thread, ``clip 2`` one recording by two threads, ``streams 2`` two recordings side by side by one thread each.
The ratios are medians of the authors' seconds divided by ours of the same round; shares are multiply-adds per CPU
second divided by those of the product. Random weights; the programs' embeddings are compared first.

The authors' programs are not part of this repository. DIR holds their repositories as they are cloned: FISHER
(github.com/jianganbai/FISHER), ECHO (github.com/yucongzh/ECHO), unilm (github.com/microsoft/unilm). Without --official
only our program is measured.

Usage: bench_official.py [--official DIR] [--encoders fisher-small beats-base echo-small] [--rate 16000] [--rounds 9]
                         [--ways "clip 1" "clip 2" "streams 2"] [--precision fp32] [--json OUT]
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from system.embeddings.precision import choose_precision, set_precision
from system.encoders import Encoder, family_class
from system.encoders.cost import multiply_adds
from system.encoders.linear import Linear
from system.record import run_record

SECONDS = 10
Embed = Callable[[Tensor], Tensor]  # (1, samples) to (D,)


@contextmanager
def program(folder: Path) -> Iterator[None]:
    """Imports within find the modules in a folder first, and leave none behind for the next program."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def official_fisher(root: Path, encoder: Encoder, rate: int) -> Embed:
    """The program of FISHER's read-me."""
    import torchaudio

    with program(root / "FISHER"):
        fisher = importlib.import_module("models.fisher")
    config = fisher.Data2VecMultiConfig()
    for name, value in asdict(encoder.config).items():
        for part in (config, config.modalities.image):
            if hasattr(part, name):
                setattr(part, name, value)
    model = fisher.FISHER(config).eval()
    model.load_state_dict(encoder.to_published(encoder.state_dict()))
    stft = torchaudio.transforms.Spectrogram(
        25 * rate // 1000, win_length=None, hop_length=10 * rate // 1000, power=1, center=False
    )

    def embed(wave: Tensor) -> Tensor:
        spectrogram = torch.log(torch.abs(stft(wave - wave.mean())) + 1e-10).transpose(-2, -1)
        spectrogram = (spectrogram + 3.017344307886898) / (2.1531635155379805 * 2)
        return model.extract_features(spectrogram[:, :1024].unsqueeze(1))[0]

    return embed


def official_echo(root: Path, encoder: Encoder, rate: int) -> Embed:
    """The authors' ``extract_features_from_audio``."""
    with program(root / "ECHO/models/ECHO"):
        echo = importlib.import_module("audioMAE_band_upgrade")
    own = encoder.config
    model = echo.AudioMAEWithBand(
        spec_len=own.frame_limit,
        embed_dim=own.embed_dim,
        encoder_depth=own.depth,
        num_heads=own.num_heads,
        freq_pos_emb_dim=own.embed_dim,
    ).eval()
    model.load_state_dict(encoder.to_published(encoder.state_dict()))
    return lambda wave: model.extract_features_from_audio(wave, rate)[0]


def official_beats(root: Path, encoder: Encoder, rate: int) -> Embed:
    """The authors' ``extract_features``, averaged."""
    with program(root / "unilm/beats"):
        beats = importlib.import_module("BEATs")
    own = encoder.config
    sizes = {
        "input_patch_size": own.patch_size,
        "embed_dim": own.patch_dim,
        "encoder_layers": own.depth,
        "encoder_embed_dim": own.embed_dim,
        "encoder_ffn_embed_dim": own.hidden_dim,
        "encoder_attention_heads": own.num_heads,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "deep_norm": True,
    }
    model = beats.BEATs(beats.BEATsConfig(sizes)).eval()
    model.load_state_dict(encoder.to_published(encoder.state_dict()))
    return lambda wave: model.extract_features(wave)[0].mean(1)[0]


OFFICIAL = {"FISHER": official_fisher, "ECHO": official_echo, "BEATs": official_beats}


def both_programs(name: str, rate: int, root: Path | None, precision: str) -> tuple[Encoder, dict[str, Embed]]:
    """Our encoder, and the programs by name: ours and, where its repository is there, the authors'."""
    family, _, size = name.partition("-")
    encoder = family_class(family).build(size, 0)
    embed: dict[str, Embed] = {}
    if root is not None:
        embed["official"] = OFFICIAL[encoder.family](root, encoder, rate)
    set_precision(encoder, choose_precision(precision, "cpu", encoder))
    return encoder, {"ours": lambda wave: encoder.embed(wave, rate)[0]} | embed


def seconds(embed: Callable[[Tensor], Any], waves: Tensor, way: str, repeats: int) -> tuple[float, float]:
    """CPU and wall seconds a recording; every recording (1, samples) of ``waves`` is computed ``repeats`` times."""
    kind, number = way.split()
    count = int(number)
    torch.set_num_threads(count if kind == "clip" else 1)

    @torch.inference_mode()
    def stream(wave: Tensor) -> None:
        for _ in range(repeats):
            embed(wave)

    own = list(waves[: count if kind == "streams" else 1].unsqueeze(1))
    cpu, wall = time.process_time(), time.perf_counter()
    if len(own) == 1:
        stream(own[0])
    else:
        with ThreadPoolExecutor(len(own)) as pool:
            list(pool.map(stream, own))
    done = repeats * len(own)
    torch.set_num_threads(1)
    return (time.process_time() - cpu) / done, (time.perf_counter() - wall) / done


def product(encoder: Encoder, rate: int) -> tuple[Callable[[Tensor], None], int]:
    """A function that multiplies about a thousand tokens by the matrices of an MLP, and its multiply-adds."""
    dim = encoder.dim
    rows, hidden, dtype = 1024, 4 * dim, encoder.dtype
    wide, narrow = Linear(dim, hidden, dtype=dtype), Linear(hidden, dim, dtype=dtype)
    x = torch.randn(rows, dim, dtype=dtype)
    times = max(1, int(2e9 / (2 * rows * dim * hidden)))

    def multiply(wave: Tensor) -> None:
        for _ in range(times):
            narrow(wide(x))

    return multiply, times * 2 * rows * dim * hidden


def measure(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each way."""
    rate = args.rate
    encoder, programs = both_programs(name, rate, args.official, args.precision)
    waves = 0.1 * torch.randn(2, SECONDS * rate, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = {which: embed(waves[:1]).float() for which, embed in programs.items()}
        macs = multiply_adds(
            encoder.embed_spectrogram, encoder.spectrogram(waves[:1], rate).to(encoder.dtype), "official", rate
        )
    multiply, product_macs = product(encoder, rate)
    for way in args.ways:
        spent: dict[str, list[tuple[float, float]]] = {which: [] for which in (*programs, "product")}
        for turn in range(args.rounds + 1):
            order = [*programs] if turn % 2 else [*programs][::-1]
            for which in (*order, "product"):
                function = multiply if which == "product" else programs[which]
                value = seconds(function, waves, way, args.repeats)
                if turn:  # the first round warms up
                    spent[which].append(value)
        row: dict[str, Any] = {"encoder": name, "rate": rate, "precision": args.precision, "way": way}
        for which in programs:
            cpu, wall = zip(*spent[which], strict=True)
            share = [macs / own * base / product_macs for own, (base, _) in zip(cpu, spent["product"], strict=True)]
            row[which] = {"cpu_s": _spread(cpu), "wall_s": _spread(wall), "share": _spread(share)}
        if "official" in programs:
            pairs = list(zip(spent["official"], spent["ours"], strict=True))
            row["ratio_cpu"] = _spread([theirs[0] / ours[0] for theirs, ours in pairs])
            row["ratio_wall"] = _spread([theirs[1] / ours[1] for theirs, ours in pairs])
            difference = (found["official"] - found["ours"]).abs().max() / found["official"].abs().max()
            row["largest_difference"] = float(f"{float(difference):.1e}")
        yield row


def _spread(values: Any) -> list[float]:
    """Median, least and greatest."""
    return [float(f"{value:.4g}") for value in (statistics.median(values), min(values), max(values))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, help="folder of the authors' repositories")
    parser.add_argument("--encoders", nargs="+", default=["fisher-small", "beats-base", "echo-small"])
    parser.add_argument("--rate", type=int, default=16000, help="Hz")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=2, help="recordings in a round, one after another")
    parser.add_argument("--ways", nargs="+", default=["clip 1", "clip 2", "streams 2"])
    parser.add_argument("--precision", default="fp32", help="of our program")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for name in args.encoders:
        for row in measure(name, args):
            rows.append(row)
            print(json.dumps(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, **run_record()}, indent=1))


if __name__ == "__main__":
    main()
