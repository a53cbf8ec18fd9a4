"""The benchmarks' embeddings of a recording, against plain loops."""

import numpy as np
import pytest
import torch

from system import audio
from system.benchmarks import embedders
from system.encoders.beats import Beats
from system.encoders.echo import Echo
from system.errors import WheeltapperError

RATE = 8000


def wave(samples: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.02, 0.1, (channels, samples)).astype(np.float32))


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(100, [0]), (104, [0]), (105, [0, 5]), (150, [0, 50]), (200, [0, 100]), (209, [0, 100, 109]), (1, [0]), (99, [0])],
)
def test_segments(samples, starts):
    sound = wave(samples)[0]
    found = embedders.segments(sound, 100).numpy()
    assert found.shape == (len(starts), 100)
    for row, start in zip(found, starts, strict=True):
        part = sound.numpy()[start : start + 100]
        np.testing.assert_allclose(row[: len(part)], part - part.mean(), atol=1e-7)
        assert not row[len(part) :].any()


def test_rmis_is_the_mean_over_segments(tiny_encoder):
    encoder = tiny_encoder()
    sound = wave(2 * RATE + 4000)
    with torch.inference_mode():
        parts = [sound[:, start : start + RATE] for start in (0, RATE, RATE + 4000)]
        rows = [encoder.embed(part - part.mean(), RATE, "rmis")[0].numpy() for part in parts]
        found = embedders.rmis(encoder, 1.0).function(sound, RATE)
        np.testing.assert_allclose(found, np.mean(rows, 0), atol=1e-5)
        brought = audio.official_resampler(RATE, 16000)(sound)
        expected = embedders.rmis(encoder, 1.0).function(brought, 16000)
        np.testing.assert_allclose(embedders.rmis(encoder, 1.0, 16000).function(sound, RATE), expected, atol=1e-5)


def test_encoders_of_one_rate_hear_it_there():
    encoder = Beats.build("nano", 0)
    sound = wave(RATE)
    with torch.inference_mode():
        found = embedders.rmis(encoder, 0.5).function(sound, RATE)
        halves = audio.official_resampler(RATE, 16000)(sound).split(8000, 1)
        expected = torch.cat([encoder.embed(half - half.mean(), 16000, "rmis") for half in halves]).mean(0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_siren_takes_channels_together_or_side_by_side():
    encoder, sound = Echo.build("nano", 0), wave(RATE, channels=3)
    centred = sound.numpy() - sound.numpy().mean(1, keepdims=True)
    with torch.inference_mode():
        together = encoder.embed(torch.from_numpy(centred.mean(0, keepdims=True)), RATE, "siren")[0].numpy()
        apart = [encoder.embed(torch.from_numpy(row[None]), RATE, "siren")[0].numpy() for row in centred]
    np.testing.assert_allclose(embedders.siren(encoder).function(sound, RATE), together, atol=1e-5)
    np.testing.assert_allclose(embedders.siren(encoder, each=True).function(sound, RATE), np.hstack(apart), atol=1e-5)


def test_statistics():
    sound = wave(RATE, channels=2)
    for name, count in (("log-mel-mean", 128), ("log-mel-mean-std", 256), ("log-spectrum-mean", 101)):
        assert embedders.statistics(name).function(sound, RATE).shape == (count,)
        assert embedders.statistics(name, each=True).function(sound, RATE).shape == (2 * count,)
    louder = embedders.statistics("log-mel-mean").function(10 * sound, RATE)
    np.testing.assert_allclose(louder - embedders.statistics("log-mel-mean").function(sound, RATE), 20.0, atol=0.01)
    with pytest.raises(WheeltapperError, match=r"expected one of log-mel-mean, .* found 'mfcc'"):
        embedders.statistics("mfcc")


def test_facts_tell_what_makes_other_vectors(tiny_encoder):
    base = embedders.rmis(tiny_encoder(), 10.0).facts
    assert embedders.rmis(tiny_encoder(), 10.0).facts == base
    others = [
        embedders.rmis(tiny_encoder(seed=1), 10.0).facts,
        embedders.rmis(tiny_encoder(), 3.0).facts,
        embedders.rmis(tiny_encoder(), 10.0, 16000).facts,
        embedders.rmis(tiny_encoder().set_front_end(simam="global"), 10.0).facts,
        embedders.rmis(tiny_encoder().to(torch.bfloat16), 10.0).facts,
        embedders.siren(tiny_encoder()).facts,
        embedders.siren(tiny_encoder(), each=True).facts,
        embedders.statistics("log-mel-mean").facts,
    ]
    assert all(facts != other for k, facts in enumerate([base, *others]) for other in others[k:])


def test_a_file_that_changed_since_is_refused(record):
    clip = record("a.wav")
    assert embedders.statistics("log-mel-mean")(clip).shape == (128,)
    sound, rate = audio.read(clip.path)
    audio.write(clip.path, sound[:, ::-1], rate)
    with pytest.raises(WheeltapperError, match=r"a\.wav: expected the recording of the manifest .* prepare"):
        embedders.statistics("log-mel-mean")(clip)
