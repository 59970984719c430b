"""What `python -m bench pipeline` prints and draws."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import OURS, PEERS
from bench.environment import machine, peers_versions
from bench.pipeline.contenders import GUARANTEES, OTHERS, PEER_PACKAGES
from bench.pipeline.measure import Run, steady
from bench.pipeline.prepare import Prepared


@dataclass(frozen=True)
class Row:
    """One contender, as the JSON has it: the median of its rounds. events: those prepared, or got through in time.

    Rates are from the first result to the last, events_per_s by the share of the events that the results stand for;
    texts are those that the encoder was asked for, each once a batch, from its cache too. CPU is of all the contender's
    processes in that time, peak_rss_mb the most that they held together, pages that they share counted for each.
    startup_s: from its start (Flink's cluster runs by then) to the first result; state_mb: of Flink's last checkpoint.
    missing, doubled and unexpected recommendations, of all rounds; same_as_ours: share of its records that equal those
    of `ours` byte for byte. Null is what cannot be told: rates of too short a run, missing ones of a run that was cut
    off.
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


def row_of(name: str, runs: Sequence[Run], prepared: Prepared, ours: Run | None) -> Row:
    """The median of a contender's rounds; `ours`: what its records are compared with."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        if window := steady(run.samples):
            first, end = window
            seconds = end.at - first.at
            # A transaction's end takes an offset too, so the topic counts a few more than there are records.
            real = run.records / end.records if run.records else 1.0
            answers = (end.records - first.records) * real
            events = answers * prepared.events / len(prepared.due)
            of_run = {"events": events / seconds, "recommendations": answers / seconds, "startup": first.at}
            of_run["cpu"] = (end.cpu_s - first.cpu_s) / events * 1e5
            if run.texts is not None:
                of_run["texts"] = run.texts / seconds
            for key, value in of_run.items():
                rates.setdefault(key, []).append(value)

    def median(key: str, digits: int = 1) -> float | None:
        return round(statistics.median(rates[key]), digits) if key in rates else None

    counted = [run for run in runs if name != "encoder"]
    share = [
        sum(ours.digests.get(key) == digest for key, digest in run.digests.items()) / max(len(run.digests), 1)
        for run in counted
        if ours is not None
    ]
    return Row(
        name=name,
        guarantee=GUARANTEES[name],
        events=min(
            prepared.events if run.through else len(run.digests) * prepared.events // len(prepared.due) for run in runs
        ),
        events_per_s=median("events"),
        recommendations_per_s=median("recommendations"),
        texts_per_s=median("texts"),
        cpu_s_per_100k=median("cpu", 2),
        peak_rss_mb=round(max((sample.rss_mb for run in runs for sample in run.samples), default=0.0), 1),
        startup_s=median("startup"),
        state_mb=next((run.state_mb for run in reversed(runs) if run.state_mb is not None), None),
        ratio_ours_to_it=None,
        missing=sum(len(prepared.due - run.digests.keys()) for run in counted)
        if all(run.through for run in counted)
        else None,
        doubled=sum(run.records - len(run.digests) for run in counted),
        unexpected=sum(len(run.digests.keys() - prepared.due) for run in counted),
        same_as_ours=round(statistics.median(share), 4) if share else None,
    )


def with_ratio(row: Row, base: float | None) -> Row:
    """The row with how many times as many events a second `ours` (base) does."""
    return replace(row, ratio_ours_to_it=round(base / row.events_per_s, 3)) if base and row.events_per_s else row


def show(about: str, rows: Sequence[Row], console: Console) -> None:
    """A table, the fastest first, then what was prepared, the machine and the versions.

    CPU s: for 100,000 events; wrong: doubled and unexpected records; same: share of records equal to those of `ours`.
    """
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "",
        "guarantee",
        "events/s",
        "ours/it",
        "recs/s",
        "texts/s",
        "CPU s",
        "MB",
        "start s",
        "missing",
        "wrong",
    )
    for heading in (*headings, "same"):
        table.add_column(heading, justify="left" if heading in ("", "guarantee") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -(row.events_per_s or 0)):
        table.add_row(
            row.name,
            row.guarantee,
            _figure(row.events_per_s),
            _figure(row.ratio_ours_to_it, 2),
            _figure(row.recommendations_per_s),
            _figure(row.texts_per_s),
            _figure(row.cpu_s_per_100k, 1),
            _figure(row.peak_rss_mb),
            _figure(row.startup_s, 1),
            _figure(row.missing),
            str(row.doubled + row.unexpected),
            _figure(row.same_as_ours, 3),
            style="bold" if row.name.startswith("ours") else None,
        )
    console.print(table)
    console.print(f"events: {about}", markup=False)
    console.print(f"machine: {machine()}; broker, contender and the measuring process share it", markup=False)
    if any(OTHERS.get(row.name) for row in rows):
        versions = peers_versions("pipeline", *PEER_PACKAGES)
        console.print("peers: " + ", ".join(f"{name} {number}" for name, number in versions.items()), markup=False)


def _figure(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _line(row: Row) -> str:
    """A row on one line, as progress."""
    texts = f", {row.texts_per_s:,.0f} texts/s" if row.texts_per_s is not None else ""
    wrong = f"missing {row.missing}, doubled {row.doubled}, unexpected {row.unexpected}"
    return f"{_figure(row.events_per_s)} events/s{texts}, first result after {_figure(row.startup_s, 1)} s; {wrong}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Bars of events a second; the same rows give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    bars = sorted((row for row in rows if row.events_per_s), key=lambda row: row.events_per_s or 0)
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 0.6 + 0.32 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        colours = [OURS if row.name.startswith("ours") else PEERS for row in bars]
        drawn = axes.barh([row.name for row in bars], [row.events_per_s or 0 for row in bars], color=colours)
        axes.bar_label(drawn, [f"{row.events_per_s:,.0f}  ({row.guarantee})" for row in bars], padding=4)
        axes.set_title("events/s, catching up", loc="left", fontsize=9)
        axes.margins(x=0.6)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)
