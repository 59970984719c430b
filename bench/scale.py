"""`python -m bench scale`: what users, session length, catalogue, parallelism and backend do to the main job.

Every case is a run of the job, catching up alone on events that are as even as can be: each shopper has one session of
the same length, all of them under way at once, so that state is that of so many shoppers.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.encode import machine
from bench.pipeline import ITEMS, Options, broker, cores, export_shop, prepare, race, row_of, settings_for
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.world import START_MS
from udfs.bundle import Bundle, open_bundle
from udfs.contracts import ClickstreamEvent
from udfs.errors import ShopstreamError

#: Seconds between two events of a shopper, far less than session.gap.
STEP_S = 5


@dataclass(frozen=True)
class Case:
    """One run: what differs from BASE is what it is there to show. contender: of bench.pipeline."""

    users: int = 10_000
    length: int = 10
    items: int = ITEMS
    parallelism: int = 2
    contender: str = "ours"

    @property
    def events(self) -> int:
        """All that are sent."""
        return self.users * self.length


BASE = Case()
CASES = {
    "base": BASE,
    "users-1k": replace(BASE, users=1_000, length=100),
    "users-100k": replace(BASE, users=100_000, length=1),
    "users-1m": replace(BASE, users=1_000_000, length=1, contender="identity-rocksdb"),
    "items-10k": replace(BASE, items=10_000),
    "items-29k": replace(BASE, items=29_000),
    "parallelism-1": replace(BASE, parallelism=1),
    "rocksdb": replace(BASE, contender="ours-rocksdb"),
}


@dataclass(frozen=True)
class Row:
    """A case, as the JSON has it. state_mb: of the last checkpoint, None of a run that was cut off.

    state_bytes_a_user: the same for each of them.
    """

    name: str
    users: int
    length: int
    items: int
    parallelism: int
    contender: str
    events: int
    events_per_s: float | None
    cpu_s_per_100k: float | None
    peak_rss_mb: float | None
    startup_s: float | None
    state_mb: float | None
    state_bytes_a_user: float | None
    missing: int | None
    doubled: int


def run(only: tuple[str, ...], share: float, limit_s: float, bundles: Path | None, *, as_json: bool) -> None:
    """Measure and print; share: of each case's users; bundles: to rank with, where the catalogue is BASE's.

    Raises ShopstreamError for a name that is no case's.
    """
    if unknown := sorted(set(only) - set(CASES)):
        raise ShopstreamError(f"--only names {', '.join(unknown)}; the cases are {', '.join(CASES)}")
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = {name: case for name, case in CASES.items() if not only or name in only}
    rows = []
    with TemporaryDirectory(prefix="shopstream-scale-", ignore_cleanup_errors=True) as folder:
        for name, case in chosen.items():
            case = replace(case, users=max(1, round(case.users * share)))
            notes.print(f"{name}: {case.users:,} users, {case.events:,} events", markup=False)
            try:
                shop = bundles if bundles and case.items == BASE.items else _shop(case.items, Path(folder), notes)
                rows.append(_measure(name, case, open_bundle(shop), Path(folder) / name, limit_s, notes))
            except ShopstreamError as error:
                notes.print(f"warning: left out: {name}: {error}", markup=False)
                continue
            notes.print(f"  {rows[-1]}", markup=False)
    if not rows:
        raise ShopstreamError("no case is left to measure")
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        _show(rows, Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140))


def _shop(items: int, folder: Path, notes: Console) -> Path:
    """The bundles of a shop with so many items, made once."""
    shop = folder / f"shop-{items}"
    if not (shop / "bundles").exists():
        shop.mkdir(exist_ok=True)
        export_shop(2000, shop, notes, items=items)
    return shop / "bundles"


def _measure(name: str, case: Case, bundle: Bundle, own: Path, limit_s: float, notes: Console) -> Row:
    """One run, with a broker of its own."""
    with broker(own) as address:
        base = [*settings_for(address, bundle), f"parallelism={case.parallelism}"]
        items = list(bundle.items().ids)
        stream = even(items, case.users, case.length)
        prepared = prepare(load_settings(None, base), stream, notes)
        (own / "run").mkdir()
        options = Options(limit_s=limit_s)
        done = race(case.contender, own / "run", base, bundle, prepared, options, notes)
    row = row_of(case.contender, [done], prepared, None)
    state_mb = row.state_mb if done.through else None
    return Row(
        name,
        **asdict(replace(case, items=len(items))),
        events=row.events,
        events_per_s=row.events_per_s,
        cpu_s_per_100k=row.cpu_s_per_100k,
        peak_rss_mb=row.peak_rss_mb,
        startup_s=row.startup_s,
        state_mb=state_mb,
        state_bytes_a_user=None if state_mb is None else round(state_mb * 1e6 / case.users, 1),
        missing=row.missing,
        doubled=row.doubled,
    )


def even(items: list[str], users: int, length: int) -> Iterator[Record]:
    """Views, `length` of each shopper STEP_S apart, all shoppers in turn; items by Zipf's law, the same each time."""
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, len(items) + 1)
    order, share = rng.permutation(len(items)), share / share.sum()
    for step in range(length):
        time_ms = START_MS + step * STEP_S * 1000
        for user, item in enumerate(order[rng.choice(len(items), users, p=share)].tolist()):
            name = f"u{user}"
            event = ClickstreamEvent(f"{step}-{user}", "view", name, time_ms, items[item], session_id=name)
            yield Record(name.encode(), msgspec.json.encode(event), time_ms, "valid")


def _show(rows: list[Row], console: Console) -> None:
    """A table for people, and the machine; each: events of a user; CPU s: for 100,000 events; B: bytes of state."""
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "", "contender", "users", "each", "items", "tasks", "events/s", "CPU s", "MB", "start s", "state MB",
        "B a user", "missing",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "contender") else "right", no_wrap=True)
    for row in rows:
        rates = ((row.events_per_s, 0), (row.cpu_s_per_100k, 1), (row.peak_rss_mb, 0), (row.startup_s, 1))
        state = ((row.state_mb, 1), (row.state_bytes_a_user, 0), (row.missing, 0))
        figures = ["" if value is None else f"{value:,.{digits}f}" for value, digits in (*rates, *state)]
        counts = [f"{count:,}" for count in (row.users, row.length, row.items, row.parallelism)]
        table.add_row(row.name, row.contender, *counts, *figures)
    console.print(table)
    console.print(f"machine: {machine()}; {cores()} partitions; broker and cluster share it", markup=False)
