"""`python -m bench quality`: next-item prediction in sessions by our ranker and the published baselines."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench.output import print_json, progress_console, require_folder, require_known, table_console
from bench.quality.contenders import DEFAULTS, FIXED, NAMES, TUNED, Contender, trial_settings
from bench.quality.data import Split, read_split
from bench.quality.metrics import METRICS, diversity, gains, intervals, novelty, ranks, traits_of
from bench.quality.ours import ABLATIONS, Texts, our_contenders
from bench.quality.positions import LATENCY_PREDICTIONS, Positions, latency, predictions
from bench.quality.report import Row, markdown, show, show_draws
from export.ranker.prior import FILE
from udfs.core.arrays import Floats
from udfs.core.errors import ShopstreamError

#: Share of the training sessions, the last ones, that baselines are tuned on.
VALIDATION_SHARE = 0.2
#: At most this many positions of them are used.
VALIDATION_POSITIONS = 2000


@dataclass(frozen=True)
class Options:
    """The options of the command; `positions` 0: all positions; `only` empty: all contenders.

    bundles: the folder of bundles whose encoder reads titles; without one, a bundle is exported. sessions: measure
    small shops of that many training sessions, `draws` of them, by seeds from `seed` on; None: the whole one.
    held_back: test on the last training sessions instead of on the test sessions. ablate: also measure ours without
    each of its sources and tricks. prior: the ranker of a shop without sessions.
    """

    data: Path
    only: tuple[str, ...] = ()
    repeats: bool = True
    quick: bool = False
    trials: int = 16
    positions: int = 20_000
    seed: int = 0
    report: Path | None = None
    bundles: Path | None = None
    sessions: int | None = None
    draws: int = 1
    held_back: bool = False
    ablate: bool = False
    prior: Path = FILE


def run(options: Options, *, as_json: bool) -> None:
    """Measure, and print a table or a JSON list; raise ShopstreamError for what a user can fix."""
    require_known(options.only, NAMES)
    if options.report is not None:
        require_folder("--report", options.report)
    if options.repeats and "ours-prior" in options.only:
        raise ShopstreamError("ours-prior recommends no item again: measure it with --no-repeats")
    if options.prior != FILE and "ours-prior" not in options.only:
        raise ShopstreamError("--prior is for the row ours-prior: name that with --only")
    if options.quick:
        options = replace(options, trials=min(options.trials, 3), positions=min(options.positions or 2000, 2000))
    progress = progress_console()
    texts = Texts(options.bundles)
    measured: list[tuple[str, list[Row]]] = []
    for seed in range(options.seed, options.seed + options.draws):
        split = read_split(
            options.data,
            repeats=options.repeats,
            sessions=options.sessions,
            seed=seed,
            held_back=options.held_back,
        )
        evaluation = Evaluation.of(replace(options, seed=seed), split)
        progress.print(evaluation.about, markup=False)
        measured.append((evaluation.about, evaluation.rows(progress, texts)))
    if options.report is not None:
        options.report.write_text("\n".join(markdown(about, rows) for about, rows in measured))
    if as_json:
        print_json([asdict(row) for _, rows in measured for row in rows])
        return
    console = table_console(120)
    for about, rows in measured:
        show(about, rows, _next_step(options), console)
    if options.draws > 1:
        show_draws([rows for _, rows in measured], console)


def _next_step(options: Options) -> str:
    if options.quick:
        return "next: the same without --quick, whose few trials and positions do not suffice to rank contenders"
    return "" if options.report else "next: --report FILE.md keeps this table, --json prints every figure"


@dataclass(frozen=True)
class Evaluation:
    """Everything that contenders have in common."""

    options: Options
    split: Split
    positions: Positions
    about: str
    diversity_by: str
    traits: Any = field(repr=False)

    @classmethod
    def of(cls, options: Options, split: Split) -> "Evaluation":
        """Draw the positions, and describe the data."""
        every = Positions.every(split.test)
        positions = every.sample(options.positions, options.seed)
        part = f"all {len(every):,}" if len(positions) == len(every) else f"{len(positions):,} of {len(every):,}"
        drawn = "" if len(positions) == len(every) else f", sessions drawn whole, seed {options.seed}"
        train = split.train
        about = (
            f"trained on {len(train):,} sessions, {len(train.item):,} events, {(split.counts > 0).sum():,} items; "
            f"tested at {part} positions of {len(np.unique(positions.session)):,} sessions{drawn}; "
            f"{'with' if options.repeats else 'without'} repeats"
            f"{'; test sessions held back' if options.held_back else ''}"
        )
        return cls(options, split, positions, about, *traits_of(split))

    def rows(self, progress: Console, texts: Texts) -> list[Row]:
        """Measure every contender; return their rows, the highest MRR@20 first. texts: the vectors of titles."""
        options = self.options
        wanted = {*(options.only or DEFAULTS), *(("ours", "ours-no-text", *ABLATIONS) if options.ablate else ())}
        names = [name for name in NAMES if name in wanted]
        fixed = {**our_contenders(texts, repeats=options.repeats, prior=options.prior), **FIXED}
        rows, reciprocal = [], {}
        with Progress(console=progress, transient=True) as bar:
            task = bar.add_task("", total=len(names))
            for name in names:
                bar.update(task, description=name)
                contender, trials, valid_mrr = (fixed[name](), 0, None) if name in fixed else self._tuned(name)
                row, reciprocal[name] = self.measure(name, contender, trials, valid_mrr)
                rows.append(row)
                progress.print(f"{name}: HR@20 {rows[-1].hr_20:.4f}, MRR@20 {rows[-1].mrr_20:.4f}", markup=False)
                bar.advance(task)
        if "ours" in reciprocal:
            rows = [replace(row, below_ours=self._below(reciprocal["ours"] - reciprocal[row.name])) for row in rows]
        return sorted(rows, key=lambda row: -row.mrr_20)

    def _below(self, difference: Floats) -> list[float]:
        """The mean of a difference at the same positions, float64 [P], and its interval."""
        ranges = intervals(difference[:, None], self.positions.session, self.options.seed)
        return [round(float(value), 6) for value in (difference.mean(), *ranges[:, 0])]

    def _tuned(self, name: str) -> tuple[Contender, int, float | None]:
        """An untrained contender at its best setting, the number of settings tried, and the best one's MRR@20."""
        kind = TUNED[name]
        if not kind.space:
            return kind(), 0, None
        earlier, later = self.split.train.split(VALIDATION_SHARE)
        count = VALIDATION_POSITIONS // (5 if self.options.quick else 1)
        positions = Positions.every(later).sample(count, self.options.seed)
        if not len(earlier) or not len(positions):
            raise ShopstreamError(f"{self.options.data}: too few training sessions to tune on")
        settings = trial_settings(kind.space, self.options.trials, self.options.seed)
        scores = []
        for setting in settings:
            trial = kind(**setting)
            trial.fit(earlier, self.split.catalog)
            lists = predictions(trial, positions, repeats=self.options.repeats)
            scores.append(float(gains(ranks(lists, positions.target))[:, METRICS.index("mrr_20")].mean()))
        best = int(np.argmax(scores))
        return kind(**settings[best]), len(settings), scores[best]

    def measure(self, name: str, contender: Contender, trials: int, valid_mrr: float | None) -> tuple[Row, Floats]:
        """Train a contender on all training sessions, and test it; also return its 1 ÷ rank at each position."""
        split, positions, options = self.split, self.positions, self.options
        started = time.perf_counter()
        contender.fit(split.train, split.catalog)
        fitted = time.perf_counter()
        lists = predictions(contender, positions, repeats=options.repeats)
        predicted = time.perf_counter()
        target = positions.target
        gain = gains(ranks(lists, target))
        means = dict(zip(METRICS, np.round(gain.mean(axis=0), 6).tolist(), strict=True))
        ranges = np.round(intervals(gain, positions.session, options.seed), 6).T.tolist()
        cold = split.counts[target] == 0
        named = np.unique(lists[lists >= 0])
        known = split.known
        count = LATENCY_PREDICTIONS // (10 if options.quick else 1)
        times_ms = latency(contender, positions, count, options.seed, repeats=options.repeats)
        p50, p99 = np.round(np.percentile(times_ms, (50, 99)), 4).tolist()
        row = Row(
            name=name,
            **means,
            coverage=round(float(known[named].sum() / known.sum()), 6),
            cold_hr_20=round(float(gain[cold, METRICS.index("hr_20")].mean()), 6) if cold.any() else None,
            p50_ms=p50,
            p99_ms=p99,
            novelty=_rounded(novelty(lists, split.counts)),
            diversity=_rounded(diversity(lists, self.traits)),
            diversity_by=self.diversity_by,
            cold_share=round(float(cold.mean()), 6),
            positions=len(positions),
            sessions=len(np.unique(positions.session)),
            repeats=options.repeats,
            seed=options.seed,
            intervals=dict(zip(METRICS, ranges, strict=True)),
            parameters=dict(getattr(contender, "parameters", {})),
            trials=trials,
            valid_mrr_20=_rounded(valid_mrr),
            fit_s=round(fitted - started, 3),
            predict_s=round(predicted - fitted, 3),
        )
        return row, gain[:, METRICS.index("mrr_20")]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
