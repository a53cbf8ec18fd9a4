"""The official baseline's Mahalanobis score and decision rule against independent loops in NumPy and SciPy."""

import numpy as np
import pytest
import scipy.stats
import torch

from system.errors import WheeltapperError
from system.references import autoencoder as module
from system.references.autoencoder import Autoencoder, AutoencoderSettings
from system.references.selective_mahalanobis import SelectiveMahalanobis, covariances
from system.scoring.calibrate import gamma_threshold

BANDS, WIDTH = 6, 3
CONFIG = AutoencoderSettings(frames=WIDTH, hidden=[10], bottleneck=4, epochs=4, batch=16, validation=0.2, seed=2)


def clips(count: int = 8) -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(0)
    tones = [(-30 + 4 * rng.standard_normal((14 + i, BANDS)) + 3 * (i > 5)).astype(np.float32) for i in range(count)]
    return tones, ["target" if i > 5 else "source" for i in range(count)]


def numpy_forward(model: Autoencoder, x: np.ndarray) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in model.network.state_dict().items()}
    for i in range(0, 9, 3):
        x = x @ weights[f"{i}.weight"].T + weights[f"{i}.bias"]
        x = (x - weights[f"{i + 1}.running_mean"]) / np.sqrt(weights[f"{i + 1}.running_var"] + 1e-3)
        x = np.maximum(x * weights[f"{i + 1}.weight"] + weights[f"{i + 1}.bias"], 0.0)
    return x @ weights["9.weight"].T + weights["9.bias"]


def numpy_vectors(clip: np.ndarray) -> np.ndarray:
    return np.array([clip[t : t + WIDTH].reshape(-1) for t in range(len(clip) - WIDTH + 1)], np.float64)


