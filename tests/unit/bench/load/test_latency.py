import json
from collections.abc import Callable, Iterator

import pytest

from bench.load.latency import run_latency, send_events
from bench.pipeline.run import Options
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.records import Record
from udfs.core.errors import ShopstreamError


def test_unknown_modes_are_refused():
    with pytest.raises(ShopstreamError, match=r"--only names 2s; the modes are at-least-once, .*1s-changelog"):
        run_latency(Options(only=("1s", "2s")), 60, 1, as_json=True)


class Appended:
    """A delivered message."""

    def __init__(self, time_ms: int) -> None:
        self._time_ms = time_ms

    def timestamp(self) -> tuple[int, int]:
        return 1, self._time_ms


class Sender:
    """Stands in for a producer: delivers every record at once, one millisecond after the other."""

    def __init__(self) -> None:
        self.sent = 0

    def produce(self, *_: object, on_delivery: Callable[..., None] | None = None) -> None:
        self.sent += 1
        if on_delivery is not None:
            on_delivery(None, Appended(self.sent))

    def poll(self, _: float) -> None:
        """Everything is delivered."""

    def flush(self, _: float) -> int:
        return 0


def stream(*events: str) -> Iterator[Record]:
    """One view per event id; an id that came before is a repeat."""
    seen = set[str]()
    for event_id in events:
        event = {"event_id": event_id, "event_type": "view", "user_id": "u", "event_time": 1, "item_id": "i"}
        yield Record(b"u", json.dumps(event).encode(), 1, "duplicate" if event_id in seen else "valid")
        seen.add(event_id)


def test_repeats_of_earlier_loads_are_not_due():
    sender = Sender()
    events = stream("a", "b", "a", "c", "c")
    settings = Settings()
    assert set(send_events(settings, sender, events, 1000, 0.002).values()) == {1.0, 2.0}
    assert set(send_events(settings, sender, events, 1000, 0.003).values()) == {4.0}
    assert sender.sent == 5
