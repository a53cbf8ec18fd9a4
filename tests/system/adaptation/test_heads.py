"""Heads against plain NumPy loops over the published formulas, and what they can learn."""

import numpy as np
import pytest
import torch

from system.adaptation.heads import AdaCos, AdaProj, ArcFace, build_head
from system.config import HeadConfig


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


KINDS = ("arcface", "adacos", "adaproj")


def built(kind: str, dim: int = 6, classes: int = 3, **settings):
    torch.manual_seed(0)
    return build_head(HeadConfig(**({"kind": kind, "subclusters": 2} | settings)), dim, classes)


def embeddings(clips: int = 12, dim: int = 6) -> torch.Tensor:
    return 3 * torch.randn(clips, dim, generator=torch.Generator().manual_seed(1))


def arrays(module, embedding: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (B, dim) and centres (classes, subclusters, dim) in double precision."""
    centres = module.weight.detach().double().numpy().reshape(module.classes, module.subclusters, -1)
    return embedding.double().numpy(), centres


def angle(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)))


def projection(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The point of the centres' span nearest to x, by least squares."""
    return centres.T @ np.linalg.lstsq(centres.T, x, rcond=None)[0]


def plain_angles(kind: str, x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(classes, centres) angles; adaproj: (classes, 1) to each class's sub-space."""
    if kind == "adaproj":
        return np.array([[angle(x, projection(x, own))] for own in centres])
    return np.array([[angle(x, centre) for centre in own] for own in centres])


def plain_probabilities(kind: str, x: np.ndarray, centres: np.ndarray, scale: float) -> np.ndarray:
    terms = np.exp(scale * np.cos(plain_angles(kind, x, centres)))
    return np.array([terms[c].sum() / terms.sum() for c in range(len(centres))])


@pytest.mark.parametrize("kind", ["adacos", "adaproj"])
@pytest.mark.parametrize("trainable", [True, False])
def test_probabilities_and_losses_of_scaled_heads(kind, trainable):
    module, embedding = built(kind, trainable_centres=trainable), embeddings()
    with torch.no_grad():
        if trainable:
            module.weight.add_(0.3 * torch.randn(module.weight.shape))  # no longer orthogonal
    labels = torch.arange(12) % 3
    scale = np.sqrt(2) * np.log(3 * 2 - 1 if kind == "adacos" else 2)
    rows, centres = arrays(module, embedding)
    expected = np.stack([plain_probabilities(kind, row, centres, scale) for row in rows])
    found = module.logits(embedding, labels).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loss = -np.log(expected[np.arange(12), labels.numpy()])
    np.testing.assert_allclose(module(embedding, labels).detach().numpy(), loss, atol=1e-4)


def test_several_centres_of_arcface_count_by_the_nearest():
    module, embedding, labels = built("arcface", scale=16.0, margin=0.3), embeddings(), torch.arange(12) % 3
    rows, centres = arrays(module, embedding)
    nearest = np.stack([plain_angles("arcface", row, centres).min(1) for row in rows])
    expected = 16.0 * np.cos(nearest)
    for row, label in enumerate(labels.tolist()):
        expected[row, label] = 16.0 * np.cos(nearest[row, label] + 0.3)
    assert (nearest + 0.3 < np.pi).all()
    np.testing.assert_allclose(module.logits(embedding, labels).detach().numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("kind", ["adacos", "adaproj"])
@pytest.mark.parametrize(("classes", "subclusters"), [(3, 1), (4, 2)])
def test_the_adaptive_scale_by_hand(kind, classes, subclusters):
    """log of the mean over clips of sum exp(s cos) over other classes, over cos(min(pi / 4, median angle))."""
    module = built(kind, classes=classes, subclusters=subclusters, adaptive_scale=True)
    embedding, labels = embeddings(9), torch.tensor([0, 1, 2, -1, 0, 1, 2, 0, 1])
    rows, centres = arrays(module, embedding)
    scale = float(module.scale)
    for _ in range(3):
        sums, medians = [], []
        for row, label in zip(rows, labels.tolist(), strict=True):
            if label < 0:
                continue
            angles = plain_angles(kind, row, centres)
            sums.append(sum(np.exp(scale * np.cos(a)) for c in range(classes) if c != label for a in angles[c]))
            medians.append(min(angles[label]))
        scale = np.log(np.mean(sums)) / np.cos(min(np.pi / 4, np.median(medians)))
        module.adapt_scale(embedding, labels, labels, torch.ones(9))
        assert float(module.scale) == pytest.approx(scale, rel=1e-4)


def test_the_adaptive_scale_of_a_mixture():
    module = built("adacos", classes=4, adaptive_scale=True)
    rows, centres = arrays(module, embeddings(2))
    scale, labels, others, share = float(module.scale), [0, 1], [2, 1], [0.7, 0.6]
    sums, angles = [], []
    for row, own, other, part in zip(rows, labels, others, share, strict=True):
        to = plain_angles("adacos", row, centres)
        sums.append(sum(np.exp(scale * np.cos(to[c])).sum() for c in range(4) if c not in (own, other)))
        angles.append(part * to[own].min() + (1 - part) * to[other].min())
    module.adapt_scale(embeddings(2), torch.tensor(labels), torch.tensor(others), torch.tensor(share))
    expected = np.log(np.mean(sums)) / np.cos(min(np.pi / 4, np.mean(angles)))
    assert float(module.scale) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["adacos", "adaproj"])
def test_a_scale_that_has_nothing_to_adapt_to(kind):
    """The scale does not change if it is fixed or there are no classes or only one; it is at least 0.5."""
    for settings, labels in (({"adaptive_scale": False}, [0, 1]), ({}, [-1, -1]), ({"classes": 1}, [0, 0])):
        module = built(kind, **({"adaptive_scale": True} | settings))
        before = float(module.scale)
        module.adapt_scale(embeddings(2), torch.tensor(labels), torch.tensor(labels), torch.ones(2))
        assert float(module.scale) == before >= 0.5
        assert torch.isfinite(module(embeddings(2), torch.tensor(labels))).all()


@pytest.mark.parametrize("kind", ["adacos", "adaproj"])
def test_the_adaptive_scale_settles_on_what_is_learned(kind):
    module = built(kind, dim=8, classes=4, subclusters=1, adaptive_scale=True)
    labels = torch.arange(4)
    for _ in range(200):
        module.adapt_scale(module.weight.detach(), labels, labels, torch.ones(4))
    assert 0.5 <= float(module.scale) < 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_mixture_is_that_of_soft_labels(kind):
    """Without margin, the weighted losses of both labels equal the cross-entropy with weighted labels."""
    module, embedding = built(kind, margin=0.0), embeddings(4)
    first, second, share = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2]), torch.tensor([0.6, 0.9, 1.0, 0.5])
    rows, centres = arrays(module, embedding)
    found = share * module(embedding, first) + (1 - share) * module(embedding, second)
    for i, row in enumerate(rows):
        if kind == "arcface":
            terms = np.exp(16.0 * np.cos(plain_angles(kind, row, centres).min(1)))
            probabilities = terms / terms.sum()
        else:
            probabilities = plain_probabilities(kind, row, centres, float(module.scale))
        soft = np.zeros(3)
        soft[first[i]] += float(share[i])
        soft[second[i]] += 1 - float(share[i])
        assert found[i].item() == pytest.approx(-(soft * np.log(probabilities)).sum(), abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_ignores_sizes_and_clips_without_a_class(kind):
    module = built(kind)
    embedding, labels = embeddings(4).requires_grad_(), torch.tensor([-1, 2, 0, -1])
    losses = module(embedding, labels)
    torch.testing.assert_close(losses, module(embedding * 7.0, labels), rtol=1e-4, atol=1e-4)
    losses.sum().backward()
    assert losses[0] == losses[3] == 0
    assert not embedding.grad[[0, 3]].any()
    assert embedding.grad[[1, 2]].any(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_centres_stay_and_the_embedding_learns(kind):
    module = built(kind, trainable_centres=False)
    layer, data, labels = torch.nn.Linear(5, 6), torch.randn(60, 5), torch.arange(60) % 3
    data = data + 3 * torch.eye(5)[labels]
    optimizer = torch.optim.Adam([p for p in (*layer.parameters(), *module.parameters()) if p.requires_grad], 0.02)
    before, losses = module.weight.clone(), []
    for _ in range(80):
        loss = module(layer(data), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]  # adaproj with three classes: at least half, log(1 + 2 exp(-s))
    assert torch.equal(module.weight, before)
    assert module.weight.grad is None


def learned_accuracy(kind: str, subclusters: int) -> float:
    """Accuracy after training the centres on three classes, each with two opposite modes."""
    module = built(kind, dim=3, subclusters=subclusters, scale=8.0, margin=0.1)
    labels = torch.arange(90) % 3
    sign = torch.where(torch.arange(90) < 45, 1.0, -1.0)
    data = sign[:, None] * torch.eye(3)[labels] + 0.1 * torch.randn(90, 3, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(200):
        loss = module(data, labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    none = torch.zeros(90, dtype=torch.long)
    plain = built(kind, dim=3, subclusters=subclusters, scale=8.0, margin=0.0)
    plain.load_state_dict(module.state_dict())
    return (plain.logits(data, none).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("kind", ["arcface", "adacos"])
def test_two_modes_of_a_class_want_two_centres(kind):
    assert learned_accuracy(kind, 1) < 0.75
    assert learned_accuracy(kind, 4) > 0.95


def test_a_line_holds_two_opposite_modes():
    assert learned_accuracy("adaproj", 1) > 0.95


def test_a_sub_space_must_leave_something_out():
    with pytest.raises(ValueError, match="expected fewer than 6 sub-centres, found 6"):
        AdaProj(6, 2, subclusters=6)


def test_the_heads_of_the_settings():
    for kind, expected in zip(KINDS, (ArcFace, AdaCos, AdaProj), strict=True):
        module = built(kind, classes=4, subclusters=3, trainable_centres=False)
        assert type(module) is expected
        assert (module.weight.shape, module.weight.requires_grad) == ((12, 6), False)
    default = build_head(HeadConfig(), 4, 5)
    assert (type(default), default.scale, default.margin, default.weight.shape) == (ArcFace, 16.0, 0.2, (5, 4))
    assert default.weight.requires_grad
