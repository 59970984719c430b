"""Candidates with similar titles."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from udfs.candidates.source import CandidateSource, Column, Pairs, SessionContext
from udfs.catalog.index import VectorIndex
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Ints, Scores, position_in_group, top_pairs
from udfs.core.exact import VECTOR_SCALE

BY_CONTENT = 25


class ContentSimilarity(CandidateSource):
    """Items in stock whose titles are near to what the session is about, by BERT vectors on the ranking's grid.

    Of a large catalogue, whose bundle has an index, they are those that the index finds.
    """

    columns = ("content_last", "content", "content_second")

    def __init__(self, items: LiveItems) -> None:
        self._live, self._scale = items, np.float32(1 / VECTOR_SCALE**2)

    def load(self, query: SessionContext) -> None:
        self._query = query
        nth = position_in_group(query.session)
        second = np.zeros_like(query.centre)
        second[query.session[nth == 1]] = self._live.vectors[query.item[nth == 1]]
        self._texts = np.stack((query.last_text, query.centre, second))
        if self._live.index is None:
            texts = self._texts.reshape(-1, second.shape[1])  # for one product of two matrices
            self._likeness = (texts @ self._live.vectors[: query.items].T).reshape(3, len(query), query.items)

    def propose(self) -> Ints:
        known = np.flatnonzero(self._query.last_text.any(axis=1))
        index, count = self._live.index, min(BY_CONTENT, self._query.items)
        find = self._nearest if index is None else partial(self._nearest_by_index, index)
        return np.concatenate([find(text, known, count) for text in (0, 1)])

    def _nearest(self, text: int, known: Ints, count: int) -> Ints:
        """Keys of the `count` items nearest to one of the texts of each of these sessions, int64 [n]."""
        items, score = self._query.items, self._likeness[text, known]
        score[:, ~self._live.in_stock[:items]] = 0
        # All that reach the count-th best, ties too: which of them, no partition decides.
        least = np.partition(score, items - count, axis=1)[:, items - count, None] if count else score[:, :0]
        row, item = np.nonzero(score >= least)
        return top_pairs(known[row] * items + item, score[row, item], count, items)

    def _nearest_by_index(self, index: VectorIndex, text: int, known: Ints, count: int) -> Ints:
        """The same from the index, which is asked for more while sold-out items leave too few."""
        items, wanted = self._query.items, 2 * count
        key = np.empty(0, dtype=np.int64)
        while len(known):
            rows = index.nearest(self._texts[text, known], wanted)
            usable = (rows >= 0) & self._live.in_stock[rows]
            key = np.unique((known[:, None] * items + rows)[usable])
            if wanted >= items or (usable.sum(axis=1) >= count).all() or (rows < 0).any():
                break
            wanted = min(4 * wanted, items)
        session, item = np.divmod(key, items)
        return top_pairs(key, self._products(session, item)[:, text], count, items)

    def _products(self, session: Ints, item: Ints) -> Scores:
        """float32 [n, 3]: of each pair (sorted) the item's vector with the session's texts; whole numbers."""
        out = np.empty((len(item), len(self._texts)), dtype=np.float32)
        bounds = np.searchsorted(session, np.arange(len(self._query) + 1))
        for number, (first, last) in enumerate(pairwise(bounds.tolist())):
            out[first:last] = self._live.vectors[item[first:last]] @ self._texts[:, number].T
        return out

    def describe(self, pairs: Pairs) -> Sequence[Column]:
        if self._live.index is None:
            return list(self._likeness[:, pairs.session, pairs.item] * self._scale)
        return list((self._products(pairs.session, pairs.item) * self._scale).T)
