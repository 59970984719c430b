"""A bundle's items as they are now: with what changed in the catalogue since the bundle was made."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.bundles.bundle import Bundle
from udfs.catalog.attributes import Catalog
from udfs.catalog.index import VectorIndex
from udfs.core.arrays import Bools, Floats, Ints, Scores, factorize
from udfs.core.errors import ShopstreamError
from udfs.core.exact import to_grid

#: Rows in reserve for new items: at least so many, and this share of those there are.
HEADROOM = 1024

HEADROOM_SHARE = 0.25

#: What items have in common.
KINDS = ("category", "brand")

#: Vectors that are put on the grid at a time, which takes several times their memory.
GRID_ROWS = 65_536


class LiveItems:
    """Items as columns, a row an item, in arrays that change in place and have room for more.

    ids, titles: list of str, an entry a row in use; row_of: item id to row. The others have `room` rows, unused last:
    in_stock bool: may be recommended; popularity float64: past interactions; price float64, NaN where unknown;
    kinds int64 [2, room]: the number of each item's category and brand, -1 for none;
    vectors float32 [room, dimensions], on the ranking's grid. index: of the vectors, if the bundle has one.
    """

    def __init__(self, bundle: Bundle, *, indexed: bool = True) -> None:
        """indexed: open the index; whoever looks for nothing has no use for it."""
        items = bundle.items()
        table, vectors = items.table, bundle.item_vectors()
        if len(vectors) != len(table):
            raise ShopstreamError(f"bundle {bundle.id} has {len(vectors)} vectors for {len(table)} items")
        self.space = bundle.space
        self.ids, self.titles, self.row_of = list(items.ids), list(items.titles), dict(items.row_of)
        self.in_stock: Bools = items.in_stock.copy()
        self.popularity: Floats = items.popularity.copy()
        self.price: Floats = table["price"].cast(pa.float64()).to_numpy().astype(np.float64)
        self.vectors: Scores = np.empty_like(vectors)
        for first in range(0, len(vectors), GRID_ROWS):
            self.vectors[first : first + GRID_ROWS] = to_grid(vectors[first : first + GRID_ROWS])
        self.index = VectorIndex(bundle.index) if indexed and bundle.index else None
        self._codes: dict[str, dict[str, int]] = {}
        groups = []
        for name in KINDS:
            codes, different = factorize(table[name].to_numpy())
            groups.append(codes.astype(np.int64))
            self._codes[name] = {value: code for code, value in enumerate(different)}
        self.kinds: Ints = np.stack(groups)
        self._reserve()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def room(self) -> int:
        """Rows of the arrays."""
        return len(self.in_stock)

    @property
    def category(self) -> Ints:
        """int64 [room]: each item's, by number."""
        return np.asarray(self.kinds[0])

    @property
    def brand(self) -> Ints:
        """int64 [room]: each item's, by number."""
        return np.asarray(self.kinds[1])

    @property
    def most_of_a_kind(self) -> int:
        """How many categories there are, or brands, if these are more."""
        return max(map(len, self._codes.values()))

    def apply(self, changes: pa.Table, encode: Callable[[Sequence[str]], Scores]) -> bool:
        """Take up changes; whether the arrays had to be replaced by larger ones.

        changes: columns of udfs.segments.SCHEMA, an item once.
        encode: titles to float32 [texts, dimensions], for those that have a vector of another encoder.
        """
        rows = np.array([self.row_of.get(item, -1) for item in changes["item_id"].to_pylist()], dtype=np.int64)
        there = np.array(changes["title"].is_valid(), dtype=bool)
        self.in_stock[rows[~there & (rows >= 0)]] = False
        fresh = there & (rows < 0)
        larger = len(self) + int(fresh.sum()) > self.room
        rows[fresh] = np.arange(len(self), len(self) + fresh.sum())
        self.ids += changes["item_id"].filter(pa.array(fresh)).to_pylist()
        self.titles += [""] * int(fresh.sum())
        self.row_of.update((self.ids[row], row) for row in rows[fresh].tolist())
        if larger:
            self._reserve()
        changes, rows = changes.filter(pa.array(there)), rows[there]
        for row, title in zip(rows.tolist(), changes["title"].to_pylist(), strict=True):
            self.titles[row] = title
        self.in_stock[rows] = changes["in_stock"].to_numpy()
        self.price[rows] = changes["price"].to_numpy()
        for numbers, name in zip(self.kinds, KINDS, strict=True):
            numbers[rows] = self._coded(name, changes)
        vectors = to_grid(self._vectors_of(changes, encode))
        self.vectors[rows] = vectors
        if self.index is not None:
            self.index.add(rows, vectors)
        self.catalogue.squares[rows] = np.einsum("id,id->i", vectors, vectors, dtype=np.float64)
        return larger

    def _reserve(self) -> None:
        """Arrays with room for the ids there are and more."""
        used = len(self.ids)
        room = used + max(HEADROOM, int(used * HEADROOM_SHARE))

        def longer(column: npt.NDArray[Any], filler: object) -> npt.NDArray[Any]:
            more = np.full((room - len(column), *column.shape[1:]), filler, column.dtype)
            return np.concatenate((column, more))

        self.in_stock = longer(self.in_stock, False)
        self.popularity = longer(self.popularity, 0)
        self.price = longer(self.price, np.nan)
        self.kinds = np.stack([longer(numbers, -1) for numbers in self.kinds])
        self.vectors = longer(self.vectors, 0)
        self.catalogue = Catalog(self.row_of, self.category, self.brand, self.vectors)

    def _coded(self, name: str, changes: pa.Table) -> Ints:
        codes = self._codes[name]
        return np.array(
            [-1 if value is None else codes.setdefault(value, len(codes)) for value in changes[name].to_pylist()],
            dtype=np.int64,
        )

    def _vectors_of(self, changes: pa.Table, encode: Callable[[Sequence[str]], Scores]) -> Scores:
        out = np.zeros((len(changes), self.vectors.shape[1]), dtype=np.float32)
        same = np.array([space == self.space for space in changes["encoder"].to_pylist()], dtype=bool)
        if same.any():
            raw = b"".join(changes["vector"].filter(pa.array(same)).to_pylist())
            out[same] = np.frombuffer(raw, "<f4").reshape(-1, out.shape[1])
        if not same.all():
            out[~same] = encode(changes["title"].filter(pa.array(~same)).to_pylist())
        return out
