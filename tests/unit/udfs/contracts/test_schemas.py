import json

import jsonschema
import pytest

from udfs.events.parsing import parse_event
from udfs.schemas.generate import SCHEMA_FOLDER, SCHEMAS, json_schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_shipped_schemas_match_declarations(name: str):
    shipped = json.loads((SCHEMA_FOLDER / f"{name}.schema.json").read_text())
    assert shipped == json_schema(name), "run `python -m udfs.schemas`"
    jsonschema.Draft202012Validator.check_schema(shipped)


EVENT = {"event_id": "e", "event_type": "view", "user_id": "u", "event_time": 1, "item_id": "i"}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"event_time": "2024-01-01T00:00:00Z"},
        {"event_type": "search"},
        {"event_type": "search", "query": "mug"},
        {"event_type": "search", "query": "mug", "item_id": None},
        {"event_type": "search", "query": ""},
        {"item_id": None},
        {"event_type": "stare"},
        {"price": -1},
        {"price": 0},
        {"quantity": 0},
        {"rating": 5},
        {"rating": 5.5},
        {"dwell_ms": -1},
        {"user_id": ""},
        {"properties": {"a": "b"}},
        {"properties": {"a": 1}},
        {"unheard_of": [1, {}]},
    ],
)
def test_parser_and_schema_agree(change: dict[str, object]):
    event = EVENT | change
    readable = parse_event(json.dumps(event).encode())[0] is None
    assert jsonschema.Draft202012Validator(json_schema("clickstream")).is_valid(event) == readable
