"""The rules by which a value becomes a field's value, one value at a time; docs/input.md is the page for people.

The columns of files follow the same rules, for whole columns at once (udfs.events.casting).
"""

import html
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any

from udfs.contracts.clickstream import EVENT_FIELDS
from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.core.errors import ShopstreamError
from udfs.events.options import BY_CONTENT, ReadOptions, zone_named

#: Texts in CSV files that stand for no value, in any column.
MISSING = ("", r"\N", "NULL", "NaN")
#: Texts that stand for no number or time, anywhere.
NO_NUMBER = frozenset({*MISSING, "nan", "NAN", "null", "None", "NA", "N/A", "<NA>", "NaT"})

#: Digits of a time that is a number, the unit that they tell, and its nanoseconds. Any other number is milliseconds, as
#: in the contract.
UNITS = {10: ("s", 10**9), 13: ("ms", 10**6), 16: ("us", 10**3), 19: ("ns", 1)}
UNIT_NS = dict(UNITS.values())

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONE = r"\s?((?i:Z|UTC|GMT)|[+-]\d\d(?::?\d\d)?|[A-Z][a-z_A-Z]*(?:/[A-Za-z_+-]+)+)?"
_CLOCK = r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
_ISO = re.compile(rf"(\d{{4}})[-/](\d\d)[-/](\d\d)(?:[Tt ]{_CLOCK})?{_ZONE}", re.ASCII)
_SLASHED = re.compile(
    rf"(\d{{1,2}})([/.-])(\d{{1,2}})\2(\d{{4}})(?:,?[Tt ]{_CLOCK}(?: ?([AaPp][Mm]))?)?{_ZONE}", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_PRICE = re.compile(r"(?:[A-Z]{3}|[$€£¥])?\s*([+-]?[\d.,]+(?:[eE][+-]?\d{1,3})?)\s*(?:[A-Z]{3}|[$€£¥])?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+(,\d{1,2}|,\d{4,})|[+-]?\d{1,3}(\.\d{3})+,\d+", re.ASCII)
_POINT = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+|[+-]?\d{1,3}(,\d{3}){2,}", re.ASCII)
_FLOAT_ID = re.compile(r"(\d+)\.0+", re.ASCII)
_SCIENTIFIC_ID = re.compile(r"(\d)(?:\.(\d+))?[eE]\+(\d{2,3})", re.ASCII)
#: The largest whole number up to which a double has each.
EXACT = 2**53

IN_STOCK = {"instock": True, "true": True, "t": True, "yes": True, "y": True, "available": True}
IN_STOCK |= {"preorder": True, "backorder": True, "limitedavailability": True, "onlineonly": True, "instoreonly": True}
IN_STOCK |= {"outofstock": False, "false": False, "f": False, "no": False, "n": False, "soldout": False}
IN_STOCK |= {"discontinued": False, "unavailable": False}

_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]*|#\d+|#[xX][0-9A-Fa-f]+);")


class RefusedError(ValueError):
    """A value that a field cannot take. reason: what is wrong, the same for all such values."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason + (f": {hint}" if hint else ""))
        self.reason = reason


def identifier(value: object, how: ReadOptions = BY_CONTENT) -> str | None:  # noqa: ARG001
    """Return an id as text. A whole number that became a float, as in 17850.0 or 7.982301102254e+12, is that number."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            if abs(value) > EXACT:
                raise RefusedError("an id that has lost digits", "a double has no more than 15; write ids as text")
            return str(int(value))
        return repr(value)
    text = _text(value)
    if text and (match := _FLOAT_ID.fullmatch(text)):
        return match[1]
    if text and (match := _SCIENTIFIC_ID.fullmatch(text)):
        digits, zeros = match[1] + (match[2] or ""), int(match[3]) - len(match[2] or "")
        if zeros < 0 and digits[zeros:].strip("0"):
            return text
        if zeros > 0 or len(digits) > 17:
            raise RefusedError("an id that has lost digits", "as a spreadsheet writes long numbers; write ids as text")
        return digits[: zeros or None]
    return text


def text(value: object, how: ReadOptions = BY_CONTENT) -> str | None:  # noqa: ARG001
    """Return a text as it is; an empty one is none."""
    return _text(value)


def prose(value: object, how: ReadOptions = BY_CONTENT) -> str | None:  # noqa: ARG001
    """Return a text for people to read, with `&amp;` and the like as what they stand for."""
    found = _text(value)
    return found and unescape(found)


