"""The examples of docs/extend.md are short and work as described."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from system import adaptation, audio, machine_scores, manifest, scoring
from system.bin import PLUGINS, main
from system.config import EncoderBranchConfig, EncoderConfig, LoopConfig, LoraConfig, ScorerConfig
from system.encoders import FAMILIES, load_encoder
from system.errors import WheeltapperError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "examples"
TOY = ROOT / "recipes" / "dcase2026" / "conf" / "toy.yaml"


@pytest.fixture
def plugged(monkeypatch):
    """Imports an example as the command line does, and forgets it afterwards."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = dict(scoring.SCORERS), dict(FAMILIES)

    def plug(name: str, tmp_path: Path) -> None:
        monkeypatch.setenv(PLUGINS, name)
        monkeypatch.delitem(sys.modules, name, raising=False)
        soundfile.write(tmp_path / "x.wav", np.zeros(800), 8000)
        assert main(["prepare", str(tmp_path), "--layout", "files", "--out", str(tmp_path / "x.csv")]) == 0

    yield plug
    for registry, old in zip((scoring.SCORERS, FAMILIES), before, strict=True):
        registry.clear()
        registry.update(old)


def test_each_has_less_than_sixty_lines():
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert lengths.keys() == {"my_scorer.py", "my_encoder.py", "my_corpus.py"}
    assert max(lengths.values()) < 60
    told = (ROOT / "docs" / "extend.md").read_text()
    assert all(f"../tests/examples/{name}" in told for name in lengths)


def test_a_scorer(plugged, train_clips, tmp_path):
    with pytest.raises(WheeltapperError, match="found 'median'"):
        scoring.build("median")
    plugged("my_scorer", tmp_path)
    generator = np.random.default_rng(0)
    embeddings = {clip.key: generator.normal(size=(2, 3)).astype(np.float32) for clip in train_clips}
    rows = machine_scores.score_machines(train_clips, embeddings, ScorerConfig("median", {"clip": 2.0}), seed=0)
    own = [clip for clip in train_clips if clip.machine == "pump"]
    for clip in own:
        rest = np.stack([embeddings[other.key].ravel() for other in own if other is not clip]).astype(float)
        centre = np.median(rest, axis=0)
        deviation = np.abs(embeddings[clip.key].ravel() - centre) / np.median(np.abs(rest - centre), axis=0)
        found = next(row.score for row in rows if (row.machine, row.file) == ("pump", clip.file))
        assert found == pytest.approx(np.minimum(deviation, 2.0).mean())


def test_an_encoder_is_adapted_like_any_other(plugged, train_clips, tmp_path):
    plugged("my_encoder", tmp_path)
    encoder = load_encoder(EncoderConfig(family="pocket"), seed=3)
    wave = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    tokens = encoder(encoder.spectrogram(wave, 16000))
    assert (tokens.grid.shape, tokens.summary.shape) == ((2, 4, 4, 32), (2, 1, 32))
    later = encoder(encoder.spectrogram(wave.roll(8 * 512, dims=1), 16000)).grid  # moved by one token
    torch.testing.assert_close(later[:, 2], tokens.grid[:, 1], rtol=0.0, atol=1e-4)
    encoder.save(tmp_path / "pocket.safetensors")
    again = load_encoder(EncoderConfig(family="pocket"), seed=4, path=tmp_path / "pocket.safetensors")
    torch.testing.assert_close(again.embed(wave, 16000), encoder.embed(wave, 16000), rtol=0.0, atol=0.0)
    config = EncoderBranchConfig(
        crop_seconds=0.4, embedding_dim=6, lora=LoraConfig(rank=2), loop=LoopConfig(steps=2, batch_size=2)
    )
    task = adaptation.adapt(encoder, train_clips, config, 16000, tmp_path, seed=0)
    assert any("lora_A" in name for name, p in task.named_parameters() if p.requires_grad)
    loaded = adaptation.load_adapted(again, tmp_path / adaptation.ADAPTER, config)
    with torch.inference_mode():
        found, expected = loaded.views(wave[None, :, :8000]), task.model.eval().views(wave[None, :, :8000])
    torch.testing.assert_close(found.two_channel, expected.two_channel, rtol=1e-4, atol=1e-5)


