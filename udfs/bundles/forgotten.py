"""Users to be erased: a Parquet file next to the bundles, one row per id that a user has gone by.

    <bundles>/forgotten.parquet    replaced whole by `shopstream privacy forget`, read by rankers, exports and backfills

Nothing is known of these users up to `at`: rankers leave out what a bundle has learned from them until then; exports,
backfills and the lake leave out their events. What a user does later belongs to a new user.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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

#: What `at_of` gives for a user who was not erased: earlier than any time.
NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class ErasureList:
    """The n ids to be erased. Times are epoch ms."""

    shopper: Ints  #: int64 [n], udfs.core.hashing.shopper_hash of each id, sorted
    at: Ints  #: int64 [n], what happened up to this time is erased
    swept_at: Ints  #: int64 [n], when the lake was last searched for the id; 0: not yet

    @classmethod
    def read(cls, bundles: Path) -> "ErasureList":
        """Read the file next to the bundles; without one the list is empty. Raises ShopstreamError if it is broken."""
        try:
            table = pq.read_table(bundles / FILE, schema=SCHEMA)
        except FileNotFoundError:
            table = SCHEMA.empty_table()
        except (pa.ArrowException, OSError) as error:
            raise ShopstreamError(f"{bundles / FILE} cannot be read: {error}") from None
        return cls(*(table[name].to_numpy() for name in SCHEMA.names))

    def write(self, bundles: Path) -> None:
        """Replace the file atomically: a reader finds the old one or this one."""
        bundles.mkdir(parents=True, exist_ok=True)
        draft = bundles / f".{FILE}.{os.getpid()}"
        pq.write_table(pa.table([self.shopper, self.at, self.swept_at], schema=SCHEMA), draft)
        draft.replace(bundles / FILE)

    def with_more(self, shoppers: Iterable[int], at_ms: int) -> "ErasureList":
        """Return the list with these hashes, erased up to at_ms and not yet swept."""
        more = np.unique(np.fromiter(shoppers, np.int64))
        others = self.select(~np.isin(self.shopper, more))
        shopper = np.concatenate([others.shopper, more])
        at = np.concatenate([others.at, np.full(len(more), at_ms)])
        swept_at = np.concatenate([others.swept_at, np.zeros(len(more), np.int64)])
        order = np.argsort(shopper)
        return ErasureList(shopper[order], at[order], swept_at[order])

    def select(self, chosen: Bools) -> "ErasureList":
        """Return the chosen ids, bool [n]."""
        return ErasureList(self.shopper[chosen], self.at[chosen], self.swept_at[chosen])

    def at_of(self, shoppers: Ints) -> Ints:
        """Return the time up to which each hash (int64 [m]) is erased, int64 [m]; NEVER if it is not."""
        if not len(self.shopper):
            return np.full(len(shoppers), NEVER)
        index = np.minimum(np.searchsorted(self.shopper, shoppers), len(self.shopper) - 1)
        return np.asarray(np.where(self.shopper[index] == shoppers, self.at[index], NEVER))


def shopper_hashes(user_id: pa.Array) -> Ints:
    """Return the hash of each id, int64 [n]; every distinct id is hashed once."""
    coded = pc.fill_null(user_id, "").dictionary_encode()
    distinct = np.fromiter(map(shopper_hash, coded.dictionary.to_pylist()), np.int64, len(coded.dictionary))
    return np.asarray(distinct[coded.indices.to_numpy()])


class ErasureFile:
    """The file next to the bundles, read when it has changed."""

    def __init__(self, bundles: Path) -> None:
        self._bundles = bundles
        self._stamp: tuple[int, int] | None = None

    @contextmanager
    def unread(self) -> Iterator[ErasureList | None]:
        """Give the list if the file has changed, else None.

        The file counts as read once the block ends without an error; until then the next call gives it again.
        """
        stamp = self._stamp
        with suppress(FileNotFoundError):
            found = (self._bundles / FILE).stat()
            stamp = found.st_mtime_ns, found.st_ino
        yield ErasureList.read(self._bundles) if stamp != self._stamp else None
        self._stamp = stamp
