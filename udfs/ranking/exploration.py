"""Exploration: a share of the answers shows items at random, with known probabilities.

The logged probability of an item at its rank, its propensity, is what off-policy evaluation divides by (Horvitz and
Thompson 1952; Swaminathan and Joachims 2015, "Counterfactual risk minimization").
"""

from hashlib import blake2b

from msgspec.structs import replace

from udfs.contracts.rankings import RankedItem
from udfs.ranking.options import RankOptions

_PERSON = b"explore"  # keeps these hashes apart from others of the same ids


def explore(ranked: list[RankedItem], answer_id: str, options: RankOptions) -> tuple[list[RankedItem], bool]:
    """Return an answer's k items with their propensities, and whether they were drawn at random.

    ranked: the pool of options.depth items at most, best first. A share of the answers, options.explore, shows k items
    of the pool in random order; the others show the first k. Which answers, and in which order, is a hash of answer_id,
    so that the same answer always comes out alike.
    """
    if not options.explore:
        return ranked, False
    explored = _hash(answer_id) < options.explore * 2**64
    order = list(range(len(ranked)))
    if explored:
        order.sort(key=lambda number: _hash(f"{answer_id}\0{ranked[number].item_id}"))
    items = [
        replace(ranked[number], rank=rank + 1, propensity=_propensity(number == rank, len(ranked), options.explore))
        for rank, number in enumerate(order[: options.k])
    ]
    return items, explored


def _propensity(in_order: bool, pool: int, share: float) -> float:
    """Return the probability of an item at a rank. in_order: it is there without exploration, too."""
    return float(f"{share / pool + (1 - share) * in_order:.9g}")


def _hash(text: str) -> int:
    """Return a number from 0 to 2**64 - 1."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=_PERSON).digest())
