"""`python -m bench quality`: next-item prediction in sessions, beside the published baselines.

At each position p of a test session the items 1 … p are given and item p + 1 is asked for. With that item's rank in the
list, from 1 on:

    HR@k    1 if it is among the first k, else 0
    MRR@k   1 ÷ rank if it is among the first k, else 0
    nDCG@k  1 ÷ log2(rank + 1) if it is among the first k, else 0

averaged over positions (Ludewig, Mauro, Latifi & Jannach 2020, "Empirical analysis of session-based recommendation
algorithms"). Items that are not in training count as all others do.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench import ours_quality
from bench.baselines import BASELINES, Baseline, VectorSessionKnn, Vstan, published
from bench.encode import machine
from bench.quality_data import Split, read_split
from export.history.interactions import Interactions
from udfs.core.arrays import Floats, Ints, factorize
from udfs.core.errors import ShopstreamError

#: Lengths of the lists.
CUTS = (5, 10, 20)
LONGEST = max(CUTS)
METRICS = tuple(f"{metric}_{cut}" for metric in ("hr", "mrr", "ndcg") for cut in CUTS)
#: Prefixes that a contender gets at once, and those that it gets one by one for the latency, after some to warm up.
CHUNK, ALONE, WARM = 512, 1000, 20
#: What baselines are tuned on: the last of the training sessions, and at most so many of their positions.
VALIDATION_SHARE, VALIDATION_POSITIONS = 0.2, 2000
RESAMPLES = 1000
#: Numbers drawn at once for the resamples; bounds memory.
DRAWS = 1 << 22


class Contender(Protocol):
    """What can be measured. `parameters`, a mapping, is shown where a contender has it."""

    @property
    def name(self) -> str:
        """What its row is called."""

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Learn from past sessions and from the catalogue (schema udfs.datasets.CATALOG), if there is one."""

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:
        """int64 [S, k]: what may follow each of S prefixes, numbers of items, best first; -1 fills up.

        A prefix's last event is now. repeats=False: an item of the prefix may not be named.
        """


#: Contenders with parameters as they are, by the name of their row.
FIXED: Mapping[str, Callable[[], Contender]] = {
    "vsknn-published": lambda: published(VectorSessionKnn),
    "vstan-published": lambda: published(Vstan),
}
TUNED: Mapping[str, type[Baseline]] = {kind.name: kind for kind in BASELINES}
NAMES = (*ours_quality.NAMES, *TUNED, *FIXED)


@dataclass(frozen=True)
class Options:
    """What was asked for; `positions` 0: all of them; `only` empty: all contenders.

    bundles: the folder of bundles whose encoder reads titles; without one, a bundle is made.
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


@dataclass(frozen=True)
class Row:
    """One contender, as the JSON has it.

    coverage: share of the items, in training or the catalogue, that are in some list of 20. novelty: bits, the mean of
    -log2 of a recommended item's share of the training events (each item counted once more than it occurs).
    diversity: mean over pairs of a list of 1 − cosine, of categories where the catalogue has them, else of the training
    sessions with each item; null with fewer than two items. cold_hr_20: of the positions whose item is not in training,
    null without any; cold_share, how many these are. p50_ms, p99_ms: for one prefix at a time. intervals: 2.5th and
    97.5th percentile, sessions drawn with replacement. valid_mrr_20: what the parameters were chosen by.
    """

    name: str
    hr_20: float
    mrr_20: float
    ndcg_20: float
    coverage: float
    cold_hr_20: float | None
    p50_ms: float
    p99_ms: float
    hr_5: float
    hr_10: float
    mrr_5: float
    mrr_10: float
    ndcg_5: float
    ndcg_10: float
    novelty: float | None
    diversity: float | None
    diversity_by: str
    cold_share: float
    positions: int
    sessions: int
    repeats: bool
    intervals: dict[str, list[float]]
    parameters: dict[str, Any]
    trials: int
    valid_mrr_20: float | None
    fit_s: float
    predict_s: float


# --- positions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Positions:
    """P places in sessions where the next item is asked for, by session, then by length of the prefix."""

    of: Interactions
    session: Ints  #: int64 [P], the session of each
    length: Ints  #: int64 [P], events that are given, from 1 on

    @classmethod
    def every(cls, of: Interactions) -> "Positions":
        """Every position of every session; a session of one event has none."""
        asked = np.diff(of.offsets) - 1
        session = np.repeat(np.arange(len(of)), asked)
        return cls(of, session, np.arange(len(session)) - np.repeat(np.cumsum(asked) - asked, asked) + 1)

    def __len__(self) -> int:
        return len(self.session)

    @property
    def target(self) -> Ints:
        """int64 [P]: the items that are asked for."""
        return self.of.item.take(self.of.offsets[self.session] + self.length)

    def at(self, places: Ints | slice) -> "Positions":
        """Some of them."""
        return Positions(self.of, self.session[places], self.length[places])

    def sample(self, count: int, seed: int) -> "Positions":
        """At most `count` (0: all) positions: those of sessions drawn whole, or of one session where none fits."""
        if not count or len(self) <= count:
            return self
        sessions, sizes = np.unique(self.session, return_counts=True)
        drawn = np.random.default_rng(seed).permutation(len(sessions))
        fit = max(1, int(np.searchsorted(np.cumsum(sizes[drawn]), count, side="right")))
        return self.at(np.isin(self.session, sessions[drawn[:fit]]).nonzero()[0])

    def prefixes(self) -> Interactions:
        """What is given at each, as sessions in their order here."""
        offsets = np.concatenate(([0], np.cumsum(self.length)))
        events = np.arange(offsets[-1]) + np.repeat(self.of.offsets[self.session] - offsets[:-1], self.length)
        columns = {name: getattr(self.of, name)[events] for name in ("item", "time", "type_code")}
        return replace(self.of, offsets=offsets, user=self.of.user[self.session], **columns)

    def chunks(self, size: int) -> Iterator["Positions"]:
        """The same, `size` at a time."""
        for first in range(0, len(self), size):
            yield self.at(slice(first, first + size))


# --- metrics ----------------------------------------------------------------------------------------------------------


def predictions(contender: Contender, positions: Positions, *, repeats: bool) -> Ints:
    """int64 [P, 20]: the contender's lists. Raises ValueError for other shapes and for an item named twice."""
    parts = [contender.predict(part.prefixes(), LONGEST, repeats=repeats) for part in positions.chunks(CHUNK)]
    lists = np.concatenate(parts)
    ordered = np.sort(lists, axis=1)
    if lists.shape != (len(positions), LONGEST) or ((np.diff(ordered) == 0) & (ordered[:, 1:] >= 0)).any():
        raise ValueError(f"{contender.name} must name {LONGEST} different items for each prefix, or -1")
    return lists


