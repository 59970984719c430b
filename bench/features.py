"""`python -m bench features`: events per second of our session features and of the same ones by pandas groupby.

Both get the same simulated sessions, the same catalog and one core. Both sort events and drop repeats, and their
results must agree. Ours goes from `Sessions` to columns, pandas from one data frame to another. The pandas version uses
built-in aggregations only: no `apply`, no Python function per group. Processor time is measured, so that other programs
on the machine matter less.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench.output import print_json
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.simulate import simulate
from udfs.catalog.attributes import Catalog
from udfs.contracts.clickstream import EVENT_TYPES, INTERACTIONS
from udfs.core.arrays import concat_ranges, position_in_group
from udfs.core.exact import to_grid
from udfs.events.columns import EVENT_COLUMNS, PACKED
from udfs.events.parsing import parse_events
from udfs.features.activity import PLURAL
from udfs.features.compute import compute_columns
from udfs.features.items import CENTRE_WEIGHT
from udfs.features.registry import FEATURES
from udfs.sessions.columns import Sessions

GAP_MS = 1_800_000
#: Whole sessions computed at a time, as on close and in a backfill.
CLOSED = 20_000
#: Sessions in progress computed at a time, as in a batch of the job's answers.
ANSWERS = 256
#: Width of the items' vectors; with 0, the two features of the centroid cost nothing.
DIMENSIONS = 384
ZONES = {"en-GB": "Europe/London", "en-US": "America/New_York", "en-IE": "Europe/Dublin", "en-AU": "Australia/Sydney"}


def run(quick: bool, as_json: bool) -> None:
    """Measure, and print a table or a JSON list. quick: fewer sessions and runs."""
    catalog = make_catalog(1500)
    closed = make_events(catalog, CLOSED // 10 if quick else CLOSED)
    cases = {
        "closed sessions": (closed, DIMENSIONS),
        "closed sessions, no vectors": (closed, 0),
        "answers in session": (in_progress(closed, ANSWERS), DIMENSIONS),
    }
    results = []
    with threadpool_limits(1):
        for name, (frame, dimensions) in cases.items():
            items, item_frame = make_items(catalog, dimensions)
            sessions = as_sessions(frame)
            must_agree(compute_columns(sessions, items), with_pandas(frame, item_frame))
            ours = _median(5 if quick else 15, lambda: compute_columns(sessions, items))  # noqa: B023
            theirs = _median(3 if quick else 5, lambda: with_pandas(frame, item_frame))  # noqa: B023
            for tool, seconds in (("shopstream", ours), ("pandas", theirs)):
                results.append(
                    {
                        "name": f"{tool}: {len(sessions):,} {name}",
                        "events": len(frame),
                        "events_per_s": round(len(frame) / seconds),
                        "ratio_to_pandas": round(theirs / seconds, 1),
                    }
                )
    if as_json:
        print_json(results)
        return
    table = Table(*results[0], title=f"{len(FEATURES)} session features")
    for result in results:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in result.values()))
    Console().print(table)


def _median(runs: int, compute: Callable[[], object]) -> float:
    """The median processor time of several runs, in seconds."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        compute()
        times.append(time.process_time() - started)
    return statistics.median(times)


# --- the input of both ------------------------------------------------------------------------------------------------


def make_items(catalog: list[dict[str, Any]], dimensions: int) -> tuple[Catalog, pd.DataFrame]:
    """Return the items for ours, and for pandas as a frame by item_id with the vectors in its attrs."""
    vectors = to_grid(np.random.default_rng(5).normal(size=(len(catalog), dimensions)))
    frame = pd.DataFrame(catalog)[["item_id", "category", "brand"]]
    frame["row"] = np.arange(len(frame))
    frame.attrs["vectors"] = vectors
    items = Catalog(
        row_of={item: row for row, item in enumerate(frame["item_id"])},
        category=pd.factorize(frame["category"])[0],
        brand=pd.factorize(frame["brand"])[0],
        vectors=vectors,
    )
    return items, frame.set_index("item_id")


