"""PyFlink functions that parse and mask `clickstream` records."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.events.columns import EVENT_COLUMNS, PACKED_COLUMNS
from udfs.events.packing import packed_events
from udfs.events.parsing import parse_events
from udfs.functions.metrics import ReadMetrics
from udfs.functions.types import SQL_TYPES, row_type
from udfs.privacy.keys_file import KeysFile

_MASKED = {"key": pa.binary(), "value": pa.binary()}


class _Parse(ScalarFunction):
    def __init__(self, keys_file: Path | None, *, packed: bool) -> None:
        self._keys_file, self._packed = keys_file, packed

    def open(self, function_context: FunctionContext) -> None:
        self._keys = KeysFile(self._keys_file) if self._keys_file else None
        self._metrics = ReadMetrics(function_context.get_metric_group())

    def eval(self, values: "pd.Series[Any]") -> pd.DataFrame:
        pseudonyms = self._keys.latest().pseudonyms if self._keys else None
        rows, columns = parse_events(values, pseudonyms), EVENT_COLUMNS
        if self._packed:
            rows, columns = packed_events(rows), PACKED_COLUMNS
        events = pd.DataFrame(rows, columns=list(columns), dtype=object)
        self._metrics.update(events["error_class"])
        return events


def parse(keys_file: Path | None, *, packed: bool = False) -> Any:
    """Make a function from BYTES to a ROW of EVENT_COLUMNS, or of PACKED_COLUMNS.

    keys_file: user ids become pseudonyms with its keys.
    """
    columns = PACKED_COLUMNS if packed else EVENT_COLUMNS
    row_type = DataTypes.ROW([DataTypes.FIELD(name, SQL_TYPES[kind]) for name, kind in columns.items()])
    return udf(_Parse(keys_file, packed=packed), result_type=row_type, func_type="pandas")


class _Mask(ScalarFunction):
    def __init__(self, keys_file: Path) -> None:
        self._keys_file = keys_file

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002
        self._keys = KeysFile(self._keys_file)

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]", moments: "pd.Series[Any]") -> pd.DataFrame:
        letter = self._keys.latest().letter
        masked = [letter(*record) for record in zip(keys, values, moments.tolist(), strict=True)]
        return pd.DataFrame(masked, columns=list(_MASKED), dtype=object)


def mask(keys_file: Path) -> Any:
    """Make a function from a record's key, value (BYTES) and time (BIGINT, epoch ms) to a ROW of both, masked."""
    return udf(_Mask(keys_file), result_type=row_type(pa.schema(_MASKED)), func_type="pandas")
