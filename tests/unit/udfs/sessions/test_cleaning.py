"""Each rule by hand, and what holds of all of them whatever comes."""

import math
from dataclasses import fields, replace
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import ROOT

from bench.features import as_sessions, make_events, make_items
from flink_jobs.simulation.catalog import make_catalog
from udfs.catalog.attributes import Catalog
from udfs.contracts.clickstream import EVENT_TYPES
from udfs.events.columns import PACKED
from udfs.features.compute import compute_features
from udfs.sessions.cleaning import BOT_EVENTS, BOT_MS, BOUNDS, BY_HAND, Cleaned, clean, unknown_items
from udfs.sessions.columns import COLUMN_DTYPES, Sessions
from udfs.sessions.frame import EventFrame

Event = dict[str, object]
NUMBERS = ("price", "quantity", "rating", "dwell_ms")
CATALOG = Catalog({"a": 0, "b": 1}, np.zeros(2, np.int64), np.zeros(2, np.int64), np.ones((2, 4), np.float32))


def sessions(*events_of: list[Event]) -> Sessions:
    def column(name: str) -> list[np.ndarray]:
        return [np.array([event.get(name) for event in events], dtype=object) for events in events_of]

    times = [np.array([event["event_time"] for event in events]) for events in events_of]
    return Sessions.from_arrays(
        [min(time) for time in times], [max(time) for time in times], [len(time) for time in times],
        **{name: column(name) for name in PACKED},
    )  # fmt: skip


def view(time: int, **more: object) -> Event:
    return {"event_time": time, "event_type": "view", "item_id": "a", "event_id": f"e{time}", **more}


def plain(found: Sessions) -> dict[str, list[object]]:
    """Every column, NaN as None."""
    columns = {name: getattr(found, name).tolist() for name in ("offsets", "start", "end", "count", *COLUMN_DTYPES)}
    return {name: [None if value != value else value for value in column] for name, column in columns.items()}


def counts(found: Cleaned) -> dict[str, list[int]]:
    repairs = {name: column.tolist() for name, column in found.repairs.items()}
    return repairs | {
        "duplicates": found.duplicates.tolist(),
        "repaired": found.repaired.tolist(),
        "bot": found.bot.tolist(),
    }


def test_columns_hide_no_attribute():
    attributes = {name for kind in EventFrame.__mro__ for name in vars(kind)}
    attributes |= {field.name for field in fields(EventFrame)}
    assert attributes.isdisjoint(COLUMN_DTYPES)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOUNDS)
def test_values_out_of_bounds_become_unknown(name: str):
    low, high = BOUNDS[name].low, BOUNDS[name].high
    values = [low, high, np.nextafter(low, -np.inf), np.nextafter(high, np.inf), -math.inf, math.inf, math.nan]
    found, counted = clean(sessions([view(place, **{name: value}) for place, value in enumerate(values)], [view(1)]))
    assert plain(found)[name] == [low, high, *[None] * 6]
    assert counts(counted) == {each: [0, 0] for each in (*BOUNDS, "duplicates", "bot")} | {
        name: [4, 0],
        "repaired": [4, 0],
    }


def test_wrong_value_drops_no_event():
    found, counted = clean(sessions([view(1, price=-5.0, dwell_ms=10**12, quantity=2, rating=4)]))
    assert (found.count.tolist(), found.quantity.tolist(), found.rating.tolist()) == ([1], [2.0], [4.0])
    assert counted.repaired.tolist() == [2]


def test_events_without_id_are_sorted_cleaned():
    def of(price: float, quantity: int) -> Event:
        return view(1, price=price, quantity=quantity, event_id=None)

    found, _ = clean(sessions([of(-1.0, 7), of(2e9, 5)], [of(3.0, 9), of(2e9, 5), of(-1.0, 7)]))
    assert found.quantity.tolist() == [5, 7, 9, 5, 7]


def test_features_use_cleaned_values():
    (row,) = compute_features(sessions([view(1, price=-5.0), view(2, price=8.0, dwell_ms=10**9), view(3, price=1e12)]))
    assert (row["price_min"], row["price_max"], row["dwell_ms_sum"], row["events"]) == (8.0, 8.0, 0.0, 3)


def test_first_of_duplicates_is_kept():
    found, counted = clean(sessions([view(5), view(6), view(5)], [view(5), view(6)]))
    assert plain(found)["event_time"] == [5, 6, 5, 6]
    assert (found.count.tolist(), counted.duplicates.tolist(), counted.repaired.tolist()) == ([2, 2], [1, 0], [0, 0])


def test_other_content_is_another_event():
    other = view(5, event_id="e5", item_id="b")
    found, counted = clean(sessions([view(5), other, view(9, event_id="e5"), other], [view(5)]))
    assert plain(found)["event_time"] == [5, 5, 9, 5]
    assert plain(found)["item_id"] == ["a", "b", "a", "a"]
    assert counted.duplicates.tolist() == [1, 0]


def test_unknown_items_are_counted_and_kept():
    each = sessions(
        [view(1), view(2, item_id="gone"), view(3, item_id="gone"), view(4, item_id="b")],
        [{"event_time": 1, "event_type": "search", "query": "mug"}],
        [view(1, item_id="new")],
    )
    assert unknown_items(each, CATALOG).tolist() == [2, 0, 1]
    assert clean(each)[0].item_id.tolist() == each.item_id.tolist()


