"""The PyFlink function that encodes catalog records."""

from typing import Any

import pandas as pd
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.catalog.encoding import ITEM_SCHEMA, CatalogOptions, ItemEncoder
from udfs.functions.metrics import BundleMetrics, EncoderMetrics, ReadMetrics
from udfs.functions.types import row_type


class _ReadItems(ScalarFunction):
    def __init__(self, options: CatalogOptions) -> None:
        self._options = options

    def open(self, function_context: FunctionContext) -> None:
        self._encoder = ItemEncoder(self._options)
        group = function_context.get_metric_group()
        self._read = ReadMetrics(group)
        self._metrics = EncoderMetrics(group)
        self._bundle = BundleMetrics(group)

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]") -> pd.DataFrame:
        items = self._encoder.read(keys, values).to_pandas()
        self._read.update(items["error_class"])
        self._metrics.update(self._encoder.encoder_stats)
        self._bundle.update(self._encoder.bundle_status)
        return items


def read_items(options: CatalogOptions) -> Any:
    """Return a function of a catalog record's key and value (BYTES) that gives a ROW of ITEM_SCHEMA."""
    return udf(_ReadItems(options), result_type=row_type(ITEM_SCHEMA), func_type="pandas")
