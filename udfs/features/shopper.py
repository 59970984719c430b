"""Features of searches and the shopper."""

from typing import NamedTuple

import numpy as np

from udfs.core.arrays import Ints, Texts, factorize, group_starts
from udfs.features.registry import feature, shared
from udfs.sessions.frame import EventFrame

#: Texts that come out are cut to this many characters, so that none makes a record too large for Kafka.
LONGEST_TEXT = 256

# --- searches ---------------------------------------------------------------------------------------------------------


@feature("string")
def last_query(e: EventFrame) -> Texts:
    """What was searched for last, its first 256 characters."""
    searches = _searches(e)
    return np.array([*searches.texts, None], dtype=object)[searches.last]


@feature("int64", "words")
def last_query_words(e: EventFrame) -> Ints:
    """Words of last_query, 0 without one."""
    searches = _searches(e)
    words = [len(text.split()) for text in searches.texts]
    return np.array([*words, 0], dtype=np.int64)[searches.last]


@feature("int64", "searches")
def refinements(e: EventFrame) -> Ints:
    """Searches whose query is another than that of the search before."""
    searches = _searches(e)
    refined = ~group_starts(searches.session)[1:] & group_starts(searches.query)[1:]
    return np.bincount(searches.session[1:][refined], minlength=len(e))


# --- the shopper ------------------------------------------------------------------------------------------------------


@feature("string")
def device(e: EventFrame) -> Texts:
    """properties.device, as last given."""
    return _cut(e.last_text(e.device))


@feature("string")
def locale(e: EventFrame) -> Texts:
    """properties.locale, as last given."""
    return _cut(e.last_text(e.locale))


@feature("string")
def visitor(e: EventFrame) -> Texts:
    """`returning` or `new`, as properties.returning (true or false) last said."""
    said = {"true": "returning", "false": "new"}
    codes, different = factorize(e.last_text(e.returning))
    return np.array([*(said.get(text.lower()) for text in different), None], dtype=object)[codes]


class _Searches(NamedTuple):
    """N searches: session and query int64 [N], the latter a number for each of the Q different texts (str [Q])."""

    session: Ints
    query: Ints
    texts: Texts
    last: Ints  #: int64 [S], the last query of each session, -1 without one


@shared
def _searches(e: EventFrame) -> _Searches:
    searches = np.flatnonzero(e.is_type("search"))
    session = e.session[searches]
    query, different = factorize(e.query[searches])
    last = np.full(len(e), -1)
    last[session] = query  # the last write wins
    return _Searches(session, query, np.array([text[:LONGEST_TEXT] for text in different], dtype=object), last)


def _cut(texts: Texts) -> Texts:
    """The first LONGEST_TEXT characters of each, which may be None."""
    codes, different = factorize(texts)
    return np.array([*(text[:LONGEST_TEXT] for text in different), None], dtype=object)[codes]