@pytest.mark.parametrize(
    ("kinds", "span_ms", "events", "bot"),
    [
        ("view", BOT_MS, BOT_EVENTS + 1, True),
        ("view", BOT_MS, BOT_EVENTS, False),
        ("view", BOT_MS + BOT_EVENTS, BOT_EVENTS + 1, False),
        ("view click search", BOT_MS, BOT_EVENTS + 1, True),
        ("purchase", 0, 500, False),
        ("impression", 0, 500, False),
        ("view", 10 * BOT_MS, 500, True),
        ("view", 100 * BOT_MS, 500, False),
    ],
)
def test_bots_are_faster_than_people(kinds: str, span_ms: int, events: int, bot: bool):
    kind = kinds.split()
    times = np.linspace(0, span_ms, events).round().astype(int).tolist()
    quick = [
        view(time, event_id=str(place), event_type=kind[place % len(kind)], query="mug")
        for place, time in enumerate(times)
    ]
    slow = [view(time * 1000) for time in range(40)]
    assert clean(sessions(slow, quick, slow))[1].bot.tolist() == [False, bot, False]


def test_simulated_shoppers_are_sound():
    catalog = make_catalog(200)
    each = as_sessions(make_events(catalog, 2000))
    found, counted = clean(each)
    assert not counted.bot.any()
    assert not counted.repaired.any()
    assert not unknown_items(found, make_items(catalog, 8)[0]).any()
    ids = [each.event_id[first:last] for first, last in zip(each.offsets, each.offsets[1:], strict=False)]
    assert counted.duplicates.tolist() == [len(own) - len(set(own)) for own in ids]
    assert counted.duplicates.sum() > 20


def test_no_sessions_are_clean():
    found, counted = clean(sessions())
    assert (len(found), len(counted.bot), len(counted.repaired), len(unknown_items(found, CATALOG))) == (0, 0, 0, 0)


def test_page_names_every_rule():
    page = (ROOT / "docs" / "lake.md").read_text()
    for name, bound in BOUNDS.items():
        assert f"| `{name}` | {bound.low:,.0f} to {bound.high:,.0f} {bound.unit} | unknown | {bound.why} |" in page
    assert f"more than {BOT_EVENTS} events of type {', '.join(BY_HAND)} within {BOT_MS // 1000} s" in page


# --- whatever comes ---------------------------------------------------------------------------------------------------

numbers = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 5.0, 6.0, 1e6, 2e6, 86_400_000.0, 86_400_001.0, 1e9, 2e9, math.inf])
events = st.fixed_dictionaries(
    {"event_time": st.integers(0, 3), "event_type": st.sampled_from(EVENT_TYPES)},
    optional={"event_id": st.sampled_from("xyz"), "item_id": st.sampled_from("abc"), **dict.fromkeys(NUMBERS, numbers)},
)
one_session = st.lists(events, min_size=1, max_size=8)
many_sessions = st.lists(one_session, min_size=1, max_size=4)


@given(many_sessions)
def test_cleaning_is_idempotent(every: list[list[Event]]):
    once, _ = clean(sessions(*every))
    twice, counted = clean(once)
    assert plain(twice) == plain(once)
    assert not counted.duplicates.any()
    assert not counted.repaired.any()


@given(many_sessions)
def test_only_values_out_of_bounds_change(every: list[list[Event]]):
    found, counted = clean(sessions(*every))
    before = sessions(*every).canonical()
    assume(found.count.tolist() == before.count.tolist())  # events of one id that differ in such a value become equal
    for name, bound in BOUNDS.items():
        values = found.columns[name]
        assert np.all(np.isnan(values) | ((values >= bound.low) & (values <= bound.high)))
        lost = np.isnan(values).sum() - np.isnan(before.columns[name]).sum()
        assert lost == counted.repairs[name].sum()
    assert found.count.tolist() == before.count.tolist()
    assert counted.duplicates.tolist() == [len(each) - count for each, count in zip(every, before.count, strict=True)]


@given(many_sessions, st.randoms())
def test_order_of_events_does_not_matter(every: list[list[Event]], random: Random):
    found, counted = clean(sessions(*every))
    assert [plain(clean(sessions(each))[0])["price"] for each in every] == [
        plain(found.slice(place, place + 1))["price"] for place in range(len(every))
    ]
    mixed = [random.sample(each, len(each)) for each in every]
    other, other_counted = clean(sessions(*mixed))
    assert plain(other) == plain(found)
    assert counts(other_counted) == counts(counted)


@given(many_sessions, st.randoms())
def test_duplicates_change_only_their_count(every: list[list[Event]], random: Random):
    known = [[event for event in each if "event_id" in event] or [view(0)] for each in every]
    again = [each + random.choices(each, k=random.randrange(4)) for each in known]
    found, counted = clean(sessions(*known))
    other, other_counted = clean(sessions(*again))
    assert plain(other) == plain(found)
    added = [len(more) - len(each) for more, each in zip(again, known, strict=True)]
    assert (other_counted.duplicates - counted.duplicates).tolist() == added
    assert counts(other_counted) | {"duplicates": []} == counts(counted) | {"duplicates": []}


@given(many_sessions, st.integers(0, 3), st.integers(0, 3))
def test_within_bounds_drops_foreign_events(every: list[list[Event]], one: int, two: int):
    start, end = min(one, two), max(one, two)

    def own(each: list[Event]) -> list[Event]:
        known: list[Event] = []
        stays = []
        for event in each:
            if event not in known and start <= int(str(event["event_time"])) <= end:
                stays.append(event)
            if event.get("event_id") is not None:
                known.append(event)
        return stays

    every = [[view(start), *each] for each in every]  # some event always is: the trigger
    columns = {"start": np.full(len(every), start), "end": np.full(len(every), end), "count": np.arange(len(every))}
    found = replace(sessions(*every), **columns).within_bounds()
    assert plain(found) == plain(replace(sessions(*map(own, every)), **columns))
