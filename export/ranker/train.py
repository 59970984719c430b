"""Trains the ranker and exports it to ONNX.

Trees learn from later sessions, with sources that know only what came before: exactly as in the job, where the bundle
is older than the session. Where the latest sessions are few, more parts of the past are learned from, each with sources
of what lay before it (a rolling origin). In every second part some items are hidden from the sources, so that trees
meet new items that are right.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.boosting import Sample, TooFewPositionsError, boost
from export.ranker.positions import Encode, Groups, Progress, bare_manifest, sample_groups
from export.ranker.quality import CUT, MRR, HitRate, hit_rate_of, quality_by_trees, scores_of
from export.ranker.trees import to_onnx
from export.ranker.tune import Trial, tune
from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import RankerInfo
from udfs.candidates.generator import CandidateGenerator
from udfs.catalog.items import LiveItems
from udfs.core.arrays import Bools, Ints
from udfs.encoder.encoder import Vectors

#: The latest share of the sessions, which measures the trees; the sources know the others.
MEASURE_SHARE = 0.04
#: The share of the sessions before these that trees are trained on, if it has POSITIONS positions.
LEARN_SHARE = 0.16
#: The first share of the sessions, which only sources learn from, however few there are.
FIRST_SHARE = 0.3
#: Parts that the sessions between them are cut into, at most; and those of LEARN_SHARE alone.
PARTS, LARGE_PARTS = 10, 2
#: The share of the items that are hidden from the sources of every second part.
HIDDEN_SHARE = 0.2
#: Train on at most this many positions in sessions.
POSITIONS = 40_000
#: Measure on at most this many positions.
MEASURED = 5_000
#: For the figure of new items, the items are hidden in turn, in this many parts.
HIDDEN_IN_TURN = 5


@dataclass(frozen=True)
class Recipe:
    """How a ranker is trained.

    recommend_seen: it may recommend items that the session has already seen. without: names of sources to leave out.
    origins: parts of the past that a small shop's trees learn from, at most; LARGE_PARTS for the latest sessions
    alone. hidden_share: of the items, hidden from
    the sources of every second part. tune_minutes: how long to search hyperparameters; 0 takes the defaults. trials:
    the file that keeps them, so that a search can go on.
    """

    recommend_seen: bool = False
    without: frozenset[str] = frozenset()
    origins: int = PARTS
    hidden_share: float = HIDDEN_SHARE
    tune_minutes: float = 0.0
    trials: Path | None = None


@dataclass(frozen=True)
class TrainedRanker:
    """A ranker and figures of its training. Without sessions to learn from, the figures are empty."""

    model: bytes  #: ranker.onnx
    info: RankerInfo
    importance: dict[str, float]  #: by feature: its share of the splits' total gain
    mrr: dict[int, float]  #: by number of trees, on the measured positions
    trials: tuple[Trial, ...] = ()  #: of the search for hyperparameters, the best first


@dataclass(frozen=True)
class Shop:
    """A catalog and past sessions to learn from."""

    log: Interactions
    items: pa.Table  #: one row per item, in the order of log.items
    vectors: Vectors  #: float32 [items, dimensions]
    encode: Encode

    def bundle(self, past: Interactions, folder: Path, ranker: TrainedRanker | None = None) -> Bundle:
        """Write a bundle with these past sessions and a ranker or none, but without an encoder, to a folder."""
        write_past(folder, past, self.items, self.vectors)
        manifest = bare_manifest(self.vectors.shape[1])
        if ranker is not None:
            (folder / "ranker.onnx").write_bytes(ranker.model)
            manifest = msgspec.structs.replace(manifest, ranker=ranker.info)
        return Bundle(folder, manifest)

    def generator(
        self, past: Interactions, folder: Path, *, recommend_seen: bool, without: frozenset[str] = frozenset()
    ) -> CandidateGenerator:
        """Return the sources of a bundle with these past sessions, whose files are written to a folder."""
        bundle = self.bundle(past, folder)
        return CandidateGenerator(bundle, LiveItems(bundle), recommend_seen=recommend_seen, without=without)


class _Sampler:
    """Draws positions, with candidates of sources that know the past alone."""

    def __init__(self, shop: Shop, recipe: Recipe, folder: Path) -> None:
        self._shop, self._recipe, self._folder = shop, recipe, folder
        self.rng = np.random.default_rng(1)
        self.nothing: Bools = np.zeros(len(shop.items), dtype=bool)

    def draw(
        self, part: Interactions, hidden: Bools, count: int, show: Progress, among: Bools | None = None
    ) -> tuple[CandidateGenerator, Groups]:
        """Return up to `count` positions of a part. hidden: bool [items], of which the sources know no past.

        among: bool [items], of which the targets are drawn; None: of all.
        """
        recipe = self._recipe
        past = self._shop.log.before(int(part.start[0])).without_items(hidden)
        generator = self._shop.generator(
            past, self._folder, recommend_seen=recipe.recommend_seen, without=recipe.without
        )
        groups = sample_groups(
            generator,
            part,
            self._shop.encode,
            self.rng,
            count,
            show,
            recommend_seen=recipe.recommend_seen,
            among=among,
        )
        return generator, groups

    def hide(self, share: float) -> Bools:
        """Return bool [items]: a share of the items, drawn at random."""
        return np.asarray(self.rng.random(len(self.nothing)) < share)


def train_ranker(shop: Shop, folder: Path, recipe: Recipe, progress: Progress = lambda _: None) -> TrainedRanker:
    """Train a ranker on a shop's sessions.

    folder: where the files that the sources read are written. progress: is called with the share done. Raises
    ShopstreamError for too few sessions.
    """
    earlier, measured = shop.log.split(MEASURE_SHARE)
    parts = learning_parts(earlier, recommend_seen=recipe.recommend_seen, origins=recipe.origins)
    if not parts or not len(measured):
        raise TooFewPositionsError(f"{len(shop.log)} past sessions are too few to learn a ranker from")
    sampler = _Sampler(shop, recipe, folder)
    groups: list[Groups] = []
    for number, part in enumerate(parts):
        # The latest part, and every second one before it, is learned from as the job sees it.
        hidden = sampler.hide(recipe.hidden_share * ((len(parts) - number - 1) % 2))
        share_done = partial(_between, progress, 0.6 * number / len(parts), 0.6 * (number + 1) / len(parts))
        groups.append(sampler.draw(part, hidden, POSITIONS // len(parts), share_done)[1])
    generator, rest = sampler.draw(measured, sampler.nothing, MEASURED, partial(_between, progress, 0.6, 0.7))
    trials: tuple[Trial, ...] = ()
    if recipe.tune_minutes:
        show = partial(_between, progress, 0.7, 0.85)
        trials = tune(groups, generator.feature_names, recipe.tune_minutes, recipe.trials, show)
    best = trials[0].hyperparameters if trials else None
    sample = Sample.of(groups, sampler.rng)
    groups.clear()  # gigabytes, in a large shop
    booster = boost(sample, generator.feature_names, best)
    qualities = quality_by_trees(booster, rest)
    mrr = {trees: quality[MRR(CUT).name] for trees, quality in qualities.items()}
    trees = max(mrr, key=mrr.__getitem__)  # more trees overfit on small shops
    quality = qualities[trees]
    if shop.vectors.any() and "content" not in recipe.without:
        show = partial(_between, progress, 0.85, 1.0)
        quality |= _quality_of_new(sampler, measured, booster, trees, show)
    progress(1.0)
    return exported(
        booster, trees, generator, recommend_seen=recipe.recommend_seen, quality=quality, mrr=mrr, trials=trials
    )


def exported(
    booster: Any,
    trees: int,
    generator: CandidateGenerator,
    *,
    recommend_seen: bool = False,
    quality: dict[str, float] | None = None,
    mrr: dict[int, float] | None = None,
    trials: tuple[Trial, ...] = (),
) -> TrainedRanker:
    """Return the first trees of LightGBM's booster as a ranker. generator: computes the trees' features.

    quality, mrr: None for the prior, which was not measured in this shop.
    """
    names = generator.feature_names
    model, sources = to_onnx(booster.dump_model(num_iteration=trees)["tree_info"], names, generator.source_of)
    gain = booster.feature_importance("gain", iteration=trees)
    return TrainedRanker(
        model=model,
        info=RankerInfo(names, sources, recommend_seen, quality or {}, prior=quality is None),
        importance=dict(zip(names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True)),
        mrr=mrr or {},
        trials=trials,
    )


def learning_parts(log: Interactions, *, recommend_seen: bool, origins: int = PARTS) -> list[Interactions]:
    """Return the parts of past sessions that trees are trained on, the earliest first.

    Two, of the latest LEARN_SHARE, if that has POSITIONS positions; else as many `origins` of what follows FIRST_SHARE
    as it takes to have them. Empty for a log that is too short.
    """
    asked = log.asked(recommend_seen=recommend_seen)
    per_session = np.bincount(log.session[asked], minlength=len(log))
    from_behind = np.cumsum(per_session[::-1])
    most = len(log) - round(len(log) * FIRST_SHARE)
    needed = int(np.searchsorted(from_behind, POSITIONS)) + 1
    latest = round(len(log) * LEARN_SHARE)
    taken = min(max(needed, latest), most) if origins > LARGE_PARTS else latest
    count = LARGE_PARTS if taken <= latest else -(-taken * origins // max(most, 1))
    bounds = np.unique(np.linspace(len(log) - taken, len(log), count + 1).astype(np.int64))
    return [log.part(int(first), int(last)) for first, last in pairwise(bounds) if first > 0]


def _quality_of_new(
    sampler: _Sampler, measured: Interactions, booster: Any, trees: int, progress: Progress
) -> dict[str, float]:
    """Return HR@20 of items that the sources know no past of, by the trees and by titles alone; empty without any.

    The items are hidden in turn, a part at a time, so that a small shop's figure has all positions to count.
    """
    turn: Ints = sampler.rng.integers(HIDDEN_IN_TURN, size=len(sampler.nothing))
    hits, hits_by_titles, positions = 0.0, 0.0, 0
    for number in range(HIDDEN_IN_TURN):
        hidden = turn == number
        if not hidden[measured.item].any():
            continue
        generator, groups = sampler.draw(measured, hidden, MEASURED // HIDDEN_IN_TURN, lambda _: None, hidden)
        titles = groups.features[:, generator.feature_names.index("content")].astype(np.float64)
        hits += hit_rate_of(groups, scores_of(booster, groups, trees)) * groups.positions
        hits_by_titles += hit_rate_of(groups, titles) * groups.positions
        positions += groups.positions
        progress((number + 1) / HIDDEN_IN_TURN)
    if not positions:
        return {}
    name = f"{HitRate(CUT).name}_new"
    return {
        name: round(hits / positions, 4),
        f"{name}_by_titles": round(hits_by_titles / positions, 4),
        "positions_new": float(positions),
    }


def _between(progress: Progress, first: float, last: float, share: float) -> None:
    """Show the share of a step that begins and ends at two shares of the whole."""
    progress(first + (last - first) * share)
