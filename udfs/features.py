"""Session features, each declared once: a function from the events of sessions to one value a session.

Under `@feature` with its type and unit; its name is the feature's, its docstring the description:

    @feature("float64", "currency")
    def price_mean(e: Events) -> Floats:
        \"\"\"Mean price of the events that have one.\"\"\"
        return e.mean_of(e.price)

`python -m udfs.features > docs/features.md` writes the page of them all, `python -m udfs.contracts` the schemas.
"""

import functools
import importlib
import math
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from importlib import resources
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.contracts import EVENT_TYPES, MAX_TIME_MS, MIN_TIME_MS
from udfs.errors import ShopstreamError
from udfs.sessions import TYPE_CODE, Catalogue, Events, Floats, Ints, Sessions, Texts, added, coded, opens

Column = npt.NDArray[Any]
Compute = Callable[[Events], Column]
Dtype = Literal["int64", "float64", "string"]
Value = int | float | str | None
_T = TypeVar("_T")
_C = TypeVar("_C", bound=Column)

ARROW_TYPES: dict[Dtype, pa.DataType] = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
#: Events computed at once: more would leave the processor's cache, fewer would spend the time on calls.
BLOCK = 131_072
#: Texts that come out are cut to this many characters, so that none makes a record too large for Kafka.
LONGEST_TEXT = 256
#: More pieces than a cart can hold.
ALL_PIECES = 10**12
#: What an event says of the session's centre, by type.
CENTRE_WEIGHT = {
    "view": 2,
    "click": 2,
    "search": 0,
    "add_to_cart": 4,
    "remove_from_cart": 1,
    "purchase": 3,
    "rate": 2,
    "impression": 0,
}
#: A session's events that speak in its centre, the last ones: as many as keep sums of weighted vectors on the ranking's
#: grid below 2^24, which float32 adds exactly in any order.
MOST_CENTRED = 1024
#: Vectors gathered at once for centres, and how many a session may have: to the next of these it is filled up.
CENTRE_ROWS = 512
CENTRE_WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, MOST_CENTRED])
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Feature:
    """A feature's declaration. compute gives one value a session ([S]); NaN and None mean unknown.

    An int64 feature that may be unknown is computed as float64.
    """

    name: str
    dtype: Dtype
    unit: str
    doc: str
    compute: Compute


FEATURES: dict[str, Feature] = {}


def shared(compute: Callable[[Events], _T]) -> Callable[[Events], _T]:
    """Compute a function of Events once for each of them, however many features ask."""

    @functools.wraps(compute)
    def once(e: Events) -> _T:
        if compute not in e.memo:
            e.memo[compute] = compute(e)
        found: _T = e.memo[compute]
        return found

    return once


def feature(
    dtype: Dtype, unit: str = "", *, name: str | None = None, doc: str | None = None
) -> Callable[[Callable[[Events], _C]], Callable[[Events], _C]]:
    """Declare a function as a feature, by default with its own name and the first paragraph of its docstring.

    Other features may call it: it is `shared`. A second feature of one name is a ValueError.
    """

    def declare(compute: Callable[[Events], _C]) -> Callable[[Events], _C]:
        called = name or compute.__name__
        if called in FEATURES:
            raise ValueError(f"feature {called!r} is declared twice")
        text = doc or (compute.__doc__ or "").partition("\n\n")[0]
        once = shared(compute)
        FEATURES[called] = Feature(called, dtype, unit, " ".join(text.split()), once)
        return once

    return declare


def load_modules(names: Iterable[str]) -> None:
    """Import modules that declare features of their own (features.modules); ShopstreamError names one that fails."""
    for name in names:
        before = dict(FEATURES)
        try:
            importlib.import_module(name)
        except Exception as error:
            FEATURES.clear()  # what it had declared would be declared twice by the next try
            FEATURES.update(before)
            reason = f"{type(error).__name__}: {error}"
            raise ShopstreamError(f"features.modules names {name!r}, which cannot be imported: {reason}") from error


