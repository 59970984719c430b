"""Closed sessions on the embedded mini-cluster, with a real broker and a real bundle, and from recordings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mini_cluster import MiniCluster
from support import add_partition, as_options, online_retail, read_all, run_command, send

from flink_jobs.commands.backfill import recorded
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.simulate import simulate
from flink_jobs.simulation.world import START_MS
from flink_jobs.sql.lake import recorded_schema
from udfs.contracts.fields import MAX_TIME_MS
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.parsing import parse_event
from udfs.features.registry import FEATURES
from udfs.lake.files import read as lake_read
from udfs.schemas.generate import json_schema

pytestmark = pytest.mark.flink

SECOND, MINUTE, DAY = 1000, 60_000, 86_400_000
GAP = Settings().session.gap
START = 1_700_000_000_000
#: With 200,000 events there are some 20,000 sessions.
SIMULATED = int(os.environ.get("SHOPSTREAM_SIMULATED_EVENTS", "10000"))
#: Lines of Online Retail, of 541,909, that are backfilled here; all take a minute and a half, twice.
RETAIL_LINES = int(os.environ.get("SHOPSTREAM_RETAIL_LINES", "15000"))
#: How many of them are also replayed to both jobs.
RETAIL_REPLAYED = int(os.environ.get("SHOPSTREAM_RETAIL_REPLAYED", "3000"))


def backfill(*arguments: str) -> dict[str, Any]:
    ran = run_command("backfill", *arguments, "--json", timeout=500)
    assert ran.code == 0, ran.err
    return ran.json()


def value(name: str, event_time: object, user: str = "u", kind: str = "view", **more: Any) -> bytes:
    fields = {"event_id": name, "event_type": kind, "user_id": user, "event_time": event_time, "item_id": f"i-{name}"}
    return json.dumps(fields | more).encode()


def closed(settings: Settings) -> dict[str, Any]:
    """The records of `session-features` by session_id, each there once."""
    records = [json.loads(each.value) for each in read_all(settings, settings.topics.session_features)]
    found = {each["session_id"]: each for each in records}
    assert len(found) == len(records), "a session was closed twice"
    return found


def rows(folder: Path, table: str, key: str) -> pa.Table:
    """A table of the lake in the order of its ids, each there once."""
    found = lake_read(folder, table).sort_by(key)
    assert len(found[key].unique()) == len(found)
    return found


def _day(event_time: int) -> str:
    return datetime.fromtimestamp(event_time / 1000, UTC).date().isoformat()


def sessions_of(events: pd.DataFrame) -> pd.Series:
    """Each event's session, numbered by user and time."""
    ordered = events.sort_values(["user_id", "event_time"], kind="stable")
    opens = (ordered["user_id"] != ordered["user_id"].shift()) | (ordered["event_time"].diff() >= GAP)
    return opens.cumsum().reindex(events.index)


@dataclass(frozen=True)
class Simulated:
    """A run of the job over simulated events, with disorder of up to 20 s, repeats and bad records.

    events: those that can be read, repeats too, with the number of each one's session. counted: of each session, by its
    id, what the job should find. ids: of the sessions, by their numbers.
    """

    settings: Settings
    assignments: list[str]
    events: pd.DataFrame
    repeated: pd.Series
    counted: pd.DataFrame
    ids: dict[int, str]
    on_close: dict[str, Any]
    sessions: pa.Table
    saved: pa.Table


