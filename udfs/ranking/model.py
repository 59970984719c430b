"""Opens a bundle's ranker."""

from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.ranking.blend import BlendRanker
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions
from udfs.ranking.ranker import Ranker


def open_ranker(bundle: Bundle, items: LiveItems, options: RankOptions) -> Ranker:
    """Return the bundle's learned ranker, or the blend if it has none. items: the bundle's as they are now."""
    if bundle.manifest.ranker is None:
        return BlendRanker(bundle, items, options)
    return LearnedRanker(bundle, items, options)
