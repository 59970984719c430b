"""The prior: trees for a shop without past sessions, learned from public data sets by `python -m bench prior`.

They rank by titles, categories, brands and ids, which need no past, and mean the same in every shop, as prices do not.
They ship as LightGBM's text next to this module.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.ranker.boosting import Hyperparameters, boost, import_lightgbm
from export.ranker.positions import Groups, Progress, sample_groups
from export.ranker.train import Recipe, Shop, TrainedRanker, exported
from udfs.candidates.generator import CandidateGenerator
from udfs.candidates.source import all_sources
from udfs.core.errors import ShopstreamError

FILE = Path(__file__).with_name("prior.txt")
#: The sources that the prior reads.
SOURCES = frozenset({"content", "category", "listing"})
#: Positions that trees learn from, of each shop.
POSITIONS = 10_000
#: Small trees, and not many: the next shop is unlike those that they learned from.
HYPERPARAMETERS = Hyperparameters(num_leaves=7, min_data_in_leaf=200)
TREES = 40


def learn_prior(shops: Sequence[Shop], folder: Path, progress: Progress = lambda _: None) -> str:
    """Return the prior as LightGBM's text, learned from the sessions of shops whose sources know no past.

    folder: as in train_ranker. Raises ShopstreamError for too few sessions.
    """
    rng, groups, names = np.random.default_rng(1), list[Groups](), tuple[str, ...]()
    for number, shop in enumerate(shops):
        generator = _generator(shop, folder)
        names = generator.feature_names
        groups.append(
            sample_groups(generator, shop.log, shop.encode, rng, POSITIONS, lambda _: None, recommend_seen=False)
        )
        progress((number + 1) / len(shops))
    booster = boost(Groups.joined(groups), names, rng, HYPERPARAMETERS)
    return str(booster.model_to_string(num_iteration=TREES))


def open_prior(shop: Shop, folder: Path, file: Path = FILE) -> TrainedRanker:
    """Return the prior as a shop's ranker, without figures. folder: as in train_ranker."""
    generator = _generator(shop, folder)
    booster = import_lightgbm().Booster(model_str=file.read_text(encoding="utf-8"))
    if tuple(booster.feature_name()) != generator.feature_names:
        raise ShopstreamError(f"{file} was learned with other ranking features: make it again with `bench prior`")
    return exported(booster, booster.current_iteration(), generator, Recipe(), {}, {})


def _generator(shop: Shop, folder: Path) -> CandidateGenerator:
    """Return the prior's sources without past sessions."""
    others = frozenset(source.name for source in all_sources()) - SOURCES
    return shop.generator(shop.log.part(0, 0), folder, recommend_seen=False, without=others)
