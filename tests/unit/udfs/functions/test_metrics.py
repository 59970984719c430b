from collections.abc import Callable
from types import SimpleNamespace

import pytest

from udfs.bundles.watcher import BundleStatus
from udfs.encoder.encoder import EncoderStats
from udfs.functions.metrics import (
    BUCKETS_MS,
    BundleMetrics,
    CounterDeltas,
    EncoderMetrics,
    LatencyHistogram,
    ReadMetrics,
)


class Group:
    """Stands for Flink's metric group: what its counters, gauges and distributions hold, by name with all groups."""

    def __init__(self, values: dict[str, object] | None = None, prefix: str = "") -> None:
        self.values: dict[str, object] = {} if values is None else values
        self._prefix = prefix

    def add_group(self, *names: str) -> "Group":
        return Group(self.values, self._prefix + "".join(f"{name}." for name in names))

    def counter(self, name: str) -> SimpleNamespace:
        name = self._prefix + name
        assert name not in self.values
        self.values[name] = 0

        def inc(count: int) -> None:
            assert count >= 0
            self.values[name] = int(str(self.values[name])) + count

        return SimpleNamespace(inc=inc)

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        self.values[self._prefix + name] = read

    def distribution(self, name: str) -> SimpleNamespace:
        updates: list[int] = []
        self.values[self._prefix + name] = updates
        return SimpleNamespace(update=updates.append)

    def read(self) -> dict[str, object]:
        return {name: value() if callable(value) else value for name, value in self.values.items()}


def test_counters_grow_by_deltas():
    group = Group()
    counters = CounterDeltas(group, "items", seconds="elapsed")
    first = SimpleNamespace(items=3, elapsed=5)
    counters.update(first)
    counters.update(first)
    assert group.values == {"items": 3, "seconds": 5}
    first.items, first.elapsed = 10, 6
    counters.update(first)
    assert group.values == {"items": 10, "seconds": 6}


def test_counters_continue_with_another_object():
    group = Group()
    counters = CounterDeltas(group, "items")
    for numbers in (SimpleNamespace(items=3), SimpleNamespace(items=2)):
        counters.update(numbers)
        counters.update(numbers)
    assert group.values == {"items": 5}


@pytest.mark.parametrize(("took_ms", "smallest"), [(0, 5), (5, 5), (5.001, 10), (4999, 5000), (5001, "Inf")])
def test_latency_counts_in_larger_buckets(took_ms: float, smallest: object):
    group = Group()
    LatencyHistogram(group, "batch_ms").add(took_ms, 3)
    bounds = [*BUCKETS_MS, "Inf"]
    counted = bounds[bounds.index(smallest) :]
    assert group.values == {f"le.{bound}.batch_ms": 3 if bound in counted else 0 for bound in bounds}


def test_latency_buckets_are_cumulative():
    group = Group()
    histogram = LatencyHistogram(group, "trigger_ms")
    for took_ms in (1, 7, 30, 7000):
        histogram.add(took_ms)
    counts = list(group.values.values())
    assert counts == sorted(counts, key=int)
    assert (group.values["le.10.trigger_ms"], group.values["le.50.trigger_ms"], counts[-1]) == (2, 3, 4)


def test_unreadable_records_count_by_reason():
    group = Group()
    metrics = ReadMetrics(group)
    metrics.update([None, "ValueError", "DecodeError", None, "KeyError", "ValueError"])
    metrics.update([None])
    assert {name: count for name, count in group.values.items() if count} == {
        "read.records": 7,
        "read.reason.ValueError.unreadable": 2,
        "read.reason.DecodeError.unreadable": 1,
        "read.reason.other.unreadable": 1,
    }


def test_encoder_metrics_drain_last_batches():
    group, stats = Group(), EncoderStats(texts=4, batches=2, model_us=70, load_seconds=1.5)
    metrics = EncoderMetrics(group)
    stats.last_batches.extend([(3, 40), (1, 30)])
    metrics.update(stats)
    metrics.update(stats)
    found = group.read()
    assert (found["encoder.texts"], found["encoder.batches"], found["encoder.model_us"]) == (4, 2, 70)
    assert (found["encoder.batch_texts"], found["encoder.batch_us"]) == ([3, 1], [40, 30])
    assert found["encoder.load_ms"] == 1500
    assert not stats.last_batches


def test_bundle_metrics_keep_dashboard_names():
    group = Group()
    metrics = BundleMetrics(group)
    status = BundleStatus("one", written_s=7, change_files=2, changed_items=30, refused=1)
    metrics.update(status)
    status.bundle, status.reloads, status.changed_items = "two", 1, 31
    metrics.update(status)
    assert group.read() == {
        "bundle.segments": 2,
        "bundle.changes": 31,
        "bundle.taken_up": 1,
        "bundle.refused": 1,
        "bundle.written_s": 7,
        "bundle.id.one.used": 0,
        "bundle.id.two.used": 1,
    }