def compute_columns(sessions: Sessions, catalogue: Catalogue | None = None) -> dict[str, Column]:
    """Every declared feature by name, a column of one value a session each: int64, float64 or object (str) [S].

    NaN and None mean unknown; an int64 feature with unknown values is float64. Without a catalogue, what needs it is
    unknown. The columns are not to be written to. A session's values depend on its events alone, to the bit: on no
    other session, on no order of the events and on no repeat of them (Sessions.canonical).
    """
    parts: dict[str, list[Column]] = {
        name: [np.empty(0, np.object_ if declared.dtype == "string" else declared.dtype)]
        for name, declared in FEATURES.items()
    }
    with np.errstate(all="ignore"):
        for block in _blocks(sessions):
            events = Events.of(block, catalogue)
            computed = {name: _column(declared, events) for name, declared in FEATURES.items()}
            for name, column in _one_nan(computed).items():
                parts[name].append(column)
    return {name: _whole(*columns) for name, columns in parts.items()}


def compute_features(sessions: Sessions, catalogue: Catalogue | None = None) -> list[dict[str, Value]]:
    """The same as a dict of plain Python values a session; unknown ones are None."""
    columns = [_plain(FEATURES[name], column) for name, column in compute_columns(sessions, catalogue).items()]
    return [dict(zip(FEATURES, row, strict=True)) for row in zip(*columns, strict=True)]


