"""Flink metrics of the functions."""

from collections import Counter
from collections.abc import Iterable
from functools import partial

from pyflink.metrics import MetricGroup

from udfs.bundles.watcher import BundleStatus
from udfs.encoder.encoder import EncoderStats

#: Error classes with a counter of their own; unreadable records with any other class are counted as `other`.
REASONS = ("DecodeError", "ValidationError", "UnicodeDecodeError", "ValueError", "RecursionError")

#: Upper bounds of the latency buckets, in ms.
BUCKETS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class ReadMetrics:
    """Counts records, and unreadable ones by the class of their error, in the metric group `read`."""

    def __init__(self, group: MetricGroup) -> None:
        group = group.add_group("read")
        self._records = group.counter("records")
        self._unreadable = {name: group.add_group("reason", name).counter("unreadable") for name in (*REASONS, "other")}

    def update(self, errors: Iterable[str | None]) -> None:
        """Count records. errors: the class of each record's error, None for a readable one."""
        found = Counter(errors)
        self._records.inc(found.total())
        found["other"] = found.total() - found[None] - sum(found[name] for name in REASONS)
        for name, counter in self._unreadable.items():
            counter.inc(found[name])


class CounterDeltas:
    """Publishes growing attributes of an object as Flink counters (deltas since the last update)."""

    def __init__(self, group: MetricGroup, *names: str, **attributes: str) -> None:
        """names: attributes that are counted under their own name; attributes: counter name to attribute name."""
        self._attributes = dict(zip(names, names, strict=True)) | attributes
        self._counters = {name: group.counter(name) for name in self._attributes}
        self._of: object = None
        self._before = dict.fromkeys(self._counters, 0)

    def update(self, numbers: object) -> None:
        """Add the growth of the attributes since the last update; those of another object count from 0."""
        if numbers is not self._of:
            self._of, self._before = numbers, dict.fromkeys(self._counters, 0)
        for name, counter in self._counters.items():
            value = getattr(numbers, self._attributes[name])
            counter.inc(value - self._before[name])
            self._before[name] = value


class LatencyHistogram:
    """A cumulative latency histogram: one Flink counter per upper bound, in ms, which is its label `le`."""

    def __init__(self, group: MetricGroup, name: str) -> None:
        bounds = [(float(bound), str(bound)) for bound in BUCKETS_MS] + [(float("inf"), "Inf")]
        self._counters = [(bound, group.add_group("le", label).counter(name)) for bound, label in bounds]

    def add(self, took_ms: float, times: int = 1) -> None:
        """Count a duration `times` times, in each bucket whose bound it does not exceed."""
        for bound, counter in self._counters:
            counter.inc(times if took_ms <= bound else 0)


class EncoderMetrics:
    """Publishes an encoder's counters in the metric group `encoder`."""

    COUNTERS = ("texts", "tokens", "truncated", "failed", "cached", "batches", "model_us")

    def __init__(self, group: MetricGroup) -> None:
        self._of = EncoderStats()
        group = group.add_group("encoder")
        self._added = CounterDeltas(group, *self.COUNTERS)
        self._batch_texts = group.distribution("batch_texts")
        self._batch_us = group.distribution("batch_us")
        group.gauge("load_ms", lambda: round(self._of.load_seconds * 1000))

    def update(self, stats: EncoderStats) -> None:
        """Add what the encoder did since the last update."""
        self._of = stats
        self._added.update(stats)
        while stats.last_batches:
            texts, took_us = stats.last_batches.popleft()
            self._batch_texts.update(texts)
            self._batch_us.update(took_us)


class BundleMetrics:
    """Publishes the bundle in use, and what was applied to it, in the metric group `bundle`."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group.add_group("bundle")
        self._status = BundleStatus()
        # Dashboards and alerts use these names of the counters.
        attributes = {"segments": "change_files", "changes": "changed_items", "taken_up": "reloads"}
        self._added = CounterDeltas(self._group, "refused", **attributes)
        self._group.gauge("written_s", lambda: self._status.written_s)
        self._known: set[str] = set()

    def update(self, status: BundleStatus) -> None:
        """Add what was applied since the last update, and note the bundle in use."""
        self._status = status
        self._added.update(status)
        if status.bundle not in self._known:
            self._known.add(status.bundle)
            self._group.add_group("id", status.bundle).gauge("used", partial(self._used, status.bundle))

    def _used(self, bundle: str) -> int:
        return int(bundle == self._status.bundle)
