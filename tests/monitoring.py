"""The metrics that deploy/monitoring queries, and those that Flink's processes report."""

import json
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from support import ROOT

FOLDER = ROOT / "deploy" / "monitoring"


class Selector(NamedTuple):
    """A vector selector: the metric's name, and (label, how, value) of its matchers, how as PromQL writes it."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def finds(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it selects a sample."""
        return name == self.name and all(
            _same(how, value, labels.get(label, "")) != how.startswith("!") for label, how, value in self.matchers
        )


def _same(how: str, wanted: str, found: str) -> bool:
    return re.fullmatch(wanted, found) is not None if how.endswith("~") else wanted == found


def alerts() -> list[dict[str, Any]]:
    """The rules of alerts.yml."""
    groups = YAML(typ="safe").load(FOLDER / "alerts.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """dashboard.json."""
    return dict(json.loads((FOLDER / "dashboard.json").read_text()))


def expressions() -> dict[str, str]:
    """PromQL by where it stands; Grafana's variable for an interval is a minute."""
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']}, {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    return found


def selectors(expression: str) -> set[Selector]:
    """All that an expression selects; ValueError where it is no PromQL."""
    op = promql_parser.MatchOp
    hows = [(op.Equal, "="), (op.NotEqual, "!="), (op.Re, "=~"), (op.NotRe, "!~")]
    found = set()
    for each in _vectors(promql_parser.parse(expression)):
        matchers = each.matchers.matchers
        how = [next(text for known, text in hows if known == match.op) for match in matchers]
        pairs = zip(matchers, how, strict=True)
        found.add(Selector(each.name, tuple((match.name, text, match.value) for match, text in pairs)))
    return found


def _vectors(expression: Any) -> Iterator[Any]:
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        if (part := getattr(expression, name, None)) is not None:
            yield from _vectors(part)
    for argument in getattr(expression, "args", ()):
        yield from _vectors(argument)


def scrape(ports: Iterable[int]) -> list[Any]:
    """The samples that processes on these ports of this machine give."""
    return [sample for port in ports for family in _families(port) for sample in family.samples]


def _families(port: int, tries: int = 20) -> list[Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))
    except ConnectionError:  # Flink's reporter hangs up when a job's metrics come or go while it lists them
        if tries == 1:
            raise
        time.sleep(0.5)
        return _families(port, tries - 1)
