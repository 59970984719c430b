"""What `python -m bench pipeline` prints and draws: one row per contender."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import ROW_INCHES, draw_bars, drawing
from bench.environment import machine, peers_versions
from bench.output import figure
from bench.pipeline.contenders import GUARANTEES, PEER_PACKAGES, PROCESS_GROUPS
from bench.pipeline.measure import Run, Sample
from bench.pipeline.prepare import Prepared


@dataclass(frozen=True)
class Row:
    """One contender, as in the JSON: medians of its rounds. events: all that were prepared, or those done in time.

    Rates are from the first result to the last; events_per_s counts the events that the results stand for; texts_per_s
    counts the texts that the encoder was asked for, once per batch, cached ones included. cpu_s_per_100k is of all the
    contender's processes in that time. peak_rss_mb: the most that they held together, shared pages counted for each.
    startup_s: from its start, with Flink's cluster already running, to the first result. state_mb: of Flink's last
    checkpoint. missing, doubled, unexpected: recommendations of all rounds. same_as_ours: share of its records that
    equal those of `ours` byte for byte. Null is what is unknown: rates of too short a run, missing ones of a run that
    was cut off.
    """

    name: str
    guarantee: str
    events: int
    events_per_s: float | None
    recommendations_per_s: float | None
    texts_per_s: float | None
    cpu_s_per_100k: float | None
    peak_rss_mb: float | None
    startup_s: float | None
    state_mb: float | None
    ratio_ours_to_it: float | None
    missing: int | None
    doubled: int
    unexpected: int
    same_as_ours: float | None


@dataclass(frozen=True)
class Rates:
    """The rates of one round between its first result and its last. texts_per_s: None if unknown."""

    events_per_s: float
    recommendations_per_s: float
    texts_per_s: float | None
    cpu_s_per_100k: float
    startup_s: float


def steady(samples: Sequence[Sample]) -> tuple[Sample, Sample] | None:
    """The samples at the first result and at the last; None if they are less than a second apart."""
    with_results = [sample for sample in samples if sample.results]
    if not with_results:
        return None
    first = with_results[0]
    last = next(sample for sample in samples if sample.results == samples[-1].results)
    return (first, last) if last.at - first.at >= 1 else None


def rates_of(run: Run, prepared: Prepared) -> Rates | None:
    """The rates of a round; None if it was too short."""
    if (window := steady(run.samples)) is None:
        return None
    first, last = window
    seconds = last.at - first.at
    # The end of a transaction takes an offset too, so there are a few more offsets than records.
    records_per_result = run.records / last.results if run.records else 1.0
    answers = (last.results - first.results) * records_per_result
    events = answers * prepared.events / len(prepared.due)
    return Rates(
        events_per_s=events / seconds,
        recommendations_per_s=answers / seconds,
        texts_per_s=None if run.texts is None else run.texts / seconds,
        cpu_s_per_100k=(last.cpu_s - first.cpu_s) / events * 1e5,
        startup_s=first.at,
    )


def row_of(name: str, runs: Sequence[Run], prepared: Prepared, ours: Run | None) -> Row:
    """The row of a contender from its rounds. ours: the run whose records are compared with its own."""
    rounds = [rates for run in runs if (rates := rates_of(run, prepared)) is not None]
    answering = [run for run in runs if name != "encoder"]
    all_finished = all(run.finished for run in answering)
    return Row(
        name=name,
        guarantee=GUARANTEES[name],
        events=min(_events_done(run, prepared) for run in runs),
        events_per_s=_median([rates.events_per_s for rates in rounds]),
        recommendations_per_s=_median([rates.recommendations_per_s for rates in rounds]),
        texts_per_s=_median([rates.texts_per_s for rates in rounds]),
        cpu_s_per_100k=_median([rates.cpu_s_per_100k for rates in rounds], digits=2),
        peak_rss_mb=round(max((sample.rss_mb for run in runs for sample in run.samples), default=0.0), 1),
        startup_s=_median([rates.startup_s for rates in rounds]),
        state_mb=next((run.state_mb for run in reversed(runs) if run.state_mb is not None), None),
        ratio_ours_to_it=None,
        missing=sum(len(prepared.due - run.digests.keys()) for run in answering) if all_finished else None,
        doubled=sum(run.records - len(run.digests) for run in answering),
        unexpected=sum(len(run.digests.keys() - prepared.due) for run in answering),
        same_as_ours=None if ours is None else _median([_share_of_equal(run, ours) for run in answering], digits=4),
    )


def _median(values: Sequence[float | None], digits: int = 1) -> float | None:
    """The median of the known values, rounded; None if there is none."""
    known = [value for value in values if value is not None]
    return round(statistics.median(known), digits) if known else None


def _events_done(run: Run, prepared: Prepared) -> int:
    """The events that a round got through."""
    return prepared.events if run.finished else len(run.digests) * prepared.events // len(prepared.due)


def _share_of_equal(run: Run, ours: Run) -> float:
    """The share of a round's records that equal those of ours."""
    equal = sum(ours.digests.get(key) == digest for key, digest in run.digests.items())
    return equal / max(len(run.digests), 1)


def with_ratio(row: Row, base: float | None) -> Row:
    """The row with its ratio: `base`, the events per second of `ours`, ÷ its own."""
    return replace(row, ratio_ours_to_it=round(base / row.events_per_s, 3)) if base and row.events_per_s else row


def show(about: str, rows: Sequence[Row], console: Console) -> None:
    """Print a table, the fastest first, then the events, the machine and the versions.

    CPU s: per 100,000 events; wrong: doubled and unexpected records; same: share of records equal to those of `ours`.
    """
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "", "guarantee", "events/s", "ours/it", "recs/s", "texts/s", "CPU s", "MB", "start s", "missing", "wrong",
        "same",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "guarantee") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -(row.events_per_s or 0)):
        table.add_row(
            row.name,
            row.guarantee,
            figure(row.events_per_s),
            figure(row.ratio_ours_to_it, 2),
            figure(row.recommendations_per_s),
            figure(row.texts_per_s),
            figure(row.cpu_s_per_100k, 1),
            figure(row.peak_rss_mb),
            figure(row.startup_s, 1),
            figure(row.missing),
            str(row.doubled + row.unexpected),
            figure(row.same_as_ours, 3),
            style="bold" if row.name.startswith("ours") else None,
        )
    console.print(table)
    console.print(f"events: {about}", markup=False)
    console.print(f"machine: {machine()}; shared by the broker, the contender and the benchmark", markup=False)
    if any(PROCESS_GROUPS.get(row.name) for row in rows):
        versions = peers_versions("pipeline", *PEER_PACKAGES)
        console.print("peers: " + ", ".join(f"{name} {version}" for name, version in versions.items()), markup=False)


def progress_line(row: Row) -> str:
    """A row on one line, as progress."""
    texts = f", {row.texts_per_s:,.0f} texts/s" if row.texts_per_s is not None else ""
    wrong = f"missing {row.missing}, doubled {row.doubled}, unexpected {row.unexpected}"
    return f"{figure(row.events_per_s)} events/s{texts}, first result after {figure(row.startup_s, 1)} s; {wrong}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw bars of events/s."""
    bars = [
        (row.name, row.events_per_s, f"{row.events_per_s:,.0f}  ({row.guarantee})") for row in rows if row.events_per_s
    ]
    bars.sort(key=lambda bar: bar[1])
    with drawing(file, 6.4, 0.6 + ROW_INCHES * len(bars)) as chart:
        draw_bars(chart.add_subplot(), "events/s, catching up", bars, margin=0.6)
