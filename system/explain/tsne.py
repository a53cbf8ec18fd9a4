"""Maps of embeddings by t-SNE (van der Maaten and Hinton 2008)."""

import numpy as np

from system.errors import WheeltapperError

PERPLEXITY = 30.0  # the usual one; fewer clips bound it
FEWEST = 4  # clips of a map
LEAST_SPREAD = 1e-9  # of the largest number; less is rounding


def tsne(vectors: np.ndarray, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Places of embeddings on a map on which neighbours stay neighbours.

    The start is the first two principal components, which are the same in every run; at most a third of the other clips
    count as a clip's neighbours. One thread, because the sums of several differ from run to run.

    Args:
        vectors: (N, D), N of 4 or more.
        seed: of the components' computation.
        perplexity: neighbours that a clip has, about.

    Returns:
        float64 (N, 2), centred; all zeros where all vectors are the same.

    Raises WheeltapperError for too few or misshapen vectors, or values that are not finite.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) < FEWEST or vectors.shape[1] < 2:
        raise WheeltapperError(f"t-SNE: expected {FEWEST} embeddings (N, D) or more, found shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise WheeltapperError("t-SNE: expected finite embeddings, found NaN or infinity")
    # Scaled, for single precision is all that scikit-learn computes in; without a spread it would crash the program.
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
