"""Hostile records, made from good ones with a seed."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

DAY_MS = 86_400_000
#: What a field may be set to that is not of its type, or not within its bounds.
WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 7, 1.5, -0.0, 2**31, 2**63 - 1, 2**63, 10**30, 1e308, 5e-324, "", " ", "7", "x" * 300,
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2011-02-30T00:00:00Z", "2011-01-01T00:00:00", [], {}, [[1]],
    {"a": 1},
)  # fmt: skip
#: Strings that are fine in JSON and hard on what comes after it, as JSON writes them.
STRANGE = (
    r'"\ud800"', r'"\udfff tail"', r'"\u0000"', r'"a\u0000b"', r'"\u001b[31m"', r'"\r\n"', r'"\\"', r'"\""', '"\u202e"',
    '"\U0001f6d2"', '"e\u0301"', '"../../etc"', "\"'; --\"", r'"\u007f\u0085\u2028"', '"="', '"%20"', '"/"',
)  # fmt: skip
NUMBERS = ("NaN", "-Infinity", "1e999", "-1e999", "9" * 400, "0." + "0" * 400 + "1", "1e-999", "00", "1.", "0x10", "+1")
TIMES: tuple[Any, ...] = (
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
    -62_135_596_800_000, 253_402_300_799_999, 0, -1, 253_402_300_800_000, "1969-12-31T23:59:59.9999Z",
    "2016-12-31T23:59:60Z",
)  # fmt: skip
FIELDS = (
    "event_id", "event_type", "user_id", "event_time", "item_id", "query", "price", "quantity", "rating", "dwell_ms",
    "session_id", "properties",
)  # fmt: skip


class Record(NamedTuple):
    """What is sent. how: the name of the mutation, empty for a good record."""

    how: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


def _with(value: bytes, field: str, text: str) -> bytes:
    """The JSON object with a field, given as JSON, put in the place of its own or added."""
    fields = json.loads(value)
    fields[field] = "\x01"
    return json.dumps(fields, ensure_ascii=False).replace('"\\u0001"', text).encode()


def _wrong_utf8(chance: random.Random, value: bytes) -> bytes:
    place = chance.randrange(len(value))
    return value[:place] + chance.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f", b"\x80")) + value[place:]


def _truncated(chance: random.Random, value: bytes) -> bytes:
    return value[: chance.randrange(len(value))]


def _flipped(chance: random.Random, value: bytes) -> bytes:
    changed = bytearray(value)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _wrong_type(chance: random.Random, value: bytes) -> bytes:
    return json.dumps(json.loads(value) | {chance.choice(FIELDS): chance.choice(WRONG)}).encode()


def _missing(chance: random.Random, value: bytes) -> bytes:
    fields = json.loads(value)
    del fields[chance.choice(sorted(fields))]
    return json.dumps(fields).encode()


def _strange_text(chance: random.Random, value: bytes) -> bytes:
    return _with(value, chance.choice(FIELDS), chance.choice(STRANGE))


def _strange_number(chance: random.Random, value: bytes) -> bytes:
    return _with(
        value, chance.choice(("event_time", "price", "quantity", "rating", "dwell_ms")), chance.choice(NUMBERS)
    )


def _twice(chance: random.Random, value: bytes) -> bytes:
    """A key that is there twice: JSON lets it be, and readers differ in which one they take."""
    field = chance.choice(("event_id", "user_id", "event_time", "item_id"))
    return b'{"%s": %s, ' % (field.encode(), json.dumps(chance.choice(WRONG)).encode()) + value[1:]


def _nested(chance: random.Random, value: bytes) -> bytes:
    deep = chance.choice((10, 1000, 100_000))
    opened, closed = chance.choice((("[", "]"), ('{"a":', "}")))
    return _with(value, chance.choice(("properties", "new")), opened * deep + "1" + closed * deep)


def _time(chance: random.Random, value: bytes) -> bytes:
    return _with(value, "event_time", json.dumps(chance.choice(TIMES)))


def _clock_ahead(chance: random.Random, value: bytes) -> bytes:
    return _with(value, "event_time", str(json.loads(value)["event_time"] + chance.randint(1, 30) * DAY_MS))


def _clock_behind(chance: random.Random, value: bytes) -> bytes:
    return _with(value, "event_time", str(json.loads(value)["event_time"] - chance.randint(1, 30) * DAY_MS))


def _large(chance: random.Random, value: bytes, size: int = 5000) -> bytes:
    part = chance.choice(("x", "é", "w "))
    return _with(value, chance.choice((*FIELDS, "new")), f'"{part * (size // len(part.encode()))}"')


#: By name: a good value to a hostile one.
MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    each.__name__.strip("_"): each
    for each in (
        _wrong_utf8, _truncated, _flipped, _wrong_type, _missing, _strange_text, _strange_number, _twice, _nested,
        _time, _clock_ahead, _clock_behind, _large,
    )
}  # fmt: skip


def hostile(good: Iterable[tuple[bytes, bytes, int]], seed: int, large: Iterable[int] = ()) -> Iterator[Record]:
    """Good records (key, value, timestamp in ms) with every third one, by chance, made hostile or sent again.

    large: sizes in bytes of fields that are very large, one after each thousand records.
    """
    chance, sizes, earlier = random.Random(seed), iter(large), [Record("", b"", b"", 0)] * 100
    for number, (key, value, when) in enumerate(good):
        record = Record("", key, value, when)
        if number % 1000 == 500 and (size := next(sizes, 0)):
            record = record._replace(how="very_large", value=_large(chance, value, size))
        elif chance.random() < 1 / 3:
            how = chance.choice((*MUTATIONS, "no_key", "tombstone", "repeated"))
            if how == "no_key":
                record = record._replace(how=how, key=None)
            elif how == "tombstone":
                record = record._replace(how=how, value=None)
            elif how == "repeated" and number:
                record = earlier[chance.randrange(min(number, 100))]._replace(how=how, timestamp_ms=when)
            elif how in MUTATIONS:
                record = record._replace(how=how, value=MUTATIONS[how](chance, value))
        earlier[number % 100] = record
        yield record
