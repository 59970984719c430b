"""The PyFlink functions: the one module of udfs that needs Flink."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyflink.metrics import MetricGroup
from pyflink.table import DataTypes
from pyflink.table.types import DataType
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.catalog import ITEM_SCHEMA, CatalogOptions, ItemEncoder
from udfs.encoder import Stats
from udfs.events import EVENT_COLUMNS, parse_events
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
_EVENT_ROW = DataTypes.ROW([DataTypes.FIELD(name, _SQL_TYPES[kind]) for name, kind in EVENT_COLUMNS.items()])


class _Parse(ScalarFunction):
    def __init__(self, keys_file: Path | None) -> None:
        self._keys_file = keys_file

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002
        self._keys = KeysFile(self._keys_file) if self._keys_file else None

    def eval(self, values: "pd.Series[Any]") -> pd.DataFrame:
        pseudonyms = self._keys.latest().pseudonyms if self._keys else None
        return pd.DataFrame(parse_events(values, pseudonyms), columns=list(EVENT_COLUMNS), dtype=object)


def parse(keys_file: Path | None) -> Any:
    """A function of BYTES that gives a ROW of EVENT_COLUMNS, with pseudonyms by the keys of a file, if one is named."""
    return udf(_Parse(keys_file), result_type=_EVENT_ROW, func_type="pandas")


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

    COUNTERS = ("texts", "tokens", "truncated", "cached", "batches", "model_us")

    def __init__(self, group: MetricGroup) -> None:
        self._of = self._before = Stats()
        group = group.add_group("encoder")
        self._counters = {name: group.counter(name) for name in self.COUNTERS}
        self._batch_texts, self._batch_us = group.distribution("batch_texts"), group.distribution("batch_us")
        group.gauge("load_ms", lambda: round(self._of.load_seconds * 1000))

    def update(self, stats: Stats) -> None:
        if stats is not self._of:  # another bundle
            self._of, self._before = stats, Stats()
        for name, counter in self._counters.items():
            counter.inc(getattr(stats, name) - getattr(self._before, name))
        self._before = replace(stats)
        while stats.last_batches:
            texts, took_us = stats.last_batches.popleft()
            self._batch_texts.update(texts)
            self._batch_us.update(took_us)


class _Recommend(ScalarFunction):
    def __init__(self, options: RecommendOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._recommender = Recommender(self._options)
        self._metrics = _EncoderMetrics(function_context.get_metric_group())
        self._metrics.update(self._recommender.encoder_stats)

    def eval(self, *columns: "pd.Series[Any]") -> "pd.Series[Any]":
        answers = pd.Series(recommend_columns(self._recommender, columns), dtype=object)
        self._metrics.update(self._recommender.encoder_stats)
        return answers


def recommend(options: RecommendOptions) -> Any:
    """A function of RECOMMEND_COLUMNS that gives the JSON of a recommendation."""
    return udf(_Recommend(options), result_type=DataTypes.STRING(), func_type="pandas")


class _ReadItems(ScalarFunction):
    def __init__(self, options: CatalogOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._encoder = ItemEncoder(self._options)
        self._metrics = _EncoderMetrics(function_context.get_metric_group())

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]") -> pd.DataFrame:
        items = self._encoder.read(keys, values).to_pandas()
        self._metrics.update(self._encoder.encoder_stats)
        return items


def read_items(options: CatalogOptions) -> Any:
    """A function of key and value (BYTES) of a catalogue record that gives a ROW of ITEM_SCHEMA."""
    return udf(_ReadItems(options), result_type=_row(ITEM_SCHEMA), func_type="pandas")


class _CloseSessions(ScalarFunction):
    def __init__(self, options: ClosingOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._closer = Closer(self._options)
        group = function_context.get_metric_group().add_group("cleaning")
        self._counters = {rule: group.counter(rule) for rule in RULES}

    def eval(self, *columns: "pd.Series[Any]") -> pd.DataFrame:
        closed, found = close_columns(self._closer, columns)
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
