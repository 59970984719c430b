"""Reads values of JSON records as shops write them. udfs.events.values has the rules of files, which agree with these.

Each function returns a value of the contract's type, or the value as it came where it cannot be read without a guess.
"""

import calendar
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from udfs.core.clock import epoch_ms
from udfs.events.values import EXACT

#: Texts that stand for no value.
NOTHING = frozenset(("", r"\N", "NULL", "null", "NaN", "nan", "NAN", "None"))

#: A byte order mark, which some producers write before the JSON.
BOM = "\ufeff"

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")

_FLOAT_ID = re.compile(r"(\d+)\.0+")

_ZONE_NAME = re.compile(r"\s*(?:UTC|GMT)$", re.IGNORECASE)

#: An offset of hours alone, or behind a space; it comes after a time of day.
_OFFSET = re.compile(r"(?<=[\d:.]) ?([+-]\d\d)(?::?(\d\d))?$")

_TIME_OF_DAY = re.compile(r"^\S{10}[Tt ]\d\d:")


def without_zeros(text: str) -> str:
    """Return an id without the `.0` that tools write behind whole numbers."""
    found = _FLOAT_ID.fullmatch(text)
    return found[1] if found else text


def read_id(value: object) -> object:
    """Return an id as text: numbers as whole numbers, also `17850.0`, which many tools make of ids with gaps."""
    if isinstance(value, str):
        return without_zeros(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return str(value) if type(value) is int else value


def read_text(value: object) -> object:
    """Return a text, also of a number; None for anything else."""
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else None


def read_number(value: object) -> object:
    """Return a number, also of a text with a decimal point; None for a text that stands for no value."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in NOTHING:
        return None
    if not _NUMBER.fullmatch(text):
        return value
    return int(text) if text.lstrip("+-").isdecimal() and len(text) < 20 else float(text)


def read_whole(value: object) -> object:
    """Return a whole number, also of `2.0` and of texts; None for a text that stands for no value."""
    number = read_number(value)
    if isinstance(number, float):
        return int(number) if number.is_integer() and abs(number) < EXACT else value
    return number


def read_time(value: object) -> object:
    """Return epoch ms of a time with a zone, or of a number, whose unit is told by its size (see `by_size`).

    A zone is an offset (`+01:00`, `+0100`, `+01`), Z, UTC or GMT.
    """
    if isinstance(value, str):
        text = value.strip()
        if _TIME_OF_DAY.match(text):
            text = _OFFSET.sub(lambda zone: f"{zone[1]}:{zone[2] or '00'}", _ZONE_NAME.sub("Z", text))
            try:
                return epoch_ms(msgspec.convert(text, datetime, strict=True))
            except (msgspec.ValidationError, TypeError, ValueError):
                return value
        number = read_number(text)
    else:
        number = value
    if isinstance(number, float):
        if number.is_integer() and abs(number) < EXACT:
            number = int(number)
        elif 10**9 <= number < 10**10:  # seconds, as time.time() gives them
            return round(number * 1e6) // 1000
    return value if type(number) is not int else by_size(number)


def by_size(number: int) -> int:
    """Return epoch ms of a whole number: s if it has 10 digits, µs if 16, ns if 19, otherwise ms already.

    Positive numbers of 10, 13, 16 and 19 digits are times from 2001 to 2286. Raises ValidationError for one that looks
    like a date and time of day in digits (20260131120000): as ms it would be in the year 2612.
    """
    if 10**9 <= number < 10**10:
        return number * 1000
    if 10**15 <= number < 10**16:
        return number // 1000
    if 10**18 <= number < 10**19:
        return number // 1_000_000
    if 19 * 10**12 <= number < 21 * 10**12 and _is_date(str(number)):
        year = datetime.fromtimestamp(number // 1000, UTC).year
        raise msgspec.ValidationError(
            f"`event_time` is '{number}', which looks like YYYYMMDDhhmmss and would be the year {year} as epoch ms; "
            "send epoch ms or RFC 3339 with a zone"
        )
    return number


def _is_date(digits: str) -> bool:
    year, month, day, *clock = int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2))
    in_month = 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    return in_month and clock[0] < 24 and clock[1] < 60 and clock[2] < 60


def read_property(value: object) -> object:
    """Return a property that is read: a text, or true and false as texts; None for an empty one."""
    return str(value).lower() if isinstance(value, bool) else value or None


def found(value: Any) -> str:
    """Quote a value in an error, short and without quotes of its own: whoever groups errors looks for the quotes."""
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else value
    return f"'{text[:40].replace(chr(39), '?')}{'…' if len(text) > 40 else ''}'"