def unescape(value: str) -> str:
    """Return a text with its HTML entities as characters; a bare & stays."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), value)


def amount(value: object, how: ReadOptions = BY_CONTENT) -> float | None:
    """Return a number, as in 2.5, "2.5", "2,50", "1.234,50" or "15.00 USD"."""
    number = _decimal(value, how, _PRICE)
    if number is None:
        return None
    found = float(number)
    if math.isinf(found):
        raise RefusedError("too large for a double")
    return found


def whole(value: object, how: ReadOptions = BY_CONTENT) -> int | None:
    """Return a whole number, as in 2, 2.0 or "2"."""
    number = _decimal(value, how, _NUMBER)
    if number is None:
        return None
    if number != number.to_integral_value() or abs(number) >= 2**63:
        raise RefusedError("no whole number")
    return int(number)


def stock(value: object, how: ReadOptions = BY_CONTENT) -> bool | None:
    """Return whether an item is in stock, from words (in stock, out_of_stock, preorder, yes, N) or a count."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.strip() in NO_NUMBER:
            return None
        word = re.sub(
            r"[\s_-]", "", value.strip().lower().removeprefix("https://schema.org/").removeprefix("http://schema.org/")
        )
        if word in IN_STOCK:
            return IN_STOCK[word]
        value = value.strip()
    try:
        count = whole(value, how)
    except RefusedError:
        raise RefusedError(
            "no stock", "use true or false, yes or no, a count, in stock, out of stock or preorder"
        ) from None
    return None if count is None else count > 0


def time_ms(value: object, how: ReadOptions = BY_CONTENT) -> int | None:
    """Return epoch ms, rounded down, from a number of s, ms, µs or ns, or a text with a day, a time and a zone."""
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        value = value.strip()
        if value in NO_NUMBER:
            return None
        if not _NUMBER.fullmatch(value):
            return _in_bounds(_time_of(value, how))
    number = _decimal(value, how, _NUMBER)
    return None if number is None else _in_bounds(_of_number(number, how))


def is_day(number: int) -> bool:
    """Return whether a number looks like a day, as in 20260131."""
    return 19000101 <= number <= 20991231 and 1 <= number // 100 % 100 <= 12 and 1 <= number % 100 <= 31


def _of_number(number: Decimal, how: ReadOptions) -> int:
    if how.times:
        unit = UNIT_NS[how.times]
    else:
        digits = len(str(int(abs(number))))
        if digits == 8 and is_day(int(number)):
            raise RefusedError("a day or epoch ms", f"write {number} as YYYY-MM-DD, or settle it with --read times=ms")
        if digits in (17, 18) or digits > 19:
            raise RefusedError(
                "a time of unknown unit", f"{digits} digits are none of s, ms, us and ns; use --read times=UNIT"
            )
        unit = UNITS.get(digits, ("ms", 10**6))[1]
        if number < 0:
            unit = 10**6
    ms = number * unit / 10**6
    # 1396437466.941 s is a little less as a double; what is so near to a millisecond is that millisecond.
    return math.floor(ms + Decimal("0.001") if unit == UNIT_NS["s"] else ms)


def _time_of(value: str, how: ReadOptions) -> int:
    half = None
    if match := _ISO.fullmatch(value):
        year, month, day, hour, minute, second, fraction, zone = match.groups()
    elif match := _SLASHED.fullmatch(value):
        first, _, second_part, year, hour, minute, second, fraction, half, zone = match.groups()
        day, month = _day_and_month(int(first), int(second_part), how)
    else:
        raise RefusedError("no time", "use epoch s, ms, µs or ns, or YYYY-MM-DD hh:mm:ss with a zone")
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            raise RefusedError("no time", "hours before AM and PM go from 1 to 12")
        hours = hours % 12 + 12 * (half.lower() == "pm")
    try:
        local = datetime(int(year), int(month), int(day), hours, int(minute or 0), int(second or 0))  # noqa: DTZ001
        since = _in_zone(local, zone or how.zone) - _EPOCH
    except (ValueError, OverflowError) as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError("no time", str(error)) from None
    return since // timedelta(milliseconds=1) + int(f"{fraction or 0:0<3}"[:3])


def _day_and_month(first: int, second: int, how: ReadOptions) -> tuple[int, int]:
    if how.dates == "day-first" or (how.dates is None and (first > 12 or first == second)):
        return first, second
    if how.dates == "month-first" or second > 12:
        return second, first
    raise RefusedError(
        "day and month cannot be told apart", "settle it with --read dates=day-first or --read dates=month-first"
    )


