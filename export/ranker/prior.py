"""The prior: trees for a shop without past sessions.

`python -m bench prior` learned them from Online Retail and complete_journey. They rank by titles, categories, brands
and ids, which need no past, and mean the same in every shop, as prices do not. They ship as LightGBM's text next to
this module.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.ranker.boosting import Hyperparameters, Sample, boost, import_lightgbm
from export.ranker.positions import Groups, Progress, sample_groups
from export.ranker.train import Shop, TrainedRanker, exported
from udfs.candidates.generator import CandidateGenerator
from udfs.candidates.source import sources_except
from udfs.core.errors import ShopstreamError

FILE = Path(__file__).with_name("prior.txt")
#: The sources that the prior reads. No item was popular where it learned: popularity only proposes items, so that a
#: session without texts has some, too.
PRIOR_SOURCES = frozenset({"content", "popularity", "category", "listing"})
#: Positions that trees learn from, of each shop.
PRIOR_POSITIONS = 10_000
#: Small trees, and not many: the next shop is unlike those that they learned from.
PRIOR_HYPERPARAMETERS = Hyperparameters(num_leaves=7, min_data_in_leaf=200)
PRIOR_TREES = 40


def learn_prior(shops: Sequence[Shop], folder: Path, progress: Progress = lambda _: None) -> str:
    """Return the prior as LightGBM's text, learned from the sessions of shops whose sources know no past.

    folder: as in train_ranker. Raises ShopstreamError for too few sessions.
    """
    rng, groups, names = np.random.default_rng(1), list[Groups](), tuple[str, ...]()
    for number, shop in enumerate(shops):
        generator = _generator(shop, folder)
        names = generator.feature_names
        groups.append(
            sample_groups(generator, shop.log, shop.encode, rng, PRIOR_POSITIONS, lambda _: None, recommend_seen=False)
        )
        progress((number + 1) / len(shops))
    return str(boost(Sample.of(groups, rng), names, PRIOR_HYPERPARAMETERS, PRIOR_TREES).model_to_string())


def open_prior(shop: Shop, folder: Path, file: Path = FILE) -> TrainedRanker:
    """Return the prior as a shop's ranker, without figures. folder: as in train_ranker.

    Raises ShopstreamError for a file that is no prior for this version.
    """
    generator = _generator(shop, folder)
    lightgbm = import_lightgbm()
    try:
        booster = lightgbm.Booster(model_str=file.read_text(encoding="utf-8"))
    except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
        raise ShopstreamError(f"{file} is no ranker of `bench prior`: {error}") from None
    if tuple(booster.feature_name()) != generator.feature_names:
        raise ShopstreamError(f"{file} was learned with other ranking features: make it again with `bench prior`")
    return exported(booster, booster.current_iteration(), generator)


def _generator(shop: Shop, folder: Path) -> CandidateGenerator:
    """Return the prior's sources without past sessions."""
    return shop.generator(shop.log.part(0, 0), folder, recommend_seen=False, without=sources_except(PRIOR_SOURCES))
