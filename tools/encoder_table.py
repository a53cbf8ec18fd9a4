"""Writes the table of encoders in docs/encoders.md; every figure is computed or measured.

Parity: largest difference from a reference value divided by the largest reference value, for small random networks; the
references come from the official code (tests/fixtures), transformers for AST, timm for ResNeXt and torchvision for
EfficientAT, the latter two on our spectrogram. Multiply-adds and
speed: recordings of 10 s, from the wav file to the embedding, random weights, one recording per core at once.

Usage: encoder_table.py [--no-speed] [--write docs/encoders.md]   (prints the table; --write inserts it into the file)
"""

import argparse
import ast as python_ast
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from bench_encoders import clips_per_second, cost, write_recordings

from system.embeddings.embed import embed_files
from system.encoders import FAMILIES, Encoder, cards, family_class
from system.files import open_atomic
from system.machine import threads

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
MARKERS = ("<!-- encoders -->\n", "<!-- /encoders -->\n")
# Card, and the list of the published tensor names and shapes where there is one.
ROWS = {
    "fisher-tiny": "fisher_tiny",
    "fisher-mini": "fisher_mini",
    "fisher-small": "fisher_small",
    "echo-tiny": "echo_tiny",
    "echo-small": "echo_small",
    "beats-iter3": "beats_iter3",
    "eat-base-epoch30-pretrain": "eat_base_student_with_decoder",
    "eat-large-epoch20-pretrain": None,
    "audiomae-as2m": "audiomae_timm_vit_b16_1024x128_avgpool",
    "ast-audioset-10-10-0.4593": "ast_hf",
    "resnext101-32x8d": "resnext101_32x8d_timm",
    "mn04": "mn04_as",
    "mn10": None,
    "mn40": None,
}
# The reference values of BEATs were made with an input that is normalised twice, which the authors' code does not do.
REFERENCE_MODES = {"beats": "twice"}
FILES = {"fisher": "fisher.pt", "echo": "echo.pth", "beats": "beats.pt", "eat": "eat.pt", "audiomae": "audiomae.pth"}


def parity(family: str) -> float:
    """Largest relative difference from the family's reference."""
    worst = 0.0
    for encoder, wave, rate, expected in _references(family):
        with torch.inference_mode():
            found = encoder.embed(wave, rate, REFERENCE_MODES.get(family, "official"))[0].numpy()
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return worst


def _references(family: str):
    if family in FILES:
        folder = FIXTURES / "encoders" / family
        encoder = family_class(family).load(folder / FILES[family])
        cases = np.load(folder / f"{family}_cases.npz")
        for number in range(sum(name.endswith(".wav") for name in cases.files)):
            wave, rate = torch.from_numpy(cases[f"case{number}.wav"])[None], int(cases[f"case{number}.sr"])
            yield encoder, wave, rate, cases[f"case{number}.embedding"]
        return
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(1, 160000, generator=generator)
    encoder = family_class(family).build("nano", 0)
    reference = {"ast": _transformers_ast, "cnn": _timm_resnext, "mn": _torchvision_mobilenet}[family]
    yield encoder, wave, 16000, reference(encoder, wave)


def _transformers_ast(encoder: Encoder, wave: torch.Tensor) -> np.ndarray:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    sizes = encoder.config
    model = ASTModel(
        ASTConfig(
            hidden_size=sizes.embed_dim,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.num_heads,
            intermediate_size=int(sizes.embed_dim * sizes.mlp_ratio),
        )
    ).eval()
    with tempfile.TemporaryDirectory() as folder:  # their file, read by our loader
        model.save_pretrained(folder)
        encoder.load_state_dict(type(encoder).load(Path(folder) / "model.safetensors").state_dict())
    values = ASTFeatureExtractor()(wave[0].numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        return model(values).pooler_output[0].numpy()


def _timm_resnext(encoder: Encoder, wave: torch.Tensor) -> np.ndarray:
    from timm.models.resnet import Bottleneck, ResNet

    sizes = encoder.config
    model = ResNet(
        Bottleneck,
        layers=sizes.layers,
        cardinality=sizes.cardinality,
        base_width=sizes.base_width,
        channels=tuple(sizes.planes << stage for stage in range(4)),
        num_classes=0,
    )
    model.load_state_dict(encoder.to_published(encoder.state_dict()))
    spectrogram = encoder.spectrogram(wave, 16000)[:, : encoder.frame_limit]
    with torch.inference_mode():
        return model.eval()(spectrogram.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1))[0].numpy()


