"""Candidates with similar titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import CandidateSource, SessionContext, SourceInputs
from udfs.catalog.index import VectorIndex
from udfs.core.arrays import Ints, Scores, position_in_group, top_pairs
from udfs.core.exact import VECTOR_SCALE

#: Per text and session, generate this many candidates.
BY_CONTENT = 25


@dataclass(frozen=True)
class _Texts:
    """The vectors that items are compared with: of each session's latest text, of their centre, of its second item."""

    context: SessionContext
    vectors: Scores  #: float32 [3, S, dimensions], whole numbers
    products: Scores  #: float32 [3, S, items], whole numbers; empty where the catalog has an index


class ContentSimilarity(CandidateSource[_Texts]):
    """Items in stock whose titles are near to what the session is about, by BERT vectors on the ranking's grid.

    In a large catalog, whose bundle has an index, these are the ones that the index finds.
    """

    name = "content"
    default_reason = "a likeness of titles"
    feature_names = ("content_last", "content", "content_second")
    order = 30

    def __init__(self, inputs: SourceInputs) -> None:
        self._items = inputs.items

    def prepare(self, context: SessionContext) -> _Texts:
        position = position_in_group(context.session)
        second = np.zeros_like(context.centre)
        second[context.session[position == 1]] = self._items.vectors[context.item[position == 1]]
        vectors = np.stack((context.last_text, context.centre, second))
        if self._items.index is not None:
            return _Texts(context, vectors, np.empty((0, 0, 0), np.float32))
        flat = vectors.reshape(-1, vectors.shape[-1])  # for one product of two matrices
        products = (flat @ self._items.vectors[: context.items].T).reshape(len(vectors), len(context), context.items)
        return _Texts(context, vectors, products)

    def generate(self, texts: _Texts) -> Ints:
        """Return the items nearest to each session's latest text, and to its centre."""
        known = np.flatnonzero(texts.context.last_text.any(axis=1))
        count = min(BY_CONTENT, texts.context.items)
        if self._items.index is None:
            return self._nearest(texts, known, count)
        return np.concatenate([self._nearest_by_index(self._items.index, texts, text, known, count) for text in (0, 1)])

    def _nearest(self, texts: _Texts, known: Ints, count: int) -> Ints:
        """Return the keys of the `count` items nearest to both texts of each of these sessions, int64 [n]."""
        items = texts.context.items
        score = texts.products[:2, known].reshape(-1, items)  # a row per text and session
        score[:, ~self._items.in_stock[:items]] = 0
        # All that reach the count-th best, ties too: which of them are taken must not depend on the partition.
        least = np.partition(score, items - count, axis=1)[:, items - count, None] if count else score[:, :0]
        row, item = np.nonzero(score >= least)
        row, item = np.divmod(top_pairs(row * items + item, score[row, item], count, items), max(items, 1))
        return np.tile(known, 2)[row] * items + item

    def _nearest_by_index(self, index: VectorIndex, texts: _Texts, text: int, known: Ints, count: int) -> Ints:
        """Return the same for one text by the index, which is asked for more where sold-out items leave too few."""
        items, wanted = texts.context.items, 2 * count
        key = np.empty(0, dtype=np.int64)
        while len(known):
            rows = index.nearest(texts.vectors[text, known], wanted)
            usable = (rows >= 0) & self._items.in_stock[rows]
            key = np.unique((known[:, None] * items + rows)[usable])
            if wanted >= items or (usable.sum(axis=1) >= count).all() or (rows < 0).any():
                break
            wanted = min(4 * wanted, items)
        session, item = np.divmod(key, items)
        return top_pairs(key, self._products(texts, session, item)[:, text], count, items)

    def _products(self, texts: _Texts, session: Ints, item: Ints) -> Scores:
        """Return the products of each pair's item (sorted by session) with the session's texts, float32 [n, 3]."""
        products = np.empty((len(item), len(texts.vectors)), dtype=np.float32)
        bounds = np.searchsorted(session, np.arange(len(texts.context) + 1))
        for number, (first, last) in enumerate(pairwise(bounds.tolist())):
            products[first:last] = self._items.vectors[item[first:last]] @ texts.vectors[:, number].T
        return products

    def features(self, texts: _Texts, pairs: Pairs) -> Sequence[Feature]:
        if self._items.index is None:
            products = texts.products[:, pairs.session, pairs.item]
        else:
            products = self._products(texts, pairs.session, pairs.item).T
        return list(products * np.float32(1 / VECTOR_SCALE**2))
