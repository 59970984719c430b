"""JSON Schemas of all topics, generated from the contracts."""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from udfs.contracts.catalog import CatalogItem
from udfs.contracts.clickstream import ClickstreamEvent, DeadLetterHeaders
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
