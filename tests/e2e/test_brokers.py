"""What commands ask of a real broker: new topics, compressed records, records that are too large."""

import json
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest
from support import as_options, read_all, run_command, set_max_bytes

from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

pytestmark = pytest.mark.e2e


def test_new_topics_get_the_brokers_replication(kafka: str):
    names = {field: f"replicated.{name}" for field, name in Settings().topics.model_dump().items()}
    settings = load_settings(None, [f"kafka.bootstrap={kafka}", *(f"topics.{each}={names[each]}" for each in names)])
    with pytest.raises(ShopstreamError) as error:
        create_topics(settings, replication=3)
    refusal = str(error.value)
    assert f"refuses topic {min(names.values())} with replication factor 3: " in refusal
    assert "only 1 broker(s) are registered" in refusal
    assert "--replication" in refusal
    assert "\n" not in refusal
    assert create_topics(settings) == sorted(names.values())  # the broker's own is 1


def test_compressed_records_are_read(own: Callable[..., list[str]]):
    settings, sent = load_settings(None, own()), []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": settings.kafka.bootstrap, "compression.type": codec, "linger.ms": 50}
        )
        for number in range(3):
            sent.append(f"{codec} {number} ".encode() * 20_000)
            producer.produce(settings.topics.clickstream, value=sent[-1], partition=0)
        producer.flush()
    read = [record.value for record in read_all(settings, settings.topics.clickstream)]
    assert [hash(value) for value in read] == [hash(value) for value in sent]


def test_record_over_the_limit_is_named(own: Callable[..., list[str]], tmp_path: Path):
    assignments = own()
    settings = load_settings(None, assignments)
    set_max_bytes(settings, settings.topics.clickstream, 1_000_000)
    event = {"event_id": "e", "user_id": "u", "event_type": "search", "event_time": 1_700_000_000_000, "item_id": "i"}
    file = tmp_path / "events.jsonl"
    lines = [json.dumps(event | {"query": query}, ensure_ascii=False) for query in ("mug", "€" * 400_000, "cup")]
    file.write_text("\n".join(lines))
    ran = run_command("replay", str(file), *as_options(assignments))
    assert ran.code == 1
    assert "record 2 has 1,200," in ran.err
    assert f"topic {settings.topics.clickstream} takes at most 1,000,000 (max.message.bytes" in ran.err
    assert "reachable" not in ran.err
    set_max_bytes(settings, settings.topics.clickstream, 2_000_000)
    assert run_command("replay", str(file), *as_options(assignments)).code == 0  # also what 1 MiB would not hold
