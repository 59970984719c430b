"""What every ranker does."""

from typing import Protocol

from udfs.bundles.forgotten import ErasureList
from udfs.contracts.rankings import RankedItem
from udfs.sessions.requests import EncodeTexts, RankRequest

__all__ = ["EncodeTexts", "RankRequest", "Ranker"]


class Ranker(Protocol):
    """Ranks a bundle's items for a batch of requests."""

    candidates: int  #: pairs of session and item scored so far

    def rank(self, request: RankRequest, encode: EncodeTexts) -> list[list[RankedItem]]:
        """Return the best items for each session, best first."""

    def refresh(self) -> None:
        """Rank the items as they are now. To be called after they have changed."""

    def erase(self, erased: ErasureList) -> None:
        """Treat these users as unknown from now on."""
