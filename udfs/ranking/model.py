"""Opens a bundle's ranker."""

from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.ranking.blend import BlendRanker
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions


def open_ranker(bundle: Bundle, items: LiveItems, options: RankOptions) -> BlendRanker | LearnedRanker:
    """The bundle's learned ranker, or the blend where it has none; items: the bundle's as they are now."""
    ranker = BlendRanker if bundle.manifest.ranker is None else LearnedRanker
    return ranker(bundle, items, options)
