"""Shows the demo's progress."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.live import Live
from rich.panel import Panel

from flink_jobs.commands.watch import describe_recommendation
from flink_jobs.console import notes
from flink_jobs.demo.seen import Seen


@contextmanager
def step(name: str) -> Iterator[None]:
    """Shows the name of a step while it runs, then how long it took."""
    started = time.monotonic()
    if notes.is_terminal:
        with notes.status(name):
            yield
    else:
        yield
    notes.print(f"{name}: {time.monotonic() - started:.1f} s")


@contextmanager
def live(seen: Seen, title_of: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Shows what goes in and comes out: a live panel on a terminal, elsewhere a line now and then.

    Gives a function to call often.
    """

    def counts() -> str:
        return f"{seen.events:,} events in, {len(seen.answers):,} recommendations out, {seen.dead_letters} dead letters"

    def panel() -> Panel:
        newest = "\n".join(describe_recommendation(answer, title_of) for answer in list(seen.newest))
        return Panel(newest or "…", title=counts())

    last = time.monotonic()

    def plain() -> None:
        nonlocal last
        if time.monotonic() - last > 2:
            last = time.monotonic()
            notes.print(counts())
            if seen.newest:
                notes.print(describe_recommendation(seen.newest[-1], title_of), markup=False)

    if notes.is_terminal:
        with Live(get_renderable=panel, console=notes, refresh_per_second=4, transient=True):
            yield lambda: None
    else:
        yield plain
    notes.print(counts())
