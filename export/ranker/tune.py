"""Searches hyperparameters of the trees with Optuna, on parts of the past that training learns from."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.ranker.boosting import Hyperparameters, boost
from export.ranker.positions import Groups, Progress
from export.ranker.quality import CUT, MRR, quality_by_trees
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
    groups that are there already count. Raises ShopstreamError for fewer than two parts, and for a file that cannot
    be used.
    """
    import optuna

    if len(groups) < 2:
        raise ShopstreamError("past sessions are too few to tune on: train without --tune")
    optuna.logging.set_verbosity(logging.WARNING)
    folds = [(groups[:-back], groups[-back]) for back in ORIGINS if len(groups) > back]
    try:
        storage = _storage(optuna, trials)
        study = optuna.create_study(
            storage=storage,
            study_name=_fingerprint(groups, features),
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=1),
        )
    except (OSError, ValueError) as error:
        raise ShopstreamError(f"trials cannot be kept in {trials}: {error}") from None
    if not study.trials:
        default = Hyperparameters.for_positions(sum(each.positions for each in groups))
        study.enqueue_trial(asdict(default))

    began = time.monotonic()

    def measured(trial: Any) -> float:
        progress(min(1.0, (time.monotonic() - began) / (60 * minutes)))
        chosen = _suggested(trial)
        return float(np.mean([_mrr(before, after, features, chosen) for before, after in folds]))

    study.optimize(measured, timeout=60 * minutes)
    done = [Trial(Hyperparameters(**trial.params), trial.value) for trial in study.trials if trial.value is not None]
    return tuple(sorted(done, key=lambda trial: -trial.mrr))


def _suggested(trial: Any) -> Hyperparameters:
    return Hyperparameters(
        num_leaves=trial.suggest_int("num_leaves", 4, 63, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 10, 500, log=True),
        feature_fraction=trial.suggest_float("feature_fraction", 0.3, 1.0),
        lambda_l2=trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    )


def _mrr(before: Sequence[Groups], after: Groups, features: Sequence[str], chosen: Hyperparameters) -> float:
    """Return the MRR@20 of the best number of trees on a part, learned from the parts before it."""
    booster = boost(Groups.joined(before), features, np.random.default_rng(1), chosen)
    return max(quality[MRR(CUT).name] for quality in quality_by_trees(booster, after).values())


def _storage(optuna: Any, trials: Path | None) -> Any:
    if trials is None:
        return None
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(trials)))


def _fingerprint(groups: Sequence[Groups], features: Sequence[str]) -> str:
    """Return a name of what is learned from, so that trials of other sessions do not count."""
    digest = hashlib.sha256("\n".join(features).encode())
    for each in groups:
        digest.update(np.ascontiguousarray(each.features).data)
        digest.update(np.ascontiguousarray(each.is_target).data)
    return digest.hexdigest()[:16]