@pytest.fixture(scope="module")
def simulated(
    assignments_of: Callable[..., list[str]],
    mini_cluster: MiniCluster,
    bundles: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Simulated:
    catalog, evening = make_catalog(600), START_MS + 18 * 60 * MINUTE  # with sessions over midnight
    records = list(simulate(catalog, events=SIMULATED, shoppers=300, bad_share=0.01, start_ms=evening))
    home = tmp_path_factory.mktemp("simulated")
    assignments = assignments_of("simulated", f"bundles={bundles}", f"home={home}", "parallelism=2")
    settings = load_settings(None, assignments)
    send(settings, [(record.key, record.value) for record in records])
    mini_cluster.run("session-features", assignments)

    good = [parse_event(record.value) for record in records if record.kind != "bad"]
    events = pd.DataFrame(good, columns=list(EVENT_COLUMNS))[recorded_schema().names]
    repeated = events.duplicated("event_id")
    assert repeated.sum() > SIMULATED / 1000
    events["session"] = sessions_of(events)
    counted = events.groupby("session").agg(
        user=("user_id", "first"),
        start=("event_time", "min"),
        end=("event_time", "max"),
        events=("event_id", "nunique"),
    )
    counted["repeats"] = repeated.groupby(events["session"]).sum()
    ids = (counted["user"] + "/" + counted["start"].astype(str)).to_dict()
    counted.index = counted.index.map(ids)
    sessions = rows(settings.lake_folder, "sessions", "session_id")
    saved = rows(settings.lake_folder, "events", "event_id")
    return Simulated(settings, assignments, events, repeated, counted, ids, closed(settings), sessions, saved)


def test_every_session_is_closed_once(simulated: Simulated):
    settings = simulated.settings
    assert read_all(settings, settings.topics.dlq) == []  # dead letters are the main job's
    assert read_all(settings, settings.topics.late) == []  # the disorder is within watermark.delay
    assert set(simulated.on_close) == set(simulated.counted.index)
    validator = jsonschema.Draft202012Validator(json_schema("session-features"))
    for each in list(simulated.on_close.values())[::20]:
        validator.validate(each)


def test_lake_sessions_match_the_topic(simulated: Simulated):
    assert len(simulated.sessions) == len(simulated.counted)
    for row in simulated.sessions.to_pylist():
        record = simulated.on_close[row["session_id"]]
        assert {name: row[name] for name in FEATURES} == record["features"]
        same = ("user_id", "session_start", "session_end")
        assert [row[name] for name in same] == [record[name] for name in same]
        expected = simulated.counted.loc[row["session_id"]].tolist()
        assert [row[name] for name in (*same, "session_events", "repeats")] == expected
        assert row["day"] == _day(row["session_start"])


def test_lake_events_match_the_input(simulated: Simulated):
    unique = simulated.events[~simulated.repeated].sort_values("event_id")
    columns = [name for name in unique.columns if name != "session"]
    schema = simulated.saved.select(columns).schema
    expected = pa.Table.from_pandas(unique[columns], schema, preserve_index=False)
    assert simulated.saved.select(columns).equals(expected)
    assert simulated.saved["session_id"].to_pylist() == unique["session"].map(simulated.ids).tolist()


def test_answers_match_closed_sessions(simulated: Simulated, mini_cluster: MiniCluster):
    """Features in session and on close are equal to the bit, if the last event to arrive is a trigger.

    Its answer has seen all events of a session with at most session.max_events, in whatever order. Longer sessions
    count only if they arrived in order: in session, the latest arrivals are kept.
    """
    settings, counted = simulated.settings, simulated.counted
    mini_cluster.run("recommend", simulated.assignments)
    records = [json.loads(each.value) for each in read_all(settings, settings.topics.recommendations)]
    answers = {answer["trigger_event_id"]: answer for answer in records}
    arrived = simulated.events[~simulated.repeated]
    in_order = arrived.groupby("session")["event_time"].is_monotonic_increasing
    compared = 0
    for number, last in arrived.groupby("session").tail(1).set_index("session").iterrows():
        session = simulated.ids[number]
        short = counted.loc[session, "events"] <= settings.session.max_events
        if last["event_id"] in answers and (short or in_order[number]):
            answer = answers[last["event_id"]]
            assert answer["session_id"] == session
            assert answer["session"] == simulated.on_close[session]["features"]
            assert answer["model"] == simulated.sessions["model"][0].as_py()
            compared += 1
    print(f"{compared:,} of {len(counted):,} sessions end with a trigger")
    assert compared > len(counted) / 2


def test_file_backfill_writes_same_sessions(simulated: Simulated, mini_cluster: MiniCluster, tmp_path: Path):
    file = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pandas(simulated.events.drop(columns=["session"]), preserve_index=False), file)
    home = tmp_path / "my shöp, 100% #1"  # not as a URI has it
    other = [*simulated.assignments, f"home={home}"]
    with recorded(load_settings(None, other), file, {}, "auto") as found:
        assert (found.events, found.refused) == (len(simulated.events), 0)
        mini_cluster.run("session-features", other, "--recorded", found.uri)
    assert rows(home / "lake", "sessions", "session_id").equals(simulated.sessions)


