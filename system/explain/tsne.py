"""Maps of embeddings by t-SNE (van der Maaten and Hinton 2008)."""

from collections.abc import Iterable

import numpy as np

from system.errors import WheeltapperError
from system.machine import threads
from system.parallel import map_in_order

PERPLEXITY = 30.0  # default; limited by the number of clips
FEWEST = 4  # minimum number of clips of a map
LEAST_SPREAD = 1e-9  # relative to the largest value; less is rounding


def tsne_each(groups: Iterable[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Maps several groups of embeddings by ``tsne``, at once as far as there are cores.

    Args:
        groups: embeddings (N, D) of each.
        seed: of the principal components.

    Returns:
        float64 (N, 2) of each.

    Raises:
        WheeltapperError: see ``tsne``.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # here already: each call would restore the number that it found, whoever set it
        return list(map_in_order(lambda vectors: tsne(vectors, seed), groups, threads()))


def tsne(vectors: np.ndarray, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Maps embeddings to two dimensions by t-SNE.

    It is initialised with the first two principal components, so the result is reproducible. The perplexity is limited
    to a third of the other clips. It runs in one thread, because sums of several threads differ from run to run.

    Args:
        vectors: (N, D), N of 4 or more.
        seed: of the principal components.
        perplexity: approximate number of neighbours of a clip.

    Returns:
        float64 (N, 2), centred; all zeros if all vectors are equal.

    Raises:
        WheeltapperError: too few vectors, a wrong shape, or values that are not finite.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) < FEWEST or vectors.shape[1] < 2:
        raise WheeltapperError(f"t-SNE: expected {FEWEST} embeddings (N, D) or more, found shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise WheeltapperError("t-SNE: expected finite embeddings, found NaN or infinity")
    # Scaled, because scikit-learn computes in single precision; without a spread it would crash.
    scale = np.abs(vectors).max()
    vectors = vectors / scale if scale > 0 else vectors
    vectors = vectors - vectors.mean(0)
    spread = vectors.std()
    if spread <= LEAST_SPREAD:
        return np.zeros((len(vectors), 2))
    vectors /= spread
    bounded = min(perplexity, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(2, perplexity=bounded, init="pca", random_state=seed).fit_transform(vectors).astype(np.float64)
