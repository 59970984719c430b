"""Dead letters on a real broker: their summary, and each replayed once, unchanged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mini_cluster import MiniCluster
from support import as_options, read_all, run_command

from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.reading import end_offsets
from flink_jobs.commands.dlq import CHUNK, Replayed, dead_letters_by_reason, replay_dead_letters
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

pytestmark = pytest.mark.e2e

START = 1_700_000_000_000
VIEW, UTF8 = "Invalid enum value 'stare' - at `$.event_type`", "'utf-8' codec can't decode byte 0xff in position 3"


def error_headers(topic: str, message: str, partition: int | str = 0, offset: int = 7) -> list[tuple[str, bytes]]:
    """Headers as our jobs write them."""
    errors = {
        "topic": topic, "partition": str(partition), "offset": str(offset), "stage": "VALUE_CONVERTER",
        "class.name": "udfs.events.parse_event", "exception.class.name": "ValidationError",
        "exception.message": message,
    }  # fmt: skip
    return [(f"__connect.errors.{name}", value.encode()) for name, value in errors.items()]


def put(settings: Settings, letters: list[dict[str, Any]], topic: str = "") -> None:
    producer = open_producer(settings)
    for letter in letters:
        producer.send(topic or settings.topics.dlq, **letter)
    producer.flush()
    producer.close()


def events(settings: Settings) -> list[Any]:
    return read_all(settings, settings.topics.clickstream)


@pytest.fixture
def assigned(own: Callable[..., list[str]]) -> list[str]:
    return own()


def test_letters_are_replayed_once(assigned: list[str]):
    settings = load_settings(None, assigned)
    origin, options = settings.topics.clickstream, as_options(assigned)
    own_headers = [("trace", b"1"), ("trace", b"2"), ("empty", b""), ("trace", b"1")]
    letters = [
        {
            "key": b"a",
            "value": b"stare",
            "headers": [*own_headers, *error_headers(origin, VIEW, 1)],
            "timestamp_ms": START,
        },
        {"key": b"b", "value": b"\xff\xfe", "headers": error_headers(origin, UTF8), "timestamp_ms": START + 1},
        {"key": None, "value": b"{", "headers": error_headers(origin, UTF8.replace("3", "44"), 1), "timestamp_ms": 0},
        {
            "key": b"c",
            "value": None,
            "headers": error_headers(origin, "the record has no value"),
            "timestamp_ms": START,
        },
        {"key": b"d", "value": b"far", "headers": error_headers(origin, VIEW, "9" * 5000), "timestamp_ms": START},
        {"key": b"e", "value": b"?", "headers": [("whose", b"nobody's")], "timestamp_ms": START},
    ]
    put(settings, letters)

    shown = run_command("dlq", "show", "--json", *options)
    assert shown.code == 0, shown.err
    reasons = {reason["message"]: reason for reason in shown.json()["reasons"]}
    utf8 = "'…' codec can't decode byte N in position N"
    assert {message: reason["count"] for message, reason in reasons.items()} == {
        utf8: 2, "Invalid enum value '…' - at `$.event_type`": 2, "the record has no value": 1, "": 1,
    }  # fmt: skip
    assert {reasons[utf8][name] for name in ("exception", "topic", "stage")} == {
        "ValidationError", origin, "VALUE_CONVERTER",
    }  # fmt: skip
    assert {"from": f"{origin}/0/7", "key": "b", "value": "��"} in reasons[utf8]["examples"]
    assert all(reason["sent_back"] == 0 for reason in reasons.values())

    sent = run_command("dlq", "replay", "--reason", "Invalid enum", "--json", *options)
    assert sent.json() == {"sent": 2, "left": 4}, sent.err
    assert {record.value for record in events(settings)} == {b"stare", b"far"}
    assert {reason.message: letters.sent_back for reason, letters in dead_letters_by_reason(settings).items()} == {
        utf8: 0, "Invalid enum value '…' - at `$.event_type`": 2, "the record has no value": 0, "": 0,
    }  # fmt: skip
    assert replay_dead_letters(settings, topic="another") == Replayed(0, 4)
    assert replay_dead_letters(settings, limit=1).sent == 1
    assert replay_dead_letters(settings).sent == 2
    assert replay_dead_letters(settings).sent == 0

    found = {record.value: record for record in events(settings)}
    assert len(found) == len(events(settings)) == 5
    for letter in letters[:-1]:
        record = found[letter["value"]]
        assert (record.key, record.timestamp) == (letter["key"], letter["timestamp_ms"])
        assert record.headers == ([] if letter["value"] != b"stare" else own_headers)
    assert found[b"stare"].partition == found[b"{"].partition == 1

    # The one without an original topic is left for good; what comes later goes back, whatever went before.
    put(settings, [letters[0] | {"value": b"later"}])
    assert replay_dead_letters(settings).sent == 1
    text = run_command("dlq", "show", *options).out
    assert "3 × ValidationError: Invalid enum value '…' - at `$.event_type`" in text
    assert "3 sent back" in text


def test_many_letters_in_several_transactions(assigned: list[str]):
    settings = load_settings(None, assigned)
    origin, count = settings.topics.clickstream, 2 * CHUNK
    messages = (VIEW, "the record has no value", UTF8)
    put(
        settings,
        [
            {
                "key": b"%d" % (n % 50),
                "value": b"%d" % n,
                "headers": error_headers(origin, messages[n % 3]),
                "timestamp_ms": n,
            }
            for n in range(count)
        ],
    )
    third = replay_dead_letters(settings, reason="Invalid enum")
    assert third == Replayed(len(range(0, count, 3)), count - len(range(0, count, 3)))
    assert replay_dead_letters(settings).sent == count - third.sent
    assert replay_dead_letters(settings).sent == 0
    values = [int(record.value) for record in events(settings)]
    assert sorted(values) == list(range(count))


def test_failed_replay_sends_nothing(assigned: list[str]):
    settings = load_settings(None, assigned)
    gone = {"key": b"k", "value": b"v", "headers": error_headers("no-such-topic", VIEW), "timestamp_ms": START}
    put(settings, [{"key": b"k", "value": b"v", "headers": error_headers(settings.topics.clickstream, VIEW)}, gone])
    with pytest.raises(ShopstreamError, match="has no topic no-such-topic"):
        replay_dead_letters(settings)
    assert events(settings) == []
    assert replay_dead_letters(settings, topic=settings.topics.clickstream) == Replayed(1, 1)
    assert len(events(settings)) == 1


def test_killed_replay_is_rolled_back(assigned: list[str]):
    """As it would be after kill -9 in the midst of a transaction: another begins, and ends it."""
    settings = load_settings(None, assigned)
    put(settings, [{"key": b"k", "value": b"v", "headers": error_headers(settings.topics.clickstream, VIEW)}])
    killed = open_producer(settings, transactional_id=f"{settings.sink.transactional_id_prefix}-replay")
    killed.init_transactions()
    killed.begin_transaction()
    killed.send(settings.topics.clickstream, key=b"k", value=b"v").get(10)
    assert replay_dead_letters(settings).sent == 1
    assert [record.value for record in events(settings)] == [b"v"]
    killed.close(timeout=0)


def test_replayed_letters_fail_again(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """Unreadable events through the job, back, and through the job again: it reports the same."""
    assignments = own(f"bundles={bundles}", f"home={tmp_path}")
    settings = load_settings(None, assignments)
    headers = [("trace", b"6"), ("trace", b"7")]  # of one name, the job keeps the last
    bad = [{"key": b"u", "value": value, "headers": headers, "timestamp_ms": START} for value in (b"{", b"\xff")]
    put(settings, bad, settings.topics.clickstream)

    def run() -> dict[str, int]:
        mini_cluster.run("recommend", assignments)
        return {str(reason): letters.count for reason, letters in dead_letters_by_reason(settings).items()}

    once = run()
    assert sum(once.values()) == 2
    assert replay_dead_letters(settings).sent == 2
    assert sum(end_offsets(settings, settings.topics.clickstream).values()) > 4  # the job reads up to a marker
    again = events(settings)[2:]
    assert sorted((record.value, tuple(record.headers), record.timestamp) for record in again) == sorted(
        (each["value"], (("trace", b"7"),), START) for each in bad
    )
    assert run() == {reason: 2 * count for reason, count in once.items()}
    letters = [
        json.loads(dict(record.headers)["__connect.errors.offset"])
        for record in read_all(settings, settings.topics.dlq)
    ]
    assert len(set(letters)) == 4
