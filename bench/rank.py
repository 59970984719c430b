"""`python -m bench rank`: the time of one prediction with a few hundred, ten thousand and a million items."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench.output import print_json, progress_console
from bench.pipeline.prepare import export_shop
from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import prefixes, request_of
from udfs.bundles.bundle import INDEX, Bundle, open_bundle
from udfs.bundles.manifest import FileEntry
from udfs.candidates.content import BY_CONTENT
from udfs.catalog.index import build_index
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Ints, Scores, concat_ranges
from udfs.core.exact import to_grid
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions
from udfs.sessions.columns import TYPE_CODE

SIZES = (600, 10_000, 1_000_000)
#: Predictions that are timed one at a time.
SINGLE = 1000
#: Predictions that are timed in batches.
BATCHED = 2560
BATCH = 64
#: Queries whose neighbours in the index are compared with the exact ones.
RECALL_QUERIES = 200
#: Distance of a copy's vector from the original: the length of the noise, before the vector is scaled to unit length.
JITTER = 0.33
#: At most this many copies of each past session, each among the items of another copy of the shop.
COPIES = 20
#: Past shoppers of an exported bundle.
SHOPPERS = 300


@dataclass(frozen=True)
class Row:
    """Milliseconds on one core: of a single session, and per session in batches of BATCH.

    recall: share of the nearest items that the index finds, null without an index. memory_mb: growth of the process;
    index_s: seconds to build the index.
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
    """Measure, and print a table or a JSON list.

    sizes: of the catalog. index_from: items from which on there is an index.
    """
    progress = progress_console()
    rows = []
    threadpool_limits(1)
    with TemporaryDirectory(prefix="shopstream-rank-") as folder:
        if bundles is None:
            export_shop(SHOPPERS, Path(folder), progress)
        bundle = open_bundle(bundles or Path(folder) / "bundles")
        for size in sizes:
            progress.print(f"ranking {size:,} items")
            shop = Path(folder) / str(size)
            shop.mkdir()
            rows.append(_measure(bundle, size, index_from, shop))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(title=f"one core; single, and per session in batches of {BATCH}; ms")
    for heading in ("items", "p50", "p99", "p50 in batches", "p99", "recall", "memory, MB", "index built in, s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*("–" if value is None else f"{value:,}" for value in asdict(row).values()))
    Console().print(table)


def _measure(bundle: Bundle, size: int, index_from: int, folder: Path) -> Row:
    log, items, vectors = enlarged(bundle, size)
    write_past(folder, log, items, vectors)
    files = dict(bundle.manifest.files)
    index_s = None
    if size >= index_from:
        started = time.perf_counter()
        build_index(vectors, folder / INDEX)
        index_s = round(time.perf_counter() - started, 1)
        files[INDEX] = FileEntry("0" * 64, 0)
    shutil.copy(bundle.ranker, folder / "ranker.onnx")
    row_of = {title: row for row, title in enumerate(items["title"].to_pylist())}
    del items
    memory_before = _memory_mb()
    shop = Bundle(folder, msgspec.structs.replace(bundle.manifest, files=files))
    live = LiveItems(shop)
    ranker = LearnedRanker(shop, live, RankOptions())
    memory_mb = _memory_mb() - memory_before

    def encode(texts: Sequence[str], _queries: Any) -> Scores:
        return vectors[[row_of[text] for text in texts]]

    rng = np.random.default_rng(1)
    not_first = np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session])
    drawn = prefixes(log, np.sort(rng.choice(not_first, SINGLE + BATCHED)))

    def milliseconds(first: int, last: int) -> float:
        part = drawn.part(first, last)
        request = request_of(part)
        started = time.perf_counter()
        ranker.rank(request, encode)
        return 1000 * (time.perf_counter() - started)

    milliseconds(0, BATCH)  # warms up
    single = [milliseconds(first, first + 1) for first in range(SINGLE)]
    batched = [milliseconds(first, first + BATCH) / BATCH for first in range(SINGLE, len(drawn), BATCH)]
    percentiles = [*np.percentile(single, [50, 99]), *np.percentile(batched, [50, 99])]
    p50, p99, batch_p50, batch_p99 = (round(float(value), 3) for value in percentiles)
    return Row(size, p50, p99, batch_p50, batch_p99, _recall(live, log, rng), memory_mb, index_s)


