"""Candidate generation: several sources propose items and compute ranking features for every (session, item) pair."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udfs.bundles.bundle import Bundle
from udfs.bundles.forgotten import ErasureList
from udfs.candidates.history import ShopperHistory
from udfs.candidates.source import RECENT, SessionContext, SourceInputs, all_sources
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Ints, Scores, isin_sorted, position_in_group, unique_inverse
from udfs.core.exact import SCORE_BUDGET, to_grid
from udfs.sessions.requests import RankInputs
from udfs.sessions.signals import Signals

#: Maximum sessions per batch.
MAX_SESSIONS = 256


@dataclass(frozen=True)
class Candidates:
    """n pairs of session and item, sorted, with their ranking features."""

    context: SessionContext  #: of the sessions that they are for
    states: Sequence[Any]  #: what each source has prepared for the context
    session: Ints  #: int64 [n]
    item: Ints  #: int64 [n]
    features: Scores  #: float32 [n, features]

    def at(self, indices: Ints) -> "Candidates":
        """Return those at these indices, ascending int64 [m]."""
        session, item, features = self.session[indices], self.item[indices], self.features[indices]
        return Candidates(self.context, self.states, session, item, features)


class CandidateGenerator:
    """All sources of a bundle together."""

    def __init__(
        self, bundle: Bundle, items: LiveItems, *, recommend_seen: bool, k: int = 10, without: Container[str] = ()
    ) -> None:
        """Open the sources.

        items: the bundle's as they are now. k: generate at least this many items, however many were seen. without:
        names of sources to leave out.
        """
        past = bundle.past_sessions()
        inputs = SourceInputs(bundle, items, past, recommend_seen, k)
        self.items = items
        self._recommend_seen = recommend_seen
        self._shoppers = ShopperHistory(past, items.capacity)
        self._sources = [source(inputs) for source in all_sources() if source.name not in without]
        self.feature_names = tuple(name for source in self._sources for name in source.feature_names)
        self.source_of = {name: source.name for source in self._sources for name in source.feature_names}
        self.default_reasons = {source.name: source.default_reason for source in self._sources}
        #: At most this many sessions in one context, which bounds memory.
        self.max_sessions = MAX_SESSIONS
        if items.index is None:
            self.max_sessions = max(1, min(MAX_SESSIONS, SCORE_BUDGET // items.capacity))

    def refresh(self) -> None:
        """Update the sources after the items have changed."""
        for source in self._sources:
            source.refresh()

    def erase(self, erased: ErasureList) -> None:
        """Treat users as unknown if all that the bundle knows of them is erased."""
        self._shoppers.erase(erased.at_of)

    def context(self, inputs: RankInputs) -> SessionContext:
        """Return what sources know of these requests; at most max_sessions of them."""
        sessions, events, items = inputs.request.sessions, inputs.interactions, len(self.items)
        session, item = sessions.session_of[events], inputs.rows[events]
        length = np.bincount(session, minlength=len(sessions))
        age = np.cumsum(length)[session] - 1 - np.arange(len(events))  # interactions since
        # Reversed, np.unique finds the last interaction of each pair.
        seen, last, seen_times = np.unique((session * items + item)[::-1], return_index=True, return_counts=True)
        last = len(events) - 1 - last
        newest_first = last[np.lexsort((age[last], session[last]))]
        recent = newest_first[position_in_group(session[newest_first]) < RECENT]
        shopper = self._shoppers.find(inputs.request.user_id)
        last_text, centre = self._texts(inputs.signals, inputs.vectors, len(sessions))
        return SessionContext(
            session=session[recent],
            item=item[recent],
            age=age[recent],
            seen=seen,
            seen_times=seen_times,
            seen_age=age[last],
            length=length,
            shopper=shopper,
            earlier=self._shoppers.items_of(shopper, sessions.end),
            last_text=last_text,
            centre=centre,
            items=items,
        )

    def _texts(self, signals: Signals, vectors: Scores, count: int) -> tuple[Scores, Scores]:
        """Return each session's newest vector and the weighted mean of its vectors, on the grid, float32 [count, d]."""
        last_text = np.zeros((count, self.items.vectors.shape[1]), dtype=np.float32)
        sums = np.zeros(last_text.shape)
        if len(signals.session):
            present, starts = np.unique(signals.session, return_index=True)
            last_text[present] = vectors[np.append(starts[1:], len(vectors)) - 1]
            # Whole numbers below 2^53: exact in any order.
            sums[present] = np.add.reduceat(vectors * signals.weight[:, None].astype(np.float64), starts, axis=0)
        return last_text, to_grid(sums)

    def generate(self, context: SessionContext) -> Candidates:
        """Return the union of what the sources generate, without sold-out items and, unless wanted, seen ones.

        Raises ValueError for more than max_sessions.
        """
        if len(context) > self.max_sessions:
            raise ValueError(f"{len(context)} sessions in one context; {self.max_sessions} are the most")
        states = [source.prepare(context) for source in self._sources]
        steps = list(zip(self._sources, states, strict=True))
        generated = np.concatenate([source.generate(state) for source, state in steps])
        key, _ = unique_inverse(generated, len(context) * context.items)
        key = key[self.items.in_stock[key % context.items]]
        if not self._recommend_seen:
            key = key[~isin_sorted(key, context.seen)]
        pairs = context.pairs(key)
        features = np.empty((len(self.feature_names), len(key)), np.float32)
        computed = (values for source, state in steps for values in source.features(state, pairs))
        for feature, values in zip(features, computed, strict=True):
            feature[:] = values
        return Candidates(context, states, pairs.session, pairs.item, np.ascontiguousarray(features.T))

    def evidence(self, candidates: Candidates, session: Ints, item: Ints) -> dict[str, Ints]:
        """Return, by source, the index of the context's item that is the best evidence for each pair, int64 [n]; or -1.

        session, item: [n] of some of the candidates, each once, in any order. Sources that never have any evidence are
        left out. Of sources that share a name, the first that has some is taken.
        """
        key = session * candidates.context.items + item
        order = np.argsort(key)
        position = np.argsort(order)
        pairs, evidence = candidates.context.pairs(key[order]), dict[str, Ints]()
        for source, state in zip(self._sources, candidates.states, strict=True):
            found = source.evidence(state, pairs)
            if found is None:
                continue
            found, before = found[position], evidence.get(source.name)
            evidence[source.name] = found if before is None else np.where(before >= 0, before, found)
        return evidence
