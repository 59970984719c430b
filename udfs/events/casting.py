"""Casts columns of files to the fields of the contract, by the rules of udfs.events.values.

Arrow casts a column at once where its values have the usual shape. What it cannot cast is halved until only the unusual
values are left, and each distinct one of these passes through its field's rule.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.events.formats import TEXT, Rows
from udfs.events.mapping import ANY, LEFT_OUT, NO_VALUE, Plan
from udfs.events.options import ReadOptions
from udfs.events.values import (
    EXACT,
    UNIT_NS,
    UNITS,
    RefusedError,
    Rule,
    amount,
    date_order,
    identifier,
    time_ms,
    uses_comma,
)

#: Columns of at most this many values are no longer halved.
FEW = 64

#: The dates and numbers of a file's first rows settle what order and which decimal mark it has.
_DATES, _COMMAS = "dates", "decimal"


@dataclass
class Refusals:
    """Values that are none, by the index of their row: the reason, and what to say."""

    of_row: dict[int, tuple[str, str]] = field(default_factory=dict)

    def add(self, row: int, reason: str, said: str) -> None:
        """Note why a row is refused; the first reason counts."""
        self.of_row.setdefault(row, (reason, said))


@dataclass
class Caster:
    """Casts the columns of one file. What the first rows tell of dates and decimal commas holds for all."""

    plan: Plan
    schema: pa.Schema
    rules: Mapping[str, Rule]
    how: ReadOptions = field(init=False)
    _settled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.how = self.plan.how

    def raw(self, rows: Rows, name: str) -> pa.Array:
        """Return a field's values as they are in the file, translated; all null where the file has none."""
        if name in self.plan.constants:
            return pa.repeat(self.plan.constants[name], len(rows.number))
        paths = [path for path in self.plan.columns.get(name, ()) if path in rows.columns.schema.names]
        if not paths:
            return pa.nulls(len(rows.number), self.schema.field(name).type)
        array = _decoded(rows, paths[0])
        for path in paths[1:]:
            more = _decoded(rows, path)
            array = pc.coalesce(array, more if more.type == array.type else more.cast(array.type))
        if name in self.plan.values:
            array = translated(array.cast(TEXT), self.plan.values[name])
        return array

    def cast(self, rows: Rows, name: str, refusals: Refusals) -> pa.Array:
        """Return a field's column in its type; values that are none are null and refused."""
        array, rule, kind = self.raw(rows, name), self.rules[name], self.schema.field(name).type
        if array.null_count == len(array):
            return pa.nulls(len(array), kind)

        def refuse(row: int, value: object, error: RefusedError) -> None:
            where = f"column '{self.plan.column_of(name)}'"
            refusals.add(row, f"{name}: {error.reason}", f"{where} should be {name}, and {shown(value)} is {error}")

        self._settle(array, name, kind)
        if name in ("event_time",):
            return _times(array, self.how, refuse)
        if rule is identifier:
            return _ids(array, self.how, refuse)
        if kind == TEXT:
            if array.type == TEXT:
                return _ruled_texts(array, rule, self.how)
            return array.cast(TEXT)
        if kind == pa.float64():
            numbers = _by_rule(array, 0, lambda part: part.cast(kind), rule, kind, self.how, refuse)
            return _finite(numbers, array, rule, self.how, refuse)
        if kind == pa.int64():
            return _by_rule(array, 0, _wholes, rule, kind, self.how, refuse)
        return _by_rule(array, 0, _bools, rule, kind, self.how, refuse)

    def number(self, rows: Rows, column: str) -> pa.Array:
        """Return a column as float64, null where it is no number."""
        return _by_rule(
            _decoded(rows, column),
            0,
            lambda part: part.cast(pa.float64()),
            amount,
            pa.float64(),
            self.how,
            lambda *_: None,
        )

    def added(self, rows: Rows, times: pa.Array, name: str, refusals: Refusals) -> pa.Array:
        """Return times (epoch ms) plus the milliseconds of a column."""
        array = _decoded(rows, name)

        def refuse(row: int, value: object, error: RefusedError) -> None:
            refusals.add(
                row, f"{name}: {error.reason}", f"column '{name}' should be milliseconds: {shown(value)} is {error}"
            )

        more = _by_rule(array, 0, _wholes, self.rules["dwell_ms"], pa.int64(), self.how, refuse)
        return pc.add(times, pc.fill_null(more, 0))

    def _settle(self, array: pa.Array, name: str, kind: pa.DataType) -> None:
        """Look at a file's first texts for the order of its dates and for decimal commas."""
        if name in self._settled or array.type != TEXT:
            return
        self._settled.add(name)
        if (
            name == "event_time"
            and self.how.dates is None
            and _any(pc.match_substring_regex(array, r"^\d{1,2}[/.-]\d"))
        ):
            self.how = replace(self.how, dates=date_order(set(array.drop_null().unique().to_pylist())))
        if kind == pa.float64() and self.how.decimal is None and _may_contain(array, b","):
            comma = uses_comma(set(array.drop_null().unique().to_pylist()))
            self.how = replace(self.how, decimal="comma" if comma else None)


