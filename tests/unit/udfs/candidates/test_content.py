import numpy as np
from histories import ITEMS, encode

from export.history.interactions import Interactions
from export.ranker.positions import context_of
from udfs.bundles.bundle import Bundle
from udfs.candidates.content import ContentSimilarity
from udfs.candidates.generator import CandidateGenerator
from udfs.candidates.source import SourceInputs
from udfs.catalog.items import LiveItems


def test_index_gives_more_while_items_are_sold_out(indexed: Bundle, sofar: Interactions):
    items = LiveItems(indexed)
    items.in_stock[:ITEMS] = np.arange(ITEMS) % 4 == 0
    source = ContentSimilarity(SourceInputs(indexed, items, indexed.past_sessions(), recommend_seen=False, k=10))
    context = context_of(CandidateGenerator(indexed, items, recommend_seen=False), sofar, encode)
    session, item = np.divmod(source.generate(source.prepare(context)), context.items)
    assert items.in_stock[item].all()
    known = np.flatnonzero(context.last_text.any(axis=1))
    nearest = np.where(items.in_stock[:ITEMS], context.last_text[known] @ items.vectors[:ITEMS].T, -np.inf)
    best = np.argsort(-nearest, axis=1)[:, :3]
    found = [np.isin(rows, item[session == one]).mean() for one, rows in zip(known, best, strict=True)]
    assert np.mean(found) > 0.9
