"""The charts of the docs: colours, and files that are the same bytes for the same data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.output import require_folder
from udfs.core.errors import ShopstreamError

#: Blue for ours, grey for peers. They differ in lightness too, for every kind of colour vision and for print.
OURS = "#0072B2"
PEERS = "#B0B0B0"
#: Height of one bar with its gap, in inches.
ROW_INCHES = 0.32


def require_drawing(file: Path) -> None:
    """Raise ShopstreamError unless a chart can be drawn to this file."""
    if file.suffix not in (".svg", ".png"):
        raise ShopstreamError(f"--chart {file}: use a name that ends in .svg or .png")
    require_folder("--chart", file)
    if find_spec("matplotlib") is None:
        raise ShopstreamError("--chart needs matplotlib: install this package's extra `bench`")


@contextmanager
def drawing(file: Path, width: float, height: float, font_size: float = 9) -> Iterator[Any]:
    """A matplotlib Figure, width × height in inches, that is saved to the file at the end."""
    import matplotlib as mpl  # slow to import, and in the extra `bench` only
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "shopstream", "svg.fonttype": "none", "font.size": font_size}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=160)


def draw_bars(axes: Any, title: str, bars: Sequence[tuple[str, float, str]], margin: float) -> None:
    """Draw one horizontal bar per (name, value, label), the first at the bottom; ours in blue.

    margin: room for the labels, as a share of the longest bar.
    """
    colours = [OURS if name.startswith("ours") else PEERS for name, _, _ in bars]
    drawn = axes.barh([name for name, _, _ in bars], [value for _, value, _ in bars], color=colours)
    axes.bar_label(drawn, [label for _, _, label in bars], padding=4)
    axes.set_title(title, loc="left", fontsize=9)
    axes.margins(x=margin)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
