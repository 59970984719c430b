"""The PyFlink function that recommends."""

import logging
import time
from typing import Any

import msgspec
import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.functions.metrics import BundleMetrics, CounterDeltas, EncoderMetrics, LatencyHistogram
from udfs.recommend.columns import recommend_columns
from udfs.recommend.options import RecommendOptions
from udfs.recommend.recommender import Recommender

log = logging.getLogger(__name__)


class _Logged(msgspec.Struct):
    recommendation_id: str
    trigger_event_id: str
    event_time: int


class _Recommend(ScalarFunction):
    def __init__(self, options: RecommendOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        logging.getLogger("udfs").setLevel(self._options.log_level)
        self._recommender = Recommender(self._options)
        group = function_context.get_metric_group()
        self._encoder = EncoderMetrics(group)
        self._bundle = BundleMetrics(group)
        group = group.add_group("recommend")
        self._counters = CounterDeltas(
            group, "batches", "triggers", "items", "candidates", "rank_us", "cut", "clock_ahead", "id_reused"
        )
        self._us = group.counter("us")
        self._batch_ms = LatencyHistogram(group, "batch_ms")
        self._trigger_ms = LatencyHistogram(group, "trigger_ms")
        self._encoder.update(self._recommender.encoder_stats)

    def eval(self, *columns: "pd.Series[Any]") -> "pd.Series[Any]":
        began = time.perf_counter()
        answers = pd.Series(recommend_columns(self._recommender, columns), dtype=object)
        took = time.perf_counter() - began
        self._us.inc(round(took * 1e6))
        self._batch_ms.add(took * 1000)
        self._trigger_ms.add(took * 1000, len(answers))
        self._counters.update(self._recommender.stats)
        self._encoder.update(self._recommender.encoder_stats)
        self._bundle.update(self._recommender.bundle_status)
        if log.isEnabledFor(logging.DEBUG):
            self._log(answers, took)
        return answers

    def _log(self, answers: "pd.Series[Any]", took: float) -> None:
        """Log one line of JSON per trigger: its answer, the bundle, the batch's size and time."""
        shared = {
            "model": self._recommender.bundle_status.bundle,
            "batch": len(answers),
            "took_us": round(took * 1e6),
        }
        for value in answers:
            answer = msgspec.json.decode(value, type=_Logged)
            log.debug("answered %s", msgspec.json.encode(msgspec.structs.asdict(answer) | shared).decode())


def recommend(options: RecommendOptions) -> Any:
    """Return a function of RECOMMEND_COLUMNS that gives the JSON of a recommendation."""
    return udf(_Recommend(options), result_type=DataTypes.STRING(), func_type="pandas")
