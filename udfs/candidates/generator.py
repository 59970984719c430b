"""Generates a session's candidates from all sources, with ranking features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from udfs.bundles.bundle import Bundle
from udfs.candidates.attributes import AttributeAffinity, PriceAffinity
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.history import History
from udfs.candidates.item_to_item import ItemToItem
from udfs.candidates.listing import IdNeighbours
from udfs.candidates.popularity import BY_POPULARITY, Popularity
from udfs.candidates.session import SessionState
from udfs.candidates.similar_sessions import SimilarSessions
from udfs.candidates.source import RECENT, CandidateSource, Pairs, SessionContext
from udfs.catalog.items import LiveItems
from udfs.contracts.clickstream import INTERACTIONS
from udfs.core.arrays import Ints, Scores, isin_sorted, position_in_group, unique_inverse
from udfs.core.exact import SCORE_BUDGET, to_grid
from udfs.core.hashing import shopper_hash
from udfs.sessions.columns import Sessions
from udfs.sessions.signals import Signals

#: Sessions in one query, at most.
MOST_SESSIONS = 256


@dataclass(frozen=True)
class Candidates:
    """n pairs of session and item, sorted, and float32 [n, columns] COLUMNS of them."""

    session: Ints
    item: Ints
    columns: Scores

    def at(self, places: Ints) -> "Candidates":
        """Those at these places, int64 [m], rising."""
        return Candidates(self.session[places], self.item[places], self.columns[places])


class CandidateGenerator:
    """All sources of a bundle together: columns names what describes a pair, source_of the reason each belongs to.

    most_sessions: in one query; bounds memory.
    """

    def __init__(self, bundle: Bundle, items: LiveItems, *, repeats: bool, k: int = 10) -> None:
        """items: the bundle's as they are now; k: items that there should be candidates for, whatever was met."""
        past, room = bundle.past_sessions(), items.capacity
        self.items, self._past, self._shoppers, self._repeats = items, past, past.shoppers, repeats
        self._forgotten = np.zeros(len(past.shoppers), dtype=bool)
        self.most_sessions = max(1, min(MOST_SESSIONS, SCORE_BUDGET // room)) if items.index is None else MOST_SESSIONS
        self._popular = Popularity(items, past.recent(room), max(BY_POPULARITY, k + RECENT))
        history = History(past, room)
        self._same_kind = AttributeAffinity(items, self._popular, history)
        self._listing = IdNeighbours(items)
        matrices = {"co_visit": bundle.co_visits(), "beside": bundle.near(), "follows": bundle.follows()}
        item_to_item = ItemToItem(matrices, room)
        del matrices  # before the others take their memory
        self._sources: list[tuple[str, CandidateSource]] = [
            ("similar_sessions", SimilarSessions(past, room)),
            ("co_visit", item_to_item),
            ("content", ContentSimilarity(items)),
            ("popularity", self._popular),
            ("history", history),
            ("category", self._same_kind),
            ("listing", self._listing),
            ("price", PriceAffinity(items.price)),
            ("session", SessionState(items.popularity, propose=repeats)),
        ]
        self.columns = tuple(column for _, source in self._sources for column in source.columns)
        self.source_of = {column: name for name, source in self._sources for column in source.columns}

    def refresh(self) -> None:
        """To be called after the items have changed."""
        self._popular.refresh()
        self._same_kind.refresh()
        self._listing.refresh()

    def forget(self, until: Callable[[Ints], Ints]) -> None:
        """Take those for strangers whose sessions end no later than `until` says of their hashes (epoch ms, [n])."""
        last = np.full(len(self._shoppers), np.iinfo(np.int64).min)
        np.maximum.at(last, self._past.shopper, self._past.end)
        self._forgotten = last <= until(self._shoppers)

    def query(
        self, user_id: Sequence[str], sessions: Sessions, rows: Ints, signals: Signals, grid: Scores
    ) -> SessionContext:
        """What sources look at. rows: int64 [E], rows in the catalogue; grid: the signals' vectors on the grid."""
        met = np.flatnonzero((rows >= 0) & sessions.is_type(*INTERACTIONS))
        session, item = sessions.session_of[met], rows[met]
        length = np.bincount(session, minlength=len(sessions))
        age = np.cumsum(length)[session] - 1 - np.arange(len(met))
        pair = session * len(self.items) + item
        seen, last, times = np.unique(pair[::-1], return_index=True, return_counts=True)
        last = len(met) - 1 - last
        newest = last[np.lexsort((age[last], session[last]))]
        recent = newest[position_in_group(session[newest]) < RECENT]
        hashed = np.fromiter(map(shopper_hash, user_id), np.int64, len(sessions))
        place = np.minimum(np.searchsorted(self._shoppers, hashed), max(len(self._shoppers) - 1, 0))
        known = np.zeros(len(hashed), dtype=bool)
        if len(self._shoppers):
            known = (self._shoppers[place] == hashed) & ~self._forgotten[place]
        centre = np.zeros((len(sessions), self.items.vectors.shape[1]))
        last_text = np.zeros_like(centre)
        if len(signals.session):
            present, starts = np.unique(signals.session, return_index=True)
            centre[present] = np.add.reduceat(grid * signals.weight[:, None].astype(np.float64), starts, axis=0)
            last_text[present] = grid[np.append(starts[1:], len(grid)) - 1]
        return SessionContext(
            session=session[recent],
            item=item[recent],
            age=age[recent],
            seen=seen,
            seen_times=times,
            seen_age=age[last],
            length=length,
            shopper=np.where(known, place, -1),
            now=sessions.end,
            last_text=last_text.astype(np.float32),
            centre=to_grid(centre),
            items=len(self.items),
        )

    def find(self, query: SessionContext) -> Candidates:
        """The union of what the sources propose, less what is sold out or, without repeats, seen in the session.

        Raises ValueError for more than most_sessions.
        """
        if len(query) > self.most_sessions:
            raise ValueError(f"{len(query)} sessions in one query; {self.most_sessions} are the most")
        for _, source in self._sources:
            source.load(query)
        proposed = np.concatenate([source.propose() for _, source in self._sources])
        key, _ = unique_inverse(proposed, len(query) * query.items)
        key = key[self.items.in_stock[key % query.items]]
        if not self._repeats:
            key = key[~isin_sorted(key, query.seen)]
        pairs = Pairs.of(key, query)
        columns = np.empty((len(self.columns), len(key)), np.float32)
        described = (values for _, source in self._sources for values in source.describe(pairs))
        for column, values in zip(columns, described, strict=True):
            column[:] = values
        return Candidates(pairs.session, pairs.item, np.ascontiguousarray(columns.T))

    def because(self, query: SessionContext, session: Ints, item: Ints) -> dict[str, Ints]:
        """By source, int64 [n]: the place in the query's items that it names for each pair, -1 for none."""
        wanted, back = np.unique(session * query.items + item, return_inverse=True)
        pairs, named = Pairs.of(wanted, query), dict[str, Ints]()
        for name, source in self._sources:
            named[name] = source.because(pairs)
        return {name: place[back] for name, place in named.items()}
