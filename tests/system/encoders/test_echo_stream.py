"""ECHO on a stream: pieces of any size give the segment embeddings of the whole, in bounded memory."""

import pytest
import torch
from torch import Tensor

from system.encoders.echo import Echo, EchoConfig
from system.encoders.echo_stream import EchoStream
from system.errors import WheeltapperError

RATE, WINDOW, HOP, LIMIT = 2000, 50, 20, 48
CHUNK = (LIMIT - 1) * HOP + WINDOW
# Shorter than a window, than a patch, one chunk to the sample, a little more, two and a half, two to the frame.
LENGTHS = [30, 170, CHUNK, CHUNK + 3, CHUNK + HOP, round(2.5 * LIMIT * HOP), 2 * LIMIT * HOP + WINDOW - HOP + 11]


def toy(**sizes) -> Echo:
    config = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "frame_limit": LIMIT} | sizes
    return Echo.untrained(EchoConfig(**config), 0).requires_grad_(False)


def noise(samples: int, batch: int = 2) -> Tensor:
    """With an offset that drifts, so that the means of chunks differ."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, samples, generator=generator) + torch.linspace(0.0, 0.2, samples)


def stream(streamer: EchoStream, wave: Tensor, piece: int) -> Tensor:
    found = [streamer.feed(part) for part in wave.split(piece, 1)]
    return torch.cat([*found, streamer.finish()], 1)


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("sizes", [{}, {"patch_frames": 32}], ids=["16 frames", "32 frames"])
def test_pieces_equal_the_whole(samples, sizes):
    encoder, wave = toy(**sizes), noise(samples)
    own = encoder.segments(wave, RATE, "stream")
    streamer = EchoStream(encoder, RATE)
    for piece in (1, 77, 4000) if samples <= CHUNK + HOP else (77, 4000):
        torch.testing.assert_close(stream(streamer, wave, piece), own, rtol=1e-5, atol=1e-5)
    official = encoder.segments(wave, RATE)
    measured = EchoStream(encoder, RATE, wave.mean(1, keepdim=True))
    for piece in (77, samples):
        torch.testing.assert_close(stream(measured, wave, piece), official, rtol=1e-4, atol=1e-4)
    if samples < CHUNK + HOP and samples != CHUNK + 3:
        torch.testing.assert_close(own, official, rtol=1e-5, atol=1e-5)


def test_single_samples_across_two_and_a_half_chunks():
    encoder = toy(frame_limit=16)
    wave = noise(round(2.5 * 16 * HOP), batch=1)
    expected = encoder.segments(wave, RATE, "stream")
    assert expected.shape[1] == 3
    torch.testing.assert_close(stream(EchoStream(encoder, RATE), wave, 1), expected, rtol=1e-5, atol=1e-5)


def test_a_mean_of_zero_is_the_recording_as_it_is():
    encoder, wave = toy(), noise(2500)
    wave = wave - wave.mean(1, keepdim=True)
    torch.testing.assert_close(
        stream(EchoStream(encoder, RATE, 0.0), wave, 333), encoder.segments(wave, RATE), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(stream(EchoStream(encoder, RATE), wave, 333), encoder.segments(wave, RATE), atol=1e-3)


def test_twenty_seconds_are_the_official_result():
    encoder = toy(frame_limit=2000, depth=1)
    wave = noise(20 * RATE, batch=1)
    torch.testing.assert_close(
        stream(EchoStream(encoder, RATE), wave, 4000), encoder.segments(wave, RATE), rtol=1e-5, atol=1e-5
    )


def test_a_chunk_comes_with_its_last_sample():
    encoder, wave = toy(), noise(3 * LIMIT * HOP)
    streamer = EchoStream(encoder, RATE)
    assert streamer.feed(wave[:, : CHUNK - 1]).shape == (2, 0, 16 * encoder.bands(RATE))
    first = streamer.feed(wave[:, CHUNK - 1 : CHUNK])
    torch.testing.assert_close(first, encoder.segments(wave[:, :CHUNK], RATE), rtol=1e-5, atol=1e-5)
    assert streamer.feed(wave[:, CHUNK : CHUNK + LIMIT * HOP - 1]).shape[1] == 0
    assert streamer.feed(wave[:, CHUNK + LIMIT * HOP - 1 : CHUNK + LIMIT * HOP]).shape[1] == LIMIT // 16
    assert streamer.finish().shape[1] == 0  # no frame behind the second chunk


def test_the_last_chunk_overlaps_the_one_before():
    encoder, wave = toy(), noise(CHUNK + 5 * HOP + 7)
    streamer = EchoStream(encoder, RATE)
    assert streamer.feed(wave).shape[1] == LIMIT // 16
    rest = streamer.finish()
    torch.testing.assert_close(rest, encoder.segments(wave[:, 5 * HOP :], RATE), rtol=1e-5, atol=1e-5)


def test_memory_is_that_of_one_chunk():
    encoder = toy(depth=1)
    streamer = EchoStream(encoder, RATE, 0.0)
    seen = 0
    for part in noise(30 * CHUNK, batch=1).split(777, 1):
        seen += streamer.feed(part).shape[1]
        assert streamer._buffer.shape == (1, CHUNK + HOP + CHUNK // 4 + 1)
    assert seen == (30 * CHUNK - WINDOW + HOP) // (LIMIT * HOP) * LIMIT // 16


def test_one_stream_serves_one_recording_after_another():
    encoder = toy()
    streamer = EchoStream(encoder, RATE)
    for samples, batch in ((1500, 2), (40, 1), (3000, 3)):
        wave = noise(samples, batch)
        expected = encoder.segments(wave, RATE, "stream")
        torch.testing.assert_close(stream(streamer, wave, 500), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["global", "local"])
def test_simam_sees_one_chunk_at_a_time(kind):
    encoder, wave = toy().set_front_end(simam=kind), noise(2500)
    expected = encoder.segments(wave, RATE, "stream")
    torch.testing.assert_close(stream(EchoStream(encoder, RATE), wave, 100), expected, rtol=1e-5, atol=1e-5)


def test_half_precision():
    encoder, wave = toy().to(torch.bfloat16), noise(2500)
    found = stream(EchoStream(encoder, RATE), wave, 100)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, encoder.segments(wave, RATE, "stream"), rtol=1e-2, atol=5e-2)


def test_misuse():
    streamer = EchoStream(toy(), RATE)
    with pytest.raises(WheeltapperError, match="a stream: expected samples before its end, found none"):
        streamer.finish()
    with pytest.raises(WheeltapperError, match=r"a stream's samples: expected \(B, number\), found \(5,\)"):
        streamer.feed(torch.zeros(5))
    streamer.feed(torch.zeros(2, 5))
    with pytest.raises(WheeltapperError, match=r"a stream's samples: expected \(2, number\), found \(1, 5\)"):
        streamer.feed(torch.zeros(1, 5))
    assert streamer.finish().isfinite().all()
    with pytest.raises(WheeltapperError, match="rate: expected at least 100 Hz, found 50"):
        EchoStream(toy(), 50)
