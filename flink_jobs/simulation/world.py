"""The simulated shop and its shoppers, as arrays."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flink_jobs.simulation.catalog import Item, vocabulary
from udfs.contracts.clickstream import EVENT_TYPES
from udfs.core.errors import ShopstreamError

Ints: TypeAlias = npt.NDArray[np.int64]
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
#: Indices into EVENT_TYPES.
VIEW, CLICK, SEARCH, ADD, REMOVE, PURCHASE, RATE, IMPRESSION = range(len(EVENT_TYPES))
#: A shopper comes at most once per round, at a habitual time in it. So sessions of one shopper are at least
#: ROUND - JITTER - LONGEST = 45 min apart, more than the session gap of 30 min.
ROUND_MS = 120 * 60_000
LOCALES = ("en-GB", "en-US", "en-IE", "en-AU")
ZONES = ("Europe/London", "America/New_York", "Europe/Dublin", "Australia/Sydney")  # by locale
DEVICES = ("phone", "desktop", "tablet")  # tablets write event_time as RFC 3339, the others as epoch ms
#: Items drawn per step of a walk; the shopper takes the one that suits best.
CANDIDATES = 6


class World:
    """Catalog and shoppers as columns. Items are sorted by kind, so that a kind is a range of items."""

    def __init__(self, catalog: Sequence[Item], shoppers: int, seed: int) -> None:
        if not catalog:
            raise ShopstreamError("the catalog is empty; it should have at least one item")
        items = sorted(catalog, key=lambda item: (item.get("category") or "", item["item_id"]))
        kinds, self.kind = np.unique([item.get("category") or "" for item in items], return_inverse=True)
        n = len(items)
        rng = np.random.default_rng([seed, 3])
        self.seed = seed
        self.ids = [str(item["item_id"]) for item in items]
        titles = [str(item["title"]).split(", ") for item in items]
        self.material = np.unique([title[0].split(" ")[0] for title in titles], return_inverse=True)[1]
        self.colour = np.unique([title[min(1, len(title) - 1)] for title in titles], return_inverse=True)[1]
        self.price = np.array([item.get("price") or 0.0 for item in items], float)
        self.in_stock = np.array([item.get("in_stock") is not False for item in items])
        self.queries = _queries(items)
        self.quality = rng.normal(4.0, 0.6, n)

        log_price = np.log(np.maximum(self.price, 0.01))
        size = np.bincount(self.kind)
        centred = log_price - (np.bincount(self.kind, log_price) / size)[self.kind]
        self.level = centred / max(float(centred.std()), 1e-9)

        popularity = (6.0 + rng.permutation(n)) ** -0.9  # Zipf-Mandelbrot: 2 % of the views for the first of 1500
        self.reach = np.cumsum(popularity * np.where(self.in_stock, 1, 0.1))
        self.first = np.concatenate([[0], np.cumsum(size)])
        self.companions, self.companion_count = _companions([str(kind) for kind in kinds])

        self.phase = np.sort(rng.integers(0, ROUND_MS, shoppers))
        self.activity = np.clip(rng.beta(0.8, 3.0, shoppers), 0.02, 1.0)  # visits per round
        self.offset = rng.random(shoppers)
        tastes = self.kind[self.any_item(rng, 2 * shoppers)]
        related = self.companions[tastes, rng.integers(0, self.companion_count[tastes])]
        self.likes = np.concatenate([tastes.reshape(shoppers, 2), related.reshape(shoppers, 2)], axis=1)
        self.likes_colour = self.colour[rng.integers(0, n, shoppers)]
        self.likes_material = self.material[rng.integers(0, n, shoppers)]
        self.likes_level = rng.normal(0, 1, shoppers)
        self.device = rng.choice(len(DEVICES), shoppers, p=[0.55, 0.35, 0.1])
        self.locale = rng.choice(len(LOCALES), shoppers, p=[0.6, 0.25, 0.08, 0.07])
        self.known = rng.random(shoppers) < 0.3  # has been here before the first round

    def any_item(self, rng: np.random.Generator, n: int) -> Ints:
        """Draws `n` items by popularity."""
        at: Ints = np.searchsorted(self.reach, rng.random(n) * self.reach[-1], "right")
        return np.minimum(at, len(self.ids) - 1)

    def item_like(self, rng: np.random.Generator, kind: Ints, who: Ints, item: Ints) -> Ints:
        """Draws an item per `kind`: popular, to the shopper's taste, similar to `item` but another if there is one."""
        low, high = self.first[kind], self.first[kind + 1]
        reach = np.concatenate([[0.0], self.reach])
        spin = rng.random((len(kind), CANDIDATES))
        at = np.searchsorted(self.reach, reach[low, None] + spin * (reach[high] - reach[low])[:, None], "right")
        at = np.minimum(at, high[:, None] - 1)
        score = rng.gumbel(size=at.shape)
        score += 1.2 * (self.colour[at] == self.likes_colour[who, None])
        score += 1.0 * (self.material[at] == self.likes_material[who, None])
        score += 1.5 * (self.colour[at] == self.colour[item, None])
        score += 1.5 * (self.material[at] == self.material[item, None])
        score -= 0.8 * np.abs(self.level[at] - self.likes_level[who, None])
        score -= 9.0 * (at == item[:, None])
        best: Ints = at[np.arange(len(at)), score.argmax(axis=1)]
        return best


def _queries(items: Sequence[Item]) -> list[tuple[str, str, str]]:
    """Writes three queries for each item: its noun alone, with its material, and with its colour."""
    nouns = {kind["category"]: kind["noun"] for kind in vocabulary()["types"]}
    queries = []
    for item in items:
        head, colour = [*str(item["title"]).lower().split(", "), ""][:2]
        noun = nouns.get(item.get("category"), head)
        queries.append((noun, head.split(" with ")[0].split(" for ")[0], f"{colour} {noun}".strip()))
    return queries


def _companions(kinds: Sequence[str]) -> tuple[Ints, Ints]:
    """Returns the kinds that go with each kind, int64 [kinds, most], and their number, int64 [kinds].

    They come from the vocabulary; without any they are its siblings, and without those the kind itself.
    """
    goes_with = {kind["category"]: set(kind["goes_with"]) for kind in vocabulary()["types"]}
    found = []
    for i, kind in enumerate(kinds):
        siblings = [
            j for j, other in enumerate(kinds) if j != i and other.rpartition(" > ")[0] == kind.rpartition(" > ")[0]
        ]
        named = [j for j, other in enumerate(kinds) if other.rpartition(" > ")[2] in goes_with.get(kind, ())]
        found.append(named or siblings or [i])
    count = np.array([len(f) for f in found])
    return np.array([f + [0] * (count.max() - len(f)) for f in found]), count