def ranks(lists: Ints, target: Ints) -> Ints:
    """int64 [P]: from 1 on, the rank of each target in its list, int64 [P, k]; 0 where it is not there."""
    hit = lists == target[:, None]
    rank: Ints = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return rank


def gains(rank: Ints) -> Floats:
    """float64 [P, METRICS]: what each rank (0: none) counts for."""
    found = np.maximum(rank, 1).astype(np.float64)
    worth = {"hr": np.ones(len(rank)), "mrr": 1 / found, "ndcg": 1 / np.log2(found + 1)}
    columns = [np.where((rank > 0) & (rank <= cut), worth[metric], 0) for metric in worth for cut in CUTS]
    return np.stack(columns, axis=1)


def intervals(gained: Floats, session: Ints, seed: int) -> Floats:
    """float64 [2, METRICS]: 2.5th and 97.5th percentile of the means, sessions (int64 [P]) drawn with replacement."""
    _, group, sizes = np.unique(session, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(group, column) for column in gained.T], axis=1)
    rng, rows = np.random.default_rng(seed), max(1, DRAWS // len(sizes))
    means = []
    for first in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), min(rows, RESAMPLES - first))
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    return np.asarray(np.percentile(np.concatenate(means), (2.5, 97.5), axis=0))


def novelty(lists: Ints, counts: Ints) -> float | None:
    """Bits: the mean self-information of the recommended items by their training events, int64 [items]."""
    named = lists[lists >= 0]
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return float(bits[named].mean()) if len(named) else None


def diversity(lists: Ints, traits: Any) -> float | None:
    """Mean 1 − cosine over the pairs of each list, then over lists of two items or more.

    traits: CSR [items, traits] of non-negative weights; items without any are unlike all others.
    """
    length = np.sqrt(np.asarray(traits.multiply(traits).sum(axis=1)).ravel())
    unit = sp.diags_array(1 / np.where(length > 0, length, 1)) @ traits
    named = lists >= 0
    alike = np.empty(len(lists))
    for first in range(0, len(lists), CHUNK):
        some = slice(first, first + CHUNK)
        offsets = np.concatenate(([0], np.cumsum(named[some].sum(axis=1))))
        item = lists[some][named[some]]
        together = sp.csr_array((np.ones(len(item)), item, offsets), shape=(len(offsets) - 1, len(length))) @ unit
        # |Σ unit vectors|² is the sum of all cosines, each item's with itself included.
        alike[some] = np.asarray(together.multiply(together).sum(axis=1)).ravel()
    size, own = named.sum(axis=1), np.where(named, (length > 0)[np.where(named, lists, 0)], False).sum(axis=1)
    pairs = size * (size - 1)
    distance = 1 - (alike - own)[pairs > 0] / pairs[pairs > 0]
    return float(distance.mean()) if len(distance) else None


