"""Shoppers who are to be forgotten: a Parquet file beside the bundles, a row for each id that they went by.

    <bundles>/forgotten.parquet    replaced whole by `shopstream privacy forget`, read by rankers, exports and backfills

Up to `at` nothing is known of them: rankers leave out what a bundle has learned until then, and exports, backfills and
the lake the events. What a shopper does later is a new shopper's.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from udfs.core.arrays import Bools, Ints
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash

FILE = "forgotten.parquet"

SCHEMA = pa.schema([("shopper", pa.int64()), ("at", pa.int64()), ("swept", pa.int64())])

NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class ErasureList:
    """n ids. Times are epoch ms."""

    shopper: Ints  #: int64 [n], by udfs.candidates.shopper_hash, sorted
    at: Ints  #: int64 [n], up to when they are forgotten
    swept: Ints  #: int64 [n], when the lake was last looked through for them; 0: not yet

    @classmethod
    def read(cls, bundles: Path) -> "ErasureList":
        """What the file beside the bundles has, nobody where there is none; ShopstreamError for a broken one."""
        try:
            table = pq.read_table(bundles / FILE, schema=SCHEMA)
        except FileNotFoundError:
            table = SCHEMA.empty_table()
        except (pa.ArrowException, OSError) as error:
            raise ShopstreamError(f"{bundles / FILE} cannot be read: {error}") from None
        return cls(*(table[name].to_numpy() for name in SCHEMA.names))

    def write(self, bundles: Path) -> None:
        """Replace the file: a reader finds the old one or this."""
        bundles.mkdir(parents=True, exist_ok=True)
        draft = bundles / f".{FILE}.{os.getpid()}"
        pq.write_table(pa.table([self.shopper, self.at, self.swept], schema=SCHEMA), draft)
        draft.replace(bundles / FILE)

    def with_more(self, shoppers: Iterable[int], at_ms: int) -> "ErasureList":
        """The same with these hashes, forgotten up to at_ms, and not yet swept."""
        more = np.unique(np.fromiter(shoppers, np.int64))
        stay = ~np.isin(self.shopper, more)
        shopper = np.concatenate([self.shopper[stay], more])
        at = np.concatenate([self.at[stay], np.full(len(more), at_ms)])
        swept = np.concatenate([self.swept[stay], np.zeros(len(more), np.int64)])
        order = np.argsort(shopper)
        return ErasureList(shopper[order], at[order], swept[order])

    def part(self, which: Bools) -> "ErasureList":
        """Those of them; bool [n]."""
        return ErasureList(self.shopper[which], self.at[which], self.swept[which])

    def at_of(self, shoppers: Ints) -> Ints:
        """int64 [m]: up to when each of these hashes is forgotten, NEVER for others."""
        if not len(self.shopper):
            return np.full(len(shoppers), NEVER)
        place = np.minimum(np.searchsorted(self.shopper, shoppers), len(self.shopper) - 1)
        return np.asarray(np.where(self.shopper[place] == shoppers, self.at[place], NEVER))


def hashes(user_id: pa.Array) -> Ints:
    """int64 [n]: the hash of each id, every distinct one computed once."""
    coded = pc.fill_null(user_id, "").dictionary_encode()
    distinct = np.fromiter(map(shopper_hash, coded.dictionary.to_pylist()), np.int64, len(coded.dictionary))
    return np.asarray(distinct[coded.indices.to_numpy()])


class ErasureFile:
    """The file beside the bundles, read when it has changed."""

    def __init__(self, bundles: Path) -> None:
        self._bundles = bundles
        self._stamp: tuple[int, int] | None = None

    def new(self) -> ErasureList | None:
        """What it has, None if that is what the last call gave; there being no file is as an empty one at first."""
        try:
            found = (self._bundles / FILE).stat()
        except FileNotFoundError:
            return None
        stamp = found.st_mtime_ns, found.st_ino
        if stamp == self._stamp:
            return None
        forgotten = ErasureList.read(self._bundles)
        self._stamp = stamp
        return forgotten
