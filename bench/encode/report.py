"""What `python -m bench encode` prints and draws."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.chart import ROW_INCHES, draw_bars, drawing
from bench.encode.contenders import PEER_PACKAGES, REFERENCE
from bench.encode.text_sets import TextSet
from bench.environment import machine, peers_versions
from bench.output import figure

#: The text sets of the chart, with their titles.
CHARTED = {"short": "product titles as they are", "tokens256": "texts of 256 tokens"}


@dataclass(frozen=True)
class Row:
    """One contender on one text set, as in the JSON.

    texts_per_s: median of the rounds. ratio_to_sentence_transformers: median of the rounds' ratios.
    cosine_mean, cosine_p01, top10_overlap: compared with Sentence Transformers' fp32 vectors; these and the ratio are
    null if those were not measured. batch_invariant: a text alone gets the same vector, with the same ten neighbours,
    as in a batch. memory_mb: peak of the contender's process over all text sets.
    """

    name: str
    text_set: str
    texts_per_s: float
    ratio_to_sentence_transformers: float | None
    cosine_mean: float | None
    cosine_p01: float | None
    top10_overlap: float | None
    batch_invariant: bool
    memory_mb: float


@dataclass(frozen=True)
class Result:
    """A row, the seconds of each round behind it, and the contender's settings for people."""

    row: Row
    seconds: list[float]
    setting: str

    @property
    def ours(self) -> bool:
        """Whether this is one of our contenders."""
        return self.row.name.startswith("ours")


def median_ratio(base: Sequence[float] | None, seconds: Sequence[float]) -> float | None:
    """The median over the rounds of base seconds ÷ a contender's seconds; None without a base."""
    if base is None:
        return None
    return round(statistics.median(b / s for b, s in zip(base, seconds, strict=True)), 3)


def show(origin: str, text_sets: Sequence[TextSet], results: Sequence[Result], console: Console) -> None:
    """Print a table per text set, the fastest first, then the texts, the machine, the versions and the comparison."""
    for text_set in text_sets:
        of_set = [result for result in results if result.row.text_set == text_set.name]
        of_set.sort(key=lambda result: -result.row.texts_per_s)
        console.print(_table(text_set, of_set))
        settings = [f"{result.row.name}: {result.setting}" for result in of_set if result.setting]
        if settings:
            console.print(f"  best settings: {'; '.join(settings)}\n", markup=False)
    console.print(f"texts: {origin}; × s-t, cosine and top-10: compared with {REFERENCE}, fp32", markup=False)
    console.print(f"machine: {machine()}", markup=False)
    console.print(f"versions: {_versions(results)}", markup=False)
    if line := comparison(text_sets, results):
        console.print(line, markup=False)


def _table(text_set: TextSet, results: Sequence[Result]) -> Table:
    table = Table("", title=f"{text_set.name}: {text_set.about}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("texts/s", "min – max", "× s-t", "cosine", "1st pct", "top-10", "alone", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        row = result.row
        speeds = [len(text_set.texts) / seconds for seconds in result.seconds]
        table.add_row(
            row.name,
            figure(row.texts_per_s),
            f"{min(speeds):,.0f} – {max(speeds):,.0f}",
            figure(row.ratio_to_sentence_transformers, 2),
            figure(row.cosine_mean, 4),
            figure(row.cosine_p01, 4),
            figure(row.top10_overlap, 3),
            "same" if row.batch_invariant else "differs",
            figure(row.memory_mb),
            style="bold" if result.ours else None,
        )
    return table


def comparison(text_sets: Sequence[TextSet], results: Sequence[Result]) -> str:
    """The speed of our fastest contender ÷ that of the fastest peer, per text set; empty without both."""
    parts = []
    for text_set in text_sets:
        ranked = sorted(results, key=lambda result: -result.row.texts_per_s)
        of_set = [result for result in ranked if result.row.text_set == text_set.name]
        ours = next((result for result in of_set if result.ours), None)
        peer = next((result for result in of_set if not result.ours), None)
        if ours and peer:
            ratio = median_ratio(peer.seconds, ours.seconds)
            parts.append(f"{text_set.name} {ratio:.2f} × ({ours.row.name} to {peer.row.name})")
    return f"ours to the fastest peer: {', '.join(parts)}" if parts else ""


def _versions(results: Sequence[Result]) -> str:
    """Versions of our runtimes in this environment, and of the peers in theirs."""
    ours = [(name, import_module(name).__version__) for name in ("onnxruntime", "openvino") if find_spec(name)]
    line = "ours: " + ", ".join(f"{name} {version.split('-')[0]}" for name, version in ours)
    if all(result.ours for result in results):
        return line
    peers = peers_versions("encode", *PEER_PACKAGES)
    return f"{line}; peers: {', '.join(f'{name} {version}' for name, version in peers.items())}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw bars of texts/s for the text sets of CHARTED, each with its mean cosine to fp32."""
    panels = [panel for name in CHARTED if (panel := [row for row in rows if row.text_set == name])]
    height = 0.6 + ROW_INCHES * max(map(len, panels), default=1)
    with drawing(file, 5.2 * max(1, len(panels)), height) as chart:
        for number, panel in enumerate(panels, 1):
            panel.sort(key=lambda row: row.texts_per_s)
            title = f"{CHARTED[panel[0].text_set]}: texts/s (mean cosine to fp32)"
            bars = [(row.name, row.texts_per_s, _label(row)) for row in panel]
            draw_bars(chart.add_subplot(1, len(panels), number), title, bars, margin=0.35)


def _label(row: Row) -> str:
    cosine = "" if row.cosine_mean is None else f"  ({row.cosine_mean:.4f})"
    return f"{row.texts_per_s:,.0f}{cosine}"