def make_events(catalog: list[dict[str, Any]], sessions: int) -> pd.DataFrame:
    """Events of simulated sessions, some late, some repeated, by session (its number in `session`) and arrival."""
    records = simulate(catalog, sessions=sessions, bad_share=0)
    frame = pd.DataFrame(parse_events(record.value for record in records), columns=list(EVENT_COLUMNS))
    by_time = frame.sort_values(["user_id", "event_time"])
    starts = (by_time["user_id"] != by_time["user_id"].shift()) | (by_time["event_time"].diff() >= GAP_MS)
    frame["session"] = starts.cumsum() - 1
    frame["timezone"] = frame["locale"].map(ZONES)
    frame["returning"] = np.where(frame["session"] % 3 == 0, "true", "false")
    frame = frame.drop(columns=["error", "error_class"]).sort_values("session", kind="stable")
    # From Arrow, as in a job: texts are contiguous in memory.
    frame = pa.Table.from_pandas(frame, preserve_index=False).to_pandas()
    return frame.astype(dict.fromkeys(("price", "quantity", "rating", "dwell_ms"), np.float64))


def in_progress(frame: pd.DataFrame, answers: int) -> pd.DataFrame:
    """The first sessions once per event of theirs, up to and including it, as the job passes them."""
    position = position_in_group(frame["session"].to_numpy())[:answers]
    first = np.arange(len(position)) - position
    events, answer = concat_ranges(first, first + position + 1)
    return frame.iloc[events].assign(session=answer).reset_index(drop=True)


def as_sessions(frame: pd.DataFrame) -> Sessions:
    """The same events for ours."""
    cuts = np.flatnonzero(frame["session"].diff() > 0)
    whole = frame.groupby("session")["event_time"].agg(["min", "max", "size"])

    def arrays(name: str) -> list[Any]:
        return np.split(frame[name].to_numpy(), cuts)

    return Sessions.from_arrays(whole["min"], whole["max"], whole["size"], **{name: arrays(name) for name in PACKED})


def must_agree(ours: dict[str, Any], theirs: pd.DataFrame) -> None:
    """Raise ValueError unless all of pandas' columns are equal, up to rounding: floats are summed in another order."""
    for name in theirs.columns:
        column = ours[name]
        other = theirs[name].to_numpy()
        if column.dtype == object:
            same = np.array_equal(column, theirs[name].where(theirs[name].notna(), None).to_numpy())
        else:
            same = np.allclose(column, other.astype(np.float64), rtol=1e-9, atol=1e-9, equal_nan=True)
        if not same:
            raise ValueError(f"ours and pandas differ in {name}")


# --- the same by pandas -----------------------------------------------------------------------------------------------


