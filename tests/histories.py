"""Past sessions, catalogs and bundles made by hand, for tests of training, candidates and ranking."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from export.history.files import write_past
from export.history.interactions import Interactions, interactions
from export.ranker.positions import bare_manifest
from export.ranker.train import Recipe, Shop, TrainedRanker, train_ranker
from udfs.bundles.bundle import Bundle
from udfs.candidates.generator import CandidateGenerator
from udfs.catalog.items import LiveItems
from udfs.events.files import EVENTS
from udfs.sessions.columns import TYPE_CODE

ITEMS, DIMENSIONS = 120, 24
IDS = [f"i{number:03d}" for number in range(ITEMS)]
VECTORS = np.random.default_rng(5).normal(size=(ITEMS, DIMENSIONS)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def encode(texts: list[str], _queries: object = None) -> np.ndarray:
    return VECTORS[[int(text.removeprefix("title ")) for text in texts]].reshape(-1, DIMENSIONS)


def catalog(*sold_out: int) -> pa.Table:
    return pa.table(
        {
            "item_id": IDS,
            "title": [f"title {number}" for number in range(ITEMS)],
            "category": [f"c{number % 6}" for number in range(ITEMS)],
            "brand": pa.array([None] * ITEMS, pa.string()),
            "price": [1.0] * ITEMS,
            "in_stock": [number not in sold_out for number in range(ITEMS)],
        }
    )


def walks(sessions: int, seed: int) -> Interactions:
    """Sessions that mostly step from one item to the next number."""
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(sessions):
        item = int(rng.integers(ITEMS))
        for step in range(int(rng.integers(2, 9))):
            rows.append((f"s{session}", f"u{session % 40}", session * 3_600_000 + step * 1000, "view", IDS[item]))
            item = (item + 1) % ITEMS if rng.random() < 0.7 else int(rng.integers(ITEMS))
    names = ("session_id", "user_id", "event_time", "event_type", "item_id")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    filled = [table[name] if name in names else pa.nulls(len(table), EVENTS.field(name).type) for name in EVENTS.names]
    return interactions(pa.table(filled, schema=EVENTS).to_batches(), items=IDS)


@cache
def trained() -> TrainedRanker:
    """Return a ranker trained on walks(900, 1)."""
    with TemporaryDirectory() as folder:
        return train_ranker(Shop(walks(900, 1), catalog(7), VECTORS, encode), Path(folder), Recipe())


def tiny(*sessions: tuple[str, str]) -> Interactions:
    """(user, letters): sessions an hour apart, an event a second, item a is the first."""
    rows = [
        (number, user, number * 3_600_000 + place * 1000, ord(letter) - ord("a"))
        for number, (user, letters) in enumerate(sessions)
        for place, letter in enumerate(letters)
    ]
    session, user, time, item = map(list, zip(*rows, strict=True))
    names = sorted(set(user))
    first = np.unique(session, return_index=True)[1]
    return Interactions(
        items=list("abcdef"),
        users=names,
        offsets=np.append(first, len(rows)),
        user=np.array([names.index(user[place]) for place in first]),
        item=np.array(item),
        time=np.array(time),
        type_code=np.full(len(rows), TYPE_CODE["view"], np.int8),
    )


def of_letters(texts: list[str], _queries: object = None) -> np.ndarray:
    return np.eye(6, dtype=np.float32)[[ord(text) - 97 for text in texts]]


def bundle_of(folder: Path, log: Interactions, **kinds: list[str | None]) -> CandidateGenerator:
    nothing = [None] * len(log.items)
    unknown = {name: pa.array(kinds.get(name, nothing), pa.string()) for name in ("category", "brand")}
    price = pa.array([None, 2.0, 4.0, *[8.0] * len(log.items)][: len(log.items)], pa.float64())
    items = {"item_id": log.items, "title": log.items, "price": price, "in_stock": [True] * len(log.items)}
    write_past(folder, log, pa.table(items | unknown), np.eye(len(log.items), dtype=np.float32))
    bundle = Bundle(folder, bare_manifest(len(log.items)))
    return CandidateGenerator(bundle, LiveItems(bundle), recommend_seen=False)
