"""The command `python -m bench quality`."""

import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench.quality.contenders import FIXED, NAMES, TUNED, Contender, draws
from bench.quality.data import Split, read_split
from bench.quality.metrics import METRICS, diversity, gains, intervals, novelty, ranks, traits_of
from bench.quality.ours import contenders
from bench.quality.positions import ALONE, Positions, latency, predictions
from bench.quality.report import Options, Row, report, show
from udfs.errors import ShopstreamError

#: What baselines are tuned on: the last of the training sessions, and at most so many of their positions.
VALIDATION_SHARE, VALIDATION_POSITIONS = 0.2, 2000


def run(options: Options, *, as_json: bool) -> None:
    """Measure, and print a table or a JSON list; raises ShopstreamError for what a user can mend."""
    if unknown := sorted(set(options.only) - set(NAMES)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the contenders are {', '.join(NAMES)}")
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise ShopstreamError(f"--report {options.report}: there is no folder {options.report.absolute().parent}")
    if options.quick:
        options = replace(options, trials=min(options.trials, 3), positions=min(options.positions or 2000, 2000))
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    split = read_split(options.data, repeats=options.repeats)
    race = Race.of(options, split)
    notes.print(race.about, markup=False)
    with Progress(console=notes, transient=True) as progress:
        rows = race.rows(notes, progress)
    if options.report is not None:
        options.report.write_text(report(race.about, rows))
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        show(
            race.about,
            rows,
            options,
            Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120),
        )


@dataclass(frozen=True)
class Race:
    """Everything that contenders have in common."""

    options: Options
    split: Split
    positions: Positions
    about: str
    diversity_by: str
    traits: Any = field(repr=False)

    @classmethod
    def of(cls, options: Options, split: Split) -> "Race":
        """Draw the positions, and say what is measured on."""
        every = Positions.every(split.test)
        positions = every.sample(options.positions, options.seed)
        part = f"all {len(every):,}" if len(positions) == len(every) else f"{len(positions):,} of {len(every):,}"
        whole = "" if len(positions) == len(every) else f", sessions drawn whole, seed {options.seed}"
        train = split.train
        about = (
            f"trained on {len(train):,} sessions, {len(train.item):,} events, {(split.counts > 0).sum():,} items; "
            f"tested at {part} positions of {len(np.unique(positions.session)):,} sessions{whole}; "
            f"{'repeats stay' if options.repeats else 'without repeats'}"
        )
        return cls(options, split, positions, about, *traits_of(split))

    def rows(self, notes: Console, progress: Progress) -> list[Row]:
        """Every contender's row, the highest MRR@20 first."""
        names = [name for name in NAMES if not self.options.only or name in self.options.only]
        fixed = {**contenders(self.options.bundles, repeats=self.options.repeats), **FIXED}
        task = progress.add_task("", total=len(names))
        rows = []
        for name in names:
            progress.update(task, description=name)
            contender, tried, chosen_by = (fixed[name](), 0, None) if name in fixed else self._tuned(name)
            rows.append(self.measure(name, contender, tried, chosen_by))
            notes.print(f"{name}: HR@20 {rows[-1].hr_20:.4f}, MRR@20 {rows[-1].mrr_20:.4f}", markup=False)
            progress.advance(task)
        return sorted(rows, key=lambda row: -row.mrr_20)

    def _tuned(self, name: str) -> tuple[Contender, int, float | None]:
        """A contender that has learnt nothing yet, how many settings were tried, and the best one's MRR@20."""
        kind = TUNED[name]
        if not kind.space:
            return kind(), 0, None
        earlier, later = self.split.train.split(VALIDATION_SHARE)
        positions = Positions.every(later).sample(
            VALIDATION_POSITIONS // (5 if self.options.quick else 1), self.options.seed
        )
        if not len(earlier) or not len(positions):
            raise ShopstreamError(f"{self.options.data}: too few training sessions to tune on")
        settings = draws(kind.space, self.options.trials, self.options.seed)
        scores = []
        for setting in settings:
            trial = kind(**setting)
            trial.fit(earlier, self.split.catalog)
            lists = predictions(trial, positions, repeats=self.options.repeats)
            scores.append(float(gains(ranks(lists, positions.target))[:, METRICS.index("mrr_20")].mean()))
        best = int(np.argmax(scores))
        return kind(**settings[best]), len(settings), scores[best]

    def measure(self, name: str, contender: Contender, trials: int, valid_mrr: float | None) -> Row:
        """Fit a contender on all of the training sessions, and test it."""
        split, positions, options = self.split, self.positions, self.options
        started = time.perf_counter()
        contender.fit(split.train, split.catalog)
        fitted = time.perf_counter()
        lists = predictions(contender, positions, repeats=options.repeats)
        predicted = time.perf_counter()
        target = positions.target
        gained = gains(ranks(lists, target))
        means = dict(zip(METRICS, np.round(gained.mean(axis=0), 6).tolist(), strict=True))
        ranges = np.round(intervals(gained, positions.session, options.seed), 6).T.tolist()
        cold = split.counts[target] == 0
        named, known = np.unique(lists[lists >= 0]), split.known
        alone = latency(
            contender, positions, ALONE // (10 if options.quick else 1), options.seed, repeats=options.repeats
        )
        p50, p99 = np.round(np.percentile(alone, (50, 99)), 4).tolist()
        return Row(
            name=name,
            **means,
            coverage=round(float(known[named].sum() / known.sum()), 6),
            cold_hr_20=round(float(gained[cold, METRICS.index("hr_20")].mean()), 6) if cold.any() else None,
            p50_ms=p50,
            p99_ms=p99,
            novelty=_rounded(novelty(lists, split.counts)),
            diversity=_rounded(diversity(lists, self.traits)),
            diversity_by=self.diversity_by,
            cold_share=round(float(cold.mean()), 6),
            positions=len(positions),
            sessions=len(np.unique(positions.session)),
            repeats=options.repeats,
            intervals=dict(zip(METRICS, ranges, strict=True)),
            parameters=dict(getattr(contender, "parameters", {})),
            trials=trials,
            valid_mrr_20=_rounded(valid_mrr),
            fit_s=round(fitted - started, 3),
            predict_s=round(predicted - fitted, 3),
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
