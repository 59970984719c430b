"""A simulated catalog: products with believable titles, prices and categories."""

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any, TypeAlias

import msgspec
import numpy as np

from udfs.core.errors import ShopstreamError

Item: TypeAlias = Mapping[str, Any]


def make_catalog(items: int = 1500, seed: int = 7) -> list[dict[str, Any]]:
    """Makes products with the fields of the `catalog` topic: distinct titles, prices in pounds, some 4 % sold out.

    Kinds of product have equal shares. Raises ShopstreamError if the vocabulary cannot name that many items.
    """
    words = vocabulary()
    kinds = words["types"]
    parts = [(k["materials"], k["features"], words["palettes"][k["colours"]], k["sizes"]) for k in kinds]
    most = len(kinds) * min(math.prod(map(len, p)) for p in parts)
    if not 1 <= items <= most:
        raise ShopstreamError(f"items={items}: choose from 1 to {most}, the number of distinct names in the vocabulary")
    rng = np.random.default_rng([seed, 0])
    brands = list(words["brands"])
    catalog = []
    for i, (kind, choices) in enumerate(zip(kinds, parts, strict=True)):
        shape = tuple(map(len, choices))
        names = rng.choice(math.prod(shape), items // len(kinds) + (i < items % len(kinds)), replace=False)
        for choice in zip(*np.unravel_index(names, shape), strict=True):
            material, feature, colour, size = (c[j] for c, j in zip(choices, choice, strict=True))
            head = " ".join(filter(None, (material, kind["noun"], feature)))
            brand = brands[rng.integers(len(brands))]
            price = kind["price"] * words["brands"][brand] * math.exp(rng.normal(0, 0.25))
            catalog.append(
                {
                    "item_id": "",
                    "title": f"{head[0].upper()}{head[1:]}, {colour}, {size}",
                    "description": f"{kind['use']}. Made of {material}, in {colour}; {size}.",
                    "category": kind["category"],
                    "brand": brand,
                    "price": round(max(math.ceil(price * 2) / 2 - 0.01, 0.99), 2),
                    "in_stock": bool(rng.random() > 0.04),
                    "locale": "en-GB",
                }
            )
    return [{**catalog[j], "item_id": f"P{i:06}"} for i, j in enumerate(rng.permutation(len(catalog)), 1)]


def vocabulary() -> dict[str, Any]:
    """Reads the words that products are named with."""
    words: dict[str, Any] = msgspec.json.decode(
        resources.files("flink_jobs.simulation").joinpath("vocabulary.json").read_bytes()
    )
    return words
