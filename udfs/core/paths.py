"""Paths as Flink reads them."""

from pathlib import Path


def flink_uri(path: Path) -> str:
    """Return a path as a URI for Flink's `Path`: absolute, with every character as it is.

    Flink takes `%20` for three characters. `Path.as_uri` would lead it to another folder than Python.
    """
    return f"file://{path.absolute()}"