def date_order(values: set[str]) -> str | None:
    """Return day-first or month-first if some of the dates can be read in that order alone and none in the other."""
    pairs = [(int(match[1]), int(match[3])) for match in map(_SLASHED.fullmatch, values) if match]
    day_first = any(first > 12 for first, _ in pairs)
    month_first = any(second > 12 for _, second in pairs)
    return None if day_first == month_first else "day-first" if day_first else "month-first"


def _in_zone(local: datetime, zone: str | None) -> datetime:
    if zone is None:
        raise RefusedError(
            "a time without a zone", "name the zone with --read zone=UTC; --map event_time=COLUMN takes it as UTC"
        )
    if zone.upper() in ("Z", "UTC", "GMT"):
        return local.replace(tzinfo=UTC)
    if zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:] if len(zone) > 3 else 0)
        if minutes >= 24 * 60 or (len(zone) > 3 and int(zone[-2:]) > 59):
            raise RefusedError("no time", f"{zone} is no offset")
        offset: tzinfo = timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))
        return local.replace(tzinfo=offset)
    try:
        named = zone_named(zone)
    except ShopstreamError as error:
        raise RefusedError("a time in an unknown zone", str(error)) from None
    moment = local.replace(tzinfo=named)
    if moment.utcoffset() != local.replace(tzinfo=named, fold=1).utcoffset():
        raise RefusedError("a time that a clock shows twice or never", f"it was set forward or back then in {zone}")
    return moment


def _in_bounds(ms: int) -> int:
    if not MIN_TIME_MS <= ms <= MAX_TIME_MS:
        raise RefusedError("a time outside the years 1 to 9999", "settle the unit with --read times=UNIT")
    return ms


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise RefusedError("an object or a list", "name what is inside with --map FIELD=COLUMN.KEY")


def _decimal(value: object, how: ReadOptions, shape: re.Pattern[str]) -> Decimal | None:
    """Return the number that a value is or spells; shape: of texts. None for no value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise RefusedError("no number")
    if not isinstance(value, str):
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if not number.is_finite():
            raise RefusedError("no finite number")
        return number
    spelled = value.strip()
    if spelled in NO_NUMBER:
        return None
    match = shape.fullmatch(spelled)
    plain = match and _point_decimal((match[1] if shape is _PRICE else match[0]), how)
    if not plain:
        raise RefusedError("no number")
    try:
        return Decimal(plain)
    except InvalidOperation:
        raise RefusedError("no number") from None


def _point_decimal(number: str, how: ReadOptions) -> str | None:
    """Return a number with a decimal point and no other marks, None for what is no number."""
    if how.decimal == "comma":
        thousands = re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})*(,\d*)?|[+-]?\d+(,\d*)?", number)
        return number.replace(".", "").replace(",", ".") if thousands else None
    if _NUMBER.fullmatch(number):
        return number
    if how.decimal == "point" or _POINT.fullmatch(number):
        return number.replace(",", "") if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})*(\.\d*)?", number) else None
    if _COMMA.fullmatch(number):
        return number.replace(".", "").replace(",", ".")
    if re.fullmatch(r"[+-]?\d{1,3},\d{3}", number):
        raise RefusedError(
            "a comma for decimals or thousands", "settle it with --read decimal=comma or --read decimal=point"
        )
    return None


def uses_comma(values: set[str]) -> bool:
    """Return whether some of the numbers can only have a decimal comma, and none a decimal point."""
    found = [match[1] for match in map(_PRICE.fullmatch, map(str.strip, values)) if match]
    return any(map(_COMMA.fullmatch, found)) and not any(
        _POINT.fullmatch(number) or re.fullmatch(r"[+-]?\d+\.(\d{1,2}|\d{4,})", number) for number in found
    )


Rule = Callable[[object, ReadOptions], Any]

#: Fields whose texts are ids.
_IDS = ("event_id", "user_id", "item_id", "session_id", "anonymous_id")

#: The rule of each field of an event.
EVENT_RULES: Mapping[str, Rule] = {
    field.name: identifier
    if field.name in _IDS
    else time_ms
    if field.name == "event_time"
    else {"STRING": text, "BIGINT": whole, "DOUBLE": amount}[field.sql]
    for field in EVENT_FIELDS
}

#: The rule of each field of a catalog's item.
ITEM_RULES: Mapping[str, Rule] = {
    "item_id": identifier,
    "title": prose,
    "description": prose,
    "category": prose,
    "brand": prose,
    "price": amount,
    "in_stock": stock,
    "locale": text,
}
