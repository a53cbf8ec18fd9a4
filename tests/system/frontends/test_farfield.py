"""Far-channel subtraction against numpy.linalg.lstsq, and mixtures whose machine sound is known."""

import numpy as np
import pytest
import torch

from system.errors import WheeltapperError
from system.frontends.farfield import explained, explained_share, gains, subtract_far


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def stft(signal: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Plain NumPy: reflected ends, periodic Hann, (bins, frames)."""
    padded = np.pad(signal, (n_fft // 2, n_fft // 2), mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = [padded[i : i + n_fft] * window for i in range(0, len(padded) - n_fft + 1, hop)]
    return np.fft.rfft(np.array(frames), axis=1).T


def overlap_add(spectrum: np.ndarray, n_fft: int, hop: int, samples: int) -> np.ndarray:
    """Inverse of ``stft`` by weighted overlap-add, written out: (bins, frames) to (samples,)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    total, weight = np.zeros(samples + n_fft), np.zeros(samples + n_fft)
    for t, frame in enumerate(np.fft.irfft(spectrum.T, n_fft)):
        total[t * hop : t * hop + n_fft] += frame * window
        weight[t * hop : t * hop + n_fft] += window**2
    return (total / np.maximum(weight, 1e-12))[n_fft // 2 : n_fft // 2 + samples]


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
def test_gains_equal_least_squares_of_each_bin(taps):
    near, far = (noise(9, 40, seed=s) + 1j * noise(9, 40, seed=s + 10) for s in (1, 2))
    found = gains(torch.from_numpy(near), torch.from_numpy(far), taps).numpy()
    for k in range(9):
        design = np.zeros((40, taps), complex)
        for column in range(taps):
            shift = column - taps // 2
            for t in range(40):
                if 0 <= t + shift < 40:
                    design[t, column] = far[k, t + shift]
        expected = np.linalg.lstsq(design, near[k], rcond=None)[0]
        np.testing.assert_allclose(found[k], expected, atol=1e-8)


def test_one_tap_is_the_published_formula():
    near, far = (noise(4, 30, seed=s) + 1j * noise(4, 30, seed=s + 10) for s in (1, 2))
    expected = (near * far.conj()).sum(1) / ((np.abs(far) ** 2).sum(1) + 1e-12)
    np.testing.assert_allclose(gains(torch.from_numpy(near), torch.from_numpy(far))[:, 0], expected, rtol=1e-12)


def test_residual_spectrum_is_near_less_its_projection_on_far():
    n_fft, hop, samples = 256, 128, 128 * 40
    wave = (noise(2, samples) * 0.1).astype(np.float32)
    near, far = stft(wave[0].astype(float), n_fft, hop), stft(wave[1].astype(float), n_fft, hop)
    gain = (near * far.conj()).sum(1) / (np.abs(far) ** 2).sum(1)
    residual = near - gain[:, None] * far
    expected = overlap_add(residual, n_fft, hop, samples)
    found = subtract_far(wave, n_fft=n_fft, hop=hop)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.mark.parametrize("n_fft", [512, 1024, 4096])
def test_noise_that_both_hear_leaves_the_machine(n_fft):
    rate, samples = 16000, 16000 * 4
    t = np.arange(samples) / rate
    machine = 0.05 * np.sin(2 * np.pi * 440 * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    far = 0.2 * noise(samples)
    near = machine + 0.6 * far - 0.3 * np.roll(far, 5)
    found = subtract_far(np.stack([near, far]).astype(np.float32), n_fft=n_fft)[0]
    before, after = np.sum((near - machine) ** 2), np.sum((found - machine) ** 2)
    # The residual is the few samples that moved between windows, and the machine's projection on the noise by chance.
    assert after < 0.02 * before
    assert np.corrcoef(found, machine)[0, 1] > 0.95


def test_a_plain_gain_is_cancelled_exactly():
    far = 0.2 * noise(8000)
    found = subtract_far(np.stack([-0.7 * far, far]).astype(np.float32))
    assert np.abs(found).max() < 1e-6


@pytest.mark.parametrize(("frames", "too_few", "enough"), [(1, 1, 3), (4, 7, 9)])
def test_more_taps_reach_a_longer_room_response(frames, too_few, enough):
    # An echo by whole frames is inside the span of the taps or outside of it.
    far = 0.05 * noise(16000 * 2)
    echo = np.concatenate([np.zeros(256 * frames), far])[: len(far)]
    wave = np.stack([far + echo, far]).astype(np.float32)
    residual = [np.square(subtract_far(wave, n_fft=512, taps=taps)).mean() for taps in (too_few, enough)]
    assert residual[0] > 0.5 * np.square(echo).mean()
    assert residual[1] < 0.02 * np.square(echo).mean()


@pytest.mark.parametrize("samples", [513, 1000, 1024, 16001])
@pytest.mark.parametrize("method", ["least_squares", "magnitude"])
def test_length_and_a_silent_far_channel_are_kept(samples, method):
    wave = np.stack([0.1 * noise(samples), np.zeros(samples)]).astype(np.float32)
    found = subtract_far(wave, method)
    assert found.shape == (1, samples)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], wave[0], atol=1e-6)


def test_scale_of_the_recording_goes_through():
    wave = (noise(2, 4000) * 0.1).astype(np.float32)
    np.testing.assert_allclose(subtract_far(wave * 0.01), subtract_far(wave) * 0.01, rtol=1e-3, atol=1e-7)


def test_magnitude_is_floored_and_keeps_the_phase():
    # A far channel that is louder everywhere leaves a tenth of the near one.
    near = 0.05 * noise(6000)
    np.testing.assert_allclose(
        subtract_far(np.stack([near, 3 * near]).astype(np.float32), "magnitude")[0], 0.1 * near, atol=1e-6
    )
    np.testing.assert_allclose(
        subtract_far(np.stack([near, 0.25 * near]).astype(np.float32), "magnitude")[0], 0.75 * near, atol=1e-6
    )


def test_a_steady_tone_does_not_break_several_taps():
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    found = subtract_far(np.stack([0.3 * tone, tone]).astype(np.float32), taps=5)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e-3


def test_mono_and_silence_come_back_as_they_are():
    mono = noise(1, 700).astype(np.float32)
    assert subtract_far(mono) is mono
    assert not subtract_far(np.zeros((2, 700), np.float32)).any()


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((2, 512), {}, "expected more than 512 samples"),
        ((3, 4000), {}, "expected 1 or 2 channels, found 3"),
        ((2, 4000), {"method": "wiener"}, "found 'wiener'"),
        ((2, 4000), {"hop": 513}, "hop 513"),
        ((2, 4000), {"taps": 0}, "0 taps"),
    ],
)
def test_bad_input_is_named(shape, settings, message):
    with pytest.raises(WheeltapperError, match=message):
        subtract_far(np.ones(shape, np.float32), **settings)


