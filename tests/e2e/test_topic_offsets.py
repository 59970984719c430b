"""Offsets that are not those of records: of transaction markers, and of a topic that was there before."""

import time
from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata
from support import read_all, send

from flink_jobs.brokers.clients import open_admin, open_consumer, open_producer
from flink_jobs.brokers.reading import end_offsets
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.command import doubts_of_restore
from flink_jobs.submit.registry import JOBS

pytestmark = pytest.mark.e2e


def test_topics_may_end_in_markers(own: Callable[..., list[str]]):
    settings = load_settings(None, own())
    topic = settings.topics.clickstream
    with closing(open_producer(settings, transactional_id=topic)) as producer:
        producer.init_transactions()
        for value, end in ((b"kept", producer.commit_transaction), (b"undone", producer.abort_transaction)):
            producer.begin_transaction()
            producer.send(topic, value=value, partition=0).get(10)
            end()
            assert [record.value for record in read_all(settings, topic)] == [b"kept"]
    assert end_offsets(settings, topic) == {0: 4, 1: 0}


def test_restore_doubts_a_topic_created_again(own: Callable[..., list[str]]):
    settings = load_settings(None, own())
    topic, job = settings.topics.clickstream, JOBS["session-features"]
    group = f"{settings.kafka.group}-session-features"
    assert doubts_of_restore(job, settings) is None  # nothing in it could be passed over
    send(settings, [(b"u", b"before")] * 3)
    with closing(open_consumer(settings, group_id=group)) as consumer:
        consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(1, "", -1)})
    assert doubts_of_restore(job, settings) is None

    with closing(open_admin(settings)) as admin:
        admin.delete_topics([topic])
    deadline = time.monotonic() + 30
    while create_topics(settings) != [topic]:
        assert time.monotonic() < deadline
    send(settings, [(b"u", b"after")] * 5)
    doubts = doubts_of_restore(job, settings)
    assert doubts is not None
    assert doubts.startswith(f"group {group} has no offsets in {topic}: ")
    assert "without --restore" in doubts
