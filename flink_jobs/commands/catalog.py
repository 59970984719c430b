"""`shopstream catalog send|remove|show`: sends items to the `catalog` topic, and sums up the changes for rankers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flink_jobs.brokers.clients import sending
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import change_files, read_changes
from udfs.catalog.files import read_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.rejected import Rejected


@dataclass(frozen=True)
class CatalogChanges:
    """Items changed since the bundles were made, those of them removed and sold out, and the files that say so."""

    changed: int
    removed: int
    sold_out: int
    files: int
    bytes: int


def send_items(
    settings: Settings,
    file: Path,
    *,
    mapping: Mapping[str, str],
    preset: str,
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
) -> int:
    """Sends each item of a file to `catalog`, key item_id; returns their number."""
    items, _ = read_catalog(file, mapping=mapping, preset=preset, options=options, rejected=rejected)
    encode = msgspec.json.Encoder().encode
    rows = ({name: field for name, field in row.items() if field is not None} for row in items.to_pylist())
    _send(settings, ((row["item_id"], encode(row)) for row in rows))
    return len(items)


def remove_items(settings: Settings, item_ids: Iterable[str]) -> None:
    """Sends a tombstone for each item."""
    _send(settings, ((item_id, None) for item_id in item_ids))


def catalog_changes(settings: Settings) -> CatalogChanges:
    """Counts what the catalog job has written next to the bundles."""
    changes = read_changes(settings.bundle_folder)
    sizes = [file.stat().st_size for file in change_files(settings.bundle_folder)]
    sold_out = sum(stock is False for stock in changes["in_stock"].to_pylist())
    return CatalogChanges(len(changes), changes["title"].null_count, sold_out, len(sizes), sum(sizes))


def item_titles(settings: Settings) -> dict[str, str]:
    """Returns titles by item id, of the bundle in use and of later changes; raises ShopstreamError without a bundle."""
    items = open_bundle(settings.bundle_folder).items()
    title_of = dict(zip(items.ids, items.titles, strict=True))
    changes = read_changes(settings.bundle_folder)
    changed = zip(changes["item_id"].to_pylist(), changes["title"].to_pylist(), strict=True)
    return title_of | {item_id: title for item_id, title in changed if title is not None}


def _send(settings: Settings, records: Iterable[tuple[str, bytes | None]]) -> None:
    topic = settings.topics.catalog
    if settings.catalog.envelope != "none":
        raise ShopstreamError(
            f"items come in envelopes (catalog.envelope={settings.catalog.envelope}): change them where they come from"
        )
    require_topics(settings, topic)
    with sending(settings) as (send, _):
        for item_id, value in records:
            send(topic, key=item_id.encode(), value=value)
