"""Options of ranking."""

from dataclasses import dataclass

#: Exploration draws from this many times k items.
EXPLORED_POOL = 2


@dataclass(frozen=True)
class RankOptions:
    """How items are ranked."""

    k: int = 10  #: items per record
    exclude_seen: bool = True  #: leave out items that the session has seen
    explore: float = 0.0  #: share of the answers whose items are drawn at random, see udfs.ranking.exploration
    # Only for the blend, which ranks where the bundle has no learned ranker:
    content: float = 0.6  #: weight of content
    co_visit: float = 1.0  #: weight of co-visits
    popularity: float = 0.1  #: weight of popularity
    recent: int = 10  #: most recent events that count
    decay: float = 0.8  #: weight of an event relative to the next newer one
    # Only for the learned ranker:
    per_category: int = 0  #: at most this many items of one category; 0: any number
    per_brand: int = 0  #: at most this many items of one brand; 0: any number
    diversity: float = 0.0  #: what an item loses for the same title as an item ranked above it
    fresh: int = 0  #: at least this many items without past interactions, where there are as many candidates

    @property
    def depth(self) -> int:
        """Items that a ranker returns: k, and with exploration as many more, to draw from."""
        return self.k * EXPLORED_POOL if self.explore else self.k
