"""Finds where each field's values are in a file: columns, constants and translations, of --map and of a preset."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from udfs.contracts.clickstream import PROPERTIES
from udfs.core.errors import ShopstreamError
from udfs.events.options import ReadOptions
from udfs.events.presets import Columns, Form, LeaveOut

CONSTANT = "const:"
#: Values that a translation may give besides values: none, or the whole row is no event.
NO_VALUE, LEFT_OUT = "missing:", "leave-out:"
#: The value of a translation for all that it does not name.
ANY = "*"
#: Fields of line items, in an event with a list `items`.
_OF_ITEMS = ("item_id", "price", "quantity")


@dataclass(frozen=True)
class Plan:
    """How to read a file into the fields of a schema."""

    preset: str
    columns: Mapping[str, tuple[str, ...]]  #: {field: columns or paths; the first with a value counts}
    constants: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]  #: {field: {value in the file: value}}
    how: ReadOptions
    header: tuple[str, ...] = ()
    leave_out: tuple[LeaveOut, ...] = ()
    plus_ms: Mapping[str, str] | None = None
    line_ids: bool = False
    tell_repeats: bool = False
    variants: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every column or path that is read."""
        more = [*(rule.column for rule in self.leave_out), *(self.plus_ms or {}).values()]
        return tuple(dict.fromkeys([*(path for paths in self.columns.values() for path in paths), *more]))

    def column_of(self, field: str) -> str:
        """The name of a field's first column, for messages."""
        return self.columns.get(field, (field,))[0]


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Return {field or field:value: column or value} of the pairs of --map; ShopstreamError names a bad pair.

    user_id=CustomerID names a column, event_type=const:purchase a value for all rows, and event_type:cart=add_to_cart
    translates a value.
    """
    mapping = {}
    for pair in pairs:
        field, _, column = pair.partition("=")
        if not field or not column:
            raise ShopstreamError(
                f"--map was given {pair!r}; it takes FIELD=COLUMN, for example user_id=CustomerID, FIELD=const:VALUE, "
                "or FIELD:VALUE=VALUE to translate a value"
            )
        mapping[field] = column
    return mapping


def plan_of(
    path: Path,
    names: Sequence[str],
    schema: pa.Schema,
    mapping: Mapping[str, str],
    required: Sequence[str],
    options: Mapping[str, object],
    found: tuple[str, Form | None],
    *,
    nested: bool,
) -> Plan:
    """Return how to read a file with columns `names`; ShopstreamError for a mapping that does not fit it.

    nested: whether values may be objects and lists, and fields may be missing in the rows that `names` is of.
    """
    preset, form = found
    items = "title" in schema.names
    of_form = (form.catalog if items else form.map) if form else {}
    names = form.header if form and form.header else names
    columns: dict[str, tuple[str, ...]] = {}
    constants: dict[str, str] = {}
    values = {field: dict(of) for field, of in (form.values if form else {}).items()}
    for field, given in {**_own_names(names, schema, form, nested=nested), **of_form, **_columns_of(mapping)}.items():
        _check_field(field, schema, given)
        columns.pop(field, None)
        constants.pop(field, None)
        if isinstance(given, str) and given.startswith(CONSTANT):
            constants[field] = given.removeprefix(CONSTANT)
            continue
        paths = [given] if isinstance(given, str) else list(given)
        there = tuple(path for path in paths if root_of(path, names) in names)
        if there or nested:
            columns[field] = there or tuple(paths)
        if not there and field in mapping:
            has = f"the file has {', '.join(names)}"
            raise ShopstreamError(f"{path}: --map {field}={mapping[field]}: no column '{mapping[field]}'; {has}")
    for pair, value in mapping.items():
        field, colon, old = pair.partition(":")
        if colon:
            _check_field(field, schema, value)
            values.setdefault(field, {})[old] = value
    for field in required if form is None else ():
        if field not in constants and not any(root_of(name, names) in names for name in columns.get(field, ())):
            has = f"the file has {', '.join(names)}"
            raise ShopstreamError(f"{path}: no column '{field}'; {has}; name the right one with --map {field}=COLUMN")
    how = ReadOptions().updated(form.read if form else {}).updated(options)
    if how.zone is None and (form is not None or "event_time" in mapping):
        how = how.updated({"zone": "UTC"})
    return Plan(
        preset,
        columns,
        constants,
        values,
        how,
        header=tuple(form.header) if form else (),
        leave_out=tuple(form.leave_out) if form else (),
        plus_ms=form.plus_ms if form and not items else None,
        line_ids=form is not None and form.line_ids,
        tell_repeats=form is not None and form.tell_repeats,
        variants=form is not None and form.variants,
    )


def _columns_of(mapping: Mapping[str, str]) -> dict[str, Columns]:
    return {field: column for field, column in mapping.items() if ":" not in field}


def _own_names(names: Sequence[str], schema: pa.Schema, form: Form | None, *, nested: bool) -> dict[str, Columns]:
    """Return the fields that a file has under their own names; JSON lines may have any."""
    if form is not None:
        return {}
    own: dict[str, Columns] = {}
    for field in schema.names:
        if field in names or (nested and field != "event_id"):
            own[field] = field
        if nested and field in PROPERTIES and "title" not in schema.names:
            own[field] = [field, f"properties.{field}"]
        if nested and "items" in names and field in _OF_ITEMS:
            own[field] = [field, f"items[].{field}"]
    return own


def _check_field(field: str, schema: pa.Schema, given: object) -> None:
    if field not in schema.names:
        raise ShopstreamError(f"--map {field}={given}: no field '{field}'; choose from {', '.join(schema.names)}")


def root_of(path: str, names: Sequence[str]) -> str:
    """Return the column that a path begins with; a column may have dots in its name."""
    return path if path in names else re.split(r"[.\[]", path)[0]


def map_line(plan: Plan) -> str:
    """Return the --map options that say what a plan does."""
    said = [f"{field}={paths[0]}" for field, paths in plan.columns.items()]
    said += [f"{field}={CONSTANT}{value}" for field, value in plan.constants.items()]
    said += [f"{field}:{old}={new}" for field, of in plan.values.items() for old, new in of.items()]
    return " ".join(f"--map '{each}'" if re.search(r"[^\w=.:-]", each) else f"--map {each}" for each in said)
