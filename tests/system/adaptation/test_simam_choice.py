"""SimAM by machine: the same kind in training and embedding, and a choice that depends on training clips only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from system import audio
from system.adaptation import ADAPTER, adapt, load_adapted, simam_choice
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.adaptation.perturbations import perturb
from system.config import AugmentConfig, EncoderBranchConfig, EncoderConfig, LoopConfig
from system.embeddings.embed import embed_branch
from system.errors import WheeltapperError
from system.frontends.simam import enhance

RATE = 8000
KINDS = {"fan": "local", "pump": "global"}


def config(**values) -> EncoderBranchConfig:
    loop = LoopConfig(steps=3, batch_size=4, learning_rate=5e-3, warmup_steps=1)
    augment = AugmentConfig(channel_swap=0.0, channel_drop=0.0, gain_db=0.0)
    return EncoderBranchConfig(**({"embedding_dim": 8, "crop_seconds": 0.3, "loop": loop, "augment": augment} | values))


def by_hand(model: AdaptedEncoder, encoder, clip, kind: str) -> np.ndarray:
    """The embedding of the near channel with SimAM applied separately before the network."""
    wave, rate = audio.read(clip.path)
    seen = enhance(encoder.spectrogram(torch.from_numpy(wave[:1]), rate), kind)
    with torch.inference_mode():
        return model.projection(encoder(seen).grid.mean(1).flatten(1)).numpy()[0]


def test_each_machine_is_embedded_with_its_own_kind(tiny_encoder, train_clips, tmp_path):
    adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path, 0, simam=KINDS)
    model = load_adapted(tiny_encoder(), tmp_path / ADAPTER, config())
    found = embed_branch(model, train_clips, tmp_path / "parts")["near_only"]
    for row, clip in zip(found, train_clips, strict=True):
        expected = {kind: by_hand(model, model.encoder, clip, kind) for kind in ("none", "global", "local")}
        np.testing.assert_allclose(row, expected.pop(KINDS[clip.machine]), rtol=1e-4, atol=1e-5)
        assert all(np.abs(row - other).max() > 1e-3 for other in expected.values())


def test_training_and_embedding_use_the_same_kind(tiny_encoder, train_clips, tmp_path, monkeypatch):
    """Every row of every training batch is one of the machine's clips, enhanced with the kind of the machine."""
    short = [replace(clip, samples=round(0.3 * RATE)) for clip in train_clips]  # crops that begin at the start
    allowed = []
    for clip in short:
        wave = audio.read(clip.path)[0][:, : clip.samples]
        allowed.append(enhance(tiny_encoder().spectrogram(torch.from_numpy(wave), RATE), KINDS[clip.machine]))
    allowed = torch.cat(allowed)
    seen = []
    forward = AdaptedEncoder.forward
    monkeypatch.setattr(
        AdaptedEncoder, "forward", lambda self, x: (seen.append(x.detach().flatten(0, 1)), forward(self, x))[1]
    )
    adapt(tiny_encoder(), short, config(), RATE, tmp_path, 0, simam=KINDS)
    rows = torch.cat(seen)
    assert len(rows) == 3 * 4 * 2
    distance = torch.cdist(rows.flatten(1), allowed.flatten(1))
    assert distance.min(1).values.max() < 1e-3
    nearest = distance.argmin(1)
    assert {short[i // 2].machine for i in nearest.tolist()} == {"fan", "pump"}


def test_a_mixture_is_enhanced_as_its_greater_part(tiny_encoder):
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(), RATE), 2, 2).eval()
    waves = 0.1 * torch.randn(2, 2, 3000, generator=torch.Generator().manual_seed(0))
    batch = {"wave": waves, "attribute": torch.tensor([0, 1]), "domain": torch.tensor([0, 1])}
    one = task(batch | {"simam": ["local", "global"]})["loss"]
    spectrogram = task.model.encoder.spectrogram(waves.flatten(0, 1), RATE)
    rows = torch.cat([enhance(spectrogram[:2], "local"), enhance(spectrogram[2:], "global")])
    embedding = task.model(rows.unflatten(0, (2, 2)))
    by_hand = task.attribute(embedding, batch["attribute"]).mean() + task.domain(embedding, batch["domain"]).mean()
    torch.testing.assert_close(one, by_hand)
    assert not torch.isclose(one, task(batch)["loss"], rtol=1e-5)


def choose(encoder, clips, simam="auto", seed=0, **machines) -> dict:
    settings = EncoderConfig(simam=simam, simam_machines=machines)
    names = list(dict.fromkeys(clip.machine for clip in clips))
    return simam_choice.kinds_of_machines(settings, names, encoder, clips, RATE, seed)


def test_the_choice_is_deterministic_and_each_machine_s_own(tiny_encoder, train_clips):
    first = choose(tiny_encoder(), train_clips)
    assert first == choose(tiny_encoder(), train_clips)
    assert set(first) == {"fan", "pump"}
    for entry in first.values():
        assert not entry["by_hand"]
        assert entry["difference"] == pytest.approx(entry["auc"]["local"] - entry["auc"]["global"])
        assert entry["kind"] == ("local" if entry["difference"] > 3 * entry["standard_error"] else "global")
    alone = choose(tiny_encoder(), [clip for clip in train_clips if clip.machine == "pump"])
    assert alone == {"pump": first["pump"]}


