"""A bundle's items as they are now, with the catalog changes since the bundle was made."""

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

#: Spare rows for new items: at least this many.
HEADROOM = 1024

#: Spare rows as a share of the rows in use, where that is more.
HEADROOM_SHARE = 0.25

#: The attributes that group items, in the order of LiveItems.kinds.
KINDS = ("category", "brand")

#: Vectors rounded to the grid at a time: rounding takes several times their memory.
GRID_ROWS = 65_536


class LiveItems:
    """Items as columns, one row per item, in arrays that change in place and have spare rows for new items.

    ids, titles: lists of str, one entry per row in use; row_of: item id to row. The other arrays have `capacity` rows,
    the unused ones last:
    in_stock bool: may be recommended; popularity float64: past interactions; price float64, NaN where unknown;
    kinds int64 [2, capacity]: the number of each item's category and brand, -1 for none;
    vectors float32 [capacity, dimensions], on the ranking's grid (udfs.core.exact). index: of the vectors, if the
    bundle has one.
    """

    def __init__(self, bundle: Bundle, *, indexed: bool = True) -> None:
        """indexed: open the vector index; skip it for callers that never search."""
        items = bundle.items()
        table, vectors = items.table, bundle.item_vectors()
        if len(vectors) != len(table):
            raise ShopstreamError(f"bundle {bundle.id} has {len(vectors)} vectors for {len(table)} items")
        self.space = bundle.space
        self.ids = list(items.ids)
        self.titles = list(items.titles)
        self.row_of = dict(items.row_of)
        self.in_stock: Bools = items.in_stock.copy()
        self.popularity: Floats = items.popularity.copy()
        self.price: Floats = table["price"].cast(pa.float64()).to_numpy().astype(np.float64)
        self.vectors: Scores = np.empty_like(vectors)
        for first in range(0, len(vectors), GRID_ROWS):
            self.vectors[first : first + GRID_ROWS] = to_grid(vectors[first : first + GRID_ROWS])
        self.index = VectorIndex(bundle.index) if indexed and bundle.index else None
        self._codes: dict[str, dict[str, int]] = {}
        kinds = []
        for name in KINDS:
            codes, values = factorize(table[name].to_numpy())
            kinds.append(codes.astype(np.int64))
            self._codes[name] = {value: code for code, value in enumerate(values)}
        self.kinds: Ints = np.stack(kinds)
        self._grow(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        """Rows of the arrays."""
        return len(self.in_stock)

    @property
    def category(self) -> Ints:
        """int64 [capacity]: the number of each item's category."""
        return np.asarray(self.kinds[0])

    @property
    def brand(self) -> Ints:
        """int64 [capacity]: the number of each item's brand."""
        return np.asarray(self.kinds[1])

    def apply(self, changes: pa.Table, encode: Callable[[Sequence[str]], Scores]) -> bool:
        """Apply changes, all or none; return whether the arrays were replaced by larger ones.

        changes: columns of udfs.bundles.changes.SCHEMA, one row per item.
        encode: titles to float32 [texts, dimensions], for items without a vector of this bundle's space. Its errors
        leave the items as they were.
        """
        listed = np.array(changes["title"].is_valid(), dtype=bool)
        removed = changes.filter(pa.array(~listed))
        changes = changes.filter(pa.array(listed))
        vectors = to_grid(self._vectors_of(changes, encode))

        ids, titles = changes["item_id"].to_pylist(), changes["title"].to_pylist()
        new = [item for item in ids if item not in self.row_of]
        larger = len(self) + len(new) > self.capacity
        if larger:
            self._grow(len(self) + len(new))
        gone = [self.row_of[item] for item in removed["item_id"].to_pylist() if item in self.row_of]
        self.in_stock[gone] = False
        self.row_of.update(zip(new, range(len(self), len(self) + len(new)), strict=True))
        self.ids += new
        self.titles += [""] * len(new)
        rows = np.array([self.row_of[item] for item in ids], dtype=np.int64)
        for row, title in zip(rows.tolist(), titles, strict=True):
            self.titles[row] = title
        self.in_stock[rows] = changes["in_stock"].to_numpy()
        self.price[rows] = changes["price"].to_numpy()
        for codes, name in zip(self.kinds, KINDS, strict=True):
            codes[rows] = self._coded(name, changes)
        self.vectors[rows] = vectors
        if self.index is not None:
            self.index.add(rows, vectors)
        self.catalog.squares[rows] = np.einsum("id,id->i", vectors, vectors, dtype=np.float64)
        return larger

    def _grow(self, items: int) -> None:
        """Replace the arrays by ones with room for this many items and the headroom."""
        capacity = items + max(HEADROOM, int(items * HEADROOM_SHARE))

        def longer(column: npt.NDArray[Any], filler: object) -> npt.NDArray[Any]:
            more = np.full((capacity - len(column), *column.shape[1:]), filler, column.dtype)
            return np.concatenate((column, more))

        self.in_stock = longer(self.in_stock, False)
        self.popularity = longer(self.popularity, 0)
        self.price = longer(self.price, np.nan)
        self.kinds = np.stack([longer(codes, -1) for codes in self.kinds])
        self.vectors = longer(self.vectors, 0)
        self.catalog = Catalog(self.row_of, self.category, self.brand, self.vectors)

    def _coded(self, name: str, changes: pa.Table) -> Ints:
        """Return the number of each item's category or brand, int64 [n]; new ones get the next numbers."""
        codes = self._codes[name]
        return np.array(
            [-1 if value is None else codes.setdefault(value, len(codes)) for value in changes[name].to_pylist()],
            dtype=np.int64,
        )

    def _vectors_of(self, changes: pa.Table, encode: Callable[[Sequence[str]], Scores]) -> Scores:
        """Return the vector of each item, float32 [n, dimensions], encoding titles whose vector is of no use here."""
        out = np.zeros((len(changes), self.vectors.shape[1]), dtype=np.float32)
        size = out.shape[1] * out.itemsize
        given, spaces = changes["vector"].to_pylist(), changes["encoder"].to_pylist()
        usable = np.array(
            [space == self.space and len(vector or b"") == size for space, vector in zip(spaces, given, strict=True)],
            dtype=bool,
        )
        if usable.any():
            raw = b"".join(vector for vector, use in zip(given, usable, strict=True) if use)
            out[usable] = np.frombuffer(raw, "<f4").reshape(-1, out.shape[1])
        if not usable.all():
            out[~usable] = encode(changes["title"].filter(pa.array(~usable)).to_pylist())
        return out
