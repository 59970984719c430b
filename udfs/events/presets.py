"""Known public files and their mappings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from udfs.core.errors import ShopstreamError


class Preset(NamedTuple):
    """The mapping of a known public file, {contract field: column}; the line's number is added to event_id."""

    mapping: Mapping[str, str]
    event_type: str


PRESETS: Mapping[str, Preset] = {
    "online_retail": Preset(
        {
            "event_id": "InvoiceNo",
            "session_id": "InvoiceNo",
            "user_id": "CustomerID",
            "item_id": "StockCode",
            "event_time": "InvoiceDate",
            "price": "UnitPrice",
            "quantity": "Quantity",
        },
        "purchase",
    ),
    "yoochoose": Preset(
        {
            "event_id": "SessionId",
            "session_id": "SessionId",
            "user_id": "SessionId",
            "item_id": "ItemId",
            "event_time": "Time",
        },
        "click",
    ),
}


def recognise(path: Path, names: Sequence[str], mapping: Mapping[str, str], preset: str) -> str:
    """Return the preset to read a file with; ShopstreamError for a preset that is unknown or does not fit."""
    if preset not in ("auto", "events", *PRESETS):
        raise ShopstreamError(f"preset '{preset}' is unknown; choose auto, events, {' or '.join(PRESETS)}")
    if preset in PRESETS and mapping:
        raise ShopstreamError(f"preset '{preset}' brings its own mapping; use --map without it, or the preset alone")
    fits = [name for name, known in PRESETS.items() if set(known.mapping.values()) <= set(names)]
    if preset in PRESETS and preset not in fits:
        columns = ", ".join(dict.fromkeys(PRESETS[preset].mapping.values()))
        raise ShopstreamError(f"{path} is no {preset} file: it has {', '.join(names)}; the preset needs {columns}")
    if preset != "auto":
        return preset
    return fits[0] if fits and not mapping else "events"
