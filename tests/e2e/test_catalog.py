"""A catalog that changes under load: both jobs on a real cluster, and what shoppers get after each change."""

import json
import os
import time
from collections.abc import Callable, Iterable
from heapq import heapify, heappop
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import add_partition, as_options, linked_bundles, read_all, run_command, send

from flink_jobs.brokers.clients import open_consumer, open_producer
from flink_jobs.commands.watch import decode_recommendation
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.cluster import cancel
from udfs.bundles.bundle import open_bundle
from udfs.bundles.changes import change_files, read_changes

pytestmark = pytest.mark.e2e

CHANGES = int(os.environ.get("SHOPSTREAM_CATALOG_CHANGES", "200"))
#: Changes and events of other shoppers per second; seconds after a change at which shoppers search the item.
RATE, LOAD = 25, 25
LOOKS = (1, 2, 3, 5, 8)
THINGS = ["anchor", "barometer", "canoe", "drum", "easel", "flute", "globe", "harp", "inkwell", "jigsaw"]
STUFF = ["brass", "cedar", "cork", "denim", "glass", "granite", "leather", "linen", "porcelain", "slate"]
FOR = ["attics", "bakers", "camping", "dentists", "fishing", "gardens", "kitchens", "painters", "pilots", "weddings"]


def new_title(number: int) -> str:
    """A title that no other item has."""
    thing, stuff, where = (words[number // part % len(words)] for words, part in ((THINGS, 1), (STUFF, 10), (FOR, 100)))
    return f"{stuff} {thing} for {where}"


class Shoppers:
    """Sends events and catalogue records, and reads the answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._producer = settings, open_producer(settings, linger_ms=0)
        self._consumer = open_consumer(settings, settings.topics.recommendations, auto_offset_reset="earliest")
        self._found: dict[str, list[str]] = {}

    def close(self) -> None:
        self._producer.close()
        self._consumer.close()

    def search(self, name: str, query: str) -> None:
        self._event(name, {"event_type": "search", "query": query})

    def view(self, name: str, item: str) -> None:
        self._event(name, {"event_type": "view", "item_id": item})

    def _event(self, name: str, more: dict[str, str]) -> None:
        fields = {"event_id": name, "user_id": f"of {name}", "event_time": round(time.time() * 1000)}
        value = json.dumps(fields | more).encode()
        self._producer.send(self._settings.topics.clickstream, key=fields["user_id"].encode(), value=value)  # type: ignore[union-attr]

    def change(self, item: str, value: dict[str, object] | None) -> None:
        content = None if value is None else json.dumps({"item_id": item} | value).encode()
        self._producer.send(self._settings.topics.catalog, key=item.encode(), value=content)

    def answers(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The items of each answer, as soon as all are there."""
        self._producer.flush()
        wanted, deadline = set(names), time.monotonic() + 240
        while not wanted <= self._found.keys():
            assert time.monotonic() < deadline, f"{len(wanted - self._found.keys())} answers are missing"
            for records in self._consumer.poll(timeout_ms=500).values():
                for answer in (decode_recommendation(record.value) for record in records):
                    self._found[answer.trigger_event_id] = [item.item_id for item in answer.items]
        return {name: self._found[name] for name in wanted}


def test_changes_reach_shoppers_under_load(
    own: Callable[..., list[str]], flink: str, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = linked_bundles(bundles, tmp_path)
    assignments = own(
        f"bundles={folder}", f"home={tmp_path}", f"flink.address={flink}", "kafka.partition_discovery=1 s"
    )
    settings = load_settings(None, assignments)
    shoppers = Shoppers(settings)
    known = open_bundle(folder).items()
    jobs = [run_command("submit", job, "--json", *as_options(assignments)) for job in ("catalog", "recommend")]
    try:
        assert [job.code for job in jobs] == [0, 0], jobs
        for row, name in enumerate(known.titles):
            shoppers.search(f"before-{row}", name)
        before = shoppers.answers(f"before-{row}" for row in range(len(known.ids)))
        # A search for exactly its title finds an item, unless others share the title.
        there = [row for row, item in enumerate(known.ids) if item in before[f"before-{row}"]]
        changes = plan([(known.ids[row], known.titles[row]) for row in there])
        took = run(shoppers, known.ids, changes)
        for number, (_, text, _, _) in enumerate(changes):
            shoppers.search(f"after-{number}", text)
        after = shoppers.answers(f"after-{number}" for number in range(len(changes)))
        wrong = [item for n, (item, _, _, wanted) in enumerate(changes) if (item in after[f"after-{n}"]) != wanted]
        assert not wrong, f"{len(wrong)} of {len(changes)} changes did not reach the shoppers, {wrong[:3]} among them"
        # A partition that is added to the events is read from its first record on.
        added, fields = add_partition(settings), {"event_type": "view", "item_id": known.ids[0], "event_time": 0}
        for name in (first_there := [f"added-{number}" for number in range(3)]):
            value = json.dumps(fields | {"event_id": name, "user_id": name}).encode()
            send(settings, [(name.encode(), value)], partition=added)
        shoppers.answers(first_there)
        answered = [record.value for record in read_all(settings, settings.topics.recommendations)]
        assert len({decode_recommendation(value).recommendation_id for value in answered}) == len(answered)
        latest = read_changes(folder)
        assert set(latest["item_id"].to_pylist()) == {item for item, _, _, _ in changes}
        count = len(change_files(folder))
    finally:
        shoppers.close()
        for job in jobs:
            cancel(settings, str(job.json()["job_id"]))
    shares = {f"{look} s": round(float(np.mean([each <= look for each in took])), 4) for look in LOOKS}
    with capsys.disabled():  # a figure, which decides nothing
        print(f"\n{len(changes)} changes at {RATE}/s; seen within {shares}; {count} files", flush=True)


def plan(known: list[tuple[str, str]]) -> list[tuple[str, str, dict[str, object] | None, bool]]:
    """Item, its title, its new record, and whether it can be recommended then: of ten, six come and four go."""
    changes: list[tuple[str, str, dict[str, object] | None, bool]] = []
    gone = iter(known)
    for number in range(CHANGES):
        if number % 10 < 6:
            fresh = new_title(number)
            changes.append((f"new-{number}", fresh, {"title": fresh, "price": 9.5}, True))
        elif (item := next(gone, None)) is not None:
            changes.append((*item, {"title": item[1], "in_stock": False} if number % 10 < 8 else None, False))
    return changes


def run(shoppers: Shoppers, items: list[str], changes: list[Any]) -> list[float]:
    """Send changes, looks and other shoppers' events when due; of each change the look from which on it is seen."""
    due = [(number / RATE, number, -1) for number in range(len(changes))]
    due += [(number / RATE + look, number, place) for number in range(len(changes)) for place, look in enumerate(LOOKS)]
    due += [(number / LOAD, number, -2) for number in range(len(changes) * LOAD // RATE)]
    heapify(due)
    start = time.monotonic()
    while due:
        when, number, what = heappop(due)
        time.sleep(max(0.0, start + when - time.monotonic()))
        if what == -1:
            shoppers.change(changes[number][0], changes[number][2])
        elif what == -2:
            shoppers.view(f"load-{number}", items[number % len(items)])
        else:
            shoppers.search(f"look-{number}-{what}", changes[number][1])
    found = shoppers.answers(f"look-{number}-{place}" for number in range(len(changes)) for place in range(len(LOOKS)))
    took = []
    for number, (item, _, _, wanted) in enumerate(changes):
        seen = [(item in found[f"look-{number}-{place}"]) == wanted for place in range(len(LOOKS))]
        late = max((place + 1 for place, right in enumerate(seen) if not right), default=0)
        took.append(float(LOOKS[late]) if late < len(LOOKS) else float("inf"))
    return took
