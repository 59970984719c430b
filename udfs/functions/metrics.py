"""Flink metrics of the functions."""

from collections import Counter
from collections.abc import Iterable
from functools import partial

from pyflink.metrics import MetricGroup

from udfs.bundles.watcher import BundleStatus
from udfs.encoder.encoder import Stats

#: Classes of errors that unreadable records are counted by; what else there may be is counted as `other`.
REASONS = ("DecodeError", "ValidationError", "UnicodeDecodeError", "ValueError", "RecursionError")

#: Upper bounds in ms of the buckets that times are counted in.
BUCKETS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class ReadMetrics:
    """Records and, by the class of the error, those that cannot be read, as Flink metrics in the group `read`."""

    def __init__(self, group: MetricGroup) -> None:
        group = group.add_group("read")
        self._records = group.counter("records")
        self._unreadable = {name: group.add_group("reason", name).counter("unreadable") for name in (*REASONS, "other")}

    def update(self, errors: Iterable[str | None]) -> None:
        """errors: the class of each record's error, None of one that can be read."""
        found = Counter(errors)
        self._records.inc(found.total())
        found["other"] = found.total() - found[None] - sum(found[name] for name in REASONS)
        for name, counter in self._unreadable.items():
            counter.inc(found[name])


class CounterDeltas:
    """Flink counters of numbers that grow in an object: what was added since the last call, or by another object."""

    def __init__(self, group: MetricGroup, names: Iterable[str]) -> None:
        self._counters = {name: group.counter(name) for name in names}
        self._of: object = None
        self._before = dict.fromkeys(self._counters, 0)

    def update(self, numbers: object) -> None:
        """Count the growth of the attributes since the last call."""
        if numbers is not self._of:
            self._of, self._before = numbers, dict.fromkeys(self._counters, 0)
        for name, counter in self._counters.items():
            value = getattr(numbers, name)
            counter.inc(value - self._before[name])
            self._before[name] = value


class LatencyHistogram:
    """Times as Flink counters, one a bucket: each counts all that took no longer than its label `le` says, in ms."""

    def __init__(self, group: MetricGroup, name: str) -> None:
        bounds = [(float(bound), str(bound)) for bound in BUCKETS_MS] + [(float("inf"), "Inf")]
        self._counters = [(bound, group.add_group("le", label).counter(name)) for bound, label in bounds]

    def add(self, took_ms: float, times: int = 1) -> None:
        """Count a duration in ms, `times` times."""
        for bound, counter in self._counters:
            counter.inc(times if took_ms <= bound else 0)


class EncoderMetrics:
    """An encoder's statistics as Flink metrics in the group `encoder`: what was added since the last call."""

    COUNTERS = ("texts", "tokens", "truncated", "failed", "cached", "batches", "model_us")

    def __init__(self, group: MetricGroup) -> None:
        self._of = Stats()
        group = group.add_group("encoder")
        self._added = CounterDeltas(group, self.COUNTERS)
        self._batch_texts, self._batch_us = group.distribution("batch_texts"), group.distribution("batch_us")
        group.gauge("load_ms", lambda: round(self._of.load_seconds * 1000))

    def update(self, stats: Stats) -> None:
        """Count what the encoder did since the last call."""
        self._of = stats
        self._added.update(stats)
        while stats.last_batches:
            texts, took_us = stats.last_batches.popleft()
            self._batch_texts.update(texts)
            self._batch_us.update(took_us)


class BundleMetrics:
    """Which bundle is in use, and what was taken up beside it, as Flink metrics in the group `bundle`."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group.add_group("bundle")
        self._followed = BundleStatus()
        self._added = CounterDeltas(self._group, ("segments", "changes", "taken_up", "refused"))
        self._group.gauge("written_s", lambda: self._followed.written_s)
        self._known: set[str] = set()

    def update(self, followed: BundleStatus) -> None:
        """Count what was applied since the last call, and note the bundle in use."""
        self._followed = followed
        self._added.update(followed)
        if followed.bundle not in self._known:
            self._known.add(followed.bundle)
            self._group.add_group("id", followed.bundle).gauge("used", partial(self._used, followed.bundle))

    def _used(self, bundle: str) -> int:
        return int(bundle == self._followed.bundle)
