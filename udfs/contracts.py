"""The records on every topic, declared once: parsing, writing and the JSON Schemas come from here."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

EventType = Literal["view", "click", "search", "add_to_cart", "remove_from_cart", "purchase", "rate", "impression"]
EVENT_TYPES: tuple[str, ...] = EventType.__args__  # type: ignore[attr-defined]

#: RFC 3339 covers the years 1 to 9999; the same bounds hold for epoch milliseconds.
MIN_TIME_MS = -62_135_596_800_000
MAX_TIME_MS = 253_402_300_799_999

Text = Annotated[str, Meta(min_length=1)]
#: Most characters of ids and queries. An answer has its user's id four times, and the jobs' rows have the last events
#: of a session each: what had no bounds there would be more than a broker takes, or than a worker has memory.
MAX_ID, MAX_QUERY = 1024, 1_000_000
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
NonNegative = Annotated[float, Meta(ge=0)]
EpochMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]
ZonedTime = Annotated[datetime, Meta(tz=True)]
# The JSON of a 64-bit signed integer: what a Flink BIGINT and an Arrow int64 hold.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PositiveCount = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class ClickstreamEvent(Struct):
    """One record of `clickstream`, keyed by user_id. Unknown fields are ignored."""

    event_id: Id
    event_type: EventType
    user_id: Id
    event_time: EpochMs | ZonedTime
    item_id: Id | None = None
    query: Annotated[str, Meta(max_length=MAX_QUERY)] | None = None
    price: NonNegative | None = None
    quantity: PositiveCount | None = None
    rating: Annotated[float, Meta(ge=1, le=5)] | None = None
    dwell_ms: Count | None = None
    session_id: str | None = None
    properties: dict[str, str] | None = None


class CatalogItem(Struct):
    """One record of `catalog`, keyed by item_id; a tombstone removes the item."""

    item_id: Id
    title: Text
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    price: NonNegative | None = None
    in_stock: bool = True
    locale: str | None = None
    image_vector: list[float] | None = None
    updated_at: EpochMs | ZonedTime | None = None


Source = Literal[
    "content",
    "co_visit",
    "popularity",
    "similar_sessions",
    "history",
    "category",
    "listing",
    "price",
    "session",
    "diversity",
]


class Reason(Struct, gc=False):
    """One part of an item's score. The weights of an item's reasons add up to its score."""

    source: Source
    weight: float
    because: str


class RankedItem(Struct, gc=False):
    """One recommended item, rank counted from 1."""

    item_id: Text
    rank: PositiveCount
    score: float
    reasons: Annotated[list[Reason], Meta(min_length=1)]


class Recommendation(Struct, gc=False):
    """One record of `recommendations`, keyed by user_id: the answer to one trigger event."""

    recommendation_id: Text
    user_id: Text
    session_id: Text
    trigger_event_id: Text
    event_time: EpochMs
    model: Text
    session: dict[str, float | int | str | None]
    items: list[RankedItem]


class SessionFeatures(Struct):
    """One record of `session-features`, keyed by user_id: a closed session. Times are epoch ms."""

    session_id: Text
    user_id: Text
    session_start: EpochMs
    session_end: EpochMs
    features: dict[str, float | int | str | None]


class DeadLetterHeaders(Struct, rename=lambda name: f"__connect.errors.{name}"):
    """Headers of a record of `clickstream.dlq`, named as Kafka Connect names them; values are UTF-8."""

    topic: Text
    partition: Annotated[str, Meta(pattern=r"^\d+$")]
    offset: Annotated[str, Meta(pattern=r"^\d+$")]
    stage: Text
    class_name: Text = msgspec.field(name="__connect.errors.class.name")
    exception_class_name: Text = msgspec.field(name="__connect.errors.exception.class.name")
    exception_message: Text = msgspec.field(name="__connect.errors.exception.message")


class DeleteRequest(Struct):
    """One record of `privacy-requests`, keyed by user_id: forget this shopper. user_id: as the shop knows them."""

    request_id: Text
    user_id: Text


class PrivacyAcknowledgement(Struct):
    """One record of `privacy-acknowledgements`, with the key of its request. Times are epoch ms.

    lake_rows: removed. state_expires_at: when running jobs have forgotten what came before. kept_until: by topic, when
    Kafka has deleted what it holds; null: never. error: why the record was no request; then nothing was done.
    """

    request_id: str | None
    user_id: str | None
    done_at: EpochMs
    lake_rows: Count = 0
    state_expires_at: EpochMs | None = None
    kept_until: dict[str, EpochMs | None] | None = None
    error: str | None = None


SCHEMAS: dict[str, type[Struct]] = {
    "clickstream": ClickstreamEvent,
    "catalog": CatalogItem,
    "recommendations": Recommendation,
    "session-features": SessionFeatures,
    "clickstream.dlq-headers": DeadLetterHeaders,
    "privacy-requests": DeleteRequest,
    "privacy-acknowledgements": PrivacyAcknowledgement,
}
SCHEMA_FOLDER = Path(__file__).with_name("schemas")


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of the values of topic `name`, a key of SCHEMAS.

    Beyond what types can say, a search needs a query and every other event an item; and features have names.
    """
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= msgspec.json.schema(SCHEMAS[name])
    if name == "clickstream":
        definition = schema["$defs"]["ClickstreamEvent"]
        definition["if"] = {"properties": {"event_type": {"const": "search"}}}
        definition["then"] = {"required": ["query"], "properties": {"query": {"type": "string", "minLength": 1}}}
        definition["else"] = {"required": ["item_id"], "properties": {"item_id": {"type": "string"}}}
    for record, field in (("Recommendation", "session"), ("SessionFeatures", "features")):
        if record in schema["$defs"]:
            schema["$defs"][record]["properties"][field]["properties"] = _feature_schemas()
    return schema


def _feature_schemas() -> dict[str, Any]:
    """The declared features; a user's own ones come beside them, under the rule for additional ones."""
    from udfs.features import FEATURES  # which needs EVENT_TYPES from here

    types = {"int64": "integer", "float64": "number", "string": "string"}
    return {
        each.name: {"type": [types[each.dtype], "null"], "description": f"{each.doc} Unit: {each.unit or 'none'}."}
        for each in FEATURES.values()
    }


def write_schemas(folder: Path = SCHEMA_FOLDER) -> None:
    """Write every schema as `<topic>.schema.json`; a test fails when the shipped ones are stale."""
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (folder / f"{name}.schema.json").write_text(json.dumps(json_schema(name), indent=2) + "\n")


if __name__ == "__main__":
    write_schemas()
