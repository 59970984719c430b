"""The PyFlink functions: the one module of udfs that needs Flink."""

from dataclasses import replace
from typing import Any

import pandas as pd
from pyflink.metrics import MetricGroup
from pyflink.table import DataTypes
from pyflink.table.types import DataType
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.encoder import Stats
from udfs.events import EVENT_COLUMNS, parse_events
from udfs.recommend import Recommender, RecommendOptions, recommend_columns

_SQL_TYPES: dict[str, DataType] = {
    "STRING": DataTypes.STRING(),
    "BIGINT": DataTypes.BIGINT(),
    "DOUBLE": DataTypes.DOUBLE(),
}
_EVENT_ROW = DataTypes.ROW([DataTypes.FIELD(name, _SQL_TYPES[kind]) for name, kind in EVENT_COLUMNS.items()])


@udf(result_type=_EVENT_ROW, func_type="pandas")
def parse(values: "pd.Series[Any]") -> pd.DataFrame:
    """BYTES to a ROW of EVENT_COLUMNS."""
    return pd.DataFrame(parse_events(values), columns=list(EVENT_COLUMNS), dtype=object)


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