def traits_of(split: Split) -> tuple[str, Any]:
    """What `diversity` goes by, in words and as CSR [items, traits]."""
    train, size = split.train, len(split.train.items)
    if split.catalog is not None and split.catalog["category"].null_count < len(split.catalog):
        category = dict(zip(split.catalog["item_id"].to_pylist(), split.catalog["category"].to_pylist(), strict=True))
        code, names = factorize(np.array([category.get(item) for item in train.items], dtype=object))
        known = np.flatnonzero(code >= 0)
        return "category", sp.csr_array((np.ones(len(known)), (known, code[known])), shape=(size, len(names)))
    pairs = np.unique(train.session * size + train.item)
    return "training sessions", sp.csr_array((np.ones(len(pairs)), (pairs % size, pairs // size)), (size, len(train)))


def latency(contender: Contender, positions: Positions, count: int, seed: int, *, repeats: bool) -> Floats:
    """float64 [count]: milliseconds of predictions made one at a time on one core, after some to warm up."""
    drawn = np.random.default_rng(seed).integers(len(positions), size=WARM + count)
    prefixes = [positions.at(drawn[[place]]).prefixes() for place in range(len(drawn))]
    times = []
    with threadpool_limits(1):  # as in a job's worker
        for prefix in prefixes:
            start = time.perf_counter()
            contender.predict(prefix, LONGEST, repeats=repeats)
            times.append(time.perf_counter() - start)
    return np.multiply(1000.0, times[WARM:])


# --- the command ------------------------------------------------------------------------------------------------------


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
        fixed = {**ours_quality.contenders(self.options.bundles, repeats=self.options.repeats), **FIXED}
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


def draws(space: Mapping[str, Sequence[Any]], trials: int, seed: int) -> list[dict[str, Any]]:
    """At most `trials` different settings of a space: the first value of each parameter, then others at random."""
    shape = tuple(len(values) for values in space.values())
    others = np.random.default_rng(seed).permutation(math.prod(shape) - 1)[: trials - 1] + 1
    places = np.unravel_index(np.append(0, others), shape)
    columns = [[values[place] for place in chosen] for values, chosen in zip(space.values(), places, strict=True)]
    return [dict(zip(space, setting, strict=True)) for setting in zip(*columns, strict=True)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


# --- what people read -------------------------------------------------------------------------------------------------

HEADINGS = ["", "HR@20", "95 %", "MRR@20", "95 %", "nDCG@20", "HR@5", "cover", "novel", "divers", "cold", "p50", "p99"]


def show(about: str, rows: Sequence[Row], options: Options, console: Console) -> None:
    """The table, best MRR@20 first, then the parameters, what was measured on, the machine, and what to do next."""
    table = Table(title="next item in the session", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row), style="bold" if row.name.startswith("ours") else None)
    console.print(table)
    for line in (*_parameters(rows), about, *_words(rows), f"machine: {machine()}"):
        console.print(line, markup=False)
    if options.quick:
        console.print("next: the same without --quick, whose few trials and positions rank nobody", markup=False)
    elif options.report is None:
        console.print("next: --report FILE.md keeps this table, --json prints every figure", markup=False)


def report(about: str, rows: Sequence[Row]) -> str:
    """The same as Markdown."""
    lines = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = [f"- {line}" for line in (*_parameters(rows), f"machine: {machine()}")]
    return "\n".join(
        ["# Next item in the session", "", f"{about}. {' '.join(_words(rows))}", "", table, "", *notes, ""]
    )


def _cells(row: Row) -> list[str]:
    def figure(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}".removeprefix("0")

    def between(metric: str) -> str:
        return "–".join(figure(value, 3) for value in row.intervals[metric])

    return [
        row.name,
        *(figure(row.hr_20, 4), between("hr_20"), figure(row.mrr_20, 4), between("mrr_20")),
        *(figure(value, 4) for value in (row.ndcg_20, row.hr_5)),
        *(figure(row.coverage, 3), figure(row.novelty, 2), figure(row.diversity, 3), figure(row.cold_hr_20, 3)),
        *(figure(row.p50_ms, 2), figure(row.p99_ms, 2)),
    ]


def _parameters(rows: Sequence[Row]) -> list[str]:
    """What each contender ran with, and how that was found."""
    return [
        f"{row.name}: {', '.join(f'{key} {value}' for key, value in row.parameters.items())}"
        + (f" (best of {row.trials} settings, MRR@20 {row.valid_mrr_20:.4f} on validation)" if row.trials else "")
        for row in rows
        if row.parameters
    ]


def _words(rows: Sequence[Row]) -> list[str]:
    """What the columns mean."""
    return [
        f"95 %: intervals over {RESAMPLES:,} resamples of sessions. p50, p99: ms for one prediction alone.",
        f"Diversity: by {rows[0].diversity_by}. Cold: items not in training, {rows[0].cold_share:.2%} of the targets.",
    ]
