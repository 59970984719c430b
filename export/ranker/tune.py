"""Searches hyperparameters of the trees with Optuna, on parts of the past that training learns from."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.ranker.boosting import (
    FIXED,
    LEAST_POSITIONS,
    Hyperparameters,
    Sample,
    TooFewPositionsError,
    boost,
    import_lightgbm,
)
from export.ranker.positions import Groups, Progress
from export.ranker.quality import CUT, MRR, quality_by_trees
from export.ranker.trees import TREES
from udfs.core.errors import ShopstreamError

#: A trial is measured on the latest part as the job sees it, and on the one two before it, each by trees from the
#: parts before.
ORIGINS = (1, 3)


@dataclass(frozen=True)
class Trial:
    """Hyperparameters, and the mean MRR@20 that they had on parts of the past."""

    hyperparameters: Hyperparameters
    mrr: float


def tune(
    groups: Sequence[Groups],
    features: Sequence[str],
    minutes: float,
    trials: Path | None,
    progress: Progress = lambda _: None,
) -> tuple[Trial, ...]:
    """Search for some minutes; return all trials, the best first. The defaults are among them.

    groups: of the parts that are learned from, the earliest first. trials: a file that keeps them; trials of the same
    groups that are there already count. Raises ShopstreamError for too few parts or positions, and for a file that
    cannot be used.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folds = [_Fold.of(groups, back) for back in ORIGINS if len(groups) > back]
    folds = [fold for fold in folds if len(fold.sample.sizes) >= LEAST_POSITIONS and fold.after.positions]
    if not folds:
        raise ShopstreamError("past sessions are too few to tune on: train without --tune")
    default = Hyperparameters.for_positions(sum(int(each.is_target.sum()) for each in groups))
    began = time.monotonic()

    def measured(trial: Any) -> float:
        progress(min(1.0, (time.monotonic() - began) / (60 * minutes)))
        chosen = _suggested(trial)
        try:
            return float(np.mean([fold.mrr(features, chosen) for fold in folds]))
        except TooFewPositionsError:  # these learn nothing here
            raise optuna.TrialPruned from None

    try:
        study = _study(optuna, trials, _fingerprint(groups, features))
        if asdict(default) not in [trial.params for trial in _finished(study)]:
            study.enqueue_trial(asdict(default))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:  # of a file with other content
        raise ShopstreamError(f"trials cannot be kept in {trials} ({error}): remove it to start anew") from None
    study.optimize(measured, timeout=60 * minutes)
    done = [Trial(Hyperparameters(**trial.params), trial.value) for trial in _finished(study)]
    if not done:
        raise ShopstreamError("no trial learned anything: train without --tune")
    return tuple(sorted(done, key=lambda trial: -trial.mrr))


@dataclass(frozen=True)
class _Fold:
    """A later part, and what trees learn from the parts before it."""

    sample: Sample
    after: Groups

    @classmethod
    def of(cls, groups: Sequence[Groups], back: int) -> "_Fold":
        return cls(Sample.of(groups[:-back], np.random.default_rng(1)), groups[-back])

    def mrr(self, features: Sequence[str], chosen: Hyperparameters) -> float:
        """Return the MRR@20 of the best number of trees on the later part."""
        booster = boost(self.sample, features, chosen)
        return max(quality[MRR(CUT).name] for quality in quality_by_trees(booster, self.after).values())


def _study(optuna: Any, trials: Path | None, name: str) -> Any:
    """Open the study of that name. Each search draws other trials than those before it."""
    storage = None
    if trials is not None:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(trials)))
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=1 + len(study.trials))
    return study


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _suggested(trial: Any) -> Hyperparameters:
    return Hyperparameters(
        num_leaves=trial.suggest_int("num_leaves", 4, 63, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 10, 500, log=True),
        feature_fraction=trial.suggest_float("feature_fraction", 0.3, 1.0),
        lambda_l2=trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    )


def _fingerprint(groups: Sequence[Groups], features: Sequence[str]) -> str:
    """Return a name of what is learned from and how, so that trials of other sessions or versions do not count."""
    lightgbm = import_lightgbm()
    digest = hashlib.sha256(repr((features, FIXED, TREES, ORIGINS, lightgbm.__version__)).encode())
    for each in groups:
        digest.update(np.ascontiguousarray(each.features).data)
        digest.update(np.ascontiguousarray(each.is_target).data)
    return digest.hexdigest()[:16]