def points(shift: float, generator: np.random.Generator) -> np.ndarray:
    """(40 clips, unperturbed and two perturbed copies, 2): directions, the perturbed ones ``shift`` radians off."""
    angles = generator.normal(0.0, 0.05, (40, 3))
    angles[:, 1:] += shift
    return np.stack([np.cos(angles), np.sin(angles)], -1)


DOMAINS = np.repeat(["source", "target"], 20)


@pytest.mark.parametrize(("shifts", "kind"), [((0.8, 0.0), "global"), ((0.0, 0.8), "local"), ((0.0, 0.0), "global")])
def test_the_kind_that_keeps_perturbed_clips_apart(shifts, kind, tiny_encoder, train_clips, monkeypatch):
    generator = np.random.default_rng(0)
    embeddings = np.stack([points(shift, generator) for shift in shifts], 2)
    found = simam_choice.compare_kinds(embeddings, DOMAINS)
    for name, shift in zip(("global", "local"), shifts, strict=True):
        assert found["auc"][name] == (1.0 if shift else pytest.approx(0.5, abs=0.15))
    rows = iter(embeddings)
    monkeypatch.setattr(simam_choice, "_embed_copies", lambda *_: next(rows))
    clips = [replace(train_clips[0], domain=domain, file=f"{i}") for i, domain in enumerate(DOMAINS)]
    assert choose(tiny_encoder(), clips)["fan"]["kind"] == kind


def test_the_standard_error_clip_by_clip(monkeypatch):
    """The jackknife with loops over clips, perturbations and kinds."""
    scores = np.random.default_rng(1).normal(0.0, 1.0, (2, 9, 3)).round(1)  # with ties
    given = iter(scores)
    monkeypatch.setattr(simam_choice, "_held_out", lambda *_: next(given))
    found = simam_choice.compare_kinds(np.zeros((9, 3, 2, 1)), np.array(["source"] * 9))

    def difference(kept: list[int]) -> float:
        auc = [
            np.mean([(kind[a, d] > kind[b, 0]) + 0.5 * (kind[a, d] == kind[b, 0]) for a in kept for b in kept])
            for d in (1, 2)
            for kind in scores
        ]
        return (auc[1] - auc[0] + auc[3] - auc[2]) / 2

    left_out = np.array([difference([c for c in range(9) if c != clip]) for clip in range(9)])
    assert found["difference"] == pytest.approx(difference(list(range(9))))
    assert found["standard_error"] == pytest.approx(np.sqrt(8 / 9 * ((left_out - left_out.mean()) ** 2).sum()))


def test_held_out_clips_are_never_their_own_reference():
    embeddings = np.random.default_rng(0).standard_normal((12, 2, 1, 5)).repeat(2, 2)
    embeddings[:, 1] = embeddings[:, 0]  # a perturbation that changes nothing
    found = simam_choice.compare_kinds(embeddings, np.array(["source"] * 8 + ["target"] * 4))
    assert found["auc"] == {"global": pytest.approx(0.5), "local": pytest.approx(0.5)}
    assert (found["difference"], found["standard_error"]) == (0.0, 0.0)


def test_by_hand_comes_first(tiny_encoder, train_clips):
    assert choose(tiny_encoder(), train_clips, "global", pump="none") == {
        "fan": {"kind": "global", "by_hand": True},
        "pump": {"kind": "none", "by_hand": True},
    }
    found = choose(tiny_encoder(), train_clips, "auto", fan="none")
    assert found["fan"] == {"kind": "none", "by_hand": True}
    assert "auc" in found["pump"]


def test_what_cannot_be_chosen(tiny_encoder, train_clips, record):
    with pytest.raises(WheeltapperError, match="simam_machines: expected machines among fan, pump, found Fan"):
        choose(tiny_encoder(), train_clips, "global", Fan="local")
    with pytest.raises(WheeltapperError, match="pump: expected at least 4 normal training clips, found 3"):
        choose(tiny_encoder(), train_clips[:-1])
    with pytest.raises(WheeltapperError, match="expected a normal training clip"):
        choose(tiny_encoder(), [*train_clips, record("t.wav", split="test")])


def test_perturbations():
    rate, generator = 16000, np.random.default_rng(3)
    wave = generator.standard_normal(2 * rate).astype(np.float32)
    copies = perturb(wave, rate, np.random.default_rng(0))
    again = perturb(wave, rate, np.random.default_rng(0))
    assert all(np.array_equal(copy, again[name]) for name, copy in copies.items())
    assert all(copy.dtype == np.float32 and copy.shape == wave.shape for copy in copies.values())
    added = copies["tone"] - wave
    assert 20 * np.log10(added.std() / wave.std()) == pytest.approx(-20.0, abs=0.1)
    before, after = (np.abs(np.fft.rfft(x)) for x in (wave, copies["band"]))
    ratio = 20 * np.log10(after / before)
    lower = ratio < -6.0
    np.testing.assert_allclose(ratio[lower], -12.0, atol=0.1)
    np.testing.assert_allclose(ratio[~lower], 0.0, atol=0.1)
    place = np.flatnonzero(lower)
    assert len(place) == place[-1] - place[0] + 1  # one band
    assert not np.isnan(perturb(np.zeros(800, np.float32), rate, generator)["tone"]).any()
