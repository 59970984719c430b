"""Simulated Kafka records, some of them late, repeated or broken."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from flink_jobs.simulation.walks import ROW, Rows, sort_rows, visits, walk
from flink_jobs.simulation.world import (
    ADD,
    CLICK,
    DEVICES,
    LOCALES,
    PURCHASE,
    RATE,
    REMOVE,
    SEARCH,
    VIEW,
    ZONES,
    World,
)
from udfs.contracts.clickstream import EVENT_TYPES

LATE_MS = 20_000


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record, and the truth about it. event_time_ms: of the event that it was made from."""

    key: bytes | None
    value: bytes | None
    event_time_ms: int
    kind: Literal["valid", "duplicate", "bad"]
    reason: str | None = None  #: of a bad record, its key in FAULTS


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    event_id: str
    event_type: str
    user_id: str
    event_time: int | str
    session_id: str
    properties: dict[str, str]
    item_id: str | None = None
    query: str | None = None
    price: float | None = None
    quantity: int | None = None
    rating: int | None = None
    dwell_ms: int | None = None


def make_records(
    world: World, stream: int, sessions: int | None, events: int | None, start_ms: int, shares: Mapping[str, float]
) -> Iterator[Record]:
    """Yields the records of many interleaved sessions in the order in which they reach Kafka."""
    rng = np.random.default_rng([world.seed, stream])
    name = f"{world.seed}/{stream}/{start_ms}/{len(world.phase)}"
    tag = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()  # other arguments give other event ids
    carried = np.zeros(0, ROW)
    known = world.known.copy()
    begun = numbered = 0
    for who, start, until in visits(world, rng, start_ms):
        room = len(who) if sessions is None else sessions - begun
        rows = walk(world, rng, who[:room], start[:room])
        returning = known[who]
        returning[np.setdiff1d(np.arange(len(who)), np.unique(who, return_index=True)[1])] = True
        known[who] = True
        rows["returning"] = returning[rows["session"]]
        rows["number"] = numbered + np.arange(len(rows))
        rows["session"] += begun
        begun, numbered = begun + len(who[:room]), numbered + len(rows)
        rows = sort_rows(np.concatenate([carried, _transport(rng, rows, shares)]), "emit")
        ended = begun == sessions
        ready = len(rows) if ended else int(np.searchsorted(rows["emit"], until))
        rows, carried = rows[:ready], rows[ready:]
        if events is not None:
            valid = np.cumsum(rows["fault"] == 0)
            ended |= bool(len(rows) and valid[-1] >= events)
            rows = rows[: int(np.searchsorted(valid, events)) + 1]
            events -= int(valid[len(rows) - 1]) if len(rows) else 0
        yield from _encoded(world, rows, tag)
        if ended:
            return


def _transport(rng: np.random.Generator, rows: Rows, shares: Mapping[str, float]) -> Rows:
    """Makes some events late, sends some twice (fault -1), and breaks some (fault = 1 + index in FAULTS)."""
    n = len(rows)
    rows["emit"] = rows["time"] + (rng.random(n) < shares["disorder_share"]) * rng.integers(1, LATE_MS, n)
    twice = rows[rng.random(n) < shares["duplicate_share"]]
    twice["emit"] += rng.integers(1, LATE_MS, len(twice))
    twice["fault"] = -1
    bad = rows[rng.random(n) < shares["bad_share"]]
    bad["fault"] = rng.integers(1, len(FAULTS) + 1, len(bad))
    return np.concatenate([rows, twice, bad])


def _encoded(world: World, rows: Rows, tag: str) -> Iterator[Record]:
    types, who, item = rows["type"], rows["who"], rows["item"]
    times = rows["time"].astype(object)
    zoned = world.device[who] == DEVICES.index("tablet")
    times[zoned] = np.datetime_as_string(rows["time"][zoned].astype("M8[ms]"), timezone="UTC").astype(object)
    priced = np.isin(types, (VIEW, CLICK, ADD, REMOVE, PURCHASE))
    counted = np.isin(types, (ADD, REMOVE, PURCHASE))

    def only(where: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[Any]:
        kept = values.astype(object)
        kept[~where] = None
        return list(kept)

    ids, queries, reasons, encode = world.ids, world.queries, list(FAULTS), msgspec.json.Encoder().encode
    properties = [
        {"device": device, "locale": locale, "timezone": zone, "returning": returning}
        for device in DEVICES
        for locale, zone in zip(LOCALES, ZONES, strict=True)
        for returning in ("false", "true")
    ]
    columns = (
        rows["fault"].tolist(),
        rows["number"].tolist(),
        rows["time"].tolist(),
        rows["session"].tolist(),
        types.tolist(),
        who.tolist(),
        item.tolist(),
        rows["query"].tolist(),
        times.tolist(),
        only(priced, world.price[item]),
        only(counted, rows["quantity"]),
        only(types == RATE, rows["rating"]),
        only(types == VIEW, rows["dwell"]),
        ((world.device[who] * len(LOCALES) + world.locale[who]) * 2 + rows["returning"]).tolist(),
    )
    # Records are made one by one, as a Kafka producer takes them; some 4 µs each.
    for fault, number, ms, session, kind, w, i, q, time, price, quantity, rating, dwell, setting in zip(
        *columns, strict=True
    ):
        user = f"u{w:06}"
        event = _Event(
            f"{tag}-{number}x" if fault > 0 else f"{tag}-{number}",
            EVENT_TYPES[kind],
            user,
            time,
            f"{user}-{session}",
            properties[setting],
            None if kind == SEARCH else ids[i],
            queries[i][q] if kind == SEARCH else None,
            price,
            quantity,
            rating,
            dwell,
        )
        if fault > 0:
            reason = reasons[fault - 1]
            value = FAULTS[reason](msgspec.to_builtins(event))
            yield Record(None if reason == "no user_id" else user.encode(), value, ms, "bad", reason)
        else:
            yield Record(user.encode(), encode(event), ms, "duplicate" if fault else "valid")


def _with(**changed: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: msgspec.json.encode(event | changed)


def _without(field: str, event_type: str) -> Callable[[dict[str, Any]], bytes]:
    def drop(event: dict[str, Any]) -> bytes:
        whole = {"item_id": "P000001", "query": "mug"} | event | {"event_type": event_type}
        return msgspec.json.encode({name: value for name, value in whole.items() if name != field})

    return drop


#: Ways to break the contract: each makes a record's value from a valid event.
FAULTS: Mapping[str, Callable[[dict[str, Any]], bytes | None]] = {
    "null value": lambda _: None,
    "empty value": lambda _: b"",
    "invalid UTF-8": lambda event: msgspec.json.encode(event).replace(b'"user_id":"', b'"user_id":"\xff\xfe'),
    "truncated JSON": lambda event: msgspec.json.encode(event)[:-40],
    "not an object": lambda event: msgspec.json.encode([event]),
    "no event_id": _without("event_id", "view"),
    "no event_type": _without("event_type", "view"),
    "no user_id": _without("user_id", "view"),
    "no event_time": _without("event_time", "view"),
    "no item_id": _without("item_id", "view"),
    "search without query": _without("query", "search"),
    "unknown event_type": _with(event_type="hover"),
    "user_id is an object": _with(user_id={"id": 1}),
    "event_time is no time": _with(event_time="yesterday"),
    "event_time without zone": _with(event_time="2026-01-01T00:00:00"),
    "price is text": _with(price="cheap"),
    "price below 0": _with(price=-1.0),
    "quantity below 1": _with(quantity=0),
    "rating above 5": _with(rating=9),
    "dwell_ms below 0": _with(dwell_ms=-5),
}
