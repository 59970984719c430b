"""The ranker of a bundle: learned from the shop's sessions, or the prior where there are too few."""

from pathlib import Path

from export.bundle.options import ExportOptions
from export.ranker.boosting import TooFewPositionsError
from export.ranker.positions import Progress
from export.ranker.prior import open_prior
from export.ranker.quality import LEAST_NEW_ITEMS, LEAST_NEW_POSITIONS, new_items, ranker_failures
from export.ranker.train import Recipe, Shop, TrainedRanker, train_ranker
from udfs.bundles.bundle import open_bundle
from udfs.core.errors import ShopstreamError

#: The file in the folder of bundles that keeps the trials of --tune.
TRIALS = "trials.log"


def learn_ranker(
    shop: Shop, folder: Path, options: ExportOptions, progress: Progress = lambda _: None
) -> tuple[TrainedRanker, list[str]]:
    """Return a shop's ranker, and warnings.

    Without options.sessions, that is the prior. With too few, too, unless the bundle in use has a ranker that learned
    from the shop, or something was asked for that needs sessions. folder: as in train_ranker. Raises ShopstreamError
    for a ranker that fails the gate, and for sessions that are not of this shop.
    """
    if options.sessions is None:
        return open_prior(shop, folder), []
    if not len(shop.log):
        raise ShopstreamError(f"{options.sessions} has no interaction with an item of {options.catalog}")
    recipe = Recipe(
        recommend_seen=options.recommend_seen, tune_minutes=options.tune_minutes, trials=options.out / TRIALS
    )
    try:
        learned = train_ranker(shop, folder, recipe, progress)
    except TooFewPositionsError as error:
        if options.recommend_seen or options.tune_minutes or _has_learned_ranker(options.out):
            raise
        learned = open_prior(shop, folder)
        warnings = [f"{error}; until then, the ranker is the one for shops without sessions"]
    else:
        warnings = _warnings(learned.info.quality)
    if failures := ranker_failures(learned.info.quality, options.gate):
        raise ShopstreamError(
            f"the ranker fails the gate: {', '.join(failures)}. Nothing was published: give more sessions, or lower "
            "the gate (--gate)"
        )
    return learned, warnings


def _has_learned_ranker(bundles: Path) -> bool:
    """Return whether the bundle in use has a ranker that learned from the shop: the prior must not replace it."""
    try:
        ranker = open_bundle(bundles).manifest.ranker
    except ShopstreamError:
        return False
    return ranker is not None and not ranker.prior


def _warnings(quality: dict[str, float]) -> list[str]:
    """Return a warning for a ranker that hardly finds new items."""
    share = new_items(quality)
    if share is None or share >= LEAST_NEW_ITEMS or quality["positions_new"] < LEAST_NEW_POSITIONS:
        return []
    warning = (
        f"of new items, the ranker finds {share:.0%} of what their titles alone would find "
        f"(HR@20 {quality['hr_20_new']:.4f}); rank.fresh keeps places for them"
    )
    return [warning]
