"""Rankers: which items to show to whom, and why.

A bundle has one ranker, which ranks its items for a batch of sessions:

    ranker = open_ranker(bundle, items, RankOptions(k=20))
    ranked = ranker.rank(RankRequest(user_id, sessions), encoder.encode)
    print(ranked[0][0].item_id, ranked[0][0].reasons)

Another ranker is a class with the methods of `Ranker`. Another source of candidates is a file in `udfs/candidates/`.
"""

from udfs.contracts.rankings import RankedItem, Reason
from udfs.ranking.model import open_ranker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import EncodeTexts, Ranker
from udfs.sessions.requests import RankRequest

__all__ = ["EncodeTexts", "RankOptions", "RankRequest", "RankedItem", "Ranker", "Reason", "open_ranker"]