def _torchvision_mobilenet(encoder: Encoder, wave: torch.Tensor) -> np.ndarray:
    from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
    from torchvision.ops import SqueezeExcitation

    settings, last = _mobilenet_v3_conf("mobilenet_v3_large", width_mult=encoder.config.width)
    network = MobileNetV3(settings, last, norm_layer=partial(torch.nn.BatchNorm2d, eps=1e-3)).features
    network[0][0] = torch.nn.Conv2d(1, network[0][0].out_channels, 3, 2, 1, bias=False)
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = torch.nn.Sigmoid()
    tensors = encoder.to_published(encoder.state_dict())
    named = {name.replace(".conc_se_layers.0", "").removeprefix("features."): t for name, t in tensors.items()}
    shapes = network.state_dict()
    network.load_state_dict({name: tensor.reshape(shapes[name].shape) for name, tensor in named.items()})
    spectrogram = encoder.spectrogram(wave, 16000)
    with torch.inference_mode():
        return network.eval()(spectrogram.transpose(1, 2).unsqueeze(1)).mean((2, 3))[0].numpy()


def layout(encoder: Encoder, keys: str | None) -> str:
    """Tensors of the published layout that agree in name and shape, out of those that our network has."""
    if keys is None:
        return "as above"
    lines = (FIXTURES / "keys" / f"{keys}.txt").read_text().splitlines()
    listed = {}
    for line in lines:
        if not line.startswith("#"):
            name, shape = line.split("\t")[:2]
            listed[name] = tuple(python_ast.literal_eval(shape))
    own = {name: tuple(tensor.shape) for name, tensor in encoder.to_published(encoder.state_dict()).items()}
    agreed = sum(listed.get(name) == shape for name, shape in own.items())
    left_out = sum(name not in own for name in listed)
    return f"{agreed} of {len(own)} tensors" + (f" ({left_out} left out)" if left_out else "")


def speed(encoder: Encoder, rate: int, seconds: float, rounds: int) -> float:
    """Median recordings per second, files and front end included."""
    workers = threads()
    with tempfile.TemporaryDirectory() as folder:
        count = 2 * workers
        paths = write_recordings(Path(folder), rate, count)
        run = lambda: embed_files(encoder, paths, workers=workers)  # noqa: E731
        first = clips_per_second(run, count)
        if count / first > seconds:
            rounds = 1
        return statistics.median(clips_per_second(run, count) for _ in range(rounds))


def row(name: str, keys: str | None, with_speed: bool, parities: dict[str, float]) -> str:
    card = cards.CARDS[name]
    kind = family_class(card.family)
    encoder = kind.build(card.size, 0)
    parameters = sum(p.numel() for p in encoder.parameters())
    if parameters != card.parameters:
        raise SystemExit(f"{name}: the card says {card.parameters} parameters, the network has {parameters}")
    if card.family not in parities:
        parities[card.family] = parity(card.family)
    macs = [cost(encoder, rate) / 1e9 for rate in (16000, 48000)]
    speeds = [speed(encoder, rate, 10.0, 5) for rate in (16000, 48000)] if with_speed else [float("nan")] * 2
    cells = [
        f"{encoder.family} {card.size}",
        f"`{name}`",
        layout(encoder, keys),
        f"{parities[card.family]:.0e}",
        f"{parameters / 1e6:.2f} M",
        " / ".join(f"{value:.1f} G" for value in macs),
        " / ".join(f"{value:.2g}" for value in speeds),
        card.licence or "not stated",
    ]
    return f"| {' | '.join(cells)} |"


def modes() -> list[str]:
    """Lines of the table of modes."""
    lines = ["| family | `--mode` | who makes embeddings so |", "|---|---|---|"]
    for name in FAMILIES:
        kind = family_class(name)
        lines += [f"| {kind.family} | `{mode}` | {value.used_by} |" for mode, value in kind.modes.items()]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-speed", action="store_true", help="leave the slow measurements out")
    parser.add_argument("--write", type=Path, help="file with the markers <!-- encoders --> and <!-- /encoders -->")
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = ["encoder", "checkpoint", "official layout", "parity", "parameters", "multiply-adds per 10 s, 16 / 48 kHz"]
    head += ["clips of 10 s per second, 16 / 48 kHz", "licence of the weights"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    parities: dict[str, float] = {}
    for name, keys in ROWS.items():
        lines.append(row(name, keys, not args.no_speed, parities))
        print(lines[-1], flush=True)
    lines += ["", *modes()]
    if args.write:
        text = args.write.read_text(encoding="utf-8")
        before, rest = text.split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        with open_atomic(args.write) as file:
            file.write(before + MARKERS[0] + "\n".join(lines) + "\n" + MARKERS[1] + after)


if __name__ == "__main__":
    main()
