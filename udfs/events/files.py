"""Reads events from CSV, TSV, JSON lines and Parquet files, in batches of bounded size. docs/input.md has the rules."""

import functools
import operator
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import acero

from udfs.contracts.clickstream import EVENT_FIELDS, EVENT_TYPES, EventField
from udfs.core.clock import DAY_MS
from udfs.events.casting import Caster, Refusals, left_out, shown
from udfs.events.columns import EVENTS
from udfs.events.formats import TEXT, Rows, Source, open_source, raw_rows, split_items
from udfs.events.mapping import Plan, plan_of
from udfs.events.options import BY_CONTENT
from udfs.events.presets import recognise
from udfs.events.rejected import Rejected
from udfs.events.values import EVENT_RULES

_REQUIRED = ("event_id", "event_type", "user_id", "event_time")


def read_events(
    path: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    preset: str = "auto",
    options: Mapping[str, object] | None = None,
    rejected: Rejected | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the events of a file in its order, in batches of bounded size, schema EVENTS.

    path: a file, an archive or a folder of part files.
    mapping: {contract field: column in the file}, and the other pairs of parse_mapping. Other fields are looked up
        under their own names, or where the preset has them.
    preset: "events" (contract names), the name of a known kind of file, the path of a preset's TOML, or "auto": by the
        file's columns.
    options: those of ReadOptions, by name.
    rejected: takes the rows that cannot be read or break the contract of `clickstream`. Without it, the first row that
        cannot be read raises ShopstreamError, and no row is checked for the contract's bounds.

    In a column that `mapping` names, and in presets, times without a zone are UTC. Events without an id get `<file
    stem>-<row>`, those of most presets `<invoice or session>-<row>`. Row 1 is the header or, in JSON lines and Parquet,
    the first record. A row with several items is an event for each, with `-<item>` behind the id.

    Raises ShopstreamError at once for a file that cannot be opened, a wrong mapping or a missing required column; while
    iterating, for damaged files, and if all rows of a file were rejected.
    """
    source, plan = plan_events(Path(path), mapping=mapping, preset=preset, options=options)
    return events_in(source, plan, rejected)


def plan_events(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    preset: str = "auto",
    options: Mapping[str, object] | None = None,
) -> tuple[Source, Plan]:
    """Return a file, opened, and how read_events reads it."""
    how = BY_CONTENT.updated(options or {})
    source = open_source(path, how)
    found = recognise(path, source.names, source.first_line, preset, items=False)
    required = ["event_type", "user_id", "event_time", "item_id"]
    plan = plan_of(path, source.names, EVENTS, mapping or {}, required, options or {}, found, nested=source.nested)
    return source, plan


def events_in(source: Source, plan: Plan, rejected: Rejected | None) -> Iterator[pa.RecordBatch]:
    """Yield the events of an opened file, as read_events does."""
    taken = rejected or Rejected(strict=True)
    caster = Caster(plan, EVENTS, EVENT_RULES)
    first = True
    for raw in raw_rows(source, plan, taken):
        rows = split_items(raw, plan)
        rows = without_left_out(rows, plan, caster, taken)
        if not len(rows.number):
            continue
        refusals = Refusals()
        batch = _events_of(source, rows, plan, caster, refusals)
        if first and rejected is not None:
            tell_types(batch, rejected)
        first = False
        _refuse_nulls(batch, plan, refusals)
        if rejected is not None:
            _refuse_outside_contract(batch, plan, refusals)
        kept = _reject(rows, refusals, taken)
        batch = batch if kept is None else batch.take(pa.array(kept))
        _note(batch, plan, taken)
        taken.events += len(batch)
        taken.read += len(np.unique(rows.number if kept is None else rows.number[kept]))
        if batch.num_rows:
            yield batch
    if rejected is not None and rejected.rejected and not rejected.events:
        raise rejected.nothing_read(source.path)


def _events_of(source: Source, rows: Rows, plan: Plan, caster: Caster, refusals: Refusals) -> pa.RecordBatch:
    """Return the fields of rows; null where a value is none."""
    arrays = {name: caster.cast(rows, name, refusals) for name in EVENTS.names}
    for name, column in (plan.plus_ms or {}).items():
        if column in rows.columns.schema.names:
            arrays[name] = caster.added(rows, arrays[name], column, refusals)
    header = int(source.kind == "csv" and not plan.header)
    number = pa.array(rows.number + 1 + header).cast(TEXT)
    if plan.line_ids:
        arrays["event_id"] = pc.binary_join_element_wise(arrays["event_id"], number, "-")
    elif "event_id" not in plan.columns and "event_id" not in plan.constants:
        arrays["event_id"] = pc.binary_join_element_wise(rows.part.stem, number, "-")
    if rows.nth is not None and rows.nth.any():
        item = pc.binary_join_element_wise("-", pa.array(rows.nth).cast(TEXT), "")
        item = pc.if_else(pa.array(rows.nth > 0), item, "")
        arrays["event_id"] = pc.binary_join_element_wise(arrays["event_id"], item, "")
    return pa.record_batch(list(arrays.values()), schema=EVENTS)


def without_left_out(rows: Rows, plan: Plan, caster: Caster, taken: Rejected) -> Rows:
    """Return the rows that are events, and count those that the preset or a translation leaves out, by reason."""
    out = np.zeros(len(rows.number), dtype=bool)
    for rule in plan.leave_out:
        if rule.column not in rows.columns.schema.names:
            continue
        column = rows.columns[rule.column]
        if rule.missing:
            found = pc.is_null(column)
        elif rule.starts_with is not None:
            found = pc.starts_with(column.cast(TEXT), rule.starts_with)
        else:
            found = pc.less(caster.number(rows, rule.column), float(rule.below or 0))
        hit = np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool) & ~out
        if hit.any():
            taken.left_out[rule.reason] += int(hit.sum())
            out |= hit
    for name in plan.values:
        old = caster.raw(rows, name)
        hit = left_out(old).to_numpy(zero_copy_only=False) & ~out if old.type == TEXT else out[:0]
        if hit.any():
            before = rows.columns[plan.column_of(name)].filter(pa.array(hit)).cast(TEXT)
            for each in pc.value_counts(before).to_pylist():
                taken.left_out[f"{name} {each['values']}"] += each["counts"]
            out |= hit
    return rows.take(np.flatnonzero(~out)) if out.any() else rows


def tell_types(batch: pa.RecordBatch, rejected: Rejected) -> None:
    """Say before anything else which event types of a file's first rows are none of the contract's."""
    types = batch["event_type"]
    unknown = Counter(types.filter(pc.invert(pc.is_in(types, pa.array(EVENT_TYPES)))).drop_null().to_pylist())
    if unknown:
        named = ", ".join(f"{shown(name)} ({count:,})" for name, count in unknown.most_common(8))
        contract = ", ".join(EVENT_TYPES)
        maps = " ".join(f"--map event_type:{name}=TYPE" for name, _ in unknown.most_common(3))
        rejected.tell(
            f"{unknown.total():,} of {len(types):,} events have types that are none of {contract}: {named}"
            f"; translate them with {maps} (TYPE leave-out: for what is no event)"
        )


def _refuse_nulls(batch: pa.RecordBatch, plan: Plan, refusals: Refusals) -> None:
    for name in _REQUIRED:
        for row in np.flatnonzero(batch[name].is_null().to_numpy(zero_copy_only=False)).tolist():
            refusals.add(row, f"no {name}", f"there is no '{plan.column_of(name)}'; {name} is required")


def _refuse_outside_contract(batch: pa.RecordBatch, plan: Plan, refusals: Refusals) -> None:
    """Refuse events that the job would refuse if they came as records."""
    rules = [in_contract(), *_field_rules()]
    every, *masks = _evaluated(batch, rules)
    if pc.all(pc.fill_null(every, False), min_count=0).as_py():
        return
    types, searches = batch["event_type"], pc.equal(batch["event_type"], "search")
    for field, mask in zip(EVENT_FIELDS, masks, strict=True):
        column = batch[field.name]
        for row in np.flatnonzero(pc.fill_null(pc.invert(mask), False).to_numpy(zero_copy_only=False)).tolist():
            reason, said = _outside(field, column[row].as_py(), plan)
            refusals.add(row, reason, said)
    lacking = {"query": pc.and_(searches, pc.is_null(batch["query"])),
               "item_id": pc.and_(pc.invert(searches), pc.is_null(batch["item_id"]))}  # fmt: skip
    for name, mask in lacking.items():
        for row in np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist():
            kind = types[row].as_py()
            refusals.add(row, f"no {name}", f"an event of type {kind} needs '{plan.column_of(name)}' ({name})")


def _outside(field: EventField, value: object, plan: Plan) -> tuple[str, str]:
    """Return the reason, and what to say, for a value outside the contract."""
    where = f"column '{plan.column_of(field.name)}'"
    if field.choices:
        reason = f"{field.name}: none of the contract's"
        return reason, f"{where}: {shown(value)} is none of {', '.join(field.choices)}; --map {field.name}:{value}=…"
    if field.name == "quantity" and isinstance(value, int) and value < 0:
        return "a return (quantity below 0)", f"{where}: {value} is a return, which is no event"
    bounds = " and ".join(
        f"{'at least' if bound is field.least else 'at most'} {bound}"
        for bound in (field.least, field.most)
        if bound is not None
    )
    size = " characters" if field.sql == "STRING" else ""
    return (
        f"{field.name}: outside its bounds",
        f"{where}: {shown(value)} should have {bounds or 'a finite value'}{size}",
    )


def _reject(rows: Rows, refusals: Refusals, taken: Rejected) -> np.ndarray | None:  # type: ignore[type-arg]
    """Hand over the rows that are refused; return the indices of the others, None if that is all."""
    if not refusals.of_row:
        return None
    told: set[int] = set()
    for row, (reason, said) in sorted(refusals.of_row.items()):
        if int(rows.number[row]) not in told:  # a row of several items is one row
            told.add(int(rows.number[row]))
            taken.reject(rows.part.label, int(rows.line[row]), reason, said, functools.partial(rows.raw, row))
    # One bad item costs the whole order: half an order would be wrong in silence.
    return np.flatnonzero(~np.isin(rows.number, list(told)))


def _note(batch: pa.RecordBatch, plan: Plan, taken: Rejected) -> None:
    """Count what is read and may yet be wrong."""
    if not len(batch):
        return
    times = batch["event_time"].to_numpy()
    if early := int(np.count_nonzero((times >= 0) & (times < 31 * DAY_MS))):
        taken.noted["events in January 1970; if the unit of their times is wrong, use --read times=UNIT"] += early
    if plan.tell_repeats and len(batch) > 1:
        names = ("user_id", "item_id", "event_time", "session_id", "quantity", "price")
        same = [pc.equal(batch[name][1:], batch[name][:-1]) for name in names]
        repeats = pc.sum(pc.fill_null(functools.reduce(pc.and_, same), False)).as_py()
        if repeats:
            taken.noted["rows say the same as the row before; both are read"] += repeats


def _evaluated(batch: pa.RecordBatch, rules: Sequence[pc.Expression]) -> list[pa.Array]:
    """Return a column, bool [n], per rule. Without threads: those of Arrow's queries may crash a process as it ends."""
    names = [str(number) for number in range(len(rules))]
    steps = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(pa.Table.from_batches([batch]))),
        acero.Declaration("project", acero.ProjectNodeOptions(list(rules), names)),
    ]
    found = acero.Declaration.from_sequence(steps).to_table(use_threads=False)
    return [found[name].combine_chunks() for name in names]


def fitting(batch: pa.RecordBatch) -> pa.Table:
    """Return the events (schema EVENTS) that parse_event would read if they came as JSON."""
    return pa.Table.from_batches([batch.filter(_evaluated(batch, [in_contract()])[0])])


def _field_rules() -> Sequence[pc.Expression]:
    """Return for each of EVENT_FIELDS which rows keep its bounds."""
    rules = []
    for field in EVENT_FIELDS:
        column = pc.field(field.name)
        size = pc.utf8_length(column) if field.sql == "STRING" else column
        most = sys.float_info.max if field.most is None and field.sql == "DOUBLE" else field.most
        own = [column.isin(field.choices)] if field.choices else []
        own += [] if field.least is None else [size >= field.least]
        own += [] if most is None else [size <= most]
        every = functools.reduce(operator.and_, own, pc.scalar(True))
        rules.append(every if field.required else column.is_null() | every)
    return rules


def in_contract() -> pc.Expression:
    """Select the rows of EVENTS that parse_event would read if they came as JSON."""
    searches = pc.field("event_type") == "search"
    asked = pc.if_else(searches, pc.utf8_length(pc.field("query")) >= 1, pc.field("item_id").is_valid())
    return functools.reduce(operator.and_, _field_rules(), asked)
