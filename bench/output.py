"""What every command prints: progress on standard error, the result as a table or as JSON on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from udfs.core.errors import ShopstreamError


def progress_console() -> Console:
    """Where progress and warnings go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def table_console(width: int = 140) -> Console:
    """Where tables go; `width` in columns, unless standard output is a terminal."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else width)


def print_json(value: Any) -> None:
    """Print the value as JSON, one key per line."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def figure(value: float | None, digits: int = 0) -> str:
    """The value with thousands separators and this many decimals; empty for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def require_folder(option: str, file: Path) -> None:
    """Raise ShopstreamError unless there is a folder for the file of an option."""
    if not file.absolute().parent.is_dir():
        raise ShopstreamError(f"{option} {file}: there is no folder {file.absolute().parent}")


def require_known(only: Iterable[str], names: Sequence[str], what: str = "contenders") -> None:
    """Raise ShopstreamError if --only names anything that is not in `names`."""
    if unknown := sorted(set(only) - set(names)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the {what} are {', '.join(names)}")