def with_pandas(frame: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Compute every feature by pandas, one row per session."""
    frame = frame.sort_values(["session", "event_time", "event_id"]).drop_duplicates(["session", "event_id"])
    frame = frame.join(items, on="item_id")
    kind, session = frame["event_type"], frame["session"]
    whole = frame.groupby("session")
    out = pd.DataFrame(index=whole.size().index)

    counts = frame.groupby(["session", "event_type"]).size().unstack(fill_value=0)
    for name in EVENT_TYPES:
        out[PLURAL[name]] = counts.get(name, 0)
    out["events"] = whole.size()
    out["position"] = frame[kind != "impression"].groupby("session").size()
    out["depth"] = frame[kind.isin(["view", "click"])].groupby("session")["item_id"].nunique()
    out["converted"] = (out["purchases"] > 0).astype(int)
    views = frame[kind == "view"]
    out["repeat_views"] = views.duplicated(["session", "item_id"]).groupby(views["session"]).sum()
    out["rating_mean"] = frame[kind == "rate"].groupby("session")["rating"].mean()

    times = whole["event_time"].agg(["min", "max"])
    out["duration_ms"] = times["max"] - times["min"]
    out["pace"] = ((out["events"] - 1) / (out["duration_ms"] / 60_000)).where(out["duration_ms"] > 0)
    gap = whole["event_time"].diff()
    gaps = gap.groupby(session).agg(["mean", "max", "last"])
    out["gap_ms_mean"], out["gap_ms_max"], out["since_previous_ms"] = gaps["mean"], gaps["max"], gaps["last"]
    dwell = whole["dwell_ms"].agg(["sum", "mean", "max", "last"])
    for name in dwell:
        out[f"dwell_ms_{name}"] = dwell[name]
    texts = whole[["timezone", "device", "locale", "returning"]].last()
    for zone, ends in times["max"].groupby(texts["timezone"]):
        local = pd.to_datetime(ends, unit="ms", utc=True).dt.tz_convert(zone).dt
        out.loc[ends.index, "hour"], out.loc[ends.index, "weekday"] = local.hour, local.weekday
    out["device"], out["locale"] = texts["device"], texts["locale"]
    out["visitor"] = texts["returning"].map({"true": "returning", "false": "new"})

    prices = whole["price"].agg(["mean", "min", "max"])
    out["price_mean"], out["price_min"], out["price_max"] = prices["mean"], prices["min"], prices["max"]
    out["price_spread"] = whole["price"].std(ddof=0)
    priced = frame[frame["price"].notna()]
    x = priced.groupby("session").cumcount()
    x -= x.groupby(priced["session"]).transform("mean")
    out["price_trend"] = (x * priced["price"]).groupby(priced["session"]).sum() / (x * x).groupby(
        priced["session"]
    ).sum()
    item_price = frame.groupby(["session", "item_id"])["price"].last().rename("item_price").reset_index()
    interacted = frame[kind.isin(INTERACTIONS) & frame["item_id"].notna()]
    current = interacted.groupby("session")[["item_id", "row"]].last().reset_index()
    out["price_current"] = current.merge(item_price, how="left").set_index("session")["item_price"]
    dwelt = frame.groupby(["session", "item_id"])["dwell_ms"].sum().rename("dwell_item").reset_index()
    out["dwell_ms_current"] = current.merge(dwelt, how="left").set_index("session")["dwell_item"]
    out["price_current_to_mean"] = out["price_current"] / out["price_mean"]
    out["price_current_in_range"] = (out["price_current"] - prices["min"]) / (prices["max"] - prices["min"])

    cart = frame[kind.isin(["add_to_cart", "remove_from_cart", "purchase"])]
    sign = np.where(cart["event_type"] == "add_to_cart", 1, -1)
    level = (sign * cart["quantity"]).groupby([cart["session"], cart["item_id"]]).cumsum()
    levels = level.groupby([cart["session"], cart["item_id"]]).agg(["last", "min"])
    pieces = (levels["last"] - levels["min"].clip(upper=0)).rename("pieces").reset_index().merge(item_price, how="left")
    out["cart_size"] = pieces.groupby("session")["pieces"].sum()
    out["cart_items"] = (pieces["pieces"] > 0).groupby(pieces["session"]).sum()
    out["cart_value"] = (pieces["pieces"] * pieces["item_price"]).groupby(pieces["session"]).sum()
    bought = frame[kind == "purchase"]
    out["purchase_value"] = (bought["price"] * bought["quantity"].fillna(1)).groupby(bought["session"]).sum()

    out["distinct_items"] = whole["item_id"].nunique()
    out[["distinct_categories", "distinct_brands"]] = interacted.groupby("session")[["category", "brand"]].nunique()
    sizes = interacted.groupby(["session", "category"]).size()
    share = sizes / sizes.groupby("session").transform("sum")
    out["category_entropy"] = (-share * np.log2(share)).groupby("session").sum()
    out["top_category_share"] = share.groupby("session").max()
    weight = interacted["event_type"].map(CENTRE_WEIGHT)
    vectors = items.attrs["vectors"].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    row = interacted["row"].to_numpy(int)
    weighted = pd.DataFrame(vectors[row] * weight.to_numpy()[:, None])
    centre = weighted.groupby(interacted["session"].to_numpy()).sum()
    of_centre = np.sqrt((centre**2).sum(axis=1))
    now = current.set_index("session")["row"].astype(int)
    out["centre_cosine"] = (centre * vectors[now]).sum(axis=1) / of_centre / lengths[now]
    out["centre_spread"] = 1 - of_centre / (weight * lengths[row]).groupby(interacted["session"]).sum()

    searches = frame[kind == "search"]
    query = searches.groupby("session")["query"]
    out["last_query"] = query.last().str[:256]
    out["last_query_words"] = out["last_query"].str.split().str.len()
    before = query.shift()
    out["refinements"] = (before.notna() & (before != searches["query"])).groupby(searches["session"]).sum()
    zero = [name for name, declared in FEATURES.items() if declared.dtype == "int64" and "gap" not in name]
    zero = [name for name in zero if name != "since_previous_ms"]
    return out.fillna(dict.fromkeys([*zero, "cart_value", "purchase_value", "dwell_ms_current"], 0))
