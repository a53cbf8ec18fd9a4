"""Independent implementation of ECHO: one recording, band after band, torch's own transformer, double precision."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders.echo import Echo, EchoConfig

TOY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


def toy(seed: int = 0, **sizes) -> Echo:
    return Echo.untrained(EchoConfig(**(TOY | sizes)), seed).requires_grad_(False)


def noise(seconds: float, rate: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, round(seconds * rate), generator=generator) + 0.02


def relative(found: Tensor, expected) -> float:
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def plain(encoder: Echo, wave: Tensor, rate: int, eps: float = 1e-5, depth: int | None = None) -> tuple[Tensor, Tensor]:
    """One recording (samples,) of one chunk, band after band, with torch's own transformer in double precision:
    CLS (bands, D) and patches (bands, N, D)."""
    config = encoder.config
    state = {name: tensor.double() for name, tensor in encoder.to_published(encoder.state_dict()).items()}
    layer = nn.TransformerEncoderLayer(
        config.embed_dim,
        config.num_heads,
        int(config.embed_dim * config.mlp_ratio),
        activation="gelu",
        batch_first=True,
        layer_norm_eps=1e-6,
    )
    network = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False).double().eval()
    prefix = "encoder."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    network.layers = network.layers[:depth]
    window, hop = int(0.025 * rate), int(0.01 * rate)
    wave = (wave - wave.mean()).double()
    frames = wave.unfold(0, window, hop) * torch.hann_window(window, dtype=torch.float64)
    spectrum = ((torch.fft.rfft(frames).abs() + 1e-9).log().T + 5.874158) / (5.223174 * 2)
    stride, size = config.patch_stride, state["patch_embed.proj.weight"].shape[-1]
    length = max(size, math.ceil(spectrum.shape[1] / stride) * stride)
    spectrum = F.pad(spectrum, (0, length - spectrum.shape[1]))
    summaries, grids = [], []
    for start in range(0, len(spectrum), 32):
        band = spectrum[start : start + 32]
        position = (start + start + len(band) - 1) / 2 * rate / window / (rate / 2)
        band = torch.cat([torch.zeros(32 - len(band), length), band])
        patches = F.conv2d(band[None, None], state["patch_embed.proj.weight"], None, (32, stride))[0, :, 0].T
        patches = patches + state["patch_embed.proj.bias"] + state["pos_embed"][0, 1 : 1 + len(patches)]
        code = torch.empty(config.embed_dim, dtype=torch.float64)
        for i in range(config.embed_dim // 2):
            angle = 25 * position * math.exp(-math.log(10000.0) * 2 * i / config.embed_dim)
            code[2 * i], code[2 * i + 1] = math.sin(angle), math.cos(angle)
        tokens = network((torch.cat([state["cls_token"][0], patches]) + code)[None])[0]
        if depth is None:
            tokens = F.layer_norm(tokens, tokens.shape[-1:], state["norm.weight"], state["norm.bias"], eps)
        summaries.append(tokens[0])
        grids.append(tokens[1:])
    return torch.stack(summaries), torch.stack(grids)
