"""`shopstream catalog send|remove|show`: items into the `catalog` topic, and what the segments hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import FOLDER, Segments, files
from udfs.catalog.files import read_catalog


@dataclass(frozen=True)
class CatalogChanges:
    """Items that changed since the bundles were made: of these those removed and sold out; segments as files."""

    changed: int
    removed: int
    sold_out: int
    files: int
    bytes: int


def send_items(settings: Settings, file: Path, *, mapping: Mapping[str, str], preset: str) -> int:
    """Send each item of a file to `catalog`, key item_id; how many."""
    items, _ = read_catalog(file, mapping=mapping, preset=preset)
    encode = msgspec.json.Encoder().encode
    rows = ({name: field for name, field in row.items() if field is not None} for row in items.to_pylist())
    _produce(settings, ((row["item_id"], encode(row)) for row in rows))
    return len(items)


def remove_items(settings: Settings, item_ids: Iterable[str]) -> None:
    """Send a tombstone for each item."""
    _produce(settings, ((item_id, None) for item_id in item_ids))


def catalog_changes(settings: Settings) -> CatalogChanges:
    """What the segments beside the bundles hold."""
    changes = Segments(settings.bundle_folder).new()
    sizes = [file.stat().st_size for file in files(settings.bundle_folder / FOLDER)]
    sold_out = sum(stock is False for stock in changes["in_stock"].to_pylist())
    return CatalogChanges(len(changes), changes["title"].null_count, sold_out, len(sizes), sum(sizes))


def item_titles(settings: Settings) -> dict[str, str]:
    """Item id to title, of the bundle in use and of what changed since; ShopstreamError without a bundle."""
    items = open_bundle(settings.bundle_folder).items()
    title_of = dict(zip(items.ids, items.titles, strict=True))
    changes = Segments(settings.bundle_folder).new()
    changed = zip(changes["item_id"].to_pylist(), changes["title"].to_pylist(), strict=True)
    return title_of | {item_id: title for item_id, title in changed if title is not None}


def _produce(settings: Settings, records: Iterable[tuple[str, bytes | None]]) -> None:
    topic = settings.topics.catalog
    require_topics(settings, topic)
    with reachable(settings):
        producer = open_producer(settings)
        failures: list[Exception] = []
        try:
            for item_id, value in records:
                producer.send(topic, key=item_id.encode(), value=value).add_errback(failures.append)
            producer.flush()
        finally:
            producer.close()
        if failures:
            raise failures[0]
