"""The PyFlink functions: the one module of udfs that needs Flink."""

from typing import Any

import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.types import DataType
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

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


class _Recommend(ScalarFunction):
    def __init__(self, options: RecommendOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002
        self._recommender = Recommender(self._options)

    def eval(self, *columns: "pd.Series[Any]") -> "pd.Series[Any]":
        return pd.Series(recommend_columns(self._recommender, columns), dtype=object)


def recommend(options: RecommendOptions) -> Any:
    """A function of RECOMMEND_COLUMNS that gives the JSON of a recommendation."""
    return udf(_Recommend(options), result_type=DataTypes.STRING(), func_type="pandas")