def neighbours(frame: int, frames: int, half: int) -> slice:
    return slice(max(0, frame - half), min(frames, frame + half + 1))


@pytest.mark.parametrize("taps", [1, 2, 3])
def test_local_gains_equal_weighted_least_squares_of_the_frames_around(taps):
    frames, half = 30, 6
    near, far = (noise(5, frames, seed=s) + 1j * noise(5, frames, seed=s + 10) for s in (1, 2))
    weights = np.random.default_rng(3).uniform(0.1, 2.0, (5, frames))
    found = gains(*(torch.from_numpy(x) for x in (near, far)), taps, half, torch.from_numpy(weights)).numpy()
    assert found.shape == (5, frames, taps)
    for k in range(5):
        design = np.zeros((frames, taps), complex)
        for column in range(taps):
            for t in range(frames):
                if 0 <= t + column - taps // 2 < frames:
                    design[t, column] = far[k, t + column - taps // 2]
        for t in range(frames):
            own = neighbours(t, frames, half)
            root = np.sqrt(weights[k, own])
            expected = np.linalg.lstsq(root[:, None] * design[own], root * near[k, own], rcond=None)[0]
            np.testing.assert_allclose(found[k, t], expected, atol=1e-7)


def two_places(seconds: float = 8.0, rate: int = 8000) -> tuple[np.ndarray, np.ndarray]:
    """A machine at the near microphone, and noise from two places in turn, each with another gain."""
    samples = int(seconds * rate)
    machine, first, second = (noise(samples, seed=s) for s in (5, 6, 7))
    turn = np.arange(samples) < samples // 2
    near = 0.1 * machine + np.where(turn, 1.0, -0.5) * np.where(turn, first, second)
    return np.stack([near, np.where(turn, first, second)]).astype(np.float32), (0.1 * machine).astype(np.float32)


def test_local_subtraction_follows_a_noise_that_changes_its_place():
    wave, machine = two_places()
    error = {s: np.square(subtract_far(wave, stretch=s)[0] - machine).mean() for s in (0, 8000, 10**9)}
    assert error[8000] < 0.2 * error[0]
    np.testing.assert_allclose(error[10**9], error[0], rtol=1e-6)  # a stretch beyond the clip is the clip


def test_balance_hears_the_quiet_noise_too():
    """A short loud source determines the gain of a clip; with balancing, the long quiet one does."""
    samples = 64000
    quiet, loud = 0.05 * noise(samples, seed=1), noise(samples, seed=2)
    loud[8000:] = 0.0
    quiet[:8000] = 0.0
    wave = np.stack([0.3 * quiet + 2.0 * loud, quiet + loud]).astype(np.float32)
    left = [np.square(subtract_far(wave, balance=p)[0, 10000:]).mean() for p in (0.0, 1.0)]
    assert left[1] < 0.1 * left[0]


def test_coherence_subtracts_less_where_less_is_explained():
    near, far = noise(2, 40000, seed=4).astype(np.float32)
    for share, bound in ((0.0, 0.02), (1.0, 0.999)):
        wave = np.stack([np.sqrt(1 - share) * near + np.sqrt(share) * far, far]).astype(np.float32)
        plain, scaled = (subtract_far(wave, coherence=c)[0] for c in (False, True))
        removed = [np.square(wave[0] - y).sum() for y in (plain, scaled)]
        assert removed[1] < bound * removed[0] if share == 0.0 else removed[1] > bound * removed[0]


def test_coherence_of_one_tap_is_the_magnitude_squared_coherence():
    near, far = (noise(4, 50, seed=s) + 1j * noise(4, 50, seed=s + 10) for s in (1, 2))
    cross = np.abs((near * far.conj()).sum(1)) ** 2
    expected = cross / ((np.abs(near) ** 2).sum(1) * (np.abs(far) ** 2).sum(1))
    tensors = torch.from_numpy(near), torch.from_numpy(far)
    np.testing.assert_allclose(explained_share(tensors[0], explained(*tensors), None)[:, 0], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "settings", [{"stretch": 16000}, {"balance": 0.5}, {"coherence": True}, {"stretch": 9, "taps": 3}]
)
def test_variants_keep_silence_and_scale(settings):
    wave = (noise(2, 32000, seed=8) * 0.1).astype(np.float32)
    wave[1, 16000:] = 0.0  # a far microphone that falls silent
    found = subtract_far(wave, **settings)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0, 20000:], wave[0, 20000:], atol=1e-4)
    np.testing.assert_allclose(subtract_far(wave * 0.01, **settings), 0.01 * found, atol=1e-6)


