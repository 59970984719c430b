"""Turns selected items into ranked items, each with the reasons for its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from udfs.candidates.popularity import Popularity
from udfs.contracts.rankings import RankedItem, Reason
from udfs.core.arrays import Floats, Ints, Scores, position_in_group
from udfs.core.exact import SCORE_SCALE
from udfs.sessions.requests import RankInputs

#: Reasons quote at most this many characters of a text, so that no query makes a record too large for Kafka.
MAX_QUOTE_CHARS = 256


@dataclass(frozen=True)
class Selected:
    """R items to recommend, by session and then best first, with what each source adds to the score."""

    session: Ints  #: int64 [R]
    item: Ints  #: int64 [R]
    weights: Floats  #: float64 [R, sources], whole numbers of 1/SCORE_SCALE


@dataclass(frozen=True)
class Quotes:
    """All texts that reasons may quote."""

    texts: list[str]
    items: int  #: where the titles of items end and the texts of signals begin
    defaults: int  #: where the texts of signals end and the default reasons begin


def collect_quotes(titles: Sequence[str], signal_texts: Sequence[str], default_reasons: Sequence[str]) -> Quotes:
    """Return the texts, the first two kinds shortened. default_reasons: one per source."""
    texts = [text[:MAX_QUOTE_CHARS] for text in (*titles, *signal_texts)]
    return Quotes([*texts, *default_reasons], len(titles), len(texts))


def pick_evidence(quotes: Quotes, sources: Sequence[str], count: int, evidence: Mapping[str, Ints]) -> Ints:
    """Return which quote each source has for each item, int64 [count, sources].

    evidence: by source, the index of a quote for each item, int64 [count]; -1 for the source's default reason.
    """
    picked = np.tile(np.arange(len(sources)) + quotes.defaults, (count, 1))
    for source, quote in evidence.items():
        column = picked[:, sources.index(source)]
        column[:] = np.where(quote >= 0, quote, column)
    return picked


def nearest_signals(inputs: RankInputs, selected: Selected, item_vectors: Scores) -> Ints:
    """Return for each item the signal of its session whose text is most similar, by weight, int64 [R]; or -1.

    item_vectors: float32 [items, dimensions], on the grid.
    """
    signals = inputs.signals
    nearest = np.full(len(selected.item), -1)
    sessions = np.arange(len(inputs) + 1)
    signal_bounds = np.searchsorted(signals.session, sessions).tolist()
    item_bounds = np.searchsorted(selected.session, sessions).tolist()
    for (low, high), (first, last) in zip(pairwise(signal_bounds), pairwise(item_bounds), strict=True):
        if low < high and first < last:
            similarity = item_vectors[selected.item[first:last]] @ inputs.vectors[low:high].T
            nearest[first:last] = low + np.argmax(similarity * signals.weight[low:high].astype(np.float64), axis=1)
    return nearest


def to_ranked_items(
    selected: Selected, sessions: int, ids: Sequence[str], sources: Sequence[str], quotes: Quotes, evidence: Ints
) -> list[list[RankedItem]]:
    """Return the ranked items of each session, each with a reason per source that adds to its score, heaviest first.

    evidence: int64 [R, sources], see pick_evidence. An item without any such source is there for its popularity.
    """
    heaviest_first = np.argsort(-selected.weights, axis=1, kind="stable")
    row, column = np.nonzero(np.take_along_axis(selected.weights, heaviest_first, axis=1))
    source = heaviest_first[row, column]
    reasons = [
        Reason(sources[number], weight / SCORE_SCALE, quotes.texts[quote])
        for number, weight, quote in zip(
            source.tolist(), selected.weights[row, source].tolist(), evidence[row, source].tolist(), strict=True
        )
    ]
    reason_bounds = np.searchsorted(row, np.arange(len(selected.item) + 1)).tolist()
    no_reason = [Reason(Popularity.name, 0.0, Popularity.default_reason)]
    ranked = [
        RankedItem(ids[item], position + 1, score / SCORE_SCALE, reasons[first:last] or no_reason)
        for item, position, score, (first, last) in zip(
            selected.item.tolist(),
            position_in_group(selected.session).tolist(),
            selected.weights.sum(axis=1).tolist(),
            pairwise(reason_bounds),
            strict=True,
        )
    ]
    bounds = np.searchsorted(selected.session, np.arange(sessions + 1)).tolist()
    return [ranked[first:last] for first, last in pairwise(bounds)]
