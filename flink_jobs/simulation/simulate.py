"""A seeded shop whose shoppers' clicks carry the signal that a recommender should find.

Every shopper has tastes (a few kinds of product, a colour, a material, a price level). A session walks between related
items: the same kind, what goes with it (mug → teapot), now and then something else. The same arguments give the same
bytes. NumPy draws thousands of sessions at a time; only the JSON is made record by record.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from flink_jobs.simulation.catalog import Item, make_catalog
from flink_jobs.simulation.records import Record, make_records
from flink_jobs.simulation.world import ROUND_MS, START_MS, World
from udfs.core.errors import ShopstreamError


def simulate(
    catalog: Sequence[Item],
    *,
    sessions: int | None = None,
    events: int | None = None,
    shoppers: int = 2000,
    seed: int = 7,
    start_ms: int = START_MS,
    bad_share: float = 0.002,
    disorder_share: float = 0.02,
    duplicate_share: float = 0.002,
) -> Iterator[Record]:
    """Yields records of many interleaved sessions in the order in which they reach Kafka; endless without a limit.

    `sessions` limits the sessions begun, `events` the valid records; bad and duplicate ones come on top. Event times
    are epoch ms from `start_ms` on. `disorder_share` of the events arrive up to 20 s late. A duplicate has the bytes
    of a valid record at most 20 s before it. A bad record has an event_id of its own, so that no valid one is lost with
    it. Past and live runs with one `seed` and number of shoppers share tastes and popular items.

    `catalog` has items as in the `catalog` topic, from `make_catalog` or any other shop. The kind of product is taken
    from the category, colour and material from titles like ours. Raises ShopstreamError for arguments out of range.
    """
    shares = {"bad_share": bad_share, "disorder_share": disorder_share, "duplicate_share": duplicate_share}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ShopstreamError(f"{name}={share}: choose a share from 0 to 1")
    for name, count in {"sessions": sessions, "events": events, "shoppers": shoppers}.items():
        if count is not None and count < 1:
            raise ShopstreamError(f"{name}={count}: choose 1 or more")
    return make_records(World(catalog, shoppers, seed), 1, sessions, events, start_ms, shares)


def past_sessions(
    catalog: Sequence[Item], *, sessions: int, shoppers: int = 2000, seed: int = 7, end_ms: int = START_MS
) -> Iterator[bytes]:
    """Yields the events of whole sessions that all end before `end_ms`, in order of time, as JSON lines.

    The shop and its shoppers are those of `simulate` with the same seed, but not the sessions. There are no bad, late
    or duplicate records. For co-visits and training. Raises ShopstreamError for arguments out of range.
    """
    if sessions < 1 or shoppers < 1:
        raise ShopstreamError(f"sessions={sessions}, shoppers={shoppers}: choose 1 or more of each")
    world = World(catalog, shoppers, seed)
    rounds = math.ceil(
        (sessions + shoppers) / world.activity.sum()
    )  # enough: a shopper comes > rounds · activity - 1 times
    clean = dict.fromkeys(("bad_share", "disorder_share", "duplicate_share"), 0.0)
    for record in make_records(world, 2, sessions, None, end_ms - (rounds + 2) * ROUND_MS, clean):
        yield (record.value or b"") + b"\n"


def write_shop(
    out: Path,
    *,
    events: int = 100_000,
    sessions: int = 10_000,
    items: int = 1500,
    shoppers: int = 2000,
    seed: int = 7,
    start_ms: int = START_MS,
) -> dict[str, int]:
    """Writes catalog.jsonl, sessions.jsonl (past, before `start_ms`) and events.jsonl (from then on) into `out`.

    events.jsonl has `events` valid records, some late, and duplicates; bad records are left out, as broken bytes are
    not JSON lines. Returns the number of lines by file name.
    Raises ShopstreamError for arguments out of range, or a folder that cannot be written.
    """
    catalog = make_catalog(items, seed)
    live = simulate(catalog, events=events, shoppers=shoppers, seed=seed, start_ms=start_ms, bad_share=0)
    lines = {
        "catalog.jsonl": (msgspec.json.encode(item) + b"\n" for item in catalog),
        "sessions.jsonl": past_sessions(catalog, sessions=sessions, shoppers=shoppers, seed=seed, end_ms=start_ms),
        "events.jsonl": ((record.value or b"") + b"\n" for record in live),
    }
    counts = dict.fromkeys(lines, 0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in lines.items():
            with (out / name).open("wb") as file:
                for line in content:
                    file.write(line)
                    counts[name] += 1
    except OSError as error:
        raise ShopstreamError(f"{out} cannot be written: {error.strerror}") from error
    return counts
