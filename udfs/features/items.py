"""Features of items, categories and brands."""

import math
from typing import NamedTuple

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Floats, Ints, segment_sum
from udfs.features.registry import Column, feature, shared
from udfs.sessions.frame import EventFrame

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

# --- items, categories, brands ----------------------------------------------------------------------------------------


@feature("int64", "items")
def distinct_items(e: EventFrame) -> Ints:
    """Different items, impressions among them."""
    return e.distinct(e.item)


@feature("int64", "categories")
def distinct_categories(e: EventFrame) -> Column:
    """Different categories of the items met, impressions left out."""
    return _if_catalogue(e, np.bincount(e.category.session, minlength=len(e)))


@feature("int64", "brands")
def distinct_brands(e: EventFrame) -> Column:
    """Different brands of the items met, impressions left out."""
    return _if_catalogue(e, np.bincount(e.brand.session, minlength=len(e)))


@feature("float64", "bits")
def category_entropy(e: EventFrame) -> Floats:
    """Shannon's entropy of the categories of the items met, impressions left out; 0 for one category.

    Σ c/n log2(n/c) for n events, c of them of a category (Shannon, A Mathematical Theory of Communication, 1948,
    section 6).
    """
    n = _categorised(e)
    # From a table, as NumPy's log2 of a number may differ from one processor to the next.
    log2 = np.array([0.0, *map(math.log2, range(1, n.max() + 1))])
    surprise = log2[n][e.category.session] - log2[e.category.events]
    return segment_sum(e.category.session, e.category.events * surprise, len(e)) / n


@feature("float64", "0 to 1")
def top_category_share(e: EventFrame) -> Floats:
    """Share of the most frequent category in the category_entropy's events."""
    order = np.argsort(e.category.events, kind="stable")
    top = np.zeros(len(e))
    top[e.category.session[order]] = e.category.events[order]  # the last write wins: the largest
    return top / _categorised(e)


@feature("float64", "cosine")
def centre_cosine(e: EventFrame) -> Floats:
    """Likeness of the current item to what the session is about: cosine of its BERT vector to the centre of the
    vectors of all items met, weighted by event type (view, click and rating 2, cart 4, purchase 3, removal 1)."""
    return _centre(e).cosine


@feature("float64", "0 to 1")
def centre_spread(e: EventFrame) -> Floats:
    """How far apart the items met are: 0 if all are alike, 1 less the length of the centre by that of its parts.

    The spherical variance (Mardia and Jupp, Directional Statistics, 2000, section 9.2).
    """
    return _centre(e).spread


class _Centre(NamedTuple):
    """float64 [S] each."""

    cosine: Floats
    spread: Floats


@shared
def _centre(e: EventFrame) -> _Centre:
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
    weight = segment_sum(e.item.of + 1, weight, len(e.item.session) + 1)[1:]
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
    spread = 1 - np.sqrt(squared) / segment_sum(session, weight * np.sqrt(squares[row]), len(e))
    return _Centre(np.minimum(cosine, 1.0), np.maximum(spread, 0.0))


@shared
def _categorised(e: EventFrame) -> Ints:
    """int64 [S]: events that met an item of a known category."""
    return segment_sum(e.category.session, e.category.events.astype(np.float64), len(e)).astype(np.int64)


def _if_catalogue(e: EventFrame, counts: Ints) -> Column:
    return counts if e.catalogue is not None else np.full(len(e), np.nan)
