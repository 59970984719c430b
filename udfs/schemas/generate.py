"""JSON Schemas of all topics, generated from the contracts."""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from udfs.contracts.catalog import CatalogItem
from udfs.contracts.clickstream import ClickstreamEvent, DeadLetterHeaders
from udfs.contracts.fields import MAX_ID
from udfs.contracts.privacy import DeleteRequest, PrivacyAcknowledgement
from udfs.contracts.rankings import Recommendation
from udfs.contracts.sessions import SessionFeatures
from udfs.features.registry import FEATURES

SCHEMAS: dict[str, type[Struct]] = {
    "clickstream": ClickstreamEvent,
    "catalog": CatalogItem,
    "recommendations": Recommendation,
    "session-features": SessionFeatures,
    "clickstream.dlq-headers": DeadLetterHeaders,
    "privacy-requests": DeleteRequest,
    "privacy-acknowledgements": PrivacyAcknowledgement,
}

SCHEMA_FOLDER = Path(__file__).parent


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the values of a topic, by its name in SCHEMAS.

    It adds what types cannot express: a search needs a query, any other event an item; the anonymous_id beside the
    user_id; the names of features.
    """
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= msgspec.json.schema(SCHEMAS[name])
    if name == "clickstream":
        definition = schema["$defs"]["ClickstreamEvent"]
        definition["if"] = {"properties": {"event_type": {"const": "search"}}}
        definition["then"] = {"required": ["query"], "properties": {"query": {"type": "string", "minLength": 1}}}
        item = {"required": ["item_id"], "properties": {"item_id": {"type": "string"}}}
        items = {"required": ["items"], "properties": {"items": {"type": "array", "minItems": 1}}}
        definition["else"] = {"anyOf": [item, items]}
        cookie = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID}, {"type": "null"}], "default": None}
        definition["properties"]["anonymous_id"] = cookie
    for record, field in (("Recommendation", "session"), ("SessionFeatures", "features")):
        if record in schema["$defs"]:
            schema["$defs"][record]["properties"][field]["properties"] = _feature_schemas()
    return schema


def _feature_schemas() -> dict[str, Any]:
    """Return the schemas of the declared features; a user's own features are additional properties."""
    types = {"int64": "integer", "float64": "number", "string": "string"}
    return {
        name: {
            "type": [types[declared.dtype], "null"],
            "description": f"{declared.doc} Unit: {declared.unit or 'none'}.",
        }
        for name, declared in FEATURES.items()
    }


def write_schemas(folder: Path = SCHEMA_FOLDER) -> None:
    """Write every schema as `<topic>.schema.json`. A test compares the shipped ones with the declarations."""
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (folder / f"{name}.schema.json").write_text(json.dumps(json_schema(name), indent=2) + "\n")
