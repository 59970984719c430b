"""What `python -m bench quality` prints and writes: one row per contender."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.environment import machine
from bench.quality.metrics import RESAMPLES
from bench.quality.ours import ABLATIONS

HEADINGS = ["", "HR@20", "95 %", "MRR@20", "95 %", "nDCG@20", "HR@5", "cover", "novel", "divers", "cold", "p50", "p99"]


@dataclass(frozen=True)
class Row:
    """One contender, as in the JSON.

    coverage: share of the items, in training or the catalog, that are in some list of 20. novelty: in bits, the mean of
    -log2 of a recommended item's share of the training events, one added per item. diversity: mean over the pairs of a
    list of 1 − cosine, by categories if the catalog has them, else by the training sessions of each item; null for
    lists of less than two items. cold_hr_20: HR@20 at positions whose item is not in training, null without any;
    cold_share: the share of these positions. p50_ms, p99_ms: of one prediction at a time. intervals: 2.5th and 97.5th
    percentile, over sessions drawn with replacement. below_ours: by how much the MRR@20 is below that of the row `ours`
    at the same positions, and the interval of that; null without such a row. valid_mrr_20: the score by which the
    parameters were chosen. seed: of the draw and of all random choices.
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
    seed: int
    intervals: dict[str, list[float]]
    parameters: dict[str, Any]
    trials: int
    valid_mrr_20: float | None
    fit_s: float
    predict_s: float
    below_ours: list[float] | None = None


def show(about: str, rows: Sequence[Row], next_step: str, console: Console) -> None:
    """Print the table, best MRR@20 first, the parameters, what was measured, the machine, and what to do next."""
    table = Table(title="next item in the session", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row), style="bold" if row.name.startswith("ours") else None)
    console.print(table)
    lines = [*_parameters(rows), about, *_legend(rows), f"machine: {machine()}", *([next_step] if next_step else [])]
    for line in lines:
        console.print(line, markup=False)


def markdown(about: str, rows: Sequence[Row]) -> str:
    """The same as Markdown."""
    lines = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = [f"- {line}" for line in (*_parameters(rows), f"machine: {machine()}")]
    return "\n".join(
        ["# Next item in the session", "", f"{about}. {' '.join(_legend(rows))}", "", table, "", *notes, ""]
    )


def _cells(row: Row) -> list[str]:
    def figure(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}".removeprefix("0")

    def interval(metric: str) -> str:
        return "–".join(figure(value, 3) for value in row.intervals[metric])

    return [
        row.name,
        *(figure(row.hr_20, 4), interval("hr_20"), figure(row.mrr_20, 4), interval("mrr_20")),
        *(figure(value, 4) for value in (row.ndcg_20, row.hr_5)),
        *(figure(row.coverage, 3), figure(row.novelty, 2), figure(row.diversity, 3), figure(row.cold_hr_20, 3)),
        *(figure(row.p50_ms, 2), figure(row.p99_ms, 2)),
    ]


def _parameters(rows: Sequence[Row]) -> list[str]:
    """The parameters of each contender, and how they were found."""
    return [
        f"{row.name}: {', '.join(f'{key} {value}' for key, value in row.parameters.items())}"
        + (f" (best of {row.trials} settings, MRR@20 {row.valid_mrr_20:.4f} on validation)" if row.trials else "")
        for row in rows
        if row.parameters
    ]


def _legend(rows: Sequence[Row]) -> list[str]:
    """The meaning of the columns."""
    return [
        f"95 %: intervals over {RESAMPLES:,} resamples of sessions. p50, p99: ms for one prediction alone.",
        f"Diversity: by {rows[0].diversity_by}. Cold: items not in training, {rows[0].cold_share:.2%} of the targets.",
        *_lead(rows),
        *_worth(rows),
    ]


def _lead(rows: Sequence[Row]) -> list[str]:
    """By how much ours is above the best of the others."""
    best = _best_other(rows)
    if best is None or best.below_ours is None:
        return []
    mean, low, high = best.below_ours
    line = f"MRR@20 of ours: {_ratio(best):.3f} × {best.name}, the best of the others"
    return [f"{line}; {mean:+.4f} ({low:+.4f} to {high:+.4f})."]


def _worth(rows: Sequence[Row]) -> list[str]:
    """What is lost without each source and trick, the largest loss first."""
    lines = [
        (row.below_ours[0], f"MRR@20 {-mean:+.4f} ({-high:+.4f} to {-low:+.4f}) {row.name.removeprefix('ours-')}.")
        for row in rows
        if row.below_ours is not None and (row.name in ABLATIONS or row.name == "ours-no-text")
        for mean, low, high in (row.below_ours,)
    ]
    return [line for _, line in sorted(lines, reverse=True)]


def _best_other(rows: Sequence[Row]) -> Row | None:
    """The best contender by MRR@20 that is not ours, None without any."""
    return max((row for row in rows if not row.name.startswith("ours")), key=lambda row: row.mrr_20, default=None)


def _ratio(row: Row) -> float:
    """The MRR@20 of ours by that of a row that has below_ours."""
    assert row.below_ours is not None  # noqa: S101 - for mypy
    return (row.mrr_20 + row.below_ours[0]) / max(row.mrr_20, 1e-9)


def show_draws(draws: Sequence[Sequence[Row]], console: Console) -> None:
    """Print a line per draw of a small shop, ours beside the best of the others, and the mean ratio."""
    ratios = []
    for number, rows in enumerate(draws, 1):
        for line in _lead(rows):
            console.print(f"draw {number}: {line}", markup=False)
        best = _best_other(rows)
        if best and best.below_ours:
            ratios.append(_ratio(best))
    if ratios:
        console.print(f"mean of {len(ratios)} draws: {sum(ratios) / len(ratios):.3f} × the best of the others")
