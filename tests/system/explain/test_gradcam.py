"""Grad-CAM of the CNN: a linear network by hand, the closed form of the squared length, pieces, invalid input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from system.encoders.ast import Ast, AstConfig
from system.encoders.cnn import ResNeXt
from system.errors import WheeltapperError
from system.explain.gradcam import grad_cam, squared_length


@pytest.fixture
def encoder() -> ResNeXt:
    return ResNeXt.build("nano", 0).requires_grad_(False)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def linear(encoder: ResNeXt) -> ResNeXt:
    """The encoder with a network of three channels: the input, its negative, and twice its left neighbour."""
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1], conv.weight[1, 0, 1, 1], conv.weight[2, 0, 1, 0] = 1.0, -1.0, 2.0
    network = encoder.network
    network.conv1 = conv
    for name in ("bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        setattr(network, name, nn.Identity())
    return encoder.requires_grad_(False)


def test_a_linear_network_by_hand(encoder):
    x = noise(1, 40, 128)
    head = torch.tensor([0.5, -2.0, 3.0])
    linear(encoder)
    found = grad_cam(encoder, lambda s: (encoder(s).summary[:, 0] @ head).sum(), x, (4, 2))
    picture = x[0].numpy()
    left = np.zeros_like(picture)
    left[1:] = picture[:-1]
    channels = (picture, -picture, 2 * left)
    # The score is the sum of weight times mean, its gradient by a channel's cell weight / cells.
    expected = sum(weight / picture.size * channel for weight, channel in zip((0.5, -2.0, 3.0), channels, strict=True))
    expected = np.maximum(expected, 0)
    assert 0.2 < (expected > 0).mean() < 0.8
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-9)
    against = grad_cam(encoder, lambda s: -(encoder(s).summary[:, 0] @ head).sum(), x)[0]
    assert not ((against > 0) & (expected > 0)).any()


def test_squared_length_equals_its_closed_form(encoder):
    x = noise(1, 200, 128)
    features = encoder.feature_map(x)[0].double()
    means = features.mean((1, 2), keepdim=True)
    cam = (2 * means / features[0].numel() * features).sum(0).relu()  # of the sum of squared means
    # (bands, frames) at the size of the spectrogram, as torch resizes pictures.
    expected = F.interpolate(cam[None, None], (128, 200), mode="bilinear", align_corners=False)[0, 0].T
    found = grad_cam(encoder, squared_length(encoder), x)
    assert found.shape == (1, 200, 128)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize("frames", [1, 31, 33, 77, 1251, 1260, 1300])
def test_maps_of_any_length(encoder, frames):
    x = noise(1, frames, 128)
    found = grad_cam(encoder, squared_length(encoder), x, (1, 2, 3, 4))
    assert found.shape == (4, frames, 128)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert (found[1:].max((1, 2)) > 0).all()
    left_out = frames - 1251 if 0 < frames - 1251 < 32 else 0  # shorter than a patch: the encoder drops it
    assert not found[:, frames - left_out :].any()


def test_a_short_recording_is_filled_up_as_the_encoder_does(encoder):
    x = noise(1, 11, 128)
    found = grad_cam(encoder, squared_length(encoder), x, (2, 4))
    filled = grad_cam(encoder, squared_length(encoder), F.pad(x, (0, 0, 0, 21)), (2, 4))
    np.testing.assert_allclose(found, filled[:, :11], rtol=1e-5)


def test_the_encoder_and_the_callers_mode_stay_as_they_were(encoder):
    encoder.train()
    states = [module.training for module in encoder.modules()]
    x = noise(1, 64, 128)
    before = encoder(x).summary
    found = grad_cam(encoder, squared_length(encoder), x, (2, 4))
    with torch.inference_mode():
        inside = grad_cam(encoder, squared_length(encoder), x.clone(), (2, 4))
    assert np.array_equal(found, inside)
    assert torch.equal(before, encoder(x).summary)
    assert [module.training for module in encoder.modules()] == states
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    encoder.requires_grad_(True)
    trained = grad_cam(encoder, squared_length(encoder), x, (2, 4))
    np.testing.assert_allclose(trained, found, rtol=1e-5, atol=1e-9)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_a_silent_recording_gives_numbers(encoder):
    x = encoder.spectrogram(torch.zeros(1, 16000), 16000)
    assert np.isfinite(grad_cam(encoder, squared_length(encoder), x)).all()


def test_bad_input_is_refused(encoder):
    x = noise(1, 64, 128)
    score = squared_length(encoder)
    transformer = Ast.untrained(AstConfig(embed_dim=16, depth=1, num_heads=2), 0)
    with pytest.raises(WheeltapperError, match="Grad-CAM: expected a CNN with feature maps, found AST"):
        grad_cam(transformer, score, x)
    with pytest.raises(WheeltapperError, match="Grad-CAM: expected stages of 1 to 4, found 5"):
        grad_cam(encoder, score, x, (4, 5))
    with pytest.raises(WheeltapperError, match="Grad-CAM: expected a scalar score"):
        grad_cam(encoder, lambda s: encoder(s).summary, x)
    with pytest.raises(WheeltapperError, match="with gradients through the encoder"):
        grad_cam(encoder, lambda s: encoder(s).summary.detach().sum(), x)
    with pytest.raises(WheeltapperError, match="with gradients through the encoder"):
        grad_cam(encoder, lambda s: torch.ones(()), x)
    with pytest.raises(WheeltapperError, match="expected finite values, found 8192"):
        grad_cam(encoder, score, torch.full_like(x, float("nan")))
    assert not any(module._forward_hooks for module in encoder.modules())
