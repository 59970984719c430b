"""PyFlink functions that parse and mask clickstream records."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from udfs.events.columns import EVENT_COLUMNS, PACKED_COLUMNS
from udfs.events.envelopes import Envelope
from udfs.events.packing import packed_events
from udfs.events.parsing import parse_events
from udfs.events.registry import Registry, RegistryOptions
from udfs.functions.metrics import ReadMetrics
from udfs.functions.types import SQL_TYPES, row_type
from udfs.privacy.keys_file import KeysFile
from udfs.privacy.masking import masked_record

_MASKED = {"key": pa.binary(), "value": pa.binary()}


class _Parse(ScalarFunction):
    def __init__(
        self, keys_file: Path | None, *, packed: bool, envelope: Envelope, registry: RegistryOptions | None
    ) -> None:
        self._keys_file, self._packed, self._envelope, self._registry_options = keys_file, packed, envelope, registry

    def open(self, function_context: FunctionContext) -> None:
        self._keys = KeysFile(self._keys_file) if self._keys_file else None
        self._registry = Registry(self._registry_options) if self._registry_options else None
        self._metrics = ReadMetrics(function_context.get_metric_group())

    def eval(self, values: "pd.Series[Any]") -> pd.DataFrame:
        pseudonyms = self._keys.latest().pseudonyms if self._keys else None
        rows, columns = parse_events(values, pseudonyms, self._envelope, self._registry), EVENT_COLUMNS
        if self._packed:
            rows, columns = packed_events(rows), PACKED_COLUMNS
        events = pd.DataFrame(rows, columns=list(columns), dtype=object)
        self._metrics.update(events["error_class"])
        return events


def parse(
    keys_file: Path | None,
    *,
    packed: bool = False,
    envelope: Envelope = "none",
    registry: RegistryOptions | None = None,
) -> Any:
    """Return a function of BYTES that gives a ROW of EVENT_COLUMNS, or of PACKED_COLUMNS.

    With a keys file, user ids become pseudonyms. envelope: around each value. registry: has the
    schemas of Avro behind a schema registry's header.
    """
    columns = PACKED_COLUMNS if packed else EVENT_COLUMNS
    result = DataTypes.ROW([DataTypes.FIELD(name, SQL_TYPES[kind]) for name, kind in columns.items()])
    return udf(
        _Parse(keys_file, packed=packed, envelope=envelope, registry=registry), result_type=result, func_type="pandas"
    )


class _MaskRecord(ScalarFunction):
    def __init__(self, keys_file: Path) -> None:
        self._keys_file = keys_file

    def open(self, function_context: FunctionContext) -> None:  # noqa: ARG002
        self._keys = KeysFile(self._keys_file)

    def eval(self, keys: "pd.Series[Any]", values: "pd.Series[Any]", moments: "pd.Series[Any]") -> pd.DataFrame:
        pseudonym_keys = self._keys.latest()
        records = zip(keys, values, moments.tolist(), strict=True)
        masked = [masked_record(pseudonym_keys, *record) for record in records]
        return pd.DataFrame(masked, columns=list(_MASKED), dtype=object)


def mask_record(keys_file: Path) -> Any:
    """Return a function of a record's key, value (BYTES) and time (BIGINT, epoch ms): a ROW of masked key and value."""
    return udf(_MaskRecord(keys_file), result_type=row_type(pa.schema(_MASKED)), func_type="pandas")
