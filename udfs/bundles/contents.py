"""The tables and sparse matrices of a bundle in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Items:
    """The items as columns, one row per item, in the order of the item vectors."""

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
        """bool [items]: whether the item may be recommended."""
        return np.asarray(self.table["in_stock"].to_numpy(zero_copy_only=False), dtype=bool)

    @cached_property
    def popularity(self) -> npt.NDArray[np.float64]:
        """float64 [items]: number of past interactions."""
        return np.asarray(self.table["popularity"].to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class CoVisits:
    """Sparse rows: for each item, the items that occur with it in sessions, with a weight in (0, 1]."""

    offsets: npt.NDArray[np.int64]  #: int64 [items + 1]
    columns: npt.NDArray[np.int32]  #: int32 [entries], rows of items
    weights: npt.NDArray[np.float32]  #: float32 [entries]

    def with_rows(self, rows: int) -> "CoVisits":
        """Return the matrix with this many rows; added rows are empty."""
        missing = rows + 1 - len(self.offsets)
        return CoVisits(np.pad(self.offsets, (0, missing), mode="edge"), self.columns, self.weights)


@dataclass(frozen=True)
class PastSessions:
    """S past sessions with N interactions by U users, with items of the catalog only."""

    offsets: npt.NDArray[np.int64]  #: int64 [S + 1], where each session's interactions begin
    item: npt.NDArray[np.int32]  #: int32 [N], rows of items, in the order of the interactions
    end: npt.NDArray[np.int64]  #: int64 [S], epoch ms
    shopper: npt.NDArray[np.int32]  #: int32 [S], index in shoppers
    shoppers: npt.NDArray[np.int64]  #: int64 [U], udfs.core.hashing.shopper_hash of each user, sorted

    def recent(self, items: int) -> npt.NDArray[np.float64]:
        """Count past interactions by item, float64 [items], weighted by age: 1/e per twentieth of the time span.

        The time span leaves out the earliest and the latest thousandth of the sessions, as clocks may be wrong.
        """
        if not len(self.end):
            return np.zeros(items)
        first, last = np.quantile(self.end, [0.001, 0.999], method="nearest").tolist()
        age = np.maximum(last - self.end, 0) / max(last - first, 1)
        weight = np.repeat(np.exp(-20 * age), np.diff(self.offsets))
        return np.asarray(np.bincount(self.item, weight, minlength=items), dtype=np.float64)
