"""Columns of parsed and packed events."""

#: What an event's `properties` may say that features read; all else in them is left behind.
PROPERTIES = ("device", "timezone", "returning", "locale")

#: Columns of a parsed event, in order, and their SQL types. Both errors are null for a readable record.
EVENT_COLUMNS: dict[str, str] = {
    "error": "STRING",
    "error_class": "STRING",
    "event_id": "STRING",
    "event_type": "STRING",
    "user_id": "STRING",
    "event_time": "BIGINT",
    "item_id": "STRING",
    "query": "STRING",
    "price": "DOUBLE",
    "quantity": "BIGINT",
    "rating": "DOUBLE",
    "dwell_ms": "BIGINT",
    **dict.fromkeys(PROPERTIES, "STRING"),
}

#: What an event is packed from, in order: all that says something of it but whose it is.
PACKED = tuple(name for name in EVENT_COLUMNS if name not in ("error", "error_class", "user_id"))

#: Columns of a parsed event that is packed for its session, and their SQL types.
PACKED_COLUMNS: dict[str, str] = {
    name: EVENT_COLUMNS[name] for name in ("error", "error_class", "event_id", "event_type", "user_id", "event_time")
} | {"packed": "STRING"}
