"""Features of prices and the cart."""

from typing import NamedTuple

import numpy as np

from udfs.core.arrays import Floats, Ints, group_starts, segment_sum
from udfs.features.registry import feature, shared
from udfs.sessions.frame import EventFrame

#: More pieces than a cart can hold.
ALL_PIECES = 10**12

# --- prices, cart and purchases ---------------------------------------------------------------------------------------


@feature("float64", "currency")
def price_mean(e: EventFrame) -> Floats:
    """Mean price of the events that have one."""
    return e.mean_of(e.price)


@feature("float64", "currency")
def price_min(e: EventFrame) -> Floats:
    """Lowest price met."""
    return e.min_of(e.price)


@feature("float64", "currency")
def price_max(e: EventFrame) -> Floats:
    """Highest price met."""
    return e.max_of(e.price)


@feature("float64", "currency")
def price_spread(e: EventFrame) -> Floats:
    """Standard deviation of the prices met (of the population: 0 for one price)."""
    prices = _prices(e)
    apart = prices.above - (segment_sum(prices.session, prices.above, len(e)) / prices.n)[prices.session]
    return np.asarray(np.sqrt(segment_sum(prices.session, apart * apart, len(e)) / prices.n))


@feature("float64", "currency per event")
def price_trend(e: EventFrame) -> Floats:
    """Least-squares slope of the prices met, from one event with a price to the next; unknown for fewer than two.

    Σ(x - x̄)y / Σ(x - x̄)² for x = 0 … n - 1, where Σ(x - x̄)² = n(n² - 1)/12
    (Draper and Smith, Applied Regression Analysis, 3rd edition, section 1.2).
    """
    prices = _prices(e)
    n = prices.n.astype(np.float64)
    centred = prices.place - ((n - 1) / 2)[prices.session]
    covered = segment_sum(prices.session, centred * prices.above, len(e))
    return np.divide(covered, np.where(n > 1, n * (n * n - 1) / 12, np.nan))


@feature("float64", "currency")
def price_current(e: EventFrame) -> Floats:
    """Latest known price of the current item, the one met last, impressions left out."""
    latest = np.append(_item_prices(e), np.nan)[e.item.of[e.current]]
    return np.where(e.current >= 0, latest, np.nan)


@feature("float64", "ratio")
def price_current_to_mean(e: EventFrame) -> Floats:
    """price_current by price_mean."""
    return price_current(e) / price_mean(e)


@feature("float64", "0 to 1")
def price_current_in_range(e: EventFrame) -> Floats:
    """Where price_current lies between price_min (0) and price_max (1); unknown if they are equal."""
    low = price_min(e)
    return (price_current(e) - low) / (price_max(e) - low)


@feature("int64", "pieces")
def cart_size(e: EventFrame) -> Ints:
    """Pieces in the cart: added (1 if no quantity is given) less removed and bought (if none is given, all of the
    item), of each item never below 0."""
    cart = _cart(e)
    return segment_sum(cart.session, cart.pieces.astype(np.float64), len(e)).astype(np.int64)  # exact: below 2^53


@feature("int64", "items")
def cart_items(e: EventFrame) -> Ints:
    """Different items in the cart."""
    cart = _cart(e)
    return np.bincount(cart.session[cart.pieces > 0], minlength=len(e))


@feature("float64", "currency")
def cart_value(e: EventFrame) -> Floats:
    """Pieces in the cart times the item's latest known price, 0 if there is none."""
    cart = _cart(e)
    price = _item_prices(e)[cart.item]
    return segment_sum(cart.session, np.where(np.isnan(price), 0.0, price * cart.pieces), len(e))


@feature("float64", "currency")
def purchase_value(e: EventFrame) -> Floats:
    """Price times quantity (1 if unknown) over purchases."""
    value = e.price * np.where(np.isnan(e.quantity), 1.0, e.quantity)
    return e.sum_of(np.where(e.is_type("purchase"), value, np.nan))


# --- what features share ----------------------------------------------------------------------------------------------


class _Prices(NamedTuple):
    """The N known prices of events, by session: of session s there are n[s]."""

    session: Ints  #: int64 [N]
    place: Ints  #: int64 [N], from 0 in each session
    above: Floats  #: float64 [N], less the session's first one, so that equal ones have no spread and no trend at all
    n: Ints  #: int64 [S]


@shared
def _prices(e: EventFrame) -> _Prices:
    _, session, price, n = e.known(e.price)
    first = (np.cumsum(n) - n)[session]
    return _Prices(session, np.arange(len(price)) - first, price - price[first], n)


@shared
def _item_prices(e: EventFrame) -> Floats:
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
def _cart(e: EventFrame) -> _Cart:
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
    first = np.flatnonzero(group_starts(item))
    last = np.append(first[1:], len(item))[: len(first)] - 1
    before = level[first] - change[first]
    lowest = np.minimum.reduceat(level, first) if len(first) else before
    return _Cart(item[first], e.item.session[item[first]], level[last] - np.minimum(lowest, before))
