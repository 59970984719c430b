"""`shopstream inspect FILE`: what a file would be read as, what would be refused, and the --map line to use."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from udfs.catalog.files import CATALOG, items_in, plan_catalog
from udfs.core.errors import ShopstreamError
from udfs.events.columns import EVENTS
from udfs.events.files import events_in, plan_events
from udfs.events.formats import Source, open_source
from udfs.events.mapping import Plan, map_line, root_of
from udfs.events.options import BY_CONTENT
from udfs.events.presets import presets
from udfs.events.rejected import Rejected

#: Rows that are shown.
SHOWN = 10

#: Names that columns often have, without marks and capitals, by field: a suggestion, which nothing but `inspect` takes.
NAMES: Mapping[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "uuid", "hitid"),
    "event_type": ("eventtype", "event", "eventname", "type", "action", "behavior", "what", "did"),
    "user_id": (
        "userid",
        "user",
        "customerid",
        "customer",
        "visitorid",
        "visitor",
        "clientid",
        "shopperid",
        "uid",
    ),
    "event_time": ("eventtime", "timestamp", "time", "ts", "datetime", "createdat", "date", "when", "eventtimestamp"),
    "item_id": ("itemid", "item", "productid", "product", "sku", "articleid", "stockcode", "asin", "thing"),
    "query": ("query", "searchterm", "searchquery", "q", "keywords"),
    "price": ("price", "unitprice", "amount"),
    "quantity": ("quantity", "qty", "count"),
    "session_id": ("sessionid", "session", "usersession", "visitid"),
    "title": ("title", "name", "productname", "itemname", "producttitle"),
    "description": ("description", "body", "productdescription"),
    "category": ("category", "producttype", "categorycode", "categories"),
    "brand": ("brand", "vendor", "manufacturer"),
    "in_stock": ("instock", "availability", "stock", "inventory", "available"),
    "locale": ("locale", "language", "lang"),
}
#: Words for event types, without marks and capitals: a suggestion too.
TYPES: Mapping[str, str] = {
    "cart": "add_to_cart", "addtocart": "add_to_cart", "addtobasket": "add_to_cart", "basket": "add_to_cart",
    "productadded": "add_to_cart", "removefromcart": "remove_from_cart", "productremoved": "remove_from_cart",
    "transaction": "purchase", "order": "purchase", "buy": "purchase", "bought": "purchase", "purchase": "purchase",
    "checkout": "purchase", "ordercompleted": "purchase", "pageview": "view", "productview": "view", "pv": "view",
    "viewitem": "view", "detail": "view", "productviewed": "view", "clicks": "click", "search": "search",
    "viewsearchresults": "search", "rating": "rate",
}  # fmt: skip


@dataclass(frozen=True)
class Inspected:
    """What a file would be read as. rows: read; shown: the first events or items; columns: {column: field or None}."""

    file: str
    kind: str  #: events or items
    format: str
    preset: str
    columns: dict[str, str | None]
    suggested: dict[str, str]  #: --map pairs that are not given and no preset has
    rows: int
    events: int
    shown: list[dict[str, Any]]
    counts: dict[str, Any]
    said: list[str]
    examples: dict[str, str]  #: {reason: what is said of the first such row}
    map_line: str


def inspect_file(
    file: Path, *, mapping: Mapping[str, str], preset: str, options: Mapping[str, object], strict: bool = False
) -> Inspected:
    """Reads a file to its end as `replay` or `catalog send` would, with columns guessed where none is named."""
    source = open_source(file, BY_CONTENT.updated(options))
    kind, plan, suggested = _plan(file, source, mapping, preset, options)
    rejected = Rejected(strict=strict)
    tell: list[str] = []
    rejected.tell = tell.append
    shown: list[dict[str, Any]] = []
    try:
        for batch in _batches(kind, source, plan, rejected):
            shown += batch.slice(0, SHOWN - len(shown)).to_pylist() if len(shown) < SHOWN else []
    except ShopstreamError:
        if strict or rejected.events or not rejected.rejected:
            raise  # else no row can be read, which is what there is to show
    types = _types(tell)
    suggested |= types
    field_of = {root_of(path, source.names): name for name, paths in plan.columns.items() for path in paths}
    words = map_line(plan) + "".join(f" --map {pair}={value}" for pair, value in types.items())
    return Inspected(
        file=str(file),
        kind=kind,
        format=_format(source, plan),
        preset=plan.preset,
        columns={name: field_of.get(name) for name in plan.header or source.names},
        suggested=suggested,
        rows=rejected.read,
        events=rejected.events or rejected.read,
        shown=[{name: value for name, value in row.items() if value is not None} for row in shown],
        counts=rejected.counts(),
        said=[*tell, *rejected.lines()],
        examples=rejected.examples,
        map_line=words,
    )


def _batches(kind: str, source: Source, plan: Plan, rejected: Rejected) -> Iterator[pa.RecordBatch]:
    return items_in(source, plan, rejected) if kind == "items" else events_in(source, plan, rejected)


def _plan(
    file: Path, source: Source, mapping: Mapping[str, str], preset: str, options: Mapping[str, object]
) -> tuple[str, Plan, dict[str, str]]:
    """Returns whether a file holds events or items, how it is read, and the --map pairs that were guessed for it."""
    guessed = {kind: _guess(source, schema, mapping) for kind, schema in (("events", EVENTS), ("items", CATALOG))}
    plans = {"events": plan_events, "items": plan_catalog}
    is_items = "title" in {**guessed["items"], **mapping} or "title" in source.names
    has_time = "event_time" in {**guessed["events"], **mapping} or "event_time" in source.names
    order = ["items", "events"] if is_items and not has_time else ["events", "items"]
    nothing: dict[str, dict[str, str]] = {"events": {}, "items": {}}
    for given in (nothing, guessed):  # without a guess, if that will do
        for kind in order:
            try:
                _, plan = plans[kind](file, mapping={**given[kind], **mapping}, preset=preset, options=options)
            except ShopstreamError as error:
                failed = error
                continue
            return kind, plan, dict(given[kind])
    raise failed


def _guess(source: Source, schema: pa.Schema, mapping: Mapping[str, str]) -> dict[str, str]:
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(source.names)}
    named = {field for field in schema.names if field in source.names or field in mapping}
    guessed: dict[str, str] = {}
    for field, names in NAMES.items():
        if field in schema.names and field not in named:
            found = [plain[name] for name in (*names, *(("id",) if field == "item_id" else ())) if name in plain]
            if found and found[0] not in guessed.values():
                guessed[field] = found[0]
    if "event_type" in schema.names and "event_type" not in {*guessed, *named}:
        is_order = any(re.search("invoice|order|transaction", name) for name in plain)
        guessed["event_type"] = f"const:{'purchase' if is_order else 'view'}"
    return guessed


def _types(told: list[str]) -> dict[str, str]:
    """Returns translations of the event types that a warning names."""
    unknown = [name for line in told for name in re.findall(r"'([^']*)' \(", line)]
    return {f"event_type:{name}": TYPES.get(re.sub(r"[\W_]", "", name).lower(), "leave-out:") for name in unknown}


def _format(source: Source, plan: Plan) -> str:
    parts = f"{len(source.parts)} files of " if len(source.parts) > 1 else ""
    if source.kind == "csv":
        mark = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}.get(source.delimiter, source.delimiter)
        header = "no header" if plan.header else "header in the first line"
        return f"{parts}delimited text, {mark}, {header}, {plan.how.encoding or 'UTF-8 or by its mark'}"
    return parts + {"json": "JSON lines", "parquet": "Parquet"}[source.kind]


def describe(found: Inspected) -> str:
    """Returns what was found, for people."""
    preset = found.preset + (f" ({presets()[found.preset].description})" if found.preset in presets() else "")
    width = max(map(len, found.columns), default=0)
    lines = [
        f"{found.file}: {found.format}",
        f"preset: {preset}",
        "columns:",
        *(f"  {name:{width}}  {field or '-'}" for name, field in found.columns.items()),
        f"first {found.kind}:",
        *("  " + " ".join(f"{name}={value}" for name, value in row.items()) for row in found.shown),
        f"read {found.events:,} {found.kind} from {found.rows:,} rows",
        *found.said,
    ]
    lines += [f"  {example}" for example in found.examples.values()]
    if found.suggested:
        lines.append("guessed, so look at it: " + " ".join(f"{pair}={to}" for pair, to in found.suggested.items()))
    return "\n".join([*lines, f"use: {found.map_line}" if found.map_line else "use: no --map is needed"])
