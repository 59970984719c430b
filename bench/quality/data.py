"""Training and test sessions: read from a folder of CSV files, which can be made from public data sets."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bench.environment import ROOT
from export.history.interactions import COLUMNS, Interactions, interactions
from udfs.catalog.files import read_catalog
from udfs.core.arrays import Bools, Ints, factorize
from udfs.core.errors import ShopstreamError
from udfs.events.files import read_events

#: Without test_sessions.csv, this share of the sessions is the test: the last ones by start.
TEST_SHARE = 0.2
ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price")


@dataclass(frozen=True)
class Split:
    """Training and test sessions with the same numbers for items and users, and the catalog, if there is one.

    Items of the training sessions come first, then those only in the test, then those only in the catalog.
    """

    train: Interactions
    test: Interactions
    catalog: pa.Table | None

    @property
    def counts(self) -> Ints:
        """int64 [items]: the number of training events per item."""
        return np.bincount(self.train.item, minlength=len(self.train.items))

    @property
    def known(self) -> Bools:
        """bool [items]: whether an item can be recommended: it is in training or in the catalog."""
        listed = np.zeros(len(self.train.items), dtype=bool)
        if self.catalog is not None:
            listed = np.isin(self.train.items, self.catalog["item_id"].to_numpy(zero_copy_only=False).astype(str))
        return np.logical_or(self.counts > 0, listed)


def read_split(
    folder: Path, *, repeats: bool, sessions: int | None = None, seed: int = 0, held_back: bool = False
) -> Split:
    """Read sessions.csv and, if there, test_sessions.csv and items.csv from a folder; each may end in .gz.

    repeats=False keeps only an item's first event in each session. sessions: a small shop, see `_drawn`; by seed.
    held_back: test on the last training sessions, and leave those of the test out.
    Raises ShopstreamError for files that are missing or unreadable, and for sessions that leave nothing to train on or
    to test.
    """
    recorded = _find(folder, "sessions.csv")
    test_sessions = _find(folder, "test_sessions.csv")
    listing = _find(folder, "items.csv")
    if recorded is None:
        raise ShopstreamError(f"{folder} has no sessions.csv or sessions.csv.gz; --prepare makes one from public data")
    catalog = read_catalog(listing)[0] if listing else None
    train = interactions(read_events(recorded))
    if test_sessions:
        test = interactions(read_events(test_sessions))
    else:
        train, test = train.split(TEST_SHARE)
    if held_back:
        train, test = train.split(TEST_SHARE)
    if not repeats:
        train = train.without_repeats()
        test = test.without_repeats()
    if sessions is not None:
        train, test = _drawn(train, test, sessions, np.random.default_rng(seed))
        there = pa.array({part.items[item] for part in (train, test) for item in np.unique(part.item)})
        catalog = catalog and catalog.filter(pc.is_in(catalog["item_id"], there))
    catalog_ids = catalog["item_id"].to_pylist() if catalog else []
    if not len(train) or not len(test.longer_than(1)):
        raise ShopstreamError(f"{folder}: there must be a session to train on, and one of two items or more to test")
    items_of = [np.array(part.items, dtype=object)[part.item] for part in (train, test)]
    users_of = [np.array(part.users, dtype=object)[part.user] for part in (train, test)]
    item, item_ids = factorize(np.concatenate([*items_of, np.array(catalog_ids, dtype=object)]))
    user, user_ids = factorize(np.concatenate(users_of))
    items = list(item_ids)
    users = list(user_ids)
    train_end = len(train.item)
    test_end = train_end + len(test.item)
    return Split(
        train=replace(train, items=items, users=users, item=item[:train_end], user=user[: len(train)]),
        test=replace(test, items=items, users=users, item=item[train_end:test_end], user=user[len(train) :]),
        catalog=catalog,
    )


def _drawn(
    train: Interactions, test: Interactions, count: int, rng: np.random.Generator
) -> tuple[Interactions, Interactions]:
    """Return a small shop: the sessions of shoppers drawn at random who have at most `count` training sessions in all.

    Test sessions of shoppers who are in no training session stay, too.
    """
    shoppers, sizes = np.unique(train.user, return_counts=True)
    order = rng.permutation(len(shoppers))
    chosen = shoppers[order[: max(1, np.searchsorted(np.cumsum(sizes[order]), count, side="right"))]]
    others = {train.users[user] for user in np.setdiff1d(shoppers, chosen)}
    in_shop = np.array([user not in others for user in test.users], dtype=bool)
    return train.of_sessions(np.isin(train.user, chosen)), test.of_sessions(in_shop[test.user])


def prepare(name: str, folder: Path) -> None:
    """Make a folder from one of the public data sets in SHOPSTREAM_DATA; raise ShopstreamError if it is not there."""
    if name not in PREPARED:
        *others, last = PREPARED
        raise ShopstreamError(f"--prepare {name}: choose {', '.join(others)} or {last}")
    data = Path(os.environ.get("SHOPSTREAM_DATA", ROOT.parent / "shared" / "data")) / name
    if not data.is_dir():
        raise ShopstreamError(f"{data} is not there; SHOPSTREAM_DATA names the folder that holds {name}")
    folder.mkdir(parents=True, exist_ok=True)
    PREPARED[name](data, folder)


def _online_retail(data: Path, folder: Path) -> None:
    """Write clean purchase lines, in their order, one session per invoice; and titles with median prices."""
    lines = data / "online_retail.csv.gz"
    _write_sessions(lines, folder / "sessions.csv.gz")
    _write(read_catalog(lines)[0].select(ITEM_COLUMNS), folder / "items.csv.gz")


def _yoochoose(data: Path, folder: Path) -> None:
    """Write the clicks that the authors of the data tune on: their training part and their validation part."""
    for part, name in (("train_tr", "sessions.csv.gz"), ("train_valid", "test_sessions.csv.gz")):
        _write_sessions(data / f"yoochoose-clicks-100k_{part}.txt.gz", folder / name)


def _complete_journey(data: Path, folder: Path) -> None:
    """Write basket lines, a basket's in random order, and titles of product type, package size and brand.

    As published, the lines of a basket stand in the order of their product ids, which gives the next one away.
    """
    lines = pq.read_table(data / "transactions.parquet")
    lines = lines.take(np.random.default_rng(0).permutation(len(lines)))  # one basket's have one time
    ids = [lines[name].cast(pa.string()) for name in ("basket_id", "household_id")]
    time = lines["transaction_timestamp"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    kind = pa.array(["purchase"] * len(lines))
    columns = [*ids, time, kind, lines["product_id"].cast(pa.string())]
    _write(pa.table(columns, names=list(COLUMNS)).sort_by([("event_time", "ascending")]), folder / "sessions.csv.gz")
    sold = lines.filter(pc.greater(lines["quantity"], 0))
    sold = sold.append_column("price", pc.divide(sold["sales_value"], sold["quantity"]))
    prices = sold.group_by("product_id", use_threads=False).aggregate([("price", "approximate_median")])
    products = pq.read_table(data / "products.parquet").join(prices, "product_id", join_type="inner")
    products = products.sort_by([("product_id", "ascending")])
    names = [products[name] for name in ("product_type", "package_size", "brand")]
    title = pc.binary_join_element_wise(*names, " ", null_handling="skip")
    brand = pc.binary_join_element_wise(products["brand"], products["manufacturer_id"].cast(pa.string()), " ")
    price = products["price_approximate_median"]
    item = products["product_id"].cast(pa.string())
    catalog = [item, title, products["product_category"], brand, price]
    _write(pa.table(catalog, names=list(ITEM_COLUMNS)), folder / "items.csv.gz")


PREPARED: Mapping[str, Callable[[Path, Path], None]] = {
    "online_retail": _online_retail,
    "yoochoose_100k": _yoochoose,
    "complete_journey": _complete_journey,
}


def _write_sessions(source: Path, target: Path) -> None:
    _write(pa.Table.from_batches([batch.select(COLUMNS) for batch in read_events(source)]), target)


def _write(table: pa.Table, target: Path) -> None:
    with pa.CompressedOutputStream(str(target), "gzip") as stream:
        pacsv.write_csv(table, stream)


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
