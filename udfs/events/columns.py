"""Columns of parsed, packed and recorded events; all follow from the fields of an event."""

import pyarrow as pa

from udfs.contracts.clickstream import EVENT_FIELDS

ARROW_TYPES = {"STRING": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}

#: Columns of events in files. The values of PROPERTIES are columns like any other.
EVENTS = pa.schema([(field.name, ARROW_TYPES[field.sql]) for field in EVENT_FIELDS])

#: The column of a parsed order's further line items, JSON [[item_id, price, quantity], …]; null for any other event.
MORE_ITEMS = "more_items"

#: The column of a parsed event's anonymous_id, a cookie for instance; null where there is none.
ANONYMOUS_ID = "anonymous_id"

#: Columns of a parsed event, in order, and their SQL types. Both errors are null for a readable record. The shop's own
#: session_id is left out: sessions are cut by time.
EVENT_COLUMNS = {"error": "STRING", "error_class": "STRING"} | {
    field.name: field.sql for field in EVENT_FIELDS if field.name != "session_id"
}
EVENT_COLUMNS |= {MORE_ITEMS: "STRING", ANONYMOUS_ID: "STRING"}

#: Columns of an event that its session keeps, in order: all but the ids of the shopper, which are the session's.
PACKED = tuple(name for name in EVENT_COLUMNS if name not in ("error", "error_class", "user_id", ANONYMOUS_ID))

#: Columns of a parsed event that is packed for its session, and their SQL types. items: its number of line items, or 1.
PACKED_COLUMNS = {
    name: EVENT_COLUMNS[name]
    for name in ("error", "error_class", "event_id", "event_type", "user_id", ANONYMOUS_ID, "event_time")
} | {"items": "BIGINT", "packed": "STRING"}
