"""An index of many vectors: which are nearest to a text, without the product with all of them.

Vectors lie in lists by their nearest centre, and the lists of the centres nearest to a query are looked through (Jégou,
Douze and Schmid 2011, "Product quantization for nearest neighbor search", IVF), a byte a component. What an index finds
is a proposal: scores are computed from the vectors themselves.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Ints, Scores

#: Lists, times the root of the number of vectors; vectors that their centres are learned from, for each; turns of that.
LISTS = 4

LEARNED_FROM = 40

TURNS = 8

#: Lists that a query looks through.
PROBES = 16


class VectorIndex:
    """Unit vectors by row, which may be added to. Not for more than one thread at a time."""

    def __init__(self, file: Path) -> None:
        faiss = _faiss()
        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(str(file))
        self._index.nprobe = PROBES

    def add(self, rows: Ints, vectors: Scores) -> None:
        """Put vectors float32 [n, d] in under their rows, int64 [n]; an older vector of a row stays, too."""
        self._index.add_with_ids(_unit(vectors), rows)

    def nearest(self, queries: Scores, count: int) -> Ints:
        """int64 [Q, count]: rows near to each query, float32 [Q, d], of any length; -1 where there are no more."""
        rows: Ints = self._index.search(_unit(queries), count)[1]
        return rows


def build_index(vectors: npt.NDArray[np.float32], file: Path) -> None:
    """Write the index of unit vectors, float32 [n, d]."""
    faiss = _faiss()
    count, dimensions = vectors.shape
    lists = min(count, round(LISTS * count**0.5))
    centres = faiss.IndexFlatIP(dimensions)
    code = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(centres, dimensions, lists, code, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = TURNS
    index.cp.min_points_per_centroid = 1  # or it warns
    sample = np.random.default_rng(0).permutation(count)[: LEARNED_FROM * lists]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    index.add(np.ascontiguousarray(vectors))
    faiss.write_index(index, str(file))


def _unit(vectors: Scores) -> Scores:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.float32(1e-12)), dtype=np.float32, order="C")


def _faiss() -> Any:
    import faiss  # here: it takes 0.2 s, which small catalogues do not need

    return faiss
