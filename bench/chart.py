"""A chart of texts a second, for the docs."""

from importlib.util import find_spec
from pathlib import Path

from udfs.errors import ShopstreamError

#: Blue and grey differ in lightness too, for every kind of colour vision and on paper.
OURS, PEERS = "#0072B2", "#B0B0B0"


def require_drawing(file: Path) -> None:
    """ShopstreamError unless a chart can be drawn to this file."""
    if file.suffix not in (".svg", ".png"):
        raise ShopstreamError(f"--chart {file}: use a name that ends in .svg or .png")
    if not file.absolute().parent.is_dir():
        raise ShopstreamError(f"--chart {file}: there is no folder {file.absolute().parent}")
    if find_spec("matplotlib") is None:
        raise ShopstreamError("--chart needs matplotlib: install this package's extra `bench`")