@pytest.fixture(scope="module")
def fitted() -> tuple[Autoencoder, list[np.ndarray], list[np.ndarray]]:
    """A trained model and the batches of vectors over which its statistics went: training ones, held-out ones."""
    seen: list[np.ndarray] = []
    own = module._Vectors.__getitem__

    def spy(self, chosen):
        found = own(self, chosen)
        seen.append(found.double().numpy())
        return found

    patch = pytest.MonkeyPatch()
    patch.setattr(module._Vectors, "__getitem__", spy)
    tones, domains = clips()
    model = Autoencoder(CONFIG).fit(tones, domains=domains)
    patch.undo()
    count = sum(len(clip) - WIDTH + 1 for clip in tones)
    held_out = int(np.ceil(0.2 * count))
    batches = -(-(count - held_out) // 16)
    checks = -(-held_out // 16)
    tail = seen[-(2 * batches + checks) :]
    return model, tail[:batches], tail[batches:]


def domain_of(vector: np.ndarray) -> str:
    """Of the fixture's clips, by content: which clip has these frames."""
    tones, domains = clips()
    for clip, domain in zip(tones, domains, strict=True):
        if any(np.array_equal(vector, row) for row in numpy_vectors(clip)):
            return domain
    raise AssertionError("a vector of no clip")


def test_covariances_and_scores_equal_loops_over_batches_and_rows(fitted):
    model, batches, _ = fitted
    expected = []
    for domain in ("source", "target"):
        scatter, vectors = np.zeros((BANDS, BANDS)), 0
        for batch in batches:
            own = np.array([vector for vector in batch if domain_of(vector) == domain])
            if not len(own):
                continue
            rows = (own - numpy_forward(model, own)).reshape(-1, BANDS)
            mean = rows.mean(axis=0)
            for row in rows:
                scatter += np.outer(row - mean, row - mean)
            vectors += len(own)
        expected.append(scatter / (vectors - 1))
    np.testing.assert_allclose(model.selective.covariances, expected, rtol=1e-4, atol=1e-4)

    rng = np.random.default_rng(9)
    clip = (-30 + 4 * rng.standard_normal((20, BANDS))).astype(np.float32)
    vectors = numpy_vectors(clip)
    residuals = (numpy_forward(model, vectors) - vectors).reshape(-1, BANDS)
    both = []
    for covariance in expected:
        precision, total = np.linalg.inv(covariance), 0.0
        for u in residuals:  # the mean over all pairs of rows, as the official program sums it
            for v in residuals:
                total += u @ precision @ v
        both.append(total / len(residuals) ** 2)
    np.testing.assert_allclose(model.distances(clip), both, rtol=1e-3)
    np.testing.assert_allclose(model.residual(clip), residuals.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert model.score(clip) == pytest.approx(np.mean(residuals**2), rel=1e-4)


def test_batch_statistics_of_the_official_threshold(fitted):
    model, batches, later = fitted
    assert len(model.batch_distances) == len(later)
    for found, batch in zip(model.batch_distances, later, strict=True):
        mean = (numpy_forward(model, batch) - batch).reshape(-1, BANDS).mean(axis=0)
        expected = min(mean @ np.linalg.solve(s, mean) for s in model.selective.covariances.numpy())
        assert found == pytest.approx(expected, rel=2e-3)
    # The held-out batches, in order, close both lists; the network is the finished one for them.
    held_out = later[len(batches) :]
    errors = [np.mean((numpy_forward(model, batch) - batch) ** 2) for batch in held_out]
    np.testing.assert_allclose(model.batch_losses[-len(held_out) :], errors, rtol=1e-4)
    assert len(model.batch_losses) == len(batches) + len(held_out)


def test_gamma_threshold_is_scipys_quantile():
    losses = np.random.default_rng(3).gamma(4.0, 0.5, 400) + 7.0
    shape, place, scale = scipy.stats.gamma.fit(losses)
    wanted = scipy.stats.gamma(shape, loc=place, scale=scale).ppf(0.9)
    assert gamma_threshold(losses, 0.1) == pytest.approx(wanted)
    assert np.mean(losses > gamma_threshold(losses, 0.1)) == pytest.approx(0.1, abs=0.03)
    with pytest.raises(WheeltapperError, match="at least 2 finite"):
        gamma_threshold(np.array([1.0, np.nan]), 0.1)


def test_no_target_clips_leave_the_sources_covariance_for_both():
    residuals = torch.randn(30, 2 * BANDS, generator=torch.Generator().manual_seed(0))
    found = covariances([(residuals, torch.zeros(30, dtype=torch.bool))], BANDS)
    assert torch.equal(found[0], found[1])
    rows = residuals.view(-1, BANDS).double().numpy()
    np.testing.assert_allclose(found[0], np.cov(rows.T) * (len(rows) - 1) / 29, rtol=1e-6)


def test_a_singular_covariance_gives_finite_distances():
    flat = torch.zeros(2, BANDS, BANDS, dtype=torch.float64)
    flat[0, 0, 0] = 4.0  # all other bands never moved
    model = SelectiveMahalanobis(flat)
    found = model.distances(torch.tensor([[2.0] + [0.0] * (BANDS - 1), [0.0] * (BANDS - 1) + [1.0]]))
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(1.0, rel=1e-6)
    assert found[1, 0] > 1e6


def test_mahalanobis_needs_domains():
    model = Autoencoder(CONFIG).fit(clips()[0])
    with pytest.raises(WheeltapperError, match="expected a fit with domains"):
        model.distances(clips()[0][0])


def test_saved_and_loaded_it_scores_the_same_and_damage_is_named(fitted, tmp_path):
    model, _, _ = fitted
    path = tmp_path / "mill.safetensors"
    model.save(path)
    again = Autoencoder.load(path, CONFIG)
    clip = clips()[0][3]
    assert again.score(clip) == model.score(clip)
    np.testing.assert_array_equal(again.distances(clip), model.distances(clip))
    np.testing.assert_array_equal(again.batch_losses, model.batch_losses)
    with pytest.raises(WheeltapperError, match=r"mill\.safetensors: does not fit"):
        Autoencoder.load(path, AutoencoderSettings(frames=WIDTH, hidden=[11], bottleneck=4))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WheeltapperError, match=r"mill\.safetensors: damaged"):
        Autoencoder.load(path, CONFIG)
