"""What every encoder must do, whoever wrote it; one of the list is a stranger with the documented members alone."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from system.adaptation.lora import add_lora
from system.adaptation.model import AdaptedEncoder
from system.benchmarks import embedders
from system.config import EncoderBranchConfig, EncoderConfig, LoraConfig
from system.encoders import FAMILIES, family_class, load_encoder
from system.encoders.base import Encoder, Mode, Tokens
from system.errors import WheeltapperError
from system.frontends.logmel import BANDS, mel_decibels

RATE = 16000  # of the recordings here


@dataclass(frozen=True)
class StrangerConfig:
    embed_dim: int  # without a default
    hidden: int | None
    patch_size: int = 8
    target_length: int = 64
    depth: int = 1
    stride: int | None = 4  # whose None is not its default
    dropout: float = 0.0
    biased: bool = False


class Stranger(Encoder):
    family = "Stranger"
    rate = 8000
    modes = {"official": Mode("its author", "split")}
    lora_targets = ("fc",)
    SIZES = {"nano": StrangerConfig(6, 5, stride=None), "plain": StrangerConfig(7, None)}

    def __init__(self, config: StrangerConfig):
        super().__init__(config)
        width = config.hidden or config.embed_dim
        self.fc = nn.Linear(config.patch_size * BANDS // 2, width, bias=config.biased)
        self.out = nn.Linear(width, config.embed_dim)

    def grid_bands(self, rate: int) -> int:
        return 2

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        return (mel_decibels(wave, rate) + 40.0) / 40.0

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        size = self.config.patch_size
        x = spectrogram[:, : spectrogram.shape[1] // size * size].unflatten(1, (-1, size)).unflatten(3, (2, -1))
        x = self.out(self.fc(x.transpose(2, 3).flatten(3)).tanh())
        return Tokens(x, x.mean((1, 2)).unsqueeze(1))

    @classmethod
    def published(cls, loaded, settings, path):
        raise WheeltapperError(f"{path}: expected a file that Stranger.save wrote")


@pytest.fixture(params=[*FAMILIES, "stranger"])
def name(request, monkeypatch) -> str:
    monkeypatch.setitem(FAMILIES, "stranger", Stranger)
    return request.param


@pytest.fixture
def encoder(name) -> Encoder:
    return load_encoder(EncoderConfig(family=name, size="nano"), seed=3)


def waves(count: int = 2, seconds: float = 1.0) -> Tensor:
    return 0.1 * torch.randn(count, round(seconds * RATE), generator=torch.Generator().manual_seed(0))


def test_tokens(encoder):
    rate = encoder.rate or RATE
    spectrogram = encoder.spectrogram(waves(), RATE)
    with torch.inference_mode():
        tokens = encoder(spectrogram)
        alone = [encoder(spectrogram[i : i + 1]) for i in range(2)]
    assert tokens.grid.shape[2:] == (encoder.grid_bands(rate), encoder.dim)
    assert tokens.summary.shape[::2] == (2, encoder.dim)
    assert all(torch.isfinite(part).all() for part in tokens)
    torch.testing.assert_close(torch.cat([one.grid for one in alone]), tokens.grid, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([one.summary for one in alone]), tokens.summary, rtol=1e-4, atol=1e-5)
    for mode in encoder.modes:
        assert torch.isfinite(encoder.embed(waves(1), RATE, mode)).all()


def test_what_is_saved_is_loaded(name, encoder, tmp_path):
    path = tmp_path / "weights.safetensors"
    for size in ("nano", "plain") if name == "stranger" else ("nano",):
        first = family_class(name).build(size, seed=1)
        first.save(path)
        again = load_encoder(EncoderConfig(family=name, size=size, checkpoint=str(path)), seed=2)
        assert (type(again), again.config) == (type(first), first.config)
        torch.testing.assert_close(again.embed(waves(1), RATE), first.embed(waves(1), RATE), rtol=0.0, atol=0.0)
    other = load_encoder(EncoderConfig(family=name, size="nano"), seed=2)
    assert not torch.equal(other.embed(waves(1), RATE), encoder.embed(waves(1), RATE))


def test_adapters(encoder):
    with torch.no_grad():
        before = encoder(encoder.spectrogram(waves(), RATE)).grid
    targets = encoder.lora_targets
    add_lora(encoder, LoraConfig(rank=2))
    trained = [parameter for parameter, tensor in encoder.named_parameters() if tensor.requires_grad]
    assert all(any(f"{target}.lora_A" in parameter for parameter in trained) for target in targets)
    assert all("lora_" in parameter for parameter in trained)
    torch.testing.assert_close(encoder(encoder.spectrogram(waves(), RATE)).grid, before, rtol=1e-5, atol=1e-5)


def test_readouts_of_a_branch(encoder):
    model = AdaptedEncoder(encoder, EncoderBranchConfig(tune="frozen", embedding_dim=5), RATE).eval()
    with torch.inference_mode():
        both, first, gate = model.encode_inputs(waves().unsqueeze(0))
        assert model.readout(both).shape == (1, 5)
        assert torch.isfinite(gate).all()
        assert model.readout(first, "mean").shape == (1, encoder.dim)
        for readout in ("band", "gem", "rdp", "cls"):
            found = model.readout(both, readout)
            assert found.dim() == 3
            assert found.shape[2] == encoder.dim
            assert torch.isfinite(found).all()


def test_benchmarks(encoder):
    encoder.eval()
    for embedder in (embedders.rmis(encoder, 0.5), embedders.siren(encoder)):
        vector = embedder.function(waves(1), RATE)
        assert vector.ndim == 1
        assert len(vector) % encoder.dim == 0
        assert vector.any()
        assert json.loads(json.dumps(embedder.facts)) == embedder.facts | {"config": json.loads(_config(encoder))}


def _config(encoder: Encoder) -> str:
    return json.dumps({key: getattr(encoder.config, key) for key in encoder.config.__dataclass_fields__})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": None}, "cfg.embed_dim: expected int, found nothing"),
        ({"hidden": "wide"}, r"cfg.hidden: expected int \| None, found 'wide'"),
        ({"dropout": -0.5}, "impossible sizes"),
        ({"depth": 10**9}, "impossible sizes"),
    ],
)
def test_a_damaged_configuration(change, message, tmp_path):
    encoder, path = Stranger.build("nano", seed=1), tmp_path / "weights.safetensors"
    settings = {"embed_dim": 6, "hidden": 5, "stride": None} | change
    encoder.save(path, config={key: value for key, value in settings.items() if value is not None or key == "stride"})
    with pytest.raises(WheeltapperError, match=message):
        Stranger.load(path)
