"""Features of prices and the cart."""

from typing import NamedTuple

import numpy as np

from udfs.core.arrays import Floats, Ints, group_starts, segment_sum
from udfs.features.registry import feature, shared
from udfs.sessions.frame import EventFrame

#: More pieces than a cart can hold.
ALL_PIECES = 10**12


@feature("float64", "currency")
def price_mean(frame: EventFrame) -> Floats:
    """Mean price of the events that have one."""
    return frame.mean_of(frame.known_prices)


@feature("float64", "currency")
def price_min(frame: EventFrame) -> Floats:
    """Lowest known price."""
    return frame.min_of(frame.known_prices)


@feature("float64", "currency")
def price_max(frame: EventFrame) -> Floats:
    """Highest known price."""
    return frame.max_of(frame.known_prices)


@feature("float64", "currency")
def price_spread(frame: EventFrame) -> Floats:
    """Standard deviation of the known prices (of the population: 0 for one price)."""
    prices = _prices(frame)
    mean = segment_sum(prices.session, prices.above, len(frame)) / prices.n
    deviation = prices.above - mean[prices.session]
    return np.asarray(np.sqrt(segment_sum(prices.session, deviation * deviation, len(frame)) / prices.n))


@feature("float64", "currency per event")
def price_trend(frame: EventFrame) -> Floats:
    """Least-squares slope of the known prices, per event with a price; unknown for fewer than two.

    Σ(x - x̄)y / Σ(x - x̄)² for x = 0 … n - 1, where Σ(x - x̄)² = n(n² - 1)/12
    (Draper and Smith, Applied Regression Analysis, 3rd edition, section 1.2).
    """
    prices = _prices(frame)
    n = prices.n.astype(np.float64)
    centred = prices.position - ((n - 1) / 2)[prices.session]
    covariance = segment_sum(prices.session, centred * prices.above, len(frame))
    return np.divide(covariance, np.where(n > 1, n * (n * n - 1) / 12, np.nan))


@feature("float64", "currency")
def price_current(frame: EventFrame) -> Floats:
    """Latest known price of the current item: that of the last interaction."""
    latest = np.append(_item_prices(frame), np.nan)[frame.item.of[frame.current]]
    return np.where(frame.current >= 0, latest, np.nan)


@feature("float64", "ratio")
def price_current_to_mean(frame: EventFrame) -> Floats:
    """price_current divided by price_mean."""
    return price_current(frame) / price_mean(frame)


@feature("float64", "0 to 1")
def price_current_in_range(frame: EventFrame) -> Floats:
    """Position of price_current between price_min (0) and price_max (1); unknown if they are equal."""
    low = price_min(frame)
    return (price_current(frame) - low) / (price_max(frame) - low)


@feature("int64", "pieces")
def cart_size(frame: EventFrame) -> Ints:
    """Pieces in the cart: added (1 if no quantity is given) minus removed or bought (all of the item if no quantity is
    given), never below 0 for an item."""
    cart = _cart(frame)
    return segment_sum(cart.session, cart.pieces.astype(np.float64), len(frame)).astype(np.int64)  # exact: below 2^53


@feature("int64", "items")
def cart_items(frame: EventFrame) -> Ints:
    """Distinct items in the cart."""
    cart = _cart(frame)
    return np.bincount(cart.session[cart.pieces > 0], minlength=len(frame))


@feature("float64", "currency")
def cart_value(frame: EventFrame) -> Floats:
    """Value of the cart at each item's latest known price, 0 for an item without one."""
    cart = _cart(frame)
    price = _item_prices(frame)[cart.item]
    return segment_sum(cart.session, np.where(np.isnan(price), 0.0, price * cart.pieces), len(frame))


@feature("float64", "currency")
def purchase_value(frame: EventFrame) -> Floats:
    """Sum of price times quantity (1 if unknown) over purchases."""
    value = frame.price * np.where(np.isnan(frame.quantity), 1.0, frame.quantity)
    return frame.sum_of(np.where(frame.is_type("purchase"), value, np.nan))


class _Prices(NamedTuple):
    """The N known prices of events, sorted by session."""

    session: Ints  #: int64 [N]
    position: Ints  #: int64 [N], from 0 in each session
    above: Floats  #: float64 [N], minus the session's first price, so that equal prices have spread and trend 0 exactly
    n: Ints  #: int64 [S], the number of each session


@shared
def _prices(frame: EventFrame) -> _Prices:
    _, session, price, n = frame.known_prices
    first = (np.cumsum(n) - n)[session]
    return _Prices(session, np.arange(len(price)) - first, price - price[first], n)


@shared
def _item_prices(frame: EventFrame) -> Floats:
    """float64 [groups of frame.item]: the latest known price of each item of each session."""
    price = np.full(len(frame.item.session), np.nan)
    known = frame.known_prices
    item = frame.item.of[known.event]
    price[item[item >= 0]] = known.values[item >= 0]  # the last write wins
    return price


class _Cart(NamedTuple):
    """The N items that were ever in a cart."""

    item: Ints  #: int64 [N], rising, the group in frame.item
    session: Ints  #: int64 [N]
    pieces: Ints  #: int64 [N]


@shared
def _cart(frame: EventFrame) -> _Cart:
    """Cart contents per item: a running balance floored at zero.

    It ends at the running sum minus its minimum, where that is below 0 (Lindley, The theory of queues with a single
    server, 1952).
    """
    is_added = frame.is_type("add_to_cart")
    moves = np.flatnonzero((is_added | frame.is_type("remove_from_cart", "purchase")) & (frame.item.of >= 0))
    moves = moves[np.argsort(frame.item.of[moves], kind="stable")]
    item = frame.item.of[moves]
    quantity = frame.quantity[moves]
    added = np.where(np.isnan(quantity), 1, quantity)
    removed = np.where(np.isnan(quantity), ALL_PIECES, quantity)
    change = np.where(is_added[moves], added, -removed).astype(np.int64)
    balance = np.cumsum(change)  # over all items; each starts at `before`
    first = np.flatnonzero(group_starts(item))
    last = np.append(first[1:], len(item))[: len(first)] - 1
    before = balance[first] - change[first]
    lowest = np.minimum.reduceat(balance, first) if len(first) else before
    return _Cart(item[first], frame.item.session[item[first]], balance[last] - np.minimum(lowest, before))
