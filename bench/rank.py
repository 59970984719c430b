"""`python -m bench rank`: what one prediction takes with a few hundred, ten thousand and a million items."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench.pipeline.prepare import export_shop
from export.interactions import Interactions
from export.learn import prefixes, sessions_of, write_past
from udfs.bundle import INDEX, Bundle, FileEntry, open_bundle
from udfs.candidates import BY_CONTENT, ragged
from udfs.index import build_index
from udfs.items import LiveItems
from udfs.learned import LearnedRanker
from udfs.ranking import RankOptions, Scores, to_grid
from udfs.sessions import TYPE_CODE, Ints

SIZES = (600, 10_000, 1_000_000)
#: Predictions that are timed alone, and in batches of BATCH; queries whose neighbours are compared with all items'.
ALONE, BATCHED, BATCH, COMPARED = 1000, 2560, 64, 200
#: How far a copy's vector is from the real one: the length of what is added, before it has unit length again.
JITTER = 0.33
#: Copies of each past session, each among the items of another copy of the shop, at most.
COPIES = 20


@dataclass(frozen=True)
class Row:
    """Times of one core in ms, of one session alone and of a session in batches of BATCH.

    recall: of an index, the share of the nearest items that it finds; None without one. memory_mb: of the process, less
    what it had before; index_s: what the index took to build.
    """

    items: int
    p50_ms: float
    p99_ms: float
    batch_p50_ms: float
    batch_p99_ms: float
    recall: float | None
    memory_mb: int
    index_s: float | None


def run(sizes: Sequence[int], bundles: Path | None, index_from: int, *, as_json: bool) -> None:
    """Measure and print."""
    notes, rows = Console(stderr=True), []
    threadpool_limits(1)
    with TemporaryDirectory(prefix="shopstream-rank-") as folder:
        if bundles is None:
            export_shop(300, Path(folder), notes)
        bundle = open_bundle(bundles or Path(folder) / "bundles")
        for size in sizes:
            notes.print(f"ranking {size:,} items")
            shop = Path(folder) / str(size)
            shop.mkdir()
            rows.append(_measure(bundle, size, index_from, shop))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))  # noqa: T201
        return
    table = Table(title=f"one core; alone, and a session in batches of {BATCH}; ms")
    for heading in ("items", "p50", "p99", "p50 in batches", "p99", "recall", "memory, MB", "index built in, s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*("–" if value is None else f"{value:,}" for value in asdict(row).values()))
    Console().print(table)


def _measure(bundle: Bundle, size: int, index_from: int, folder: Path) -> Row:
    log, items, vectors = enlarged(bundle, size)
    write_past(folder, log, items, vectors)
    files, took = dict(bundle.manifest.files), None
    if size >= index_from:
        began = time.perf_counter()
        build_index(vectors, folder / INDEX)
        took = round(time.perf_counter() - began, 1)
        files[INDEX] = FileEntry("0" * 64, 0)
    shutil.copy(bundle.ranker, folder / "ranker.onnx")
    row_of = {title: row for row, title in enumerate(items["title"].to_pylist())}
    del items
    before = _memory_mb()
    shop = Bundle(folder, msgspec.structs.replace(bundle.manifest, files=files))
    live = LiveItems(shop)
    ranker = LearnedRanker(shop, live, RankOptions())
    memory = _memory_mb() - before

    def encode(texts: Sequence[str]) -> Scores:
        return vectors[[row_of[text] for text in texts]]

    rng = np.random.default_rng(1)
    later = np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session])
    places = np.sort(rng.choice(later, ALONE + BATCHED))
    sofar = prefixes(log, places)

    def seconds(first: int, last: int) -> float:
        part = sofar.part(first, last)
        users, sessions = [log.users[number] for number in part.user], sessions_of(part)
        began = time.perf_counter()
        ranker.answer(users, sessions, encode)
        return time.perf_counter() - began

    seconds(0, BATCH)  # warms up
    alone = [1000 * seconds(place, place + 1) for place in range(ALONE)]
    batches = [1000 * seconds(place, place + BATCH) / BATCH for place in range(ALONE, len(sofar), BATCH)]
    percentiles = [*np.percentile(alone, [50, 99]), *np.percentile(batches, [50, 99])]
    p50, p99, batch_p50, batch_p99 = (round(float(each), 3) for each in percentiles)
    return Row(size, p50, p99, batch_p50, batch_p99, _recall(live, log, rng), memory, took)


def enlarged(bundle: Bundle, size: int) -> tuple[Interactions, pa.Table, npt.NDArray[np.float32]]:
    """Past sessions, catalogue and vectors (float32 [size, d]) of `size` items, those of a bundle and copies of them.

    A copy of the shop has its own items, their vectors jittered; each past session comes up to COPIES times, in a copy
    drawn at random.
    """
    rng = np.random.default_rng(0)
    past, table, real = bundle.past_sessions(), bundle.items().table, bundle.item_vectors()
    base = len(table)
    shops = -(-size // base)
    row = np.arange(size) % base
    vectors = np.concatenate([_jittered(real, row[first : first + 65_536], rng) for first in range(0, size, 65_536)])
    vectors[:base] = real[:size]
    names = [f"{title} {number}" for number, title in enumerate(table["title"].take(pa.array(row)).to_pylist())]
    columns = {name: table[name].take(pa.array(row)) for name in ("category", "brand", "price", "in_stock")}
    ids = [f"i{number}" for number in range(size)]
    items = pa.table({"item_id": ids, "title": names} | columns)
    times = min(COPIES, shops)
    lengths = np.diff(past.offsets)
    shop: Ints = rng.integers(0, shops, times * len(lengths))
    item = np.tile(past.item.astype(np.int64), times) + base * np.repeat(shop, np.tile(lengths, times))
    order = np.argsort(np.tile(past.end, times), kind="stable")  # sessions by time
    log = Interactions(
        items=ids,
        users=[f"u{number}" for number in range(len(past.shoppers))],
        offsets=np.append(0, np.cumsum(np.tile(lengths, times))),
        user=np.maximum(np.tile(past.shopper.astype(np.int64), times), 0),
        item=item % size,
        time=np.repeat(np.tile(past.end, times), np.tile(lengths, times)),
        type_code=np.full(len(item), TYPE_CODE["view"], dtype=np.int8),
    )
    return _ordered(log, order), items, vectors


def _ordered(log: Interactions, order: Ints) -> Interactions:
    """The same sessions in this order."""
    event, _ = ragged(log.offsets[order], log.offsets[order + 1])
    columns = {name: getattr(log, name)[event] for name in ("item", "time", "type_code")}
    offsets = np.append(0, np.cumsum(np.diff(log.offsets)[order]))
    return replace(log, offsets=offsets, user=log.user[order], **columns)


def _jittered(real: npt.NDArray[np.float32], row: Ints, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = rng.standard_normal((len(row), real.shape[1]), dtype=np.float32)
    vectors = real[row] + noise * np.float32(JITTER / real.shape[1] ** 0.5)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _recall(live: LiveItems, log: Interactions, rng: np.random.Generator) -> float | None:
    """Of the items nearest to a title, and to the mean of a session's titles, the share that the index proposes."""
    if live.index is None:
        return None
    sessions = rng.choice(len(log), COMPARED // 2, replace=False)
    titles = live.vectors[log.item[log.offsets[sessions]]]
    centres = np.add.reduceat(live.vectors[log.item], log.offsets[:-1])[sessions]
    queries = np.concatenate((titles, to_grid(centres)))
    found, all_of = live.index.nearest(queries, 2 * BY_CONTENT), live.vectors[: len(live)]
    hits = 0
    for query, rows in zip(queries, found, strict=True):
        nearest = np.argpartition(-(all_of @ query), BY_CONTENT)[:BY_CONTENT]
        hits += len(np.intersect1d(nearest, rows))
    return round(hits / (len(queries) * BY_CONTENT), 4)


def _memory_mb() -> int:
    import psutil  # of the extra `local`

    return round(psutil.Process().memory_info().rss / 1e6)
