import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support import ROOT

from bench import environment
from bench.environment import peers_versions
from bench.peers_pipeline import PEERS
from bench.pipeline import (
    GUARANTEES,
    NAMES,
    OTHERS,
    PEER_PACKAGES,
    Options,
    Prepared,
    Run,
    Sample,
    Usage,
    draw,
    row_of,
    run,
    steady,
    with_ratio,
)
from bench.pipeline_latency import run_latency
from bench.pipeline_sessions import GAP_MS, LAST, TRIGGERS, Due, Shopper, sessions_of
from deploy.local.jars import read_lock
from flink_jobs.jobs.recommend import options as recommend_options
from flink_jobs.settings.settings import Settings
from flink_jobs.sql.sessions import DEDUP_ROWS, HEADROOM
from udfs.errors import ShopstreamError
from udfs.recommend import RecommendOptions
from udfs.sessions import Sessions

START = 1_767_225_600_000


def event(event_id: str, minutes: float, event_type: str = "view", **more: Any) -> bytes:
    known = {"event_id": event_id, "event_type": event_type, "user_id": "u1", "item_id": "i1"}
    return json.dumps(known | {"event_time": START + round(minutes * 60_000)} | more).encode()


def ids(due: Due | None) -> list[str]:
    assert due is not None
    return sessions_of([due]).own().last(64).event_id.tolist()


def test_latency_knows_its_ways():
    with pytest.raises(ShopstreamError, match=r"no such way: 2s; there are at-least-once, .*1s-changelog"):
        run_latency(Options(only=("1s", "2s")), 60, 1, as_json=True)


def test_the_peers_rules_are_the_settings_defaults():
    settings = Settings()
    assert settings.session.gap == GAP_MS
    assert max(DEDUP_ROWS, settings.session.max_events + HEADROOM) == LAST
    assert recommend_options(settings).max_events == RecommendOptions(Path()).max_events
    assert settings.triggers == TRIGGERS


def test_a_session_goes_on_until_the_gap():
    shopper = Shopper()
    assert ids(shopper.meet(event("a", 0))) == ["a"]
    assert ids(shopper.meet(event("b", 29.9))) == ["a", "b"]
    due = shopper.meet(event("c", 59.9))
    assert ids(due) == ["c"]
    assert due is not None
    assert due[:6] == ("u1", "c", START + 3_594_000, START + 3_594_000, START + 3_594_000, 1)


def test_disorder_moves_a_sessions_start_and_a_late_event_is_a_session_of_its_own():
    shopper = Shopper()
    shopper.meet(event("a", 60))
    due = shopper.meet(event("b", 31))
    assert due is not None
    assert due[3:6] == (START + 31 * 60_000, START + 60 * 60_000, 2)
    assert ids(due) == ["a", "b"]
    assert ids(shopper.meet(event("late", 30))) == ["late"]
    assert ids(shopper.meet(event("c", 61))) == ["a", "b", "c"]


def test_repeats_what_cannot_be_read_and_what_asks_for_nothing_are_not_due():
    shopper = Shopper()
    shopper.meet(event("a", 0))
    assert shopper.meet(event("a", 0)) is None
    assert shopper.meet(b"{") is None
    assert shopper.meet(None) is None
    assert shopper.meet(event("b", 1, "impression")) is None
    assert ids(shopper.meet(event("c", 2))) == ["a", "b", "c"]
    assert shopper.meet(event("b", 2)) is None
    assert ids(shopper.meet(event("d", 3))) == ["a", "b", "c", "d"]


def test_what_was_due_stays_as_it_was_and_only_the_last_events_are_kept():
    shopper = Shopper()
    first = shopper.meet(event("e0", 0))
    for number in range(1, 100):
        last = shopper.meet(event(f"e{number}", number / 10))
    assert ids(first) == ["e0"]
    assert ids(last) == [f"e{number}" for number in range(36, 100)]
    assert last is not None
    assert last[5] == 100
    assert shopper.meet(event("e36", 10)) is None
    assert shopper.meet(event("e20", 10)) is not None  # further back than is looked


