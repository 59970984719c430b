"""Hostile records through the real jobs: each is answered, late or a dead letter, and no job has to start again.

`make chaos` sends 20,000; SHOPSTREAM_FUZZED=1000000 sends as many. They are real purchases of Online Retail; one in
three is changed (tests/hostile.py) by a seed that is printed; SHOPSTREAM_CHAOS_SEED=… repeats a run.
"""

import itertools
import json
import os
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pytest
from hostile import DAY_MS, Record, hostile
from support import as_options, online_retail, read_all, run_command

from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.reading import read_topic
from flink_jobs.settings.kafka import MAX_RECORD_BYTES
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.cluster import cancel
from udfs.bundles.bundle import open_bundle
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.files import read_events
from udfs.events.parsing import parse_event
from udfs.lake.files import read

pytestmark = pytest.mark.chaos

FUZZED = int(os.environ.get("SHOPSTREAM_FUZZED", "20000"))
SEED = int(os.environ.get("SHOPSTREAM_CHAOS_SEED", random.randrange(10**6)))
#: Largest sizes of the very large fields, in bytes. The local broker takes records of 16 MB.
LARGE = (1_000_000, 10_000_000, 1_000_000, 1_000_000)
#: All of Online Retail: how many days later its next round begins, if it is not enough.
ROUND_DAYS = 400


def purchases(file: Path, ids: list[str]) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, value and time of the purchases, over and over with later times; their items become `ids`, in turn."""
    item_of: dict[str, str] = {}
    for turn in itertools.count():
        for batch in read_events(file):
            for row in batch.to_pylist():
                fields = {name: field for name, field in row.items() if field is not None}
                fields["event_time"] += turn * ROUND_DAYS * DAY_MS
                fields["event_id"] += f"-{turn}"
                fields["item_id"] = item_of.setdefault(row["item_id"], ids[len(item_of) % len(ids)])
                yield row["user_id"].encode(), msgspec.json.encode(fields), fields["event_time"]


def produce(settings: Settings, records: Iterator[Record]) -> Counter[str]:
    """Send records; how many of each mutation."""
    sent, failures = Counter[str](), list[Exception]()
    producer = open_producer(settings, max_request_size=MAX_RECORD_BYTES)
    for record in records:
        topic, when = settings.topics.clickstream, max(record.timestamp_ms, 0)
        future = producer.send(topic, key=record.key, value=record.value, timestamp_ms=when)
        future.add_errback(failures.append)
        sent[record.how] += 1
    producer.flush()
    producer.close()
    assert failures == []
    return sent


def rest(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        return json.load(answer)


def ended(address: str, job: str, deadline: float) -> dict[str, Any]:
    """The job when it has ended by itself, with the exceptions that it met."""
    while (found := rest(address, f"/jobs/{job}"))["state"] in ("CREATED", "INITIALIZING", "RUNNING", "RESTARTING"):
        history = rest(address, f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        assert history == [], history[0]["stacktrace"][-3000:]
        assert time.monotonic() < deadline, f"{found['state']} for too long"
        time.sleep(2)
    return found | {"exceptions": rest(address, f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]}


@pytest.mark.timeout(600 + FUZZED // 50)
def test_hostile_records_stop_no_job(
    own: Callable[..., list[str]],
    flink: str,
    bundles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    file = online_retail(tmp_path / "retail.csv.gz", lines=min(2 * FUZZED, 600_000))
    ids = open_bundle(bundles).items().ids
    assignments = own(
        f"bundles={bundles}", f"home={tmp_path}", f"flink.address={flink}", "kafka.bounded=true",
        "kafka.startup=earliest-offset", "dedup.ttl=1 d", "checkpoint.backend=rocksdb",
    )  # fmt: skip  # a million events are more than the local task manager's heap holds (docs/operations.md)
    settings = load_settings(None, assignments)
    started = time.monotonic()
    sent = produce(settings, hostile(itertools.islice(purchases(file, ids), FUZZED), SEED, LARGE))
    assert sent.total() == FUZZED

    jobs = dict.fromkeys(("recommend", "session-features"), "")
    try:
        for name in jobs:
            ran = run_command("submit", name, "--json", *as_options(assignments))
            assert ran.code == 0, ran.err
            jobs[name] = str(ran.json()["job_id"])
        deadline = time.monotonic() + 300 + FUZZED / 60
        for name, job in jobs.items():
            found = ended(flink, job, deadline)
            assert (found["state"], found["exceptions"]) == ("FINISHED", []), name
    finally:
        for job in filter(None, jobs.values()):
            cancel(settings, job)

    # What is in the topic: events, of which triggers are to be answered, and by place what cannot be read.
    events, triggers, dead = 0, set[str](), dict[tuple[int, int], bytes]()
    for record in read_topic(settings, settings.topics.clickstream):
        row = dict(zip(EVENT_COLUMNS, parse_event(record.value), strict=True))
        if row["error"] is not None:
            dead[record.partition, record.offset] = _digest(record.key, record.value)
            continue
        events += 1
        if row["event_type"] in settings.triggers:
            triggers.add(f"{row['user_id']}/{row['event_id']}")
    assert events + len(dead) == FUZZED

    letters: dict[tuple[int, int], bytes] = {}
    for letter in read_topic(settings, settings.topics.dlq):
        headers = dict(letter.headers)
        place = int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])
        assert place not in letters
        letters[place] = _digest(letter.key, letter.value)
    assert letters == dead

    answers = [
        json.loads(record.value)["recommendation_id"]
        for record in read_topic(settings, settings.topics.recommendations)
    ]
    assert len(answers) == len(set(answers))
    assert set(answers) == triggers

    late = len(read_all(settings, settings.topics.late))
    in_lake = len(read(settings.lake_folder, "events", columns=["event_id"]))
    repeats = pc.sum(read(settings.lake_folder, "sessions", columns=["repeats"])["repeats"]).as_py()
    assert in_lake + repeats + late == events
    with capsys.disabled():
        print(
            f"\n{FUZZED:,} records (seed {SEED}) in {time.monotonic() - started:.0f} s: {events:,} events, "
            f"{len(dead):,} dead letters; {len(answers):,} answers; closed {in_lake:,}, repeated {repeats:,}, "
            f"late {late:,}; {dict(sent)}",
            flush=True,
        )


def _digest(key: bytes | None, value: bytes | None) -> bytes:
    return sha256(repr((key, value)).encode()).digest()
