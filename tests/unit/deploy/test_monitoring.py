"""Alert rules and the dashboard: well formed, explained, and PromQL throughout."""

import json
import re

import jsonschema
import pytest
from monitoring import FOLDER, alerts, dashboard, expressions, selectors
from ruamel.yaml import YAML
from support import ROOT

TEXT = {"type": "string", "minLength": 1}


def closed(properties: dict[str, object], *optional: str) -> dict[str, object]:
    """A JSON Schema of an object with these properties alone, all of them required but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


RULE = closed(
    {
        "alert": {"type": "string", "pattern": "^Shopstream[A-Z][A-Za-z]+$"},
        "expr": TEXT,
        "for": {"type": "string", "pattern": "^[0-9]+[smh]$"},
        "labels": closed({"severity": {"enum": ["warning", "critical"]}}),
        "annotations": closed({"summary": TEXT, "runbook_url": {"type": "string", "pattern": "^docs/monitoring.md#"}}),
    },
    "for",
)
RULES = closed(
    {"groups": {"type": "array", "items": closed({"name": TEXT, "rules": {"type": "array", "items": RULE}})}}
)
PANEL = closed(
    {
        "id": {"type": "integer"},
        "type": {"const": "timeseries"},
        "title": TEXT,
        "description": {"type": "string", "minLength": 20},
        "gridPos": closed({side: {"type": "integer", "minimum": 0} for side in "xywh"}),
        "datasource": {"const": {"type": "prometheus", "uid": "${datasource}"}},
        "fieldConfig": closed(
            {
                "defaults": closed(
                    {"unit": {"enum": ["cps", "ms", "s", "µs", "short", "percentunit"]}, "min": {"const": 0}}
                ),
                "overrides": {"type": "array"},
            }
        ),
        "targets": {
            "type": "array",
            "minItems": 1,
            "items": closed({"refId": {"type": "string", "pattern": "^[A-Z]$"}, "expr": TEXT, "legendFormat": TEXT}),
        },
    }
)


def test_alert_rules_are_well_formed():
    jsonschema.validate(YAML(typ="safe").load(FOLDER / "alerts.yml"), RULES)
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())


def test_alerts_link_to_their_explanation():
    text = (ROOT / "docs" / "monitoring.md").read_text()
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert headings == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{rule['alert'].lower()}"


def test_dashboard_is_well_formed():
    found = dashboard()
    for panel in found["panels"]:
        jsonschema.validate(panel, PANEL)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    assert found["templating"]["list"][0]["query"] == "prometheus"
    assert json.dumps(found).count("${datasource}") == len(found["panels"])


@pytest.mark.parametrize("where", expressions())
def test_every_expression_is_promql(where: str):
    found = selectors(expressions()[where])
    assert found
    assert all(selector.name.startswith("flink_") for selector in found)


def test_invalid_promql_is_found():
    with pytest.raises(ValueError, match="parenthesis"):
        selectors("sum by (job_name (rate(flink_x[5m]))")
