"""What commands ask of a real broker: new topics, compressed records, records that are too large."""

from collections.abc import Callable

import confluent_kafka
import pytest
from support import read_all

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
