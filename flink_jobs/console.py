"""What commands print: text for people, one JSON object with --json, and progress on a terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, track

T = TypeVar("T")

out = Console(highlight=False, soft_wrap=True)
#: Progress and notes go to standard error, so that a pipe gets the result alone.
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def result(data: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Prints the outcome of a command: `text`, or `data` as one JSON line."""
    if as_json:
        sys.stdout.write(json.dumps(data, default=str) + "\n")
        sys.stdout.flush()
    else:
        out.print(text, markup=False)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows how much is done, on a terminal; gives a function that takes the number done so far."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=notes, disable=not notes.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


def tracked(items: Sequence[T], title: str) -> Iterable[T]:
    """Yields items and shows on a terminal how many are done."""
    return track(items, title, console=notes, transient=True, disable=not notes.is_terminal)
