import itertools

import numpy as np
import pytest
from scipy import signal

from system.corpora.simulation import acoustics

RATE = 16000


def reverberation_time(response):
    """T20 by backward integration, seconds."""
    energy = np.cumsum(np.square(response[::-1].astype(float)))[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-30)
    return 3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE


def mirror_images(room, source, most):
    """{position: reflections} of all images up to ``most`` reflections, by mirroring at one wall after another."""
    found = {tuple(np.round(source, 9)): 0}
    border = list(found)
    for order in range(1, most + 1):
        mirrored = set()
        for place, axis, side in itertools.product(border, range(3), (0, 1)):
            image = np.array(place)
            image[axis] = 2 * side * room[axis] - image[axis]
            mirrored.add(tuple(np.round(image, 9)))
        border = [place for place in mirrored if place not in found]
        found.update(dict.fromkeys(border, order))
    return found


def test_generators_of_other_names_are_independent_and_repeatable():
    one, again, other = (acoustics.generator(7, "a", index).standard_normal(2000) for index in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


@pytest.mark.parametrize("delay", [40.0, 40.25, 51.5])
def test_fractional_impulse_is_flat_with_linear_phase(delay):
    response = acoustics.fractional_impulses(np.array([delay]), np.array([0.5]), 128)
    for hertz in (100, 1000, 3000, 5000):
        angle = 2 * np.pi * hertz / RATE
        found = np.sum(response * np.exp(-1j * angle * np.arange(128)))
        assert found == pytest.approx(0.5 * np.exp(-1j * angle * delay), abs=0.01)


def test_fractional_impulses_outside_are_dropped():
    assert not acoustics.fractional_impulses(np.array([-50.0, 500.0]), np.ones(2), 100).any()


def test_image_sources_equal_mirroring_wall_by_wall():
    room, source, ear = np.array([4.1, 3.3, 2.7]), np.array([1.2, 0.9, 1.4]), np.array([2.9, 2.2, 1.1])
    rt60 = 0.03  # images within 10.3 m
    images = mirror_images(room, source, most=9)
    places, orders = np.array(list(images)), np.array(list(images.values()))
    distance = np.linalg.norm(places - ear, axis=1)
    near = distance < acoustics.SPEED_OF_SOUND * rt60
    assert orders[near].max() < 9, "the reference must not miss any image within reach"
    reflection = acoustics.wall_reflection(tuple(room), rt60)
    expected = acoustics.fractional_impulses(
        distance[near] * RATE / acoustics.SPEED_OF_SOUND, reflection ** orders[near] / distance[near], 480
    )
    expected = signal.sosfilt(signal.butter(2, acoustics.LOWEST, "high", fs=RATE, output="sos"), expected)
    rng = np.random.default_rng(0)
    found = acoustics.image_source_response(room, source, ear, rt60, RATE, rng, jitter=0.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_direct_path_has_its_delay_and_distance_law():
    room, ear = np.array([9.0, 7.0, 4.0]), np.array([4.0, 3.0, 1.5])
    for metres in (0.5, 2.0):
        source = ear + np.array([metres, 0, 0])
        response = acoustics.image_source_response(room, source, ear, 0.2, RATE, np.random.default_rng(1))
        first = int(np.abs(response).argmax())
        assert first == pytest.approx(metres * RATE / acoustics.SPEED_OF_SOUND, abs=1)
        assert response[first - 2 : first + 3].sum() == pytest.approx(1 / metres, rel=0.25)


@pytest.mark.parametrize("room", [(6.0, 5.0, 3.0), (15.0, 11.0, 6.0)])
@pytest.mark.parametrize("rt60", [0.2, 0.4])
def test_room_decays_in_the_time_asked_for(room, rt60):
    rng = np.random.default_rng(3)
    times = []
    for _ in range(3):
        source, ear = rng.uniform(0.8, np.array(room) - 0.8), rng.uniform(0.8, np.array(room) - 0.8)
        times.append(reverberation_time(acoustics.image_source_response(np.array(room), source, ear, rt60, RATE, rng)))
    assert np.mean(times) == pytest.approx(rt60, rel=0.1)


def test_scene_far_microphone_hears_the_machine_later_and_weaker():
    for seed in range(4):
        scene = acoustics.draw_scene(acoustics.generator(seed, "room"), RATE, 0.1)
        energy = np.square(scene.machine).sum(axis=1)
        assert energy[0] == pytest.approx(1, rel=1e-4)
        assert 10 * np.log10(energy[0] / energy[1]) > 6
        delay = np.diff(np.abs(scene.machine).argmax(axis=1))[0] / RATE
        assert 1.5 / 343 < delay < 3.3 / 343
        assert scene.noises.shape == (3, 2, scene.taps)


def test_scene_hears_what_a_direct_convolution_gives():
    rng = np.random.default_rng(0)
    scene = acoustics.Scene(
        machine=rng.standard_normal((2, 50)).astype(np.float32),
        noises=rng.standard_normal((2, 2, 50)).astype(np.float32),
    )
    waves = rng.standard_normal((2, 1049)).astype(np.float32)
    for ear in (0, 1):
        expected = np.convolve(waves[0], scene.machine[ear], mode="valid")
        np.testing.assert_allclose(scene.render_machine(waves[0])[ear], expected, atol=1e-3)
        expected = sum(np.convolve(waves[k], scene.noises[k, ear], mode="valid") for k in (0, 1))
        np.testing.assert_allclose(scene.render_noises(waves)[ear], expected, atol=1e-3)
    gains = np.stack([np.full(33, 2.0), np.zeros(33)])
    np.testing.assert_allclose(
        scene.render_noises(waves, gains)[0], 2 * np.convolve(waves[0], scene.noises[0, 0], mode="valid"), atol=1e-3
    )


def test_coloured_noise_is_gaussian_of_unit_power_and_follows_its_gain():
    gain = np.where(np.linspace(0, RATE / 2, 513) < 2000, 1.0, 0.1)
    wave = acoustics.coloured_noise(np.random.default_rng(0), 60000, gain, channels=2)
    np.testing.assert_allclose(np.square(wave).mean(axis=1), 1, rtol=1e-3)
    assert abs(np.corrcoef(wave)[0, 1]) < 0.05
    assert np.mean(wave[0] ** 4) == pytest.approx(3, abs=0.2)
    f, density = signal.welch(wave[0], RATE, nperseg=1024)
    drop = density[(f > 500) & (f < 1800)].mean() / density[(f > 2500) & (f < 7500)].mean()
    assert 10 * np.log10(drop) == pytest.approx(20, abs=0.5)


def test_equalised_noise_has_the_wanted_spectrum():
    rng = np.random.default_rng(0)
    wanted = acoustics.long_term_spectrum(acoustics.coloured_noise(rng, 80000, np.linspace(1, 0.05, 513))[0], RATE)
    noise = acoustics.coloured_noise(rng, 80000, 1 / np.linspace(1, 8, 513))[0]
    found = acoustics.long_term_spectrum(noise, RATE)
    gain = acoustics.equaliser(found, wanted, 513)
    after = acoustics.long_term_spectrum(signal.fftconvolve(noise, np.fft.fftshift(np.fft.irfft(gain)), "same"), RATE)
    decibels = 10 * np.log10(after / wanted)[5:-5]
    assert np.std(decibels) < 0.5 < np.std(10 * np.log10(found / wanted)[5:-5])


def test_equaliser_does_not_blow_up_an_empty_band():
    found = np.ones(513)
    found[300:] = 0
    gain = acoustics.equaliser(found, np.ones(513), 513, limit_db=30)
    assert 20 * np.log10(gain.max() / np.median(gain)) == pytest.approx(30, abs=0.1)


def test_long_term_spectrum_of_white_noise_is_flat():
    spectrum = acoustics.long_term_spectrum(np.random.default_rng(0).standard_normal(160000), RATE)
    assert spectrum.mean() == pytest.approx(1)
    assert np.abs(10 * np.log10(spectrum[10:-2])).max() < 1.5


def test_smooth_response_has_its_spread_and_is_smooth():
    rng = np.random.default_rng(0)
    level = 20 * np.log10([acoustics.smooth_response(rng, 3.0, 513, RATE) for _ in range(300)])
    assert level.mean() == pytest.approx(0, abs=0.3)
    assert level[:, 20:].std() == pytest.approx(3, rel=0.15)
    assert np.abs(np.diff(level[:, 64:], axis=1)).max() < 0.6  # dB a bin of 15.6 Hz, above 1 kHz


def test_noise_gain_sets_the_ratio():
    rng = np.random.default_rng(0)
    machine, noise = rng.standard_normal(1000), 5 * rng.standard_normal(1000)
    gain = acoustics.noise_gain(machine, noise, -13.0)
    assert 10 * np.log10(np.mean(machine**2) / np.mean((gain * noise) ** 2)) == pytest.approx(-13)
