import numpy as np

from udfs.core.exact import VECTOR_SCALE, to_grid

DIMENSIONS = 384


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, DIMENSIONS))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_grid_products_are_exact_in_float32():
    rng = np.random.default_rng(3)
    worst = np.zeros((2, DIMENSIONS))
    worst[:, 0] = 1.0  # all of the norm in one component
    grid = to_grid(np.vstack([unit(rng, 300), np.full((1, DIMENSIONS), DIMENSIONS**-0.5), worst]))
    exact = grid.astype(np.int64) @ grid.astype(np.int64).T
    assert np.array_equal((grid @ grid.T).astype(np.int64), exact)
    assert exact.max() <= 2**24
    cosine = grid.astype(np.float64) @ grid.T.astype(np.float64) / VECTOR_SCALE**2
    true = np.vstack([unit(np.random.default_rng(3), 300)])
    assert np.abs(cosine[:300, :300] - true @ true.T).max() < 1e-3
