"""`python -m bench scale`: how our job scales with users, session length, catalog, parallelism and state backend.

In every case the job catches up alone on uniform events: each shopper has one session of the same length, and all
sessions are in progress at once, so that the state is that of all shoppers.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.environment import cores, machine
from bench.output import figure, print_json, progress_console, require_known, table_console
from bench.pipeline.prepare import ITEMS, broker, export_shop, prepare, settings_for
from bench.pipeline.report import row_of
from bench.pipeline.run import run_contender
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.world import START_MS
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.core.errors import ShopstreamError

#: Seconds between two events of a shopper, far less than session.gap.
STEP_S = 5
#: Shoppers whose past sessions train the ranker of an exported bundle.
PAST_SHOPPERS = 2000


@dataclass(frozen=True)
class Case:
    """One run; the fields that differ from BASE are its subject. contender: a name of bench.pipeline."""

    users: int = 10_000
    length: int = 10
    items: int = ITEMS
    parallelism: int = 2
    contender: str = "ours"

    @property
    def events(self) -> int:
        """The number of events that are sent."""
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
    """A case, as in the JSON. length: events per user. state_mb: of the last checkpoint, null if it was cut off."""

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
    """Measure, and print a table or a JSON list; raise ShopstreamError for what a user can fix.

    only: names of CASES; empty: all. share: of each case's users. bundles: to rank with in cases with BASE's catalog.
    """
    require_known(only, tuple(CASES), "cases")
    progress = progress_console()
    chosen = {name: case for name, case in CASES.items() if not only or name in only}
    rows = []
    with TemporaryDirectory(prefix="shopstream-scale-", ignore_cleanup_errors=True) as folder:
        for name, full_case in chosen.items():
            case = replace(full_case, users=max(1, round(full_case.users * share)))
            progress.print(f"{name}: {case.users:,} users, {case.events:,} events", markup=False)
            try:
                shop = bundles if bundles and case.items == BASE.items else _shop(case.items, Path(folder), progress)
                rows.append(_measure(name, case, open_bundle(shop), Path(folder) / name, limit_s, progress))
            except ShopstreamError as error:
                progress.print(f"warning: left out: {name}: {error}", markup=False)
                continue
            progress.print(f"  {rows[-1]}", markup=False)
    if not rows:
        raise ShopstreamError("no case is left to measure")
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show(rows, table_console())


def _shop(items: int, folder: Path, progress: Console) -> Path:
    """The bundles of a shop with this many items, exported once."""
    shop = folder / f"shop-{items}"
    if not (shop / "bundles").exists():
        shop.mkdir(exist_ok=True)
        export_shop(PAST_SHOPPERS, shop, progress, items=items)
    return shop / "bundles"


def _measure(name: str, case: Case, bundle: Bundle, own: Path, limit_s: float, progress: Console) -> Row:
    """Run a case with its own broker, in the folder `own`."""
    with broker(own) as address:
        base = [*settings_for(address, bundle), f"parallelism={case.parallelism}"]
        items = list(bundle.items().ids)
        prepared = prepare(load_settings(None, base), uniform_events(items, case.users, case.length), progress)
        (own / "run").mkdir()
        done = run_contender(case.contender, own / "run", base, bundle, prepared, limit_s, progress)
    row = row_of(case.contender, [done], prepared, None)
    state_mb = row.state_mb if done.finished else None
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


def uniform_events(items: list[str], users: int, length: int) -> Iterator[Record]:
    """Views, `length` per shopper and STEP_S apart, all shoppers in turn; items by Zipf's law; the same each time."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(items))
    weight = 1 / np.arange(1, len(items) + 1)
    share = weight / weight.sum()
    for step in range(length):
        time_ms = START_MS + step * STEP_S * 1000
        for user, item in enumerate(order[rng.choice(len(items), users, p=share)].tolist()):
            name = f"u{user}"
            event = ClickstreamEvent(f"{step}-{user}", "view", name, time_ms, items[item], session_id=name)
            yield Record(name.encode(), msgspec.json.encode(event), time_ms, "valid")


def show(rows: list[Row], console: Console) -> None:
    """Print a table, and the machine. each: events per user; CPU s: per 100,000 events; B: bytes of state."""
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "", "contender", "users", "each", "items", "tasks", "events/s", "CPU s", "MB", "start s", "state MB",
        "B per user", "missing",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "contender") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            row.contender,
            *(figure(count) for count in (row.users, row.length, row.items, row.parallelism)),
            figure(row.events_per_s),
            figure(row.cpu_s_per_100k, 1),
            figure(row.peak_rss_mb),
            figure(row.startup_s, 1),
            figure(row.state_mb, 1),
            figure(row.state_bytes_a_user),
            figure(row.missing),
        )
    console.print(table)
    console.print(f"machine: {machine()}; {cores()} partitions; shared by the broker and the cluster", markup=False)
