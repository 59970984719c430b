"""Finds the column of a file for each field of the contract."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from udfs.core.errors import ShopstreamError
from udfs.events.formats import file_kind


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Return {contract field: column} from the FIELD=COLUMN pairs of --map; ShopstreamError names a bad pair."""
    mapping = {}
    for pair in pairs:
        field, _, column = pair.partition("=")
        if not field or not column:
            raise ShopstreamError(f"--map was given {pair!r}; it takes FIELD=COLUMN, for example user_id=CustomerID")
        mapping[field] = column
    return mapping


def columns_of(
    path: Path, names: Sequence[str], schema: pa.Schema, mapping: Mapping[str, str], required: Sequence[str]
) -> dict[str, str]:
    """Return {contract field: column} for the fields that the file may have: JSON lines may have any."""
    found = f"the file has {', '.join(names)}"
    for field, column in mapping.items():
        if field not in schema.names:
            raise ShopstreamError(f"--map {field}={column}: no field '{field}'; choose from {', '.join(schema.names)}")
        if column not in names:
            raise ShopstreamError(f"{path}: --map {field}={column}: no column '{column}'; {found}")
    for field in required:
        if mapping.get(field, field) not in names:
            raise ShopstreamError(f"{path}: no column '{field}'; {found}; name the right one with --map {field}=COLUMN")
    anywhere = file_kind(path) == "json" and schema.names
    present = {field: field for field in anywhere or names if field in schema.names and field not in mapping}
    if "event_id" in present and "event_id" not in names:
        del present["event_id"]
    return {**present, **mapping}
