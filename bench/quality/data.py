"""Sessions to learn from and sessions to be tested on: a folder of CSV files, and how public data becomes one."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from bench.environment import ROOT
from export.interactions import COLUMNS, Interactions, interactions
from udfs.datasets import read_catalog, read_events
from udfs.errors import ShopstreamError
from udfs.sessions import Bools, Ints, coded

#: Without test_sessions.csv, the share of the sessions, the last by start, that are the test.
TEST_SHARE = 0.2
ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price")


@dataclass(frozen=True)
class Split:
    """Training and test sessions, whose items and users have the same numbers, and the catalogue, if there is one.

    Items of the training sessions come first, then those of the test alone, then those of the catalogue alone.
    """

    train: Interactions
    test: Interactions
    catalog: pa.Table | None

    @property
    def counts(self) -> Ints:
        """int64 [items]: the training events of each item."""
        return np.bincount(self.train.item, minlength=len(self.train.items))

    @property
    def known(self) -> Bools:
        """bool [items]: what could be recommended, as it is in training or in the catalogue."""
        listed = np.zeros(len(self.train.items), dtype=bool)
        if self.catalog is not None:
            listed = np.isin(self.train.items, self.catalog["item_id"].to_numpy(zero_copy_only=False).astype(str))
        return np.logical_or(self.counts > 0, listed)


def read_split(folder: Path, *, repeats: bool) -> Split:
    """sessions.csv of a folder, with test_sessions.csv and items.csv where these are (each may end in .gz too).

    repeats=False keeps an item's first event in each session alone. Raises ShopstreamError for what is not there,
    cannot be read or leaves nothing to learn from or to test.
    """
    sessions, apart, listing = (_find(folder, name) for name in ("sessions.csv", "test_sessions.csv", "items.csv"))
    if sessions is None:
        raise ShopstreamError(f"{folder} has no sessions.csv or sessions.csv.gz; --prepare makes one of public data")
    catalog = read_catalog(listing)[0] if listing else None
    listed = catalog["item_id"].to_pylist() if catalog else []
    train = interactions(read_events(sessions))
    if apart:
        test = interactions(read_events(apart))
    else:
        train, test = train.split(TEST_SHARE)
    if not repeats:
        train, test = train.without_repeats(), test.without_repeats()
    if not len(train) or not len(test.longer_than(1)):
        raise ShopstreamError(f"{folder}: there must be a session to learn from, and one of two items or more to test")
    items_of = [np.array(part.items, dtype=object)[part.item] for part in (train, test)]
    users_of = [np.array(part.users, dtype=object)[part.user] for part in (train, test)]
    item, item_ids = coded(np.concatenate([*items_of, np.array(listed, dtype=object)]))
    user, user_ids = coded(np.concatenate(users_of))
    items, users = list(item_ids), list(user_ids)
    learnt, met = len(train.item), len(train.item) + len(test.item)
    return Split(
        train=replace(train, items=items, users=users, item=item[:learnt], user=user[: len(train)]),
        test=replace(test, items=items, users=users, item=item[learnt:met], user=user[len(train) :]),
        catalog=catalog,
    )


def prepare(name: str, folder: Path) -> None:
    """Make a folder of one of the public data sets in SHOPSTREAM_DATA; raises ShopstreamError where it is not there."""
    if name not in PREPARED:
        raise ShopstreamError(f"--prepare {name}: choose {' or '.join(PREPARED)}")
    data = Path(os.environ.get("SHOPSTREAM_DATA", ROOT.parent / "shared" / "data")) / name
    if not data.is_dir():
        raise ShopstreamError(f"{data} is not there; SHOPSTREAM_DATA names the folder that holds {name}")
    folder.mkdir(parents=True, exist_ok=True)
    PREPARED[name](data, folder)


def _online_retail(data: Path, folder: Path) -> None:
    """Clean purchase lines: an invoice is a session, its lines in their order; titles and median prices."""
    lines = data / "online_retail.csv.gz"
    _write_sessions(lines, folder / "sessions.csv.gz")
    _write(read_catalog(lines)[0].select(ITEM_COLUMNS), folder / "items.csv.gz")


def _yoochoose(data: Path, folder: Path) -> None:
    """The clicks that the data's authors tune on: their training part and their validation part."""
    for part, name in (("train_tr", "sessions.csv.gz"), ("train_valid", "test_sessions.csv.gz")):
        _write_sessions(data / f"yoochoose-clicks-100k_{part}.txt.gz", folder / name)


PREPARED: Mapping[str, Callable[[Path, Path], None]] = {"online_retail": _online_retail, "yoochoose_100k": _yoochoose}


def _write_sessions(source: Path, target: Path) -> None:
    _write(pa.Table.from_batches([batch.select(COLUMNS) for batch in read_events(source)]), target)


def _write(table: pa.Table, target: Path) -> None:
    with pa.CompressedOutputStream(str(target), "gzip") as stream:
        pacsv.write_csv(table, stream)


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
