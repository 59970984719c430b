"""What `python -m bench pipeline` prepares: a broker, a bundle, and topics full of events."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench.environment import cores, run_export
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import create_topics
from flink_jobs.demo.stream import trigger_of
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.simulate import simulate, write_shop
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.contracts.clickstream import ClickstreamEvent

EVENTS = 1_000_000
QUICK_EVENTS = 20_000
#: Items of the simulated shop.
ITEMS = 1500
#: Events per shopper of the simulated shop.
EVENTS_PER_SHOPPER = 50
#: The topic with the same events and one unreadable record after each GOOD_PER_BAD of them.
BAD_TOPIC = "clickstream-bad"
GOOD_PER_BAD = 99
#: The first records that are kept for the contender `encoder`: enough for its triggers.
FIRST_RECORDS = 8192


@dataclass(frozen=True)
class Prepared:
    """The content of the topic, and the ids of the recommendations that are due for it."""

    events: int
    about: str
    due: frozenset[str]
    first_records: list[tuple[bytes, bytes]]  #: keys and values, for the encoder alone


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Start a broker with its data in the folder; yields its address."""
    local = LocalKafka(folder / "kafka", free_port())
    try:
        yield local.start().bootstrap
    finally:
        local.stop()


def settings_for(address: str, bundle: Bundle) -> list[str]:
    """The settings of every contender: the broker, the bundle, and one worker per core."""
    folder = bundle.path.parent.absolute()
    return [f"kafka.bootstrap={address}", f"bundles={folder}", f"parallelism={cores()}", "encoder.threads=1"]


def shopper_count(events: int) -> int:
    """The number of shoppers of the simulated shop."""
    return max(100, events // EVENTS_PER_SHOPPER)


def bundle_for(bundles: Path | None, shoppers: int, folder: Path, progress: Console) -> Bundle:
    """Open the bundle in use in `bundles`; without that, one of the simulated shop, exported to `folder` once."""
    own = folder / "bundles"
    if bundles is None and not own.exists():
        export_shop(shoppers, folder, progress)
    return open_bundle(bundles or own)


def export_shop(shoppers: int, folder: Path, progress: Console, items: int = ITEMS) -> None:
    """Export a bundle of the simulated shop, with a trained ranker, to `folder`/bundles."""
    progress.print("exporting the bundle of a simulated shop")
    write_shop(folder / "shop", events=1, items=items, shoppers=shoppers)
    files = ["--catalog", str(folder / "shop" / "catalog.jsonl"), "--sessions", str(folder / "shop" / "sessions.jsonl")]
    run_export("train", *files, "--out", str(folder / "bundles"))


def prepare(settings: Settings, stream: Iterable[Record], progress: Console) -> Prepared:
    """Fill the topic `clickstream` with the stream, none of whose records may be unreadable."""
    create_topics(settings, cores())
    decode = msgspec.json.Decoder(ClickstreamEvent).decode
    keys = settings.keys()
    due = set[str]()
    users = set[str]()
    sessions = set[str | None]()
    items = Counter[str]()
    first_records: list[tuple[bytes, bytes]] = []
    events = repeats = size = 0
    started = time.monotonic()
    with reachable(settings):
        sender = open_producer(settings)
        for record in stream:
            key = record.key or b""
            value = record.value or b""
            sender.send(settings.topics.clickstream, key=key, value=value)
            if (answer := trigger_of(settings, keys, record)) is not None:
                due.add(answer)
            if len(first_records) < FIRST_RECORDS:
                first_records.append((key, value))
            event = decode(value)
            users.add(event.user_id)
            sessions.add(event.session_id)
            if event.item_id:
                items[event.item_id] += 1
            events += 1
            repeats += record.kind == "duplicate"
            size += len(value)
        sender.flush()
        sender.close()
    progress.print(f"prepared in {time.monotonic() - started:.0f} s", markup=False)
    about = (
        f"{events:,} events ({repeats:,} of them repeats) of {len(users):,} shoppers in {len(sessions):,} sessions, "
        f"{size / events:.0f} bytes each, {len(due):,} triggers; {len(items):,} items, the most frequent in "
        f"{max(items.values()) / items.total():.1%} of the events; {cores()} partitions"
    )
    return Prepared(events, about, frozenset(due), first_records)


def write_bad_topic(settings: Settings, catalog: Sequence[Mapping[str, Any]], events: int, shoppers: int) -> None:
    """Fill another topic with the events of `prepare`, one unreadable record after each GOOD_PER_BAD of them."""
    create_topics(settings, cores())
    stream = simulate(catalog, events=events, shoppers=shoppers, bad_share=0)
    bad = (record for record in simulate(catalog, seed=1, bad_share=1) if record.kind == "bad")
    with reachable(settings):
        sender = open_producer(settings)
        for number, good in enumerate(stream, 1):
            for record in (good, next(bad)) if number % GOOD_PER_BAD == 0 else (good,):
                sender.send(settings.topics.clickstream, key=record.key, value=record.value)
        sender.flush()
        sender.close()