def compute_batch(sessions: Sessions, catalogue: Catalogue | None = None) -> pa.RecordBatch:
    """The same as Arrow columns of arrow_schema(), a row a session; unknown values are null."""
    schema = arrow_schema()
    columns = compute_columns(sessions, catalogue)
    arrays = [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def arrow_schema() -> pa.Schema:
    """A field a feature, with its unit and description."""
    return pa.schema(
        [
            pa.field(each.name, ARROW_TYPES[each.dtype], metadata={"unit": each.unit, "description": each.doc})
            for each in FEATURES.values()
        ]
    )


def _blocks(sessions: Sessions) -> Iterator[Sessions]:
    """Sessions of about BLOCK events at a time, one at least."""
    if 0 < sessions.offsets[-1] <= BLOCK:
        yield sessions
        return
    cuts = np.searchsorted(sessions.offsets, np.arange(0, sessions.offsets[-1], BLOCK))
    for first, last in pairwise(np.unique([*cuts, len(sessions)]).tolist()):
        yield sessions.part(first, last)


def _column(declared: Feature, events: Events) -> Column:
    column = declared.compute(events)
    if column.shape != (len(events),):
        raise ValueError(f"feature {declared.name!r} gives an array of shape {column.shape} for {len(events)} sessions")
    return column


def _one_nan(columns: dict[str, Column]) -> dict[str, Column]:
    """The same with one NaN for what is not finite, and one zero. All at once, as most of the time goes into calls."""
    floats = [name for name, column in columns.items() if column.dtype.kind == "f"]
    values = np.array([columns[name] for name in floats], dtype=np.float64)
    values += 0.0
    values[~np.isfinite(values)] = np.nan
    return columns | dict(zip(floats, values, strict=True))


def _whole(kind: Column, *parts: Column) -> Column:
    """Parts of a column as one; kind: an empty column of the declared type, which whole numbers take on."""
    return parts[0] if len(parts) == 1 and parts[0].dtype == kind.dtype else np.concatenate((kind, *parts))


def _plain(declared: Feature, column: Column) -> list[Value]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f":
        return values
    if declared.dtype == "int64":
        return [None if math.isnan(value) else int(value) for value in values]
    return [None if math.isnan(value) else value for value in values]


# --- what happened ----------------------------------------------------------------------------------------------------

PLURAL = {
    "view": "views",
    "click": "clicks",
    "search": "searches",
    "add_to_cart": "adds_to_cart",
    "remove_from_cart": "removals_from_cart",
    "purchase": "purchases",
    "rate": "ratings",
    "impression": "impressions",
}
for _type in EVENT_TYPES:
    feature("int64", "events", name=PLURAL[_type], doc=f"Events of type {_type}.")(
        lambda e, code=TYPE_CODE[_type]: e.type_counts[:, code]  # type: ignore[misc]
    )


@feature("int64", "events")
def events(e: Events) -> Ints:
    """Events of the whole session so far, all types: the place of its latest one."""
    return e.count


@feature("int64", "events")
def position(e: Events) -> Ints:
    """Place of the latest event among what the shopper did: all events but impressions."""
    return e.count_of(~e.is_type("impression"))


@feature("int64", "items")
def depth(e: Events) -> Ints:
    """Different items viewed or clicked."""
    return e.distinct(e.item, e.is_type("view", "click"))


@feature("int64", "0 or 1")
def converted(e: Events) -> Ints:
    """1 after a purchase."""
    return np.minimum(e.type_counts[:, TYPE_CODE["purchase"]], 1)


@feature("int64", "events")
def repeat_views(e: Events) -> Ints:
    """Views of items that the session had viewed before."""
    views = e.is_type("view")
    return e.count_of(views & (e.item.of >= 0)) - e.distinct(e.item, views)


@feature("float64", "stars")
def rating_mean(e: Events) -> Floats:
    """Mean of the ratings given."""
    return e.mean_of(np.where(e.is_type("rate"), e.rating, np.nan))


# --- time -------------------------------------------------------------------------------------------------------------


@feature("int64", "ms")
def duration_ms(e: Events) -> Ints:
    """From the whole session's first event to its last."""
    return e.end - e.start


@feature("float64", "events per minute")
def pace(e: Events) -> Floats:
    """Events of the whole session after the first, by its duration; unknown for a duration of 0."""
    minutes = np.where(e.end > e.start, (e.end - e.start) / 60_000, np.nan)
    return np.divide(e.count - 1, minutes)


@feature("float64", "ms")
def gap_ms_mean(e: Events) -> Floats:
    """Mean time between an event and the next."""
    return e.mean_of(e.gap_ms)


@feature("int64", "ms")
def gap_ms_max(e: Events) -> Floats:
    """Longest time between an event and the next."""
    return e.max_of(e.gap_ms)


@feature("int64", "ms")
def since_previous_ms(e: Events) -> Floats:
    """Time between the latest event and the one before."""
    return np.take(e.gap_ms, e.offsets[1:] - 1)


@feature("float64", "ms")
def dwell_ms_sum(e: Events) -> Floats:
    """Time spent looking, in all."""
    return e.sum_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_mean(e: Events) -> Floats:
    """Time spent looking, the mean where it is known."""
    return e.mean_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_max(e: Events) -> Floats:
    """The longest look."""
    return e.max_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_last(e: Events) -> Floats:
    """The latest look of known length."""
    return e.last_of(e.dwell_ms)


@feature("float64", "ms")
def dwell_ms_current(e: Events) -> Floats:
    """Time spent looking at the current item, in all."""
    current = np.where(e.current >= 0, e.item.of[e.current], -2)
    return e.sum_of(np.where(e.item.of == current[e.session], e.dwell_ms, np.nan))


@feature("int64", "hour")
def hour(e: Events) -> Ints:
    """Hour of the latest event, 0 to 23, in the zone that properties.timezone named last: an IANA name or an offset
    such as +02:00; UTC without one or for one that is unknown."""
    return _local_ms(e) // 3_600_000 % 24


@feature("int64", "day")
def weekday(e: Events) -> Ints:
    """Day of the week of the latest event, 0 is Monday, in the zone of `hour`."""
    return (_local_ms(e) // 86_400_000 + 3) % 7  # 1970-01-01 was a Thursday


# --- prices, cart and purchases ---------------------------------------------------------------------------------------


@feature("float64", "currency")
def price_mean(e: Events) -> Floats:
    """Mean price of the events that have one."""
    return e.mean_of(e.price)


@feature("float64", "currency")
def price_min(e: Events) -> Floats:
    """Lowest price met."""
    return e.min_of(e.price)


@feature("float64", "currency")
def price_max(e: Events) -> Floats:
    """Highest price met."""
    return e.max_of(e.price)


@feature("float64", "currency")
def price_spread(e: Events) -> Floats:
    """Standard deviation of the prices met (of the population: 0 for one price)."""
    prices = _prices(e)
    apart = prices.above - (added(prices.session, prices.above, len(e)) / prices.n)[prices.session]
    return np.asarray(np.sqrt(added(prices.session, apart * apart, len(e)) / prices.n))


@feature("float64", "currency per event")
def price_trend(e: Events) -> Floats:
    """Least-squares slope of the prices met, from one event with a price to the next; unknown for fewer than two.

    Σ(x - x̄)y / Σ(x - x̄)² for x = 0 … n - 1, where Σ(x - x̄)² = n(n² - 1)/12
    (Draper and Smith, Applied Regression Analysis, 3rd edition, section 1.2).
    """
    prices = _prices(e)
    n = prices.n.astype(np.float64)
    centred = prices.place - ((n - 1) / 2)[prices.session]
    covered = added(prices.session, centred * prices.above, len(e))
    return np.divide(covered, np.where(n > 1, n * (n * n - 1) / 12, np.nan))


@feature("float64", "currency")
def price_current(e: Events) -> Floats:
    """Latest known price of the current item, the one met last, impressions left out."""
    latest = np.append(_item_prices(e), np.nan)[e.item.of[e.current]]
    return np.where(e.current >= 0, latest, np.nan)


@feature("float64", "ratio")
def price_current_to_mean(e: Events) -> Floats:
    """price_current by price_mean."""
    return price_current(e) / price_mean(e)


@feature("float64", "0 to 1")
def price_current_in_range(e: Events) -> Floats:
    """Where price_current lies between price_min (0) and price_max (1); unknown if they are equal."""
    low = price_min(e)
    return (price_current(e) - low) / (price_max(e) - low)


@feature("int64", "pieces")
def cart_size(e: Events) -> Ints:
    """Pieces in the cart: added (1 if no quantity is given) less removed and bought (if none is given, all of the
    item), of each item never below 0."""
    cart = _cart(e)
    return added(cart.session, cart.pieces.astype(np.float64), len(e)).astype(np.int64)  # exact: below 2^53


@feature("int64", "items")
def cart_items(e: Events) -> Ints:
    """Different items in the cart."""
    cart = _cart(e)
    return np.bincount(cart.session[cart.pieces > 0], minlength=len(e))


@feature("float64", "currency")
def cart_value(e: Events) -> Floats:
    """Pieces in the cart times the item's latest known price, 0 if there is none."""
    cart = _cart(e)
    price = _item_prices(e)[cart.item]
    return added(cart.session, np.where(np.isnan(price), 0.0, price * cart.pieces), len(e))


@feature("float64", "currency")
def purchase_value(e: Events) -> Floats:
    """Price times quantity (1 if unknown) over purchases."""
    value = e.price * np.where(np.isnan(e.quantity), 1.0, e.quantity)
    return e.sum_of(np.where(e.is_type("purchase"), value, np.nan))


# --- items, categories, brands ----------------------------------------------------------------------------------------


@feature("int64", "items")
def distinct_items(e: Events) -> Ints:
    """Different items, impressions among them."""
    return e.distinct(e.item)


@feature("int64", "categories")
def distinct_categories(e: Events) -> Column:
    """Different categories of the items met, impressions left out."""
    return _if_catalogue(e, np.bincount(e.category.session, minlength=len(e)))


@feature("int64", "brands")
def distinct_brands(e: Events) -> Column:
    """Different brands of the items met, impressions left out."""
    return _if_catalogue(e, np.bincount(e.brand.session, minlength=len(e)))


@feature("float64", "bits")
def category_entropy(e: Events) -> Floats:
    """Shannon's entropy of the categories of the items met, impressions left out; 0 for one category.

    Σ c/n log2(n/c) for n events, c of them of a category (Shannon, A Mathematical Theory of Communication, 1948,
    section 6).
    """
    n = _categorised(e)
    # From a table, as NumPy's log2 of a number may differ from one processor to the next.
    log2 = np.array([0.0, *map(math.log2, range(1, n.max() + 1))])
    surprise = log2[n][e.category.session] - log2[e.category.events]
    return added(e.category.session, e.category.events * surprise, len(e)) / n


@feature("float64", "0 to 1")
def top_category_share(e: Events) -> Floats:
    """Share of the most frequent category in the category_entropy's events."""
    order = np.argsort(e.category.events, kind="stable")
    top = np.zeros(len(e))
    top[e.category.session[order]] = e.category.events[order]  # the last write wins: the largest
    return top / _categorised(e)


@feature("float64", "cosine")
def centre_cosine(e: Events) -> Floats:
    """Likeness of the current item to what the session is about: cosine of its BERT vector to the centre of the
    vectors of all items met, weighted by event type (view, click and rating 2, cart 4, purchase 3, removal 1)."""
    return _centre(e).cosine


@feature("float64", "0 to 1")
def centre_spread(e: Events) -> Floats:
    """How far apart the items met are: 0 if all are alike, 1 less the length of the centre by that of its parts.

    The spherical variance (Mardia and Jupp, Directional Statistics, 2000, section 9.2).
    """
    return _centre(e).spread


# --- searches ---------------------------------------------------------------------------------------------------------


@feature("string")
def last_query(e: Events) -> Texts:
    """What was searched for last, its first 256 characters."""
    searches = _searches(e)
    return np.array([*searches.texts, None], dtype=object)[searches.last]


@feature("int64", "words")
def last_query_words(e: Events) -> Ints:
    """Words of last_query, 0 without one."""
    searches = _searches(e)
    words = [len(text.split()) for text in searches.texts]
    return np.array([*words, 0], dtype=np.int64)[searches.last]


@feature("int64", "searches")
def refinements(e: Events) -> Ints:
    """Searches whose query is another than that of the search before."""
    searches = _searches(e)
    refined = ~opens(searches.session)[1:] & opens(searches.query)[1:]
    return np.bincount(searches.session[1:][refined], minlength=len(e))


# --- the shopper ------------------------------------------------------------------------------------------------------


@feature("string")
def device(e: Events) -> Texts:
    """properties.device, as last given."""
    return _cut(e.last_text(e.device))


@feature("string")
def locale(e: Events) -> Texts:
    """properties.locale, as last given."""
    return _cut(e.last_text(e.locale))


@feature("string")
def visitor(e: Events) -> Texts:
    """`returning` or `new`, as properties.returning (true or false) last said."""
    said = {"true": "returning", "false": "new"}
    codes, different = coded(e.last_text(e.returning))
    return np.array([*(said.get(text.lower()) for text in different), None], dtype=object)[codes]


# --- what features share ----------------------------------------------------------------------------------------------


class _Prices(NamedTuple):
    """The N known prices of events, by session: of session s there are n[s]."""

    session: Ints  #: int64 [N]
    place: Ints  #: int64 [N], from 0 in each session
    above: Floats  #: float64 [N], less the session's first one, so that equal ones have no spread and no trend at all
    n: Ints  #: int64 [S]


@shared
def _prices(e: Events) -> _Prices:
    _, session, price, n = e.known(e.price)
    first = (np.cumsum(n) - n)[session]
    return _Prices(session, np.arange(len(price)) - first, price - price[first], n)


@shared
def _item_prices(e: Events) -> Floats:
    """float64 [groups of e.item]: the latest known price of each item of each session."""
    price = np.full(len(e.item.session), np.nan)
    known = e.known(e.price)
    item = e.item.of[known.event]
    price[item[item >= 0]] = known.values[item >= 0]  # the last write wins
    return price


class _Cart(NamedTuple):
    """Pieces of items in carts, in order of the items' groups: int64 [N] each; item is the group in e.item."""

    item: Ints
    session: Ints
    pieces: Ints


@shared
def _cart(e: Events) -> _Cart:
    """What is left of each item: with x the running sum of what came and went, x less its minimum, if that is below 0.

    So much a level that stops at 0 ends up at (Lindley, The theory of queues with a single server, 1952).
    """
    comes = e.is_type("add_to_cart")
    moves = np.flatnonzero((comes | e.is_type("remove_from_cart", "purchase")) & (e.item.of >= 0))
    moves = moves[np.argsort(e.item.of[moves], kind="stable")]
    item, comes = e.item.of[moves], comes[moves]
    quantity = e.quantity[moves]
    unknown = np.isnan(quantity)
    change = np.where(comes, np.where(unknown, 1, quantity), -np.where(unknown, ALL_PIECES, quantity)).astype(np.int64)
    level = np.cumsum(change)
    first = np.flatnonzero(opens(item))
    last = np.append(first[1:], len(item))[: len(first)] - 1
    before = level[first] - change[first]
    lowest = np.minimum.reduceat(level, first) if len(first) else before
    return _Cart(item[first], e.item.session[item[first]], level[last] - np.minimum(lowest, before))


class _Centre(NamedTuple):
    """float64 [S] each."""

    cosine: Floats
    spread: Floats


@shared
def _centre(e: Events) -> _Centre:
    """Sums of whole vectors with whole weights: exact in any order, so a matrix product may do them."""
    if e.catalogue is None:
        return _Centre(np.full(len(e), np.nan), np.full(len(e), np.nan))
    vectors, squares = e.catalogue.vectors, e.catalogue.squares
    weight = np.array([CENTRE_WEIGHT[name] for name in EVENT_TYPES], dtype=np.float64)[e.type_code]
    weight *= np.append(e.item_row >= 0, False)[e.item.of]
    if np.diff(e.offsets).max() > MOST_CENTRED:
        speaks = np.flatnonzero(weight)
        n = np.bincount(e.session[speaks], minlength=len(e))
        weight[speaks[np.cumsum(n)[e.session[speaks]] - np.arange(len(speaks)) > MOST_CENTRED]] = 0
    # Events of one item speak together.
    weight = added(e.item.of + 1, weight, len(e.item.session) + 1)[1:]
    items = np.flatnonzero(weight)
    row, weight, session = e.item_row[items], weight[items].astype(np.float32), e.item.session[items]
    n = np.bincount(session, minlength=len(e))
    first = np.cumsum(n) - n
    current = np.where(e.current >= 0, np.append(e.item_row, -1)[e.item.of[e.current]], -1)
    squared, product = np.zeros(len(e)), np.zeros(len(e))
    alone = np.flatnonzero(n == 1)
    alone = alone[row[first[alone]] == current[alone]]  # the current item alone: no vector is needed
    product[alone] = weight[first[alone]] * squares[current[alone]]
    squared[alone] = weight[first[alone]] * product[alone]
    width = np.where((n == 0) | (squared > 0), 0, CENTRE_WIDTHS[np.searchsorted(CENTRE_WIDTHS, n)])
    for wide in np.unique(width[width > 0]):
        sessions = np.flatnonzero(width == wide)
        for some in np.array_split(sessions, len(sessions) * wide // CENTRE_ROWS + 1):
            own = np.arange(wide) < n[some, None]
            place = first[some, None] + np.where(own, np.arange(wide), 0)
            centre = (np.where(own, weight[place], 0)[:, None] @ vectors[row[place]])[:, 0].astype(np.float64)
            squared[some] = np.vecdot(centre, centre)
            product[some] = np.vecdot(centre, vectors[current[some]].astype(np.float64))
    cosine = product / np.sqrt(squared * np.append(squares, np.nan)[current])
    spread = 1 - np.sqrt(squared) / added(session, weight * np.sqrt(squares[row]), len(e))
    return _Centre(np.minimum(cosine, 1.0), np.maximum(spread, 0.0))


class _Searches(NamedTuple):
    """N searches: session and query int64 [N], the latter a number for each of the Q different texts (str [Q])."""

    session: Ints
    query: Ints
    texts: Texts
    last: Ints  #: int64 [S], the last query of each session, -1 without one


@shared
def _searches(e: Events) -> _Searches:
    searches = np.flatnonzero(e.is_type("search"))
    session = e.session[searches]
    query, different = coded(e.query[searches])
    last = np.full(len(e), -1)
    last[session] = query  # the last write wins
    return _Searches(session, query, np.array([text[:LONGEST_TEXT] for text in different], dtype=object), last)


@shared
def _categorised(e: Events) -> Ints:
    """int64 [S]: events that met an item of a known category."""
    return added(e.category.session, e.category.events.astype(np.float64), len(e)).astype(np.int64)


def _if_catalogue(e: Events, counts: Ints) -> Column:
    return counts if e.catalogue is not None else np.full(len(e), np.nan)


def _cut(texts: Texts) -> Texts:
    """The first LONGEST_TEXT characters of each, which may be None."""
    codes, different = coded(texts)
    return np.array([*(text[:LONGEST_TEXT] for text in different), None], dtype=object)[codes]


@shared
def _local_ms(e: Events) -> Ints:
    """int64 [S]: the latest event's time on the shopper's clock, ms since 1970-01-01T00:00 there."""
    time: Ints = e.event_time[e.offsets[1:] - 1]
    return np.add(time, utc_offset_ms(e.last_text(e.timezone), time))


def utc_offset_ms(zones: Texts, time: Ints) -> Ints:
    """What clocks in zones (str or None [n]) are ahead of UTC at times (int64 [n], epoch ms): int64 [n].

    A zone is an IANA name or ±HH:MM, all else is UTC. Names and rules are those of the package tzdata, so that all
    workers know the same.
    """
    code, names = coded(zones)
    first, last = MIN_TIME_MS // DAY_MS, MAX_TIME_MS // DAY_MS
    days = last - first + 1
    # One look-up for each zone and day. Longer than 64 characters is no zone's name, and need not stay in the cache.
    at, pairs = coded(code * days + np.clip(time // DAY_MS, first, last) - first)
    looked_up = [
        _offsets_of_day(names[zone][:64] if zone >= 0 else "UTC", first + day)
        for zone, day in (divmod(pair, days) for pair in pairs.tolist())
    ]
    before, change, after = np.array(looked_up, dtype=np.int64)[at].T
    offset: Ints = np.where(time < change, before, after)
    return offset


@functools.lru_cache(maxsize=100_000)
def _offsets_of_day(zone: str, day: int) -> tuple[int, int, int]:
    """UTC offset as a UTC day begins, the time of its change (epoch ms; the day's end without one), and that after."""
    seconds = range(day * 86_400, (day + 1) * 86_400)
    info = _zone(zone)

    def offset(second: int) -> int:
        inside = min(max(second, MIN_TIME_MS // 1000 + 86_400), MAX_TIME_MS // 1000 - 86_400)
        ahead = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=inside)).astimezone(info).utcoffset()
        return (ahead or timedelta()) // timedelta(milliseconds=1)

    before, after = offset(seconds[0]), offset(seconds[-1])
    change = len(seconds) if before == after else bisect_left(seconds, True, key=lambda at: offset(at) != before)
    return before, (seconds[0] + change) * 1000, after


@functools.lru_cache(maxsize=10_000)
def _zone(name: str) -> tzinfo:
    if fixed := re.fullmatch(r"([+-])([01]\d|2[0-3]):([0-5]\d)", name, re.ASCII):
        ahead = timedelta(hours=int(fixed[2]), minutes=int(fixed[3]))
        return timezone(ahead if fixed[1] == "+" else -ahead)
    if name not in _zone_names():
        return UTC
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@functools.cache
def _zone_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


# --- the page ---------------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/features.md: every declared feature."""
    rows = [
        f"| `{each.name}` | {each.dtype} | {each.unit} | {each.doc.replace('|', chr(92) + '|')} |"
        for each in FEATURES.values()
    ]
    return PAGE.format(count=len(rows), rows="\n".join(rows))


PAGE = """\
# Session features

<!-- Generated by `python -m udfs.features > docs/features.md`. -->

{count} features, each declared once in `udfs/features.py`. They are in `session` of `recommendations`, computed on the
events so far.

What holds for all of them:

- They are computed on a session's last `session.max_events` events; `events`, `duration_ms` and `pace` are of the
  whole session.
- Events count in the order of event_time, then event_id, then all other fields. The "latest" event and the "current"
  item are those by that order. Of the events with one event_id the first counts.
- So neither the order in which events arrive, nor repeats, nor the sessions computed beside it change a single bit of
  a session's features, as long as it has at most `session.max_events` events. Of a longer session those that arrived
  last are kept: which these are depends on the order of arrival.
- Values out of the bounds of [cleaning](lake.md#cleaning) are unknown.
- Unknown values are null. Without a catalogue, so is what is computed from categories, brands or BERT vectors.

| name | dtype | unit | description |
|---|---|---|---|
{rows}

## Features of your own

Put them into a module that the workers can import and name it in the setting `features.modules` (comma separated):

```python
from udfs.features import feature
from udfs.sessions import Events, Floats


@feature("float64", "currency")
def price_last(e: Events) -> Floats:
    \"""Latest known price.\"""
    return e.last_of(e.price)
```

The function's name is the feature's, the docstring its description. It gives one value a session, from columns of
events (`e.price`, `e.item_id`, `e.is_type("view")`, …) and sums over sessions (`e.count_of`, `e.mean_of`,
`e.distinct`, …); see `Events` in `udfs/sessions.py`. `python -m udfs.features MODULE` prints this page with them.
"""


if __name__ == "__main__":
    declared = importlib.import_module("udfs.features")  # this file under the name that others import
    declared.load_modules(sys.argv[1:])
    sys.stdout.write(declared.page())
