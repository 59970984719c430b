"""Features of items, categories and brands."""

import math
from typing import NamedTuple

import numpy as np

from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.arrays import Floats, Ints, segment_sum
from udfs.features.registry import Column, feature, shared
from udfs.sessions.frame import EventFrame

#: Weight of an event's item in the session's centre, by type.
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

#: At most this many of a session's last events enter the centre. So sums of weighted vectors on the ranking's grid stay
#: below 2^24, where float32 adds exactly in any order.
MOST_CENTRED = 1024

#: Vectors gathered at once for centres.
CENTRE_ROWS = 512

#: A session's items are padded to the next of these numbers, so that sessions of one width are one matrix product.
CENTRE_WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, MOST_CENTRED])


@feature("int64", "items")
def distinct_items(frame: EventFrame) -> Ints:
    """Distinct items, impressions included."""
    return frame.distinct(frame.item)


@feature("int64", "categories")
def distinct_categories(frame: EventFrame) -> Column:
    """Distinct categories of the items interacted with."""
    return _if_catalog(frame, np.bincount(frame.category.session, minlength=len(frame)))


@feature("int64", "brands")
def distinct_brands(frame: EventFrame) -> Column:
    """Distinct brands of the items interacted with."""
    return _if_catalog(frame, np.bincount(frame.brand.session, minlength=len(frame)))


@feature("float64", "bits")
def category_entropy(frame: EventFrame) -> Floats:
    """Shannon entropy of the categories of the items interacted with; 0 for one category.

    Σ c/n log2(n/c) for n events, c of them of a category (Shannon, A Mathematical Theory of Communication, 1948,
    section 6).
    """
    n = _categorised(frame)
    # From a table, as NumPy's log2 may differ between processors.
    log2 = np.array([0.0, *map(math.log2, range(1, n.max() + 1))])
    surprise = log2[n][frame.category.session] - log2[frame.category.events]
    return segment_sum(frame.category.session, frame.category.events * surprise, len(frame)) / n


@feature("float64", "0 to 1")
def top_category_share(frame: EventFrame) -> Floats:
    """Share of the most frequent category among the events of category_entropy."""
    order = np.argsort(frame.category.events, kind="stable")
    top = np.zeros(len(frame))
    top[frame.category.session[order]] = frame.category.events[order]  # the last write wins: the largest
    return top / _categorised(frame)


@feature("float64", "cosine")
def centre_cosine(frame: EventFrame) -> Floats:
    """Similarity of the current item to the session: cosine of its BERT vector to the centre of the vectors of all
    items interacted with, weighted by event type (view, click and rating 2, cart 4, purchase 3, removal 1)."""
    return _centre(frame).cosine


@feature("float64", "0 to 1")
def centre_spread(frame: EventFrame) -> Floats:
    """Spread of the items interacted with: 0 if all are alike, else 1 minus the centre's length over its parts' length.

    The spherical variance (Mardia and Jupp, Directional Statistics, 2000, section 9.2).
    """
    return _centre(frame).spread


class _Centre(NamedTuple):
    """float64 [S] each."""

    cosine: Floats
    spread: Floats


@shared
def _centre(frame: EventFrame) -> _Centre:
    """Sum vectors of whole numbers with whole weights: exact in any order, so a matrix product may do it."""
    if frame.catalog is None:
        return _Centre(np.full(len(frame), np.nan), np.full(len(frame), np.nan))
    vectors = frame.catalog.vectors
    squares = frame.catalog.squares
    weight = np.array([CENTRE_WEIGHT[name] for name in EVENT_TYPES], dtype=np.float64)[frame.type_code]
    weight *= np.append(frame.item_row >= 0, False)[frame.item.of]
    if np.diff(frame.offsets).max() > MOST_CENTRED:
        weighted = np.flatnonzero(weight)
        session = frame.session_of[weighted]
        end = np.cumsum(np.bincount(session, minlength=len(frame)))[session]
        weight[weighted[end - np.arange(len(weighted)) > MOST_CENTRED]] = 0
    # By item: the events of one item add up.
    weight = segment_sum(frame.item.of + 1, weight, len(frame.item.session) + 1)[1:]
    items = np.flatnonzero(weight)
    row = frame.item_row[items]
    weight = weight[items].astype(np.float32)
    session = frame.item.session[items]
    n = np.bincount(session, minlength=len(frame))
    first = np.cumsum(n) - n
    current = np.where(frame.current >= 0, np.append(frame.item_row, -1)[frame.item.of[frame.current]], -1)
    squared = np.zeros(len(frame))
    product = np.zeros(len(frame))
    alone = np.flatnonzero(n == 1)
    alone = alone[row[first[alone]] == current[alone]]  # only the current item: no vector is needed
    product[alone] = weight[first[alone]] * squares[current[alone]]
    squared[alone] = weight[first[alone]] * product[alone]
    width = np.where((n == 0) | (squared > 0), 0, CENTRE_WIDTHS[np.searchsorted(CENTRE_WIDTHS, n)])
    for wide in np.unique(width[width > 0]):
        sessions = np.flatnonzero(width == wide)
        for chunk in np.array_split(sessions, len(sessions) * wide // CENTRE_ROWS + 1):
            is_own = np.arange(wide) < n[chunk, None]
            entry = first[chunk, None] + np.where(is_own, np.arange(wide), 0)
            centre = (np.where(is_own, weight[entry], 0)[:, None] @ vectors[row[entry]])[:, 0].astype(np.float64)
            squared[chunk] = np.vecdot(centre, centre)
            product[chunk] = np.vecdot(centre, vectors[current[chunk]].astype(np.float64))
    cosine = product / np.sqrt(squared * np.append(squares, np.nan)[current])
    spread = 1 - np.sqrt(squared) / segment_sum(session, weight * np.sqrt(squares[row]), len(frame))
    return _Centre(np.minimum(cosine, 1.0), np.maximum(spread, 0.0))


@shared
def _categorised(frame: EventFrame) -> Ints:
    """int64 [S]: interactions with items of a known category."""
    return segment_sum(frame.category.session, frame.category.events.astype(np.float64), len(frame)).astype(np.int64)


def _if_catalog(frame: EventFrame, counts: Ints) -> Column:
    return counts if frame.catalog is not None else np.full(len(frame), np.nan)
