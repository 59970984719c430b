"""`shopstream catalog send|remove|show`: items into the `catalog` topic, and what the segments hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flink_jobs import brokers
from flink_jobs.settings import Settings
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import change_files, read_changes
from udfs.catalog.files import read_catalog


@dataclass(frozen=True)
class Shown:
    """Items that changed since the bundles were made: of these those removed and sold out; segments as files."""

    changed: int
    removed: int
    sold_out: int
    files: int
    bytes: int


def send(settings: Settings, file: Path, *, mapping: Mapping[str, str], preset: str) -> int:
    """Send each item of a file to `catalog`, key item_id; how many."""
    items, _ = read_catalog(file, mapping=mapping, preset=preset)
    encode = msgspec.json.Encoder().encode
    rows = ({name: field for name, field in row.items() if field is not None} for row in items.to_pylist())
    _produce(settings, ((row["item_id"], encode(row)) for row in rows))
    return len(items)


def remove(settings: Settings, item_ids: Iterable[str]) -> None:
    """Send a tombstone for each item."""
    _produce(settings, ((item_id, None) for item_id in item_ids))


def show(settings: Settings) -> Shown:
    """What the segments beside the bundles hold."""
    changes = read_changes(settings.bundle_folder)
    sizes = [file.stat().st_size for file in change_files(settings.bundle_folder)]
    sold_out = sum(stock is False for stock in changes["in_stock"].to_pylist())
    return Shown(len(changes), changes["title"].null_count, sold_out, len(sizes), sum(sizes))


def titles(settings: Settings) -> dict[str, str]:
    """Item id to title, of the bundle in use and of what changed since; ShopstreamError without a bundle."""
    items = open_bundle(settings.bundle_folder).items()
    title_of = dict(zip(items.ids, items.titles, strict=True))
    changes = read_changes(settings.bundle_folder)
    changed = zip(changes["item_id"].to_pylist(), changes["title"].to_pylist(), strict=True)
    return title_of | {item_id: title for item_id, title in changed if title is not None}


def _produce(settings: Settings, records: Iterable[tuple[str, bytes | None]]) -> None:
    topic = settings.topics.catalog
    brokers.require_topics(settings, topic)
    with brokers.reachable(settings):
        producer = brokers.producer(settings)
        failures: list[Exception] = []
        try:
            for item_id, value in records:
                producer.send(topic, key=item_id.encode(), value=value).add_errback(failures.append)
            producer.flush()
        finally:
            producer.close()
        if failures:
            raise failures[0]
