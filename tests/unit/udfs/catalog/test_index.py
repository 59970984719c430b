from pathlib import Path

import numpy as np

from udfs.bundles.bundle import INDEX
from udfs.catalog.index import VectorIndex, build_index


def test_index_finds_the_nearest(tmp_path: Path):
    rng = np.random.default_rng(7)
    vectors = np.repeat(rng.normal(size=(200, 32)), 20, axis=0) + 0.3 * rng.normal(size=(4000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    build_index(vectors, tmp_path / INDEX)
    index = VectorIndex(tmp_path / INDEX)
    queries = vectors[::40] * 3
    found = index.nearest(queries, 20)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert np.mean([len(np.intersect1d(*rows)) for rows in zip(found, exact, strict=True)]) > 9.8
    fresh = -vectors[:40:20]  # unlike all others
    index.add(np.array([9_000, 9_001]), fresh)
    assert index.nearest(fresh, 1)[:, 0].tolist() == [9_000, 9_001]
    assert (index.nearest(queries, 6000) == -1).any()  # only what it searched
