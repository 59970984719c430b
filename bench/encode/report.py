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

from bench.chart import OURS, PEERS
from bench.encode.contenders import PEER_PACKAGES, REFERENCE
from bench.encode.text_sets import TextSet
from bench.environment import machine, peers_versions


@dataclass(frozen=True)
class Row:
    """One contender on one text set, as the JSON has it.

    texts_per_s is the median of the rounds, the ratio the median of each round's. Cosines and the overlap of the ten
    nearest neighbours are to Sentence Transformers' fp32 vectors, null without these, as is the ratio.
    batch_invariant: a text alone gets the vector that it gets among the others, and the same ten neighbours.
    memory_mb: peak of the contender's process, all text sets together.
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
    """A row, the seconds of each round behind it, and the settings that the contender ran with."""

    row: Row
    seconds: list[float]
    setting: str

    @property
    def ours(self) -> bool:
        """Whether this is one of our contenders."""
        return self.row.name.startswith("ours")


def median_ratio(base: Sequence[float] | None, seconds: Sequence[float]) -> float | None:
    """Median over the rounds of how many times as fast as `base` a contender was; None without a base."""
    if base is None:
        return None
    return round(statistics.median(b / s for b, s in zip(base, seconds, strict=True)), 3)


def show(origin: str, sets: Sequence[TextSet], results: Sequence[Result], console: Console) -> None:
    """A table for each text set, the fastest first, then the texts, the machine, the versions and who won."""
    for text_set in sets:
        of_set = [result for result in results if result.row.text_set == text_set.name]
        of_set.sort(key=lambda result: -result.row.texts_per_s)
        console.print(_table(text_set, of_set))
        settings = [f"{result.row.name}: {result.setting}" for result in of_set if result.setting]
        if settings:
            console.print(f"  tried and kept: {'; '.join(settings)}\n", markup=False)
    console.print(f"texts: {origin}; × s-t, cosine and top-10: against {REFERENCE}, fp32", markup=False)
    console.print(f"machine: {machine()}", markup=False)
    console.print(f"versions: {_versions(results)}", markup=False)
    if line := victory(sets, results):
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
            f"{row.texts_per_s:,.0f}",
            f"{min(speeds):,.0f} – {max(speeds):,.0f}",
            _figure(row.ratio_to_sentence_transformers, 2),
            _figure(row.cosine_mean, 4),
            _figure(row.cosine_p01, 4),
            _figure(row.top10_overlap, 3),
            "same" if row.batch_invariant else "differs",
            f"{row.memory_mb:,.0f}",
            style="bold" if result.ours else None,
        )
    return table


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def victory(sets: Sequence[TextSet], results: Sequence[Result]) -> str:
    """Of each text set, how many times as fast as the fastest peer our fastest is; empty without both."""
    parts = []
    for text_set in sets:
        ranked = sorted(results, key=lambda result: -result.row.texts_per_s)
        of_set = [result for result in ranked if result.row.text_set == text_set.name]
        ours = next((result for result in of_set if result.ours), None)
        peer = next((result for result in of_set if not result.ours), None)
        if ours and peer:
            times = median_ratio(peer.seconds, ours.seconds)
            parts.append(f"{text_set.name} {times:.2f} × ({ours.row.name} to {peer.row.name})")
    return f"ours to the fastest peer: {', '.join(parts)}" if parts else ""


def _versions(results: Sequence[Result]) -> str:
    """Of our runtimes here, and of the peers in their environment."""
    ours = [(name, import_module(name).__version__) for name in ("onnxruntime", "openvino") if find_spec(name)]
    line = "ours: " + ", ".join(f"{name} {number.split('-')[0]}" for name, number in ours)
    if all(result.ours for result in results):
        return line
    peers = peers_versions("encode", *PEER_PACKAGES)
    return f"{line}; peers: {', '.join(f'{name} {number}' for name, number in peers.items())}"


TEXT_SETS = {"short": "product titles as they are", "tokens256": "texts of 256 tokens"}
ROW_INCHES = 0.32


def draw(rows: Sequence[Row], file: Path) -> None:
    """Bars of texts/s on short titles and 256-token texts, with the mean cosine to fp32; same rows, same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [panel for name in TEXT_SETS if (panel := [row for row in rows if row.text_set == name])]
    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": 9}):
        height = 0.6 + ROW_INCHES * max(map(len, panels), default=1)
        figure = Figure(figsize=(5.2 * max(1, len(panels)), height), layout="constrained")
        for place, panel in enumerate(panels):
            panel.sort(key=lambda row: row.texts_per_s)
            axes = figure.add_subplot(1, len(panels), place + 1)
            colours = [OURS if row.name.startswith("ours") else PEERS for row in panel]
            bars = axes.barh([row.name for row in panel], [row.texts_per_s for row in panel], color=colours)
            axes.bar_label(bars, [_label(row) for row in panel], padding=4)
            title = f"{TEXT_SETS[panel[0].text_set]}: texts/s (mean cosine to fp32)"
            axes.set_title(title, loc="left", fontsize=9)
            axes.margins(x=0.35)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xticks([])
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)


def _label(row: Row) -> str:
    cosine = "" if row.cosine_mean is None else f"  ({row.cosine_mean:.4f})"
    return f"{row.texts_per_s:,.0f}{cosine}"
