"""Features of prices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udfs.candidates.pairs import Feature, Pairs
from udfs.candidates.source import CandidateSource, SessionContext, SourceInputs
from udfs.core.arrays import Floats, segment_sum


@dataclass(frozen=True)
class _UsualPrice:
    log: Floats  #: float64 [S], mean logarithm of the prices of a session's recent items; NaN without one


class PriceAffinity(CandidateSource[_UsualPrice]):
    """What an item costs, and how that compares with the session's recent items; 0 where that is unknown."""

    name = "price"
    default_reason = "by its price"
    feature_names = ("price", "price_against_session")
    order = 80

    def __init__(self, inputs: SourceInputs) -> None:
        self._items = inputs.items

    def prepare(self, context: SessionContext) -> _UsualPrice:
        price = self._items.price[context.item]
        known = price > 0
        sums = segment_sum(context.session[known], np.log(price[known]), len(context))
        counts = np.bincount(context.session[known], minlength=len(context))
        return _UsualPrice(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))

    def features(self, usual: _UsualPrice, pairs: Pairs) -> Sequence[Feature]:
        price = self._items.price[pairs.item]
        known = price > 0
        log_price = np.log(np.where(known, price, 1))
        against = np.where(known, log_price - usual.log[pairs.session], np.nan)
        return log_price, np.nan_to_num(against)