def enlarged(bundle: Bundle, size: int) -> tuple[Interactions, pa.Table, npt.NDArray[np.float32]]:
    """Past sessions, catalog and vectors (float32 [size, d]) of `size` items: those of a bundle, and copies of them.

    Each copy of the shop has its own items, with jittered vectors. Each past session occurs up to COPIES times, each
    time in a random copy of the shop.
    """
    rng = np.random.default_rng(0)
    past = bundle.past_sessions()
    table = bundle.items().table
    original = bundle.item_vectors()
    base = len(table)
    shops = -(-size // base)
    row = np.arange(size) % base
    chunks = [_jittered(original, row[first : first + 65_536], rng) for first in range(0, size, 65_536)]
    vectors = np.concatenate(chunks)
    vectors[:base] = original[:size]
    titles = [f"{title} {number}" for number, title in enumerate(table["title"].take(pa.array(row)).to_pylist())]
    columns = {name: table[name].take(pa.array(row)) for name in ("category", "brand", "price", "in_stock")}
    ids = [f"i{number}" for number in range(size)]
    items = pa.table({"item_id": ids, "title": titles} | columns)
    times = min(COPIES, shops)
    lengths = np.diff(past.offsets)
    shop: Ints = rng.integers(0, shops, times * len(lengths))
    item = np.tile(past.item.astype(np.int64), times) + base * np.repeat(shop, np.tile(lengths, times))
    by_time = np.argsort(np.tile(past.end, times), kind="stable")
    log = Interactions(
        items=ids,
        users=[f"u{number}" for number in range(len(past.shoppers))],
        offsets=np.append(0, np.cumsum(np.tile(lengths, times))),
        user=np.maximum(np.tile(past.shopper.astype(np.int64), times), 0),
        item=item % size,
        time=np.repeat(np.tile(past.end, times), np.tile(lengths, times)),
        type_code=np.full(len(item), TYPE_CODE["view"], dtype=np.int8),
    )
    return _reordered(log, by_time), items, vectors


def _reordered(log: Interactions, order: Ints) -> Interactions:
    """The same sessions in this order."""
    event, _ = concat_ranges(log.offsets[order], log.offsets[order + 1])
    columns = {name: getattr(log, name)[event] for name in ("item", "time", "type_code")}
    offsets = np.append(0, np.cumsum(np.diff(log.offsets)[order]))
    return replace(log, offsets=offsets, user=log.user[order], **columns)


def _jittered(original: npt.NDArray[np.float32], row: Ints, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = rng.standard_normal((len(row), original.shape[1]), dtype=np.float32)
    vectors = original[row] + noise * np.float32(JITTER / original.shape[1] ** 0.5)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _recall(live: LiveItems, log: Interactions, rng: np.random.Generator) -> float | None:
    """Share of the items nearest to a title, and to the mean of a session's titles, that the index finds."""
    if live.index is None:
        return None
    sessions = rng.choice(len(log), RECALL_QUERIES // 2, replace=False)
    titles = live.vectors[log.item[log.offsets[sessions]]]
    centres = np.add.reduceat(live.vectors[log.item], log.offsets[:-1])[sessions]
    queries = np.concatenate((titles, to_grid(centres)))
    found = live.index.nearest(queries, 2 * BY_CONTENT)
    vectors = live.vectors[: len(live)]
    hits = 0
    for query, rows in zip(queries, found, strict=True):
        nearest = np.argpartition(-(vectors @ query), BY_CONTENT)[:BY_CONTENT]
        hits += len(np.intersect1d(nearest, rows))
    return round(hits / (len(queries) * BY_CONTENT), 4)


def _memory_mb() -> int:
    return round(psutil.Process().memory_info().rss / 1e6)