@pytest.mark.parametrize("stretch", [0, 4096])
def test_scaled_magnitude_by_hand_and_at_any_far_level(stretch):
    n_fft, hop, samples = 256, 128, 128 * 80
    wave = (noise(2, samples, seed=3) * 0.1).astype(np.float32)
    near, far = (np.abs(stft(channel.astype(float), n_fft, hop)) for channel in wave)
    frames, half = near.shape[1], round(stretch / hop / 2)
    gains_of = []
    for t in range(frames):
        own = neighbours(t, frames, half) if stretch else slice(None)
        scale = (near[:, own] * far[:, own]).sum(1) / (far[:, own] ** 2).sum(1)
        gains_of.append(np.maximum(1 - scale * far[:, t] / near[:, t], 0.1))
    expected = stft(wave[0].astype(float), n_fft, hop) * np.array(gains_of).T
    found = subtract_far(wave, "scaled_magnitude", n_fft=n_fft, stretch=stretch)
    by_hand = overlap_add(expected, n_fft, hop, samples)
    np.testing.assert_allclose(found[0], by_hand, atol=1e-6)
    quiet = wave * np.array([[1.0], [0.05]], np.float32)
    np.testing.assert_allclose(subtract_far(quiet, "scaled_magnitude", n_fft=n_fft, stretch=stretch), found, atol=1e-6)
