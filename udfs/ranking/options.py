"""Options of ranking."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RankOptions:
    """k: items per record.

    Only for the blend, which ranks where the bundle has no learned ranker: content, co_visit, popularity, its weights;
    recent, the events that count; decay, the weight of an event relative to the next newer one. Only for the learned
    ranker: at most per_category and per_brand items of one category and brand (0: any number), and
    diversity, what an item loses for being as good as the same as one before it.
    """

    k: int = 10
    content: float = 0.6
    co_visit: float = 1.0
    popularity: float = 0.1
    recent: int = 10
    decay: float = 0.8
    exclude_seen: bool = True
    per_category: int = 0
    per_brand: int = 0
    diversity: float = 0.0
