"""The PyFlink function that closes sessions."""

from typing import Any

import pandas as pd
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.functions.metrics import BundleMetrics
from udfs.functions.types import row_type
from udfs.lake.closing import RULES, ClosingOptions, SessionFinalizer, close_columns, closed_schema


class _CloseSessions(ScalarFunction):
    def __init__(self, options: ClosingOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._closer = SessionFinalizer(self._options)
        group = function_context.get_metric_group()
        self._bundle = BundleMetrics(group)
        group = group.add_group("cleaning")
        self._sessions = group.counter("sessions")
        self._counters = {rule: group.counter(rule) for rule in RULES}

    def eval(self, *columns: "pd.Series[Any]") -> pd.DataFrame:
        closed, found = close_columns(self._closer, columns)
        self._bundle.update(self._closer.bundle_status)
        self._sessions.inc(len(closed))
        for rule, count in found.items():
            self._counters[rule].inc(count)
        return closed.to_pandas(integer_object_nulls=True)


def close_sessions(options: ClosingOptions) -> Any:
    """Return a function of CLOSING_COLUMNS that gives a ROW of closed_schema() and counts repairs by rule.

    The features are those declared when this is called: load the user's own modules before.
    """
    return udf(_CloseSessions(options), result_type=row_type(closed_schema()), func_type="pandas")