def test_lake_backfill_rewrites_whole_days(simulated: Simulated):
    """From the lake's own events."""
    folder, sessions = simulated.settings.lake_folder, simulated.sessions
    lasting = [(_day(row["session_start"]), _day(row["session_end"])) for row in sessions.to_pylist()]
    over_night = [(begun, ended) for begun, ended in lasting if begun != ended]
    first, last = min(ended for _, ended in over_night), max(begun for begun, _ in over_night)
    days = [day for day in sorted(set(sessions["day"].to_pylist())) if first <= day <= last]
    assert days  # sessions go over both edges of these
    before = set(folder.rglob("*-*"))
    backfill("lake", *as_options(simulated.assignments), "--from", first, "--to", last)
    gone = {each.relative_to(folder).parent for each in before - set(folder.rglob("*-*"))}
    assert gone == {Path("sessions", f"day={day}") for day in days}
    assert rows(folder, "sessions", "session_id").equals(sessions)
    assert rows(folder, "events", "event_id").equals(simulated.saved)


def random_times(count: int) -> list[str]:
    """RFC 3339 in many forms, seeded."""
    rng = np.random.default_rng(3)
    forms = []
    for when in rng.integers(-62_000_000_000, 253_000_000_000, count).tolist():
        text = str(np.datetime64(when, "s")).replace("T", str(rng.choice(["T", "t", " "])))
        digits = "".join(map(str, rng.integers(0, 10, rng.integers(0, 12)).tolist()))
        digits = rng.choice([digits, "999" + digits, "000999" + digits, "9995", "9999994"])
        zone = f"{rng.choice(['+', '-'])}{rng.integers(0, 24):02}{rng.choice([':', ''])}{rng.integers(0, 60):02}"
        forms.append(text + ("." + digits if digits else "") + str(rng.choice(["Z", "z", zone])))
    return forms


