"""A chart of texts a second, for the docs."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from udfs.core.errors import ShopstreamError

if TYPE_CHECKING:
    from bench.encode import Row

#: Blue and grey differ in lightness too, for every kind of colour vision and on paper.
OURS, PEERS = "#0072B2", "#B0B0B0"
TEXT_SETS = {"short": "product titles as they are", "tokens256": "texts of 256 tokens"}
ROW_INCHES = 0.32


def require_drawing(file: Path) -> None:
    """ShopstreamError unless a chart can be drawn to this file."""
    if file.suffix not in (".svg", ".png"):
        raise ShopstreamError(f"--chart {file}: use a name that ends in .svg or .png")
    if not file.absolute().parent.is_dir():
        raise ShopstreamError(f"--chart {file}: there is no folder {file.absolute().parent}")
    if find_spec("matplotlib") is None:
        raise ShopstreamError("--chart needs matplotlib: install this package's extra `bench`")


def draw(rows: Sequence["Row"], file: Path) -> None:
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


def _label(row: "Row") -> str:
    cosine = "" if row.cosine_mean is None else f"  ({row.cosine_mean:.4f})"
    return f"{row.texts_per_s:,.0f}{cosine}"
