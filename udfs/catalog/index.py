"""A vector index: finds the vectors nearest to a text without multiplying it with all of them.

Vectors are stored in lists by their nearest centre, one byte per component. A search scans the lists of the centres
nearest to the query (IVF: Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search"). The index
only proposes: scores are computed from the vectors themselves.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Ints, Scores

#: Number of lists, as a multiple of the square root of the number of vectors.
LISTS = 4

#: Vectors per list from which the centres are learned.
LEARNED_FROM = 40

#: Iterations of k-means, which learns the centres.
ITERATIONS = 8

#: Lists that a search scans.
PROBES = 16


class VectorIndex:
    """Unit vectors by row, to which more can be added. Not for concurrent use."""

    def __init__(self, file: Path) -> None:
        faiss = _faiss()
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(str(file))
        self._index.nprobe = PROBES

    def add(self, rows: Ints, vectors: Scores) -> None:
        """Add vectors, float32 [n, d], under their rows, int64 [n]. An older vector of a row stays as well."""
        self._index.add_with_ids(_unit(vectors), rows)

    def nearest(self, queries: Scores, count: int) -> Ints:
        """Find rows near each query, float32 [Q, d] of any norm: int64 [Q, count], -1 where there are no more."""
        rows: Ints = self._index.search(_unit(queries), count)[1]
        return rows


def build_index(vectors: npt.NDArray[np.float32], file: Path) -> None:
    """Build the index of unit vectors, float32 [n, d], and write it to a file."""
    faiss = _faiss()
    count, dimensions = vectors.shape
    lists = min(count, round(LISTS * count**0.5))
    centres = faiss.IndexFlatIP(dimensions)
    code = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(centres, dimensions, lists, code, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = ITERATIONS
    index.cp.min_points_per_centroid = 1  # fewer points per centre than FAISS likes; it would warn
    sample = np.random.default_rng(0).permutation(count)[: LEARNED_FROM * lists]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    index.add(np.ascontiguousarray(vectors))
    faiss.write_index(index, str(file))


def _unit(vectors: Scores) -> Scores:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.float32(1e-12)), dtype=np.float32, order="C")


def _faiss() -> Any:
    import faiss  # here: importing it takes 0.2 s, and small catalogs do without

    return faiss
