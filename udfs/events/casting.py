"""Casts values of files to the types of the contract."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from udfs.core.errors import ShopstreamError
from udfs.events.formats import TEXT, one_line

_TIME = "epoch ms or RFC 3339; times without a zone are taken as UTC under --map event_time=COLUMN"


def cast(
    path: Path,
    raw: pa.RecordBatch,
    columns: Mapping[str, str],
    field: pa.Field,
    first: int,
    *,
    naive_is_utc: bool = False,
) -> pa.Array:
    """Return the column of a contract field, in the field's type; all null where the file has no such column."""
    if field.name not in columns:
        return pa.nulls(raw.num_rows, field.type)
    array = raw[columns[field.name]]
    try:
        if field.name == "event_time":
            return _epoch_ms(array, naive_is_utc)
        if field.name == "user_id":  # many tools write integer ids with gaps as 17850.0
            return pc.replace_substring_regex(array.cast(TEXT), r"^(\d+)\.0+$", r"\1")
        if field.type == pa.int64():
            return array.cast(pa.float64()).cast(pa.int64())  # many tools write integers with gaps as "6.0"
        return array.cast(field.type)
    except pa.ArrowException as error:
        where = f"{path}: column '{columns[field.name]}' in rows {first + 1} to {first + raw.num_rows}"
        want = _TIME if field.name == "event_time" else field.type
        raise ShopstreamError(f"{where} should be {field.name} ({want}): {one_line(error)}") from error


def _epoch_ms(array: pa.Array, naive_is_utc: bool) -> pa.Array:
    """Return epoch ms, int64, from integers, timestamps, and strings of either; nulls stay."""
    if pa.types.is_timestamp(array.type):
        if array.type.tz is None and not naive_is_utc:
            raise pa.ArrowInvalid("timestamps have no zone")
        return array.cast(pa.timestamp("ms", array.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return array.cast(pa.int64())
    array = array.cast(TEXT)
    number = pc.match_substring_regex(array, r"^-?\d+(\.0*)?$")
    # Not if_else: with a null scalar it misreads string arrays that are slices (Arrow 16).
    null = pa.scalar(None, TEXT)
    numbers = pc.replace_with_mask(array, pc.invert(number), null).cast(pa.float64()).cast(pa.int64())
    times = pc.utf8_upper(pc.replace_with_mask(array, number, null))
    zoned = pc.match_substring_regex(times, r"(Z|[+-]\d\d:?\d\d)$")
    if naive_is_utc:
        times = pc.binary_join_element_wise(times, pc.if_else(zoned, "", "Z"), "")
    times = times.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ms", "UTC"), safe=False)
    return pc.coalesce(numbers, times.cast(pa.int64()))


def refuse_nulls(
    path: Path, batch: pa.RecordBatch | pa.Table, fields: Sequence[str], columns: Mapping[str, str], first: int
) -> None:
    """Raise ShopstreamError for the first required field that has nulls."""
    for field in fields:
        if missing := batch[field].null_count:
            rows = f"{missing} of rows {first + 1} to {first + batch.num_rows}"
            raise ShopstreamError(f"{path}: {rows} have no '{columns.get(field, field)}'; {field} is required")
