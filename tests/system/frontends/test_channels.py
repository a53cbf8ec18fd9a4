"""Selection of a branch's input channels."""

import numpy as np
import pytest

from system.config import SubtractionConfig
from system.errors import WheeltapperError
from system.frontends.channels import select_inputs
from system.frontends.farfield import subtract_far

RATE = 8000


def wave(channels: int, samples: int = 8000) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, samples))).astype(np.float32)


@pytest.mark.parametrize("channels", [2, 3])
def test_inputs_in_the_order_asked_for(channels):
    sound, config = wave(channels), SubtractionConfig(n_fft=512, stretch=0.25, taps=2)
    found = select_inputs(sound, RATE, ["residual", "far", "near"], config, "a.wav")
    expected = subtract_far(sound[:2], n_fft=512, stretch=2000, taps=2)[0]
    np.testing.assert_array_equal(found, np.stack([expected, sound[1], sound[0]]))


def test_a_mono_recording_is_everything():
    sound = wave(1)
    found = select_inputs(sound, RATE, ["near", "far", "residual"], SubtractionConfig(), "a.wav")
    np.testing.assert_array_equal(found, np.repeat(sound, 3, axis=0))


def test_refusals_name_the_recording():
    with pytest.raises(WheeltapperError, match=r"a\.wav: inputs: expected some of near, far, residual, found 'left'"):
        select_inputs(wave(2), RATE, ["left"], SubtractionConfig(), "a.wav")
    with pytest.raises(WheeltapperError, match=r"a\.wav: .*more than 512 samples \(half a window\), found 300"):
        select_inputs(wave(2, 300), RATE, ["residual"], SubtractionConfig(), "a.wav")
