"""What `python -m bench pipeline` prepares: a broker, a bundle, events."""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from bench.environment import cores, last_line
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs import brokers, simulate
from flink_jobs.settings import Settings
from udfs.bundle import Bundle, open_bundle
from udfs.contracts import ClickstreamEvent
from udfs.errors import ShopstreamError

#: Where the same events are with a broken one after each 99.
BAD_TOPIC, BAD_EACH = "clickstream-bad", 99
ITEMS = 1500
EVENTS, QUICK_EVENTS = 1_000_000, 20_000
#: Of the simulated shop: about one for each 50 events.
EVENTS_A_SHOPPER = 50
#: Triggers whose texts the encoder alone is given, in batches of as many rows as cross into the job's Python at a time.
ENCODED = 4096


@dataclass(frozen=True)
class Options:
    """What was asked for: how many events, rounds and seconds a contender, whom (none: all), and whose bundle.

    assignments: settings of the Flink jobs, `name=value` each.
    """

    events: int = EVENTS
    rounds: int = 1
    only: tuple[str, ...] = ()
    limit_s: float = 900.0
    bundles: Path | None = None
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What is in the topic, and the ids of the recommendations that are due for it."""

    events: int
    about: str
    due: frozenset[str]
    values: list[tuple[bytes, bytes]]  #: the first records' keys and values, for the encoder alone


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The address of a broker of our own."""
    local = LocalKafka(folder / "kafka", free_port())
    try:
        yield local.start().bootstrap
    finally:
        local.stop()


def settings_for(address: str, bundle: Bundle) -> list[str]:
    """What every contender is set to: the broker, the bundle, a worker for each core."""
    folder = bundle.path.parent.absolute()
    return [f"kafka.bootstrap={address}", f"bundles={folder}", f"parallelism={cores()}", "encoder.threads=1"]


def shoppers_of(options: Options) -> int:
    """How many shoppers the simulated shop has."""
    return max(100, options.events // EVENTS_A_SHOPPER)


def bundle_for(options: Options, folder: Path, notes: Console) -> Bundle:
    """The bundle that was named, or one of the simulated shop, exported into `folder` once."""
    own = folder / "bundles"
    if options.bundles is None and not own.exists():
        export_shop(shoppers_of(options), folder, notes)
    return open_bundle(options.bundles or own)


def export_shop(shoppers: int, folder: Path, notes: Console, items: int = ITEMS) -> None:
    """A bundle of the simulated shop in `folder`/bundles, its ranker learned."""
    notes.print("exporting the bundle of a simulated shop")
    simulate.write(folder / "shop", events=1, items=items, shoppers=shoppers)
    files = ["--catalog", str(folder / "shop" / "catalog.jsonl"), "--sessions", str(folder / "shop" / "sessions.jsonl")]
    command = [sys.executable, "-m", "export", "train", *files, "--out", str(folder / "bundles"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShopstreamError(f"the export failed: {last_line(done.stderr).removeprefix('error: ')}")


def prepare(settings: Settings, stream: Iterable[simulate.Record], notes: Console) -> Prepared:
    """Fill `clickstream` with events, none of them broken."""
    brokers.create_topics(settings, cores())
    decode = msgspec.json.Decoder(ClickstreamEvent).decode
    due, users, counts = set[str](), set[str](), dict[str, int]()
    first: list[tuple[bytes, bytes]] = []
    records = repeats = size = 0
    seen = set[str | None]()
    begun = time.monotonic()
    with brokers.reachable(settings):
        producer = brokers.producer(settings)
        for record in stream:
            key, value = record.key or b"", record.value or b""
            repeats += record.kind == "duplicate"
            producer.send(settings.topics.clickstream, key=key, value=value)
            event = decode(value)
            if event.event_type in settings.triggers:
                due.add(f"{event.user_id}/{event.event_id}")
            if len(first) < ENCODED * 2:
                first.append((key, value))
            users.add(event.user_id)
            seen.add(event.session_id)
            if event.item_id:
                counts[event.item_id] = counts.get(event.item_id, 0) + 1
            records, size = records + 1, size + len(value)
        producer.flush()
        producer.close()
    notes.print(f"prepared in {time.monotonic() - begun:.0f} s", markup=False)
    about = (
        f"{records:,} events ({repeats:,} of them repeats) of {len(users):,} shoppers in {len(seen):,} sessions, "
        f"{size / records:.0f} bytes each, {len(due):,} triggers; {len(counts):,} items, the most frequent in "
        f"{max(counts.values()) / sum(counts.values()):.1%} of the events; {cores()} partitions"
    )
    return Prepared(records, about, frozenset(due), first)


def spoil(settings: Settings, bundle: Bundle, events: int, shoppers: int) -> None:
    """Fill another topic with what `prepare` does, and a broken record after each BAD_EACH; as many answers are due."""
    brokers.create_topics(settings, cores())
    catalog = bundle.items().table.to_pylist()
    bad = (record for record in simulate.simulate(catalog, seed=1, bad_share=1) if record.kind == "bad")
    with brokers.reachable(settings):
        producer = brokers.producer(settings)
        for count, record in enumerate(
            simulate.simulate(catalog, events=events, shoppers=shoppers, bad_share=0), start=1
        ):
            for each in (record, next(bad)) if count % BAD_EACH == 0 else (record,):
                producer.send(settings.topics.clickstream, key=each.key, value=each.value)
        producer.flush()
        producer.close()
