"""The PyFlink functions: the one module of udfs that needs Flink."""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
from pyflink.metrics import MetricGroup
from pyflink.table import DataTypes
from pyflink.table.types import DataType
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.catalog import ITEM_SCHEMA, CatalogOptions, ItemEncoder
from udfs.encoder import Stats
from udfs.events import EVENT_COLUMNS, PACKED_COLUMNS, packed_events, parse_events
from udfs.following import Followed
from udfs.privacy import KeysFile
from udfs.recommend import Recommender, RecommendOptions, recommend_columns
from udfs.session_features import RULES, Closer, ClosingOptions, close_columns, closed_schema

_SQL_TYPES: dict[str, DataType] = {
    "STRING": DataTypes.STRING(),
    "BIGINT": DataTypes.BIGINT(),
    "DOUBLE": DataTypes.DOUBLE(),
}
_ARROW_TYPES: dict[pa.DataType, DataType] = {
    pa.string(): DataTypes.STRING(),
    pa.int32(): DataTypes.INT(),
    pa.int64(): DataTypes.BIGINT(),
    pa.float64(): DataTypes.DOUBLE(),
    pa.bool_(): DataTypes.BOOLEAN(),
    pa.binary(): DataTypes.BYTES(),
}
_LETTER = {"key": pa.binary(), "value": pa.binary()}


#: Classes of errors that unreadable records are counted by; what else there may be is counted as `other`.
REASONS = ("DecodeError", "ValidationError", "UnicodeDecodeError", "ValueError", "RecursionError")
#: Upper bounds in ms of the buckets that times are counted in.
BUCKETS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

log = logging.getLogger(__name__)


class _ReadMetrics:
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


class _Added:
    """Flink counters of numbers that grow in an object: what was added since the last call, or by another object."""

    def __init__(self, group: MetricGroup, names: Iterable[str]) -> None:
        self._counters = {name: group.counter(name) for name in names}
        self._of: object = None
        self._before = dict.fromkeys(self._counters, 0)

    def update(self, numbers: object) -> None:
        if numbers is not self._of:
            self._of, self._before = numbers, dict.fromkeys(self._counters, 0)
        for name, counter in self._counters.items():
            value = getattr(numbers, name)
            counter.inc(value - self._before[name])
            self._before[name] = value


class _Buckets:
    """Times as Flink counters, one a bucket: each counts all that took no longer than its label `le` says, in ms."""

    def __init__(self, group: MetricGroup, name: str) -> None:
        bounds = [(float(bound), str(bound)) for bound in BUCKETS_MS] + [(float("inf"), "Inf")]
        self._counters = [(bound, group.add_group("le", label).counter(name)) for bound, label in bounds]

    def add(self, took_ms: float, times: int = 1) -> None:
        for bound, counter in self._counters:
            counter.inc(times if took_ms <= bound else 0)


class _Parse(ScalarFunction):
    def __init__(self, keys_file: Path | None, *, packed: bool) -> None:
        self._keys_file, self._packed = keys_file, packed

    def open(self, function_context: FunctionContext) -> None:
        self._keys = KeysFile(self._keys_file) if self._keys_file else None
        self._metrics = _ReadMetrics(function_context.get_metric_group())

    def eval(self, values: "pd.Series[Any]") -> pd.DataFrame:
        pseudonyms = self._keys.latest().pseudonyms if self._keys else None
        rows, columns = parse_events(values, pseudonyms), EVENT_COLUMNS
        if self._packed:
            rows, columns = packed_events(rows), PACKED_COLUMNS
        events = pd.DataFrame(rows, columns=list(columns), dtype=object)
        self._metrics.update(events["error_class"])
        return events


def parse(keys_file: Path | None, *, packed: bool = False) -> Any:
    """A function of BYTES that gives a ROW of EVENT_COLUMNS, or PACKED_COLUMNS.

    With pseudonyms by the keys of a file, if one is named.
    """
    columns = PACKED_COLUMNS if packed else EVENT_COLUMNS
    row = DataTypes.ROW([DataTypes.FIELD(name, _SQL_TYPES[kind]) for name, kind in columns.items()])
    return udf(_Parse(keys_file, packed=packed), result_type=row, func_type="pandas")


class _Mask(ScalarFunction):
    def __init__(self, keys_file: Path) -> None:
        self._keys_file = keys_file

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002
        self._keys = KeysFile(self._keys_file)

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]", moments: "pd.Series[Any]") -> pd.DataFrame:
        letter = self._keys.latest().letter
        masked = [letter(*row) for row in zip(keys, values, moments.tolist(), strict=True)]
        return pd.DataFrame(masked, columns=list(_LETTER), dtype=object)


def mask(keys_file: Path) -> Any:
    """A function of a record's key, value (BYTES) and time (BIGINT, epoch ms) that gives a ROW of a letter's."""
    return udf(_Mask(keys_file), result_type=_row(pa.schema(_LETTER)), func_type="pandas")


class _EncoderMetrics:
    """An encoder's statistics as Flink metrics in the group `encoder`: what was added since the last call."""

    COUNTERS = ("texts", "tokens", "truncated", "failed", "cached", "batches", "model_us")

    def __init__(self, group: MetricGroup) -> None:
        self._of = Stats()
        group = group.add_group("encoder")
        self._added = _Added(group, self.COUNTERS)
        self._batch_texts, self._batch_us = group.distribution("batch_texts"), group.distribution("batch_us")
        group.gauge("load_ms", lambda: round(self._of.load_seconds * 1000))

    def update(self, stats: Stats) -> None:
        self._of = stats
        self._added.update(stats)
        while stats.last_batches:
            texts, took_us = stats.last_batches.popleft()
            self._batch_texts.update(texts)
            self._batch_us.update(took_us)