def test_the_columns_are_those_that_the_job_makes():
    shopper = Shopper()
    dues = [
        shopper.meet(event("a", 0, price=2.5, properties={"device": "phone"})),
        shopper.meet(event("b", 1, "search", item_id=None, query="mug")),
        shopper.meet(event("c", 40, "purchase", quantity=2, properties={"timezone": "UTC"})),
    ]
    ours = sessions_of([due for due in dues if due is not None])
    arrays: list[list[Any]] = [[START], [START, START + 60_000], [START + 2_400_000]]
    nothing: list[list[Any]] = [[None], [None, None], [None]]
    job = Sessions.from_arrays(
        [START, START, START + 2_400_000], [START, START + 60_000, START + 2_400_000], [1, 2, 1], arrays,
        [["view"], ["view", "search"], ["purchase"]], [["i1"], ["i1", None], ["i1"]], [[None], [None, "mug"], [None]],
        [[2.5], [2.5, None], [None]], [[None], [None, None], [2]], nothing, nothing, [["a"], ["a", "b"], ["c"]],
        [["phone"], ["phone", None], [None]], [[None], [None, None], ["UTC"]], nothing, nothing,
    )  # fmt: skip
    for name in Sessions.__dataclass_fields__:
        mine, theirs = getattr(ours, name), getattr(job, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def samples(*looks: tuple[float, int]) -> list[Sample]:
    return [Sample(at, records, cpu_s=at * 2, rss_mb=100 + at) for at, records in looks]


PREPARED = Prepared(150, "", frozenset(f"u/{number}" for number in range(100)), [])
LOOKS = samples((0, 0), (10, 20), (11, 60), (14, 110), (17, 110))


def test_rates_are_from_the_first_result_to_the_last():
    window = steady(LOOKS)
    assert window is not None
    assert [sample.at for sample in window] == [10, 14]
    assert steady(samples((0, 0), (5, 0))) is None
    assert steady(samples((0, 0), (5, 100), (8, 100))) is None
    # 110 offsets are 100 records: transactions end with one.
    row = row_of("ours", [Run(LOOKS, 200, True, dict.fromkeys(PREPARED.due, 1), 100)], PREPARED, None)
    assert row.recommendations_per_s == round(90 * 100 / 110 / 4, 1)
    assert row.events_per_s == round(90 * 100 / 110 * 1.5 / 4, 1)
    assert row.texts_per_s == 50
    assert row.cpu_s_per_100k == round(8 / (90 * 100 / 110 * 1.5) * 1e5, 2)
    assert (row.startup_s, row.peak_rss_mb) == (10, 117)
    assert (row.missing, row.doubled, row.unexpected) == (0, 0, 0)
    assert with_ratio(row, row.events_per_s).ratio_ours_to_it == 1
    assert with_ratio(row, None).ratio_ours_to_it is None


def test_missing_doubled_unexpected_and_other_records_are_counted():
    ours = Run(LOOKS, None, True, dict.fromkeys(PREPARED.due, 1), 100)
    digests = dict.fromkeys(sorted(PREPARED.due)[:80], 1) | {"u/x": 1}
    digests["u/0"] = 2
    row = row_of("loop", [Run(LOOKS, None, True, digests, 84)], PREPARED, ours)
    assert (row.missing, row.doubled, row.unexpected, row.same_as_ours) == (20, 3, 1, round(79 / 81, 4))
    cut_off = row_of("loop", [Run(LOOKS, None, False, digests, 84)], PREPARED, ours)
    assert cut_off.missing is None


def test_usage_is_of_a_process_and_its_children():
    with psutil.Popen(["bash", "-c", "i=0; while ((i < 200000)); do ((i++)); done & wait"]) as process:
        usage = Usage([process.pid])
        while process.poll() is None:
            usage.look()
    assert usage.cpu_s > 0
    usage.look()
    assert usage.rss_mb == 0


def test_every_contender_has_what_it_needs(monkeypatch: pytest.MonkeyPatch):
    assert set(OTHERS) == set(PEERS)
    assert set(GUARANTEES) == set(NAMES)
    monkeypatch.setattr(environment, "ROOT", ROOT)
    assert set(peers_versions("pipeline", *PEER_PACKAGES)) == set(PEER_PACKAGES)
    # PySpark and its Kafka connector are one version.
    connector = next(jar for jar in read_lock() if jar.artifact.startswith("spark-sql-kafka"))
    assert peers_versions("pipeline", "pyspark") == {"pyspark": connector.version}


def test_unknown_contenders_are_refused():
    with pytest.raises(ShopstreamError, match="--only names sparks; the contenders are ours, floor"):
        run(Options(only=("ours", "sparks")), as_json=True, chart=None)


def test_the_chart_is_the_same_for_the_same_rows(tmp_path: Path):
    pytest.importorskip("matplotlib")
    row = row_of("ours", [Run(LOOKS, None, True, dict.fromkeys(PREPARED.due, 1), 100)], PREPARED, None)
    for name in ("a.svg", "b.svg"):
        draw([row], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "exactly-once" in (tmp_path / "a.svg").read_text()