def test_times_in_sql_match_the_parser(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """An event whose time SQL reads otherwise than Python would come out as late.

    In the order of event time, so that none is: a session each, but for times of the same session.
    """
    assignments = own(f"bundles={bundles}", f"home={tmp_path}")
    settings = load_settings(None, assignments)
    whole = [0, -1, MAX_TIME_MS, -62_135_596_800_000, START, 253_402_300_799_000]
    edges = [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999994Z",
        "1500-02-28T00:00:00Z",
        "1969-12-31T23:59:59.9999Z",
    ]
    edges += ["2023-11-14T22:13:20.0009995Z", "2023-11-14T22:13:20.00099949999Z", "2024-02-29T23:59:59.99999951-00:00"]
    # Other units and zones; of each one that no other session is near.
    edges += [1541037460, 1511817838123456, 1521817838123456789, "1531817838123", 1551817838.25, 1.5617672256e12]
    edges += [
        "2015-01-01 00:00:00+00",
        "2015-01-02 05:30:00.25 -0530",
        "2015-01-03 00:00:00 UTC",
        "2015-01-04T00:00:00+07",
    ]
    unreadable = ["2023-11-14T22:13:20", "2023-11-14", "soon", 1.5, None, "253402300800000"]
    times = [*whole, *edges, *random_times(300)]
    values = [value(f"e{number}", time, user=f"u{number}") for number, time in enumerate(times)]
    # What else may stand in an event that is read: a repeated name, an escaped one, much depth, a large number.
    odd = value("o", 1, user="o", x=[[[[7]]]])[:-1].replace(b"7", b"1e999") + b', "\\u0065vent_time": 7}'
    items = [{"item_id": "a", "price": 5}, {"item_id": "b", "quantity": 2}]
    order = value("o1", "2016-01-01T00:00:00Z", user="buyer", kind="purchase", items=items)
    values += [odd, order.replace(b'"item_id": "i-o1", ', b"")]
    read = sorted((parse_event(each)[5], each) for each in values if parse_event(each)[0] is None)
    assert len(read) > len(whole) + 250
    bad = [value(f"b{number}", time) for number, time in enumerate(unreadable)]
    assert all(parse_event(each)[0] for each in bad)
    send(settings, [(b"k", each) for each in bad] + [(b"k", each) for _, each in read])
    mini_cluster.run("session-features", assignments)
    assert read_all(settings, settings.topics.late) == []
    found = closed(settings)
    assert sorted(each["session_start"] for each in found.values()) == [time for time, _ in read]
    (bought,) = (each["features"] for each in found.values() if each["user_id"] == "buyer")
    assert (bought["events"], bought["purchases"], bought["distinct_items"]) == (2, 2, 2)
    saved = rows(settings.lake_folder, "events", "event_id").to_pylist()
    lines = [
        (row["event_id"], row["item_id"], row["price"], row["quantity"]) for row in saved if row["user_id"] == "buyer"
    ]
    assert lines == [("o1", "a", 5, None), ("o1#2", "b", None, 2)]


@contextmanager
def running(assignments: list[str]) -> Iterator[None]:
    """The job under way."""
    command = [sys.executable, "-m", "flink_jobs.cli", "submit", "session-features", "--embedded"]
    with subprocess.Popen([*command, *as_options(assignments)], stderr=subprocess.PIPE, text=True) as job:
        try:
            yield
            assert job.poll() is None, job.communicate()[1]
        finally:
            mini_cluster = psutil.Process(job.pid).children(recursive=True)
            job.terminate()
            job.wait(60)
            _, alive = psutil.wait_procs(mini_cluster, 60)
            assert not alive, alive


def wait_for(what: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)


def test_late_repeated_and_disordered_events(own: Callable[..., list[str]], bundles: Path, tmp_path: Path):
    often = ["kafka.partition_discovery=500ms"]
    assignments = own(f"bundles={bundles}", f"home={tmp_path}", "lake.interval=500ms", "watermark.idle=2 s", *often)
    settings = load_settings(None, assignments)
    delay, ahead = settings.watermark.delay, settings.watermark.ahead
    sent: list[tuple[int, bytes]] = []

    def emit(
        name: str, event_time: int, user: str, stamp: int | None = None, partition: int | None = None, **more: Any
    ) -> None:
        record = value(name, event_time, user, **more)
        sent.append((event_time, record))
        when = event_time if stamp is None else stamp
        headers = [("trace", name.encode())]
        send(settings, [(user.encode(), record)], timestamp_ms=when, headers=headers, partition=partition)

    with running(assignments):
        # A session whose events are one millisecond less than the gap apart, and two that are the gap apart.
        emit("a1", START, "a", price=3.5)
        emit("a2", START + GAP - 1, "a", price=1e300, dwell_ms=10**12)
        emit("b1", START + 5, "b")
        emit("b2", START + 5 + GAP, "b")
        # Out of order within the delay, and twice.
        emit("c2", START + 20 * SECOND, "c")
        emit("c1", START, "c")
        emit("c2", START + 20 * SECOND, "c")
        # A clock that is ten years ahead, and one that is ahead by as much as may be.
        emit("d1", START + 3650 * DAY, "d", stamp=START)
        emit("f1", START + 4 * GAP, "f", stamp=START + 4 * GAP - ahead)
        mark = START + 4 * GAP - delay
        wait_for(lambda: {f"a/{START}", f"c/{START}"} <= set(closed(settings)))
        # The watermark is now `mark`, and stays there.
        emit("g1", mark - GAP + 3, "g")  # whose window ends a millisecond after the watermark
        emit("l1", mark - GAP + 2, "l")
        emit("l2", START - 40 * DAY, "l")
        emit("l3", mark - GAP - 1, "g")  # would have joined g1's session, but for being late
        emit("z1", START + 8 * GAP, "z")
        expected = {"a": 2, "b": 1, "c": 2, "f": 1, "g": 1}
        wait_for(lambda: f"g/{mark - GAP + 3}" in closed(settings) and f"f/{START + 4 * GAP}" in closed(settings))
        found = closed(settings)
        starts = [("a", START), ("b", START + 5), ("b", START + 5 + GAP), ("c", START), ("f", START + 4 * GAP)]
        assert set(found) == {f"{user}/{start}" for user, start in [*starts, ("g", mark - GAP + 3)]}
        assert {each["user_id"]: each["features"]["events"] for each in found.values()} == expected
        wait_for(lambda: lake_read(settings.lake_folder, "events").num_rows == 8)
        # A partition is added. As long as it is empty it holds nothing up, and then it is read as the others.
        added = add_partition(settings)
        emit("y1", START + 12 * GAP, "y", partition=0)
        wait_for(lambda: f"z/{START + 8 * GAP}" in closed(settings))
        emit("x1", START + 16 * GAP, "x", partition=added)
        wait_for(lambda: f"y/{START + 12 * GAP}" in closed(settings))
        wait_for(lambda: lake_read(settings.lake_folder, "events").num_rows == 10)

    late = {dict(each.headers)["trace"].decode(): each for each in read_all(settings, settings.topics.late)}
    assert {name: int(dict(each.headers)["lateness_ms"]) for name, each in late.items()} == {
        "l1": GAP - 2, "l2": mark - START + 40 * DAY, "l3": GAP + 1
    }  # fmt: skip
    for name, each in late.items():
        event_time, record = next(pair for pair in sent if json.loads(pair[1])["event_id"] == name)
        assert (each.key, each.value, each.timestamp) == (json.loads(record)["user_id"].encode(), record, event_time)

    sessions = rows(settings.lake_folder, "sessions", "session_id").to_pandas().set_index("session_id")
    found = closed(settings)
    assert sessions["repeats"].to_dict() == {name: int(name.startswith("c/")) for name in found}
    assert sessions["repaired"].to_dict() == {name: 2 * name.startswith("a/") for name in found}
    assert sessions["unknown_items"].sum() == 10
    saved = rows(settings.lake_folder, "events", "event_id").to_pandas().set_index("event_id")
    assert set(saved.index) == {"a1", "a2", "b1", "b2", "c1", "c2", "f1", "g1", "y1", "z1"}
    assert saved["price"].dropna().to_dict() == {"a1": 3.5}
    assert saved["dwell_ms"].isna().all()
    hidden = [
        each.name for each in settings.lake_folder.rglob("*") if each.is_file() and each.name.startswith((".", "_"))
    ]
    assert not [name for name in hidden if ".inprogress." not in name and not name.startswith(".uncompacted-")]


def test_online_retail_sessions_match_everywhere(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """On close, in session and from the file; orders are sessions of up to hundreds of events at one time."""
    file = online_retail(tmp_path / "retail.csv.gz", RETAIL_REPLAYED)
    assignments = own(f"bundles={bundles}", f"home={tmp_path}", "session.max_events=1024", "parallelism=2")
    settings = load_settings(None, assignments)
    ran = run_command("replay", str(file), *as_options(assignments))
    assert ran.code == 0, ran.err
    mini_cluster.run("session-features", assignments)
    mini_cluster.run("recommend", assignments)
    assert read_all(settings, settings.topics.late) == []
    on_close = {name: each["features"] for name, each in closed(settings).items()}
    last: dict[str, Any] = {}
    for answer in (json.loads(each.value) for each in read_all(settings, settings.topics.recommendations)):
        known = last.setdefault(answer["session_id"], answer)
        if answer["session"]["events"] > known["session"]["events"]:
            last[answer["session_id"]] = answer
    assert {name: answer["session"] for name, answer in last.items()} == on_close
    with recorded(settings, file, {}, "auto") as found:
        other = [*assignments, f"lake.folder={tmp_path / 'other'}"]
        mini_cluster.run("session-features", other, "--recorded", found.uri)
    from_file = rows(tmp_path / "other", "sessions", "session_id")
    assert from_file.equals(rows(settings.lake_folder, "sessions", "session_id"))
    assert {row["session_id"]: {name: row[name] for name in FEATURES} for row in from_file.to_pylist()} == on_close


def test_online_retail_backfilled_twice(mini_cluster: MiniCluster, bundles: Path, tmp_path: Path):
    file = online_retail(tmp_path / "retail.csv.gz", RETAIL_LINES)
    assignments = [f"bundles={bundles}", f"home={tmp_path}"]
    report = backfill(str(file), *as_options(assignments))

    raw = pd.read_csv(file, dtype={"InvoiceNo": str, "StockCode": str})
    kept = raw[~raw["InvoiceNo"].str.startswith("C") & (raw["Quantity"] > 0) & raw["CustomerID"].notna()]
    bought = pd.DataFrame(
        {
            "user_id": kept["CustomerID"].astype(int).astype(str),
            "event_time": pd.to_datetime(kept["InvoiceDate"]).astype("datetime64[ms]").astype("int64"),
            "value": kept["Quantity"] * kept["UnitPrice"],
        }
    )
    bought["session"] = sessions_of(bought)
    expected = bought.groupby("session").agg(
        user_id=("user_id", "first"), start=("event_time", "min"), end=("event_time", "max"),
        events=("value", "size"), value=("value", "sum"),
    )  # fmt: skip
    assert (report["events"], report["refused"]) == (len(bought), 0)

    folder = tmp_path / "lake"
    sessions, saved = rows(folder, "sessions", "session_id"), rows(folder, "events", "event_id")
    assert len(saved) == len(bought)
    found = sessions.to_pandas().merge(expected, left_on=["user_id", "session_start"], right_on=["user_id", "start"])
    assert len(found) == len(expected) == len(sessions)
    assert (found["session_end"] == found["end"]).all()
    assert (found["session_events"] == found["events_y"]).all()
    short = found[found["events_y"] <= Settings().session.max_events]
    np.testing.assert_allclose(short["purchase_value"], short["value"], rtol=1e-12)
    values = saved.to_pandas().eval("price * quantity")
    np.testing.assert_allclose(values.sum(), bought["value"].sum(), rtol=1e-12)
    by_day = values.groupby(saved["day"].to_pandas()).sum()
    days = pd.to_datetime(bought["event_time"], unit="ms").dt.strftime("%Y-%m-%d")
    np.testing.assert_allclose(by_day, bought["value"].groupby(days).sum(), rtol=1e-12)

    middle = sorted(set(days))[1]
    before = {each: each.stat().st_mtime_ns for each in folder.rglob("*") if each.is_file()}
    with recorded(load_settings(None, assignments), file, {}, "auto") as again:
        days_again = ["--from", middle, "--to", middle]
        mini_cluster.run("session-features", assignments, "--recorded", again.uri, *days_again)
    assert rows(folder, "sessions", "session_id").equals(sessions)
    assert rows(folder, "events", "event_id").equals(saved)
    gone = {each.parent.name for each in before if not each.exists()}
    assert gone == {f"day={middle}"}  # no other day was written
    after = {each: each.stat().st_mtime_ns for each in before if each.exists()}
    assert after.items() <= before.items()
    assert not list(tmp_path.glob("backfill-*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lake",), "there are no events in"),
        (("no-such-file.csv",), "no-such-file.csv"),
        (("lake", "--from", "2026-02-02", "--to", "2026-02-01"), "is after"),
    ],
)
def test_refused_backfill_is_one_line(arguments: tuple[str, ...], says: str, bundles: Path, tmp_path: Path):
    ran = run_command("backfill", *arguments, *as_options([f"bundles={bundles}", f"home={tmp_path}"]))
    assert ran.code == 1
    assert says in ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_plan_has_watermarks_in_the_source(mini_cluster: MiniCluster, bundles: Path, tmp_path: Path):
    plan = mini_cluster.explain("session-features", [f"bundles={bundles}", f"home={tmp_path}"])
    (scan,) = [line for line in plan.splitlines() if "TableSourceScan" in line]
    assert "watermark=[" in scan
    assert "idletimeout=[60000]" in scan.lower().replace(" ", "")
    assert "WatermarkAssigner" not in plan
    assert plan.count("parse(value)") == plan.count("close_sessions(") == plan.count("WindowAggregate(") == 1