def shown(value: object) -> str:
    """Return a value for a message, cut to 80 characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def translated(array: pa.Array, values: Mapping[str, str]) -> pa.Array:
    """Return texts with those translated that `values` names; LEFT_OUT is kept for `left_out`."""
    old = [name for name in values if name != ANY]
    index = pc.index_in(array, pa.array(old, TEXT))
    new = pa.array([None if values[name] == NO_VALUE else values[name] for name in old], TEXT).take(index)
    is_named = pc.is_valid(index)
    other = pa.repeat(values[ANY], len(array)) if ANY in values else array
    return _where(is_named, new, other)


def left_out(array: pa.Array) -> pa.Array:
    """Return which texts are marked as no events, bool [n]."""
    return pc.fill_null(pc.equal(array, LEFT_OUT), False)


def _where(mask: pa.Array, yes: pa.Array, no: pa.Array) -> pa.Array:
    """if_else, which misreads string arrays that are slices in Arrow 16, by taking from both."""
    n = len(mask)
    index = np.arange(n) + n * ~np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)
    return pa.chunked_array([yes, no]).take(pa.array(index)).combine_chunks()


def _decoded(rows: Rows, column: str) -> pa.Array:
    """Return a column with its texts as plain strings, and null for empty ones."""
    array = rows.columns[column]
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_binary(array.type):
        array = array.cast(TEXT)
    # The CSV reader makes null of them itself.
    if rows.part.kind != "csv" and array.type == TEXT and _may_be_empty(array):
        empty = pc.fill_null(pc.equal(pc.binary_length(array), 0), False)
        array = pc.replace_with_mask(array, empty, pa.scalar(None, TEXT))
    return array


def _may_be_empty(array: pa.Array) -> bool:
    """Return whether some of the texts may be empty: fewer lengths above 0 than values."""
    offsets = array.buffers()[1]
    if offsets is None:
        return False
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return bool(np.count_nonzero(ends[1:] != ends[:-1]) != len(array) - array.null_count)


def _may_contain(array: pa.Array, *parts: bytes) -> bool:
    """Return whether some of the texts may contain one of the parts: a quick look at their bytes, end to end."""
    _, offsets, data = array.buffers()
    if data is None:
        return False
    begin, end = np.frombuffer(offsets, np.int32)[[array.offset, array.offset + len(array)]].tolist()
    data = data.slice(begin, end - begin).to_pybytes()
    return any(part in data for part in parts)


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())


Refuse = Callable[[int, object, RefusedError], None]


def _by_rule(
    array: pa.Array,
    first: int,
    fast: Callable[[pa.Array], pa.Array],
    rule: Rule,
    kind: pa.DataType,
    how: ReadOptions,
    refuse: Refuse,
) -> pa.Array:
    """Return a column cast by `fast`, where it raises for part of it by the rule, value by value.

    first: row of the array's first value.
    """
    try:
        return fast(array)
    except pa.ArrowException:
        n = len(array)
        if n > FEW and not _is_repetitive(array):
            halves = [array.slice(0, n // 2), array.slice(n // 2)]
            done = [
                _by_rule(half, at, fast, rule, kind, how, refuse)
                for half, at in zip(halves, (first, first + n // 2), strict=True)
            ]
            return pa.concat_arrays(done)
        return _each(array, first, rule, kind, how, refuse)


def _is_repetitive(array: pa.Array) -> bool:
    return bool(pc.count_distinct(array.slice(0, 4 * FEW)).as_py() <= FEW // 4)


def _each(array: pa.Array, first: int, rule: Rule, kind: pa.DataType, how: ReadOptions, refuse: Refuse) -> pa.Array:
    """Return the values by the rule. A loop over the distinct values: only unusual ones come here."""
    encoded = array.dictionary_encode()
    found: list[Any] = []
    for code, value in enumerate(encoded.dictionary.to_pylist()):
        try:
            found.append(rule(value, how))
        except RefusedError as error:
            found.append(None)
            for row in np.flatnonzero(encoded.indices.to_numpy(zero_copy_only=False) == code).tolist():
                refuse(first + row, value, error)
    return pa.array(found, kind).take(encoded.indices)


def _wholes(array: pa.Array) -> pa.Array:
    if array.type != TEXT:
        return array.cast(pa.int64())
    if _may_contain(array, b"x", b"X"):  # Arrow reads 0x10
        raise pa.ArrowInvalid("hexadecimal")
    return array.cast(pa.int64())


def _bools(array: pa.Array) -> pa.Array:
    if array.type == pa.bool_():
        return array
    raise pa.ArrowInvalid("words or counts")


def _finite(found: pa.Array, array: pa.Array, rule: Rule, how: ReadOptions, refuse: Refuse) -> pa.Array:
    """Return numbers whose texts Arrow takes for infinite or none by the rule."""
    odd = np.flatnonzero(~np.isfinite(found.fill_null(0.0).to_numpy()))
    if not len(odd):
        return found

    def refuse_odd(row: int, value: object, error: RefusedError) -> None:
        refuse(int(odd[row]), value, error)

    again = _each(array.take(pa.array(odd)), 0, rule, found.type, how, refuse_odd)
    mask = np.zeros(len(found), dtype=bool)
    mask[odd] = True
    return pc.replace_with_mask(found, pa.array(mask), again)


def _ids(array: pa.Array, how: ReadOptions, refuse: Refuse) -> pa.Array:
    if pa.types.is_floating(array.type):
        values = array.cast(pa.float64())
        usual = pc.and_(pc.equal(values, pc.floor(values)), pc.less_equal(pc.abs(values), float(EXACT)))
        if pc.all(usual, min_count=0).as_py():
            return values.cast(pa.int64()).cast(TEXT)
        return _each(values, 0, identifier, TEXT, how, refuse)
    if array.type != TEXT:
        return array.cast(TEXT)
    if not _may_contain(array, b".0", b"+"):
        return array
    plain = pc.replace_substring_regex(array, r"^([0-9]+)\.0+$", r"\1")
    odd = pc.fill_null(pc.match_substring_regex(plain, r"^[0-9](\.[0-9]+)?[eE]\+[0-9]+$"), False)
    if not _any(odd):
        return plain
    index = np.flatnonzero(odd.to_numpy(zero_copy_only=False))

    def refuse_odd(row: int, value: object, error: RefusedError) -> None:
        refuse(int(index[row]), value, error)

    return pc.replace_with_mask(plain, odd, _each(array.take(pa.array(index)), 0, identifier, TEXT, how, refuse_odd))


def _ruled_texts(array: pa.Array, rule: Rule, how: ReadOptions) -> pa.Array:
    """Return texts; of titles and the like, those with an HTML entity by the rule."""
    if rule.__name__ != "prose" or not _may_contain(array, b"&"):
        return array
    return pa.array([rule(value, how) for value in array.to_pylist()], TEXT)


# --- times ------------------------------------------------------------------------------------------------------------


def _times(array: pa.Array, how: ReadOptions, refuse: Refuse) -> pa.Array:
    """Return epoch ms, int64, from numbers, timestamps, days, and texts of each; nulls stay."""
    kind, int64 = array.type, pa.int64()
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("ms"))
        kind = array.type
    if pa.types.is_timestamp(kind):
        if kind.tz is not None or how.zone in ("UTC", "GMT"):
            return _by_rule(array, 0, lambda part: _bounded(_floor_ms(part)), time_ms, int64, how, refuse)
        return _by_rule(array, 0, lambda part: _local(part, how), time_ms, int64, how, refuse)
    if kind != TEXT:
        return _by_rule(array, 0, lambda part: _numbers(part, how), time_ms, int64, how, refuse)
    return _by_rule(array, 0, lambda part: _texts(part, how), time_ms, int64, how, refuse)


def _texts(array: pa.Array, how: ReadOptions) -> pa.Array:
    """Return epoch ms from texts that are all numbers, all times, or a mix; raise ArrowException for others."""
    # A cast that fails takes twenty times as long as one that does not, so the first value decides which to try.
    first = next(filter(None, array.slice(0, FEW).to_pylist()), "")
    with suppress(pa.ArrowException):
        return _numbers(_wholes(array), how) if first.isdecimal() else _zoned(array, how)
    number = pc.fill_null(pc.match_substring_regex(array, r"^-?\d+$"), True)
    if not _any(number):
        decimal = pc.match_substring_regex(array, r"^\d{10}\.\d{1,6}$")
        if pc.all(decimal, min_count=0).as_py():
            return _numbers(array.cast(pa.float64()), how)
        return _zoned(array, how)
    # Not if_else: with a null scalar it misreads string arrays that are slices (Arrow 16).
    null = pa.scalar(None, TEXT)
    numbers = _numbers(pc.replace_with_mask(array, pc.invert(number), null).cast(pa.int64()), how)
    return pc.coalesce(numbers, _zoned(pc.replace_with_mask(array, number, null), how))


def _zoned(array: pa.Array, how: ReadOptions) -> pa.Array:
    """Return epoch ms from times such as 2019-10-01 00:00:00 UTC; without a zone they are of `how.zone`."""
    times = pc.ascii_upper(array) if _may_contain(array, b"t", b"z") else array
    if _may_contain(times, b"UTC", b"GMT", b" Z"):
        times = pc.replace_substring_regex(times, r" ?(UTC|GMT|Z)$", "Z")
    if not pc.all(pc.ends_with(times, "Z"), min_count=0).as_py():
        zoned = pc.match_substring_regex(times, r"(Z|:\d\d(\.\d+)?[+-]\d\d(:?\d\d)?)$")
        if not pc.all(zoned, min_count=0).as_py():
            if _any(zoned) or how.zone not in ("UTC", "GMT"):
                if _any(zoned):
                    zones = pc.if_else(zoned, "", "Z") if how.zone in ("UTC", "GMT") else None
                    if zones is None:
                        raise pa.ArrowInvalid("times with and without a zone")
                    times = pc.binary_join_element_wise(times, zones, "")
                else:
                    return _local(times.cast(pa.timestamp("us")), how)
            else:
                return _bounded(_floor_ms(times.cast(pa.timestamp("ns"))))
    return _bounded(_floor_ms(times.cast(pa.timestamp("ns", "UTC"))))


def _local(array: pa.Array, how: ReadOptions) -> pa.Array:
    """Return epoch ms from timestamps of the zone that is named; raise ArrowException without one."""
    if how.zone is None:
        raise pa.ArrowInvalid("timestamps have no zone")
    return _bounded(_floor_ms(pc.assume_timezone(array, how.zone)))


def _floor_ms(array: pa.Array) -> pa.Array:
    """Return timestamps as epoch ms, rounded down, also before 1970."""
    unit = UNIT_NS[array.type.unit]
    numbers = array.cast(pa.int64())
    if unit >= 10**6:
        return pc.multiply_checked(numbers, unit // 10**6)
    return _floor_divide(numbers, 10**6 // unit)


def _floor_divide(array: pa.Array, by: int) -> pa.Array:
    mask = array.is_null().to_numpy(zero_copy_only=False)
    return pa.array(array.fill_null(0).to_numpy() // by, pa.int64(), mask=mask)


def _numbers(array: pa.Array, how: ReadOptions) -> pa.Array:
    """Return epoch ms from numbers whose unit their digits tell; raise ArrowException for what is ambiguous."""
    null = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_decimal(array.type) or pa.types.is_boolean(array.type):
        raise pa.ArrowInvalid("neither whole numbers nor doubles")
    is_float = pa.types.is_floating(array.type)
    if not is_float and not how.times:
        bounds = pc.min_max(array).as_py()
        if bounds["min"] is not None and bounds["min"] >= 10**12 and bounds["max"] < 10**13:
            return array.cast(pa.int64())  # all are epoch ms
    values = array.cast(pa.float64() if is_float else pa.int64()).fill_null(0).to_numpy()
    if is_float and not np.isfinite(values).all():
        raise pa.ArrowInvalid("no finite number")
    size = np.abs(values)
    ns = np.full(len(values), 10**6)
    if how.times:
        ns[:] = UNIT_NS[how.times]
    else:
        for digits, (_, unit) in UNITS.items():
            least, most = 10 ** (digits - 1), min(10**digits - 1, 2**63 - 1)
            ns[(values >= least) & (values <= most)] = unit
        seconds = (size >= 10**16) & (size < 10**18) | (size >= 19000101) & (size <= 20991231)
        if seconds.any():
            raise pa.ArrowInvalid("a day, or a time of unknown unit")
    if is_float:
        guard = np.where(ns == 10**9, 0.001, 0.0)
        if (size[ns < 10**6] > EXACT).any():
            raise pa.ArrowInvalid("a double has not so many digits")
        ms = np.floor(values * (ns / 10**6) + guard)
    else:
        if (size[ns == 10**9] > 2**63 // 1000).any():
            raise pa.ArrowInvalid("too large")
        ms = np.where(ns == 10**9, values * np.where(ns == 10**9, 1000, 0), values // np.maximum(10**6 // ns, 1))
    ms = np.where(null, 0, ms)
    if len(ms) and not (ms.min() >= MIN_TIME_MS and ms.max() <= MAX_TIME_MS):
        raise pa.ArrowInvalid("not within the years 1 to 9999")
    return pa.array(ms.astype(np.int64), pa.int64(), mask=null)


def _bounded(array: pa.Array) -> pa.Array:
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is not None and not (bounds["min"] >= MIN_TIME_MS and bounds["max"] <= MAX_TIME_MS):
        raise pa.ArrowInvalid("not within the years 1 to 9999")
    return array