def test_a_corpus_is_where_a_run_begins(tmp_path, capsys):
    sys.path.insert(0, str(EXAMPLES))
    import my_corpus

    sys.path.remove(str(EXAMPLES))
    folder, path, exp = tmp_path / "mill", tmp_path / "m.csv", tmp_path / "exp"
    folder.mkdir()
    names = (
        "2024-03-01 ok",
        "2024-03-02 ok",
        "2024-05-01 ok",
        "2024-05-02 fault",
        "2024-07-01 ok",
        "2024-07-02 2 fault",
    )
    for seed, name in enumerate(names):
        soundfile.write(folder / f"saw {name}.wav", np.random.default_rng(seed).normal(0, 0.1, 8000), 8000)
    manifest.write(path, my_corpus.clips(folder))
    prepare = ["prepare", "--exp", str(exp), "--conf", str(TOY), "--data", str(path)]
    assert main(prepare) == 0
    found = {clip.file: (clip.split, clip.label, clip.domain) for clip in manifest.read(exp / "manifest.csv")}
    assert found == {
        "saw 2024-03-01 ok.wav": ("train", "normal", "source"),
        "saw 2024-03-02 ok.wav": ("train", "normal", "source"),
        "saw 2024-05-01 ok.wav": ("train", "normal", "target"),
        "saw 2024-07-01 ok.wav": ("test", "normal", "target"),
        "saw 2024-07-02 2 fault.wav": ("test", "anomaly", "target"),
    }
    capsys.readouterr()
    assert main(prepare) == 0
    assert "stage 0 data: complete, nothing to do" in capsys.readouterr().out
    soundfile.write(folder / "saw 2024-07-01 ok.wav", np.zeros(4000), 8000)  # changed since
    assert main(prepare) == 1
    assert "saw 2024-07-01 ok.wav: expected samples 8000 as " in capsys.readouterr().err
    (folder / "saw.wav").write_bytes(b"")
    with pytest.raises(WheeltapperError, match="expected a name such as"):
        list(my_corpus.clips(folder))


def test_a_corpus_that_says_only_what_it_must(tmp_path, monkeypatch, capsys):
    """Clips without label, domain, attributes and content hash go through to a package."""
    generator = np.random.default_rng(0)
    clips = []
    for number in range(16):
        machine, path = ("saw", "mill")[number % 2], tmp_path / "raw" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, generator.normal(0, 0.1, 4000), 8000)
        clips.append(
            manifest.Clip(
                "mill",
                machine,
                "00",
                "train" if number < 10 else "test",
                path.name,
                str(path),
                channels=1,
                rate=8000,
                samples=4000,
            )
        )
    manifest.write(tmp_path / "m.csv", clips)
    conf = {
        "branches": {"main": {"inputs": ["near"], "spectrum": {"merge": 16}, "scorer": {"name": "knn"}}},
        "systems": [{"name": "Saw", "abbreviation": "saw", "weights": {"main": 1.0}}],
    }
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf))
    monkeypatch.chdir(tmp_path)
    options = ["--exp", "exp", "--conf", "conf.yaml", "--data", "m.csv", "--stop-stage", "7"]
    assert main(["run", *options]) == 0, capsys.readouterr().err
    assert [clip.digest for clip in manifest.read("exp/manifest.csv")] == [audio.digest(clip.path) for clip in clips]
    assert list((tmp_path / "exp").glob("*.zip"))


def test_a_module_that_is_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(PLUGINS, "no_such_module")
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "m.csv")]) == 1
    assert f"{PLUGINS}: no_such_module: expected a module on PYTHONPATH" in capsys.readouterr().err
