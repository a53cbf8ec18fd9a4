"""ArcFace against plain NumPy."""

import numpy as np
import pytest
import torch

from system.adaptation.heads import ArcFace


def plain_logits(embedding: np.ndarray, weight: np.ndarray, labels: np.ndarray, scale: float, margin: float):
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    cosine = np.clip(unit(embedding) @ unit(weight).T, -1, 1)
    logits = scale * cosine
    for row, label in enumerate(labels):
        theta = np.arccos(cosine[row, label])
        past = theta + margin > np.pi
        logits[row, label] = scale * (cosine[row, label] - margin * np.sin(margin) if past else np.cos(theta + margin))
    return logits


def head(classes: int = 5, scale: float = 16.0, margin: float = 0.3) -> ArcFace:
    torch.manual_seed(0)
    return ArcFace(4, classes, scale, margin)


def test_logits_and_losses():
    module = head()
    embedding = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)) * 3
    labels = torch.arange(20) % 5
    found = module.logits(embedding, labels).detach().numpy()
    weight = module.weight.detach().double().numpy()
    expected = plain_logits(embedding.double().numpy(), weight, labels.numpy(), 16.0, 0.3)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    loss = np.log(np.exp(expected).sum(1)) - expected[np.arange(20), labels.numpy()]
    np.testing.assert_allclose(module(embedding, labels).detach().numpy(), loss, atol=2e-3)


@pytest.mark.parametrize("degrees", [0, 30, 120, 170, 176, 179, 180])
def test_beyond_pi(degrees):
    module = head(2, 10.0, 0.2)
    angle = np.radians(degrees)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]]))
    embedding = torch.tensor([[np.cos(angle), np.sin(angle), 0, 0]], dtype=torch.float32)
    found = module.logits(embedding, torch.tensor([0]))[0, 0].item()
    expected = plain_logits(embedding.double().numpy(), module.weight.detach().double().numpy(), [0], 10.0, 0.2)[0, 0]
    assert found == pytest.approx(expected, abs=5e-3)


def test_the_logit_falls_over_all_angles():
    module = head(1, 1.0, 0.5)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
    angles = torch.linspace(0.01, torch.pi - 0.01, 500)
    embedding = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], 1)
    logits = module.logits(embedding, torch.zeros(500, dtype=torch.long))[:, 0]
    assert (logits.diff() < 1e-6).all()


def test_the_size_of_an_embedding_does_not_count():
    module = head()
    embedding, labels = torch.randn(6, 4), torch.arange(6) % 5
    torch.testing.assert_close(module(embedding, labels), module(embedding * 7.0, labels), rtol=1e-4, atol=1e-5)


def test_no_class_costs_nothing_and_teaches_nothing():
    module = head()
    embedding = torch.randn(4, 4, requires_grad=True)
    losses = module(embedding, torch.tensor([-1, 2, -1, 0]))
    assert losses[0] == losses[2] == 0
    assert (losses[[1, 3]] > 0).all()
    losses.sum().backward()
    assert not embedding.grad[[0, 2]].any()
    assert embedding.grad[[1, 3]].any()
    torch.testing.assert_close(losses[1], module(embedding[1:2], torch.tensor([2]))[0])


def test_gradients_stay_finite_at_the_poles():
    module = head(2, 16.0, 0.2)
    embedding = torch.cat([module.weight.detach(), -module.weight.detach()]).requires_grad_()
    module(embedding, torch.tensor([0, 1, 0, 1])).sum().backward()
    assert torch.isfinite(embedding.grad).all()
    assert torch.isfinite(module.weight.grad).all()
