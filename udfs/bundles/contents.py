"""Tables and sparse matrices of a bundle in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Items:
    """The catalogue as columns, a row per item, in the order of the item vectors."""

    table: pa.Table

    @cached_property
    def ids(self) -> list[str]:
        """Item ids, in row order."""
        return self.table["item_id"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def titles(self) -> list[str]:
        """Titles, in row order."""
        return self.table["title"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id to row."""
        return {item_id: row for row, item_id in enumerate(self.ids)}

    @cached_property
    def in_stock(self) -> npt.NDArray[np.bool_]:
        """bool [items]: may be recommended."""
        return np.asarray(self.table["in_stock"].to_numpy(zero_copy_only=False), dtype=bool)

    @cached_property
    def popularity(self) -> npt.NDArray[np.float64]:
        """float64 [items]: past interactions, counted."""
        return np.asarray(self.table["popularity"].to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class CoVisits:
    """Sparse rows: of each item, the items seen in the same sessions, with a weight in (0, 1].

    offsets int64 [items + 1], columns int32 [entries], weights float32 [entries].
    """

    offsets: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def with_rows(self, rows: int) -> "CoVisits":
        """The same with so many rows; those that were not there are empty."""
        missing = rows + 1 - len(self.offsets)
        return CoVisits(np.pad(self.offsets, (0, missing), mode="edge"), self.columns, self.weights)


@dataclass(frozen=True)
class PastSessions:
    """Past sessions of items in the catalogue.

    offsets int64 [S + 1]; item int32 [N], rows of the catalogue in the order they were met; end int64 [S], epoch ms;
    shopper int32 [S], place in shoppers; shoppers int64 [U], sorted, as udfs.candidates.shopper_hash gives them.
    """

    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    end: npt.NDArray[np.int64]
    shopper: npt.NDArray[np.int32]
    shoppers: npt.NDArray[np.int64]

    def recent(self, items: int) -> npt.NDArray[np.float64]:
        """float64 [items]: past interactions, each counting by its age: 1/e at a twentieth of the time there is.

        The earliest and the latest thousandth of the sessions do not say what time there is: clocks may be wrong.
        """
        if not len(self.end):
            return np.zeros(items)
        first, last = np.quantile(self.end, [0.001, 0.999], method="nearest").tolist()
        age = np.maximum(last - self.end, 0) / max(last - first, 1)
        weight = np.repeat(np.exp(-20 * age), np.diff(self.offsets))
        return np.asarray(np.bincount(self.item, weight, minlength=items), dtype=np.float64)