class _BundleMetrics:
    """Which bundle is in use, and what was taken up beside it, as Flink metrics in the group `bundle`."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group.add_group("bundle")
        self._followed = Followed()
        self._added = _Added(self._group, ("segments", "changes", "taken_up", "refused"))
        self._group.gauge("written_s", lambda: self._followed.written_s)
        self._known: set[str] = set()

    def update(self, followed: Followed) -> None:
        self._followed = followed
        self._added.update(followed)
        if followed.bundle not in self._known:
            self._known.add(followed.bundle)
            self._group.add_group("id", followed.bundle).gauge("used", partial(self._used, followed.bundle))

    def _used(self, bundle: str) -> int:
        return int(bundle == self._followed.bundle)


class _Recommend(ScalarFunction):
    def __init__(self, options: RecommendOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        logging.getLogger("udfs").setLevel(self._options.log_level)
        self._recommender = Recommender(self._options)
        group = function_context.get_metric_group()
        self._encoder, self._bundle = _EncoderMetrics(group), _BundleMetrics(group)
        group = group.add_group("recommend")
        self._answered = _Added(group, ("batches", "triggers", "items", "candidates", "rank_us"))
        self._us = group.counter("us")
        self._batch_ms, self._trigger_ms = _Buckets(group, "batch_ms"), _Buckets(group, "trigger_ms")
        self._encoder.update(self._recommender.encoder_stats)

    def eval(self, *columns: "pd.Series[Any]") -> "pd.Series[Any]":
        began = time.perf_counter()
        answers = pd.Series(recommend_columns(self._recommender, columns), dtype=object)
        took = time.perf_counter() - began
        self._us.inc(round(took * 1e6))
        self._batch_ms.add(took * 1000)
        self._trigger_ms.add(took * 1000, len(answers))
        self._answered.update(self._recommender.answered)
        self._encoder.update(self._recommender.encoder_stats)
        self._bundle.update(self._recommender.followed)
        if log.isEnabledFor(logging.DEBUG):
            self._log(columns, took)
        return answers

    def _log(self, columns: "tuple[pd.Series[Any], ...]", took: float) -> None:
        """A line of JSON a trigger: which answer it got, by which bundle, in how large a batch and how soon."""
        shared = {"model": self._recommender.followed.bundle, "batch": len(columns[0]), "took_us": round(took * 1e6)}
        for user, event, when in zip(*columns[:3], strict=True):
            told = {"recommendation_id": f"{user}/{event}", "trigger_event_id": event, "event_time": int(when)}
            log.debug("answered %s", msgspec.json.encode(told | shared).decode())


def recommend(options: RecommendOptions) -> Any:
    """A function of RECOMMEND_COLUMNS that gives the JSON of a recommendation."""
    return udf(_Recommend(options), result_type=DataTypes.STRING(), func_type="pandas")


class _ReadItems(ScalarFunction):
    def __init__(self, options: CatalogOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._encoder = ItemEncoder(self._options)
        group = function_context.get_metric_group()
        self._read, self._metrics, self._bundle = _ReadMetrics(group), _EncoderMetrics(group), _BundleMetrics(group)

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]") -> pd.DataFrame:
        items = self._encoder.read(keys, values).to_pandas()
        self._read.update(items["error_class"])
        self._metrics.update(self._encoder.encoder_stats)
        self._bundle.update(self._encoder.followed)
        return items


def read_items(options: CatalogOptions) -> Any:
    """A function of key and value (BYTES) of a catalogue record that gives a ROW of ITEM_SCHEMA."""
    return udf(_ReadItems(options), result_type=_row(ITEM_SCHEMA), func_type="pandas")


class _CloseSessions(ScalarFunction):
    def __init__(self, options: ClosingOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._closer = Closer(self._options)
        group = function_context.get_metric_group()
        self._bundle = _BundleMetrics(group)
        group = group.add_group("cleaning")
        self._sessions = group.counter("sessions")
        self._counters = {rule: group.counter(rule) for rule in RULES}

    def eval(self, *columns: "pd.Series[Any]") -> pd.DataFrame:
        closed, found = close_columns(self._closer, columns)
        self._bundle.update(self._closer.followed)
        self._sessions.inc(len(closed))
        for rule, count in found.items():
            self._counters[rule].inc(count)
        return closed.to_pandas(integer_object_nulls=True)


def close_sessions(options: ClosingOptions) -> Any:
    """A function of CLOSING_COLUMNS that gives a ROW of closed_schema(); counters by rule in the group `cleaning`.

    The features are those declared as this is called: the user's own modules have to be loaded before.
    """
    return udf(_CloseSessions(options), result_type=_row(closed_schema()), func_type="pandas")


def _row(schema: pa.Schema) -> DataType:
    return DataTypes.ROW([DataTypes.FIELD(field.name, _data_type(field.type)) for field in schema])


def _data_type(arrow: pa.DataType) -> DataType:
    return DataTypes.ARRAY(_data_type(arrow.value_type)) if pa.types.is_list(arrow) else _ARROW_TYPES[arrow]
