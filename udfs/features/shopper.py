"""Features of searches and the shopper."""

from typing import NamedTuple

import numpy as np

from udfs.core.arrays import Ints, Texts, factorize, group_starts
from udfs.features.registry import feature, shared
from udfs.sessions.frame import EventFrame

#: Texts are cut to this many characters, so that none makes a record too large for Kafka.
LONGEST_TEXT = 256


@feature("string")
def last_query(frame: EventFrame) -> Texts:
    """Latest query, its first 256 characters."""
    searches = _searches(frame)
    return np.array([*searches.texts, None], dtype=object)[searches.last]


@feature("int64", "words")
def last_query_words(frame: EventFrame) -> Ints:
    """Words in last_query, 0 without a search."""
    searches = _searches(frame)
    words = [len(text.split()) for text in searches.texts]
    return np.array([*words, 0], dtype=np.int64)[searches.last]


@feature("int64", "searches")
def refinements(frame: EventFrame) -> Ints:
    """Searches whose query differs from that of the previous search."""
    searches = _searches(frame)
    refined = ~group_starts(searches.session)[1:] & group_starts(searches.query)[1:]
    return np.bincount(searches.session[1:][refined], minlength=len(frame))


@feature("string")
def device(frame: EventFrame) -> Texts:
    """Latest properties.device."""
    return _cut(frame.last_text(frame.device))


@feature("string")
def locale(frame: EventFrame) -> Texts:
    """Latest properties.locale."""
    return _cut(frame.last_text(frame.locale))


@feature("string")
def visitor(frame: EventFrame) -> Texts:
    """`returning` or `new`, by the latest properties.returning (true or false)."""
    visitors = {"true": "returning", "false": "new"}
    codes, distinct = factorize(frame.last_text(frame.returning))
    return np.array([*(visitors.get(text.lower()) for text in distinct), None], dtype=object)[codes]


class _Searches(NamedTuple):
    """N searches with Q distinct queries."""

    session: Ints  #: int64 [N]
    query: Ints  #: int64 [N], position in texts
    texts: Texts  #: str [Q]
    last: Ints  #: int64 [S], the last query of each session, -1 without one


@shared
def _searches(frame: EventFrame) -> _Searches:
    searches = np.flatnonzero(frame.is_type("search"))
    session = frame.session_of[searches]
    query, distinct = factorize(frame.query[searches])
    last = np.full(len(frame), -1)
    last[session] = query  # the last write wins
    return _Searches(session, query, np.array([text[:LONGEST_TEXT] for text in distinct], dtype=object), last)


def _cut(texts: Texts) -> Texts:
    """Cut texts (str or None [n]) to their first LONGEST_TEXT characters."""
    codes, distinct = factorize(texts)
    return np.array([*(text[:LONGEST_TEXT] for text in distinct), None], dtype=object)[codes]
