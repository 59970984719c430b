"""The main job on the embedded mini-cluster, with a real broker and a real bundle."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import jsonschema
import pytest
from mini_cluster import MiniCluster
from support import as_options, read_all, run_command, send, set_max_bytes

from flink_jobs.commands.check import expected_ids
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.records import Record
from flink_jobs.simulation.simulate import simulate
from udfs.events.parsing import parse_event
from udfs.schemas.generate import json_schema

pytestmark = pytest.mark.flink

MINUTE = 60_000
SIMULATED = int(os.environ.get("SHOPSTREAM_SIMULATED_EVENTS", "2000"))
#: How many of them also run with one row per call, which takes ten times as long.
SINGLE_ROW_RECORDS = int(os.environ.get("SHOPSTREAM_SINGLE_ROW_RECORDS", "250"))
START = 1_700_000_000_000


def event(name: str, minute: float, user: str = "u", kind: str = "view", item: str = "", **more: Any) -> Any:
    fields = {"event_id": name, "event_type": kind, "user_id": user, "event_time": START + round(minute * MINUTE)}
    if kind != "search":
        fields["item_id"] = item or name
    return user.encode(), json.dumps(fields | more).encode()


def send_compressed(settings: Settings, codec: str, record: tuple[bytes, bytes]) -> None:
    """Send a record as other producers may; kafka-python's has none of these codecs."""
    producer = confluent_kafka.Producer({"bootstrap.servers": settings.kafka.bootstrap, "compression.type": codec})
    producer.produce(settings.topics.clickstream, record[1], record[0])
    assert producer.flush(30) == 0


def answers(settings: Settings) -> dict[str, Any]:
    records = read_all(settings, settings.topics.recommendations)
    found = {json.loads(record.value)["trigger_event_id"]: json.loads(record.value) for record in records}
    assert len(found) == len(records), "a trigger was answered twice"
    return found


def test_sessions_repeats_and_dead_letters(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """One run over hand-made streams, each of its own user."""
    limit = 300_000
    assignments = own(
        f"bundles={bundles}", f"home={tmp_path}", "session.max_events=8", f"sink.max_letter_bytes={limit}"
    )
    settings = load_settings(None, assignments)
    set_max_bytes(settings, settings.topics.dlq, limit)
    gap = [event("g1", 0, "gap"), event("g2", 29.99, "gap"), event("g3", 60, "gap"), event("g4", 61, "gap")]
    # Out of order: before the opening but within the gap, and further back than the gap.
    order = [event("o1", 100, "order"), event("o2", 99, "order"), event("o3", 5, "order"), event("o4", 101, "order")]
    # Every event keeps a session open: one of two views 40 minutes apart, with a search and an impression in between.
    open_ = [event("v1", 0, "open"), event("v2", 20, "open", "search", query="mug"), event("v3", 40, "open")]
    open_ += [event("v4", 60, "open", "impression"), event("v5", 80, "open")]
    near = [event("n1", 0, "near"), event("n2", 1, "near"), event("n1", 0, "near"), event("n3", 2, "near")]
    # As many as session.max_events, and repeats between them.
    full = [event(f"e{number}", number, "full") for number in range(1, 9)]
    full = [*full[:2], *full[:2], *full[2:7], full[4], full[7]]
    # The repeat comes after more events than a session keeps.
    far = [event(f"f{number}", number, "far") for number in range(100)] + [
        event("f0", 0, "far"),
        event("f100", 100, "far"),
    ]
    quiet = [event("q1", 0, "quiet", "impression"), event("q2", 1, "quiet", "rate", rating=5), event("q3", 2, "quiet")]
    properties = {
        "device": "phone",
        "timezone": "Asia/Tokyo",
        "returning": "true",
        "locale": "ja-JP",
        "other": "left behind",
    }
    search = [event("s1", 0, "search", "search", query="stoneware mug", properties=properties)]
    long = [event("l1", 0, "long", "search", query="mug " * 200_000)]
    send(settings, gap + order + open_ + near + full + far + quiet + search + long)
    codecs = ["lz4", "snappy", "zstd"]
    for codec in codecs:
        send_compressed(settings, codec, event(codec, 0, codec, "search", query="mug " * 100))
    bad = [(b"k", b"\xff\xfe"), (None, b"{"), (b"k", None), (b"k", event("x", 0)[1].replace(b"view", b"stare"))]
    send(settings, bad, headers=[("trace", b"7")], timestamp_ms=START)
    large = [(b"large", b"\xff\0{" + b"\xe2\x82\xac" * 200_000)]
    send(settings, large, headers=[("trace", b"8")])
    send(settings, [(b"key" * 200_000, b'{"event_type":"' + b"x" * 400_000 + b'"}')], headers=[("h", b"h" * 200_000)])
    mini_cluster.run("recommend", assignments)

    found = answers(settings)
    wanted = {"g1", "g2", "g3", "g4", "o1", "o2", "o3", "o4", "n1", "n2", "n3", "q3", "s1", "l1", *codecs}
    wanted |= {"v1", "v2", "v3", "v5"}
    assert set(found) == wanted | {f"f{number}" for number in range(101)} | {f"e{number}" for number in range(1, 9)}

    def start(name: str) -> float:
        user, _, started = found[name]["session_id"].partition("/")
        assert user == found[name]["user_id"]
        return (int(started) - START) / MINUTE

    def seen(name: str) -> int:
        return int(found[name]["session"]["events"])

    assert [start(name) for name in ("g1", "g2", "g3", "g4")] == [0, 0, 60, 60]
    assert [seen(name) for name in ("g1", "g2", "g3", "g4")] == [1, 2, 1, 2]
    assert [start(name) for name in ("o1", "o2", "o3", "o4")] == [100, 99, 5, 99]
    assert [seen(name) for name in ("o1", "o2", "o3", "o4")] == [1, 2, 1, 3]
    assert [found[name]["session"]["views"] for name in ("o1", "o2", "o3", "o4")] == [1, 2, 1, 3]
    assert [start(name) for name in ("v1", "v2", "v3", "v5")] == [0, 0, 0, 0]
    assert [seen(name) for name in ("v1", "v2", "v3", "v5")] == [1, 2, 3, 5]
    assert [seen(name) for name in ("n1", "n2", "n3")] == [1, 2, 3]
    assert [seen(f"e{number}") for number in range(1, 9)] == list(range(1, 9))
    assert found["e8"]["session"]["views"] == 8
    assert seen("f19") == 20
    assert found["f19"]["session"]["views"] == 8  # features are computed on the last eight events
    assert found["f19"]["session"]["duration_ms"] == 19 * MINUTE
    assert found["q3"]["session"]["impressions"] == found["q3"]["session"]["ratings"] == 1
    assert found["s1"]["session"]["last_query"] == "stoneware mug"
    known = {"device": "phone", "locale": "ja-JP", "visitor": "returning", "hour": 7, "weekday": 2}  # 22:13 UTC
    assert {name: found["s1"]["session"][name] for name in known} == known
    # By event time o2 comes before o1, so the latest event is still o1.
    assert found["o2"]["session"]["since_previous_ms"] == MINUTE
    assert found["o4"]["session"]["gap_ms_mean"] == MINUTE
    assert any(reason["because"] == "stoneware mug" for reason in found["s1"]["items"][0]["reasons"])
    for answer in found.values():
        for item in answer["items"]:
            assert round(sum(reason["weight"] for reason in item["reasons"]) * 1e6) == round(item["score"] * 1e6)

    assert found["l1"]["session"]["last_query"] == ("mug " * 64)

    explained = run_command("explain", "search/s1", *as_options(assignments))
    assert explained.code == 0, explained.err
    assert explained.out.startswith("search/s1: for search after event s1, model ")
    assert "  1. " in explained.out
    assert "content: stoneware mug" in explained.out
    unknown = run_command("explain", "search/s9", *as_options(assignments))
    assert unknown.code == 1
    assert "has no recommendation 'search/s9'" in unknown.err

    letters = read_all(settings, settings.topics.dlq)
    cut = [letter for letter in letters if "__connect.errors.value.bytes" in dict(letter.headers)]
    assert {dict(letter.headers)["__connect.errors.value.bytes"] for letter in cut} == {b"600003", b"400017"}
    for letter in cut:
        headers = dict(letter.headers)
        if letter.key == b"large":
            assert headers["trace"] == b"8"
            assert limit * 0.9 < len(letter.value) < limit
            assert large[0][1].startswith(letter.value)
        else:
            assert b"key" * 200_000 > letter.key > b"key" * 20_000
            assert letter.value.startswith(b'{"event_type":"' + b"x" * 100_000)
            assert "h" not in headers
        assert len(headers["__connect.errors.exception.message"]) <= 1024
    letters = [letter for letter in letters if letter not in cut]
    assert {(letter.key, letter.value) for letter in letters} == set(bad)
    assert len(letters) == len(bad)
    validator = jsonschema.Draft202012Validator(json_schema("clickstream.dlq-headers"))
    for letter in letters:
        headers = dict(letter.headers)
        assert headers.pop("trace") == b"7"
        assert letter.timestamp == START
        validator.validate({name: value.decode() for name, value in headers.items()})
        assert headers["__connect.errors.topic"].decode() == settings.topics.clickstream
        assert headers["__connect.errors.exception.message"].decode() == parse_event(letter.value)[0]


def test_clocks_reused_ids_and_orders(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """One run over what producers get wrong, each stream of its own user."""
    assignments = own(f"bundles={bundles}", f"home={tmp_path}")
    settings = load_settings(None, assignments)
    year = 365 * 24 * 60
    odd = [event("a", 0, "odd"), event("b", year, "odd"), event("c", 1, "odd"), event("b2", year + 1, "odd")]
    odd += [event("c2", 2, "odd", "add_to_cart", item="c"), event("d", 3, "odd")]
    # A clock that is always an hour ahead has whole sessions all the same.
    always = [event("h1", 110, "always"), event("h2", 111, "always"), event("h3", 112, "always", "add_to_cart")]
    one_id = [event("1", 0, "one", item="a"), event("1", 0, "one", "purchase", item="b", price=9)]
    one_id += [event("1", 0, "one", item="a"), event("2", 1, "one", "search", query="mug"), one_id[1]]
    # An app that numbers from 1 in each visit.
    visits = [event("1", 0, "visits", item="a"), event("2", 1, "visits", item="b")]
    visits += [event("1", 41, "visits", item="c"), event("2", 42, "visits", item="d")]
    lines = [{"item_id": "a", "price": 5, "quantity": 1}, {"item_id": "b", "price": 2.5, "quantity": 2}]
    order = [event("o0", 0, "order", "add_to_cart", item="a"), event("o1", 1, "order", "purchase", items=lines)]
    order = [order[0], (order[1][0], order[1][1].replace(b'"item_id": "o1", ', b"")), event("o2", 2, "order")]
    send(settings, odd + always + one_id + visits + order, timestamp_ms=START + 50 * MINUTE)
    mini_cluster.run("recommend", assignments)
    records = read_all(settings, settings.topics.recommendations)
    every = [json.loads(record.value) for record in records]
    found = {answer["recommendation_id"]: answer for answer in every}
    assert sorted(found) == sorted(answer["recommendation_id"] for answer in every)
    assert read_all(settings, settings.topics.dlq) == []

    def session(name: str, *features: str) -> list[Any]:
        return [found[name]["session"][feature] for feature in features]

    assert [session(f"odd/{name}", "events")[0] for name in ("a", "c", "c2", "d")] == [1, 2, 3, 4]
    assert session("odd/d", "cart_size") == [1]
    assert found["odd/d"]["session_id"] == found["odd/a"]["session_id"]
    assert [session(f"odd/{name}", "events")[0] for name in ("b", "b2")] == [1, 2]
    assert session("always/h3", "events", "cart_size") == [3, 1]
    ahead = {name for name, answer in found.items() if "clock_ahead" in answer}
    assert ahead == {"odd/b", "odd/b2", "always/h1", "always/h2", "always/h3"}
    of_one = sorted(name for name in found if found[name]["user_id"] == "one")
    *plain, reused = of_one
    assert plain == ["one/1", "one/2"]
    assert reused.startswith("recommend/one/1/")
    assert found[reused]["trigger_event_id"] == "1"
    assert session(reused, "events", "purchases") == [2, 1]
    assert session("one/2", "events", "views", "purchases") == [3, 1, 1]
    of_visits = [answer["session"]["events"] for answer in found.values() if answer["user_id"] == "visits"]
    assert sorted(of_visits) == [1, 1, 2, 2]
    assert session("order/o1", "events", "purchases", "cart_size") == [3, 2, 0]
    assert session("order/o2", "events", "purchases") == [4, 2]

    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(value for _, value in odd + always + one_id + visits))
    due = expected_ids(settings, events, mapping={}, preset="auto", limit=None)
    assert set(due) == {name for name in found if not name.startswith("order/")}
    assert due.total() == len(due)


def test_login_joins_the_visit_under_way(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, tmp_path: Path
):
    """One run over visits in which shoppers log in, each of its own cookie, and one in which a login ends the visit."""

    def at(cookie: str | None, name: str, minute: float, user: str | None, *kind: str, **more: Any) -> Any:
        _, value = event(name, minute, "", *kind, **more, anonymous_id=cookie)
        fields = json.loads(value) | {"user_id": user}
        return (cookie or user or "").encode(), json.dumps(fields).encode()

    joined = [at("c", "1", 0, None, item="a"), at("c", "2", 1, None, "add_to_cart", item="a")]
    joined += [at("c", "3", 2, "u1", item="b"), at("c", "4", 3, None, item="c"), at("c", "5", 4, "u1", item="d")]
    # The same request again after the login.
    joined += [at("c", "2", 1, "u1", "add_to_cart", item="a"), at("c", "6", 40, "u1", item="e")]
    # Two shoppers, one after the other, at one computer.
    shared = [at("d", "1", 0, None, item="a"), at("d", "2", 1, "u2", "add_to_cart", item="b")]
    shared += [at("d", "3", 2, None, item="c"), at("d", "4", 3, "u3", item="d"), at("d", "5", 4, "u3", item="e")]
    # What trackers send where there is no cookie joins nobody.
    none = [at("null", "1", 0, "u4", item="a"), at("null", "1", 1, "u5", item="b"), at("null", "2", 2, "u4", item="c")]
    # Without a cookie a shopper's session is apart.
    apart = [at("e", "1", 0, "u6", item="a"), at(None, "2", 1, "u6", item="b"), at("e", "3", 2, "u6", item="c")]
    # A user without a cookie is not the cookie of the same name.
    apart += [at("u8", "1", 0, "u9", item="a"), at(None, "1", 1, "u8", item="b")]
    far = [at("f", str(number), number, "u7" if number == 100 else None) for number in range(101)]

    def run(*more: str) -> dict[str, dict[str, Any]]:
        assignments = own(f"bundles={bundles}", f"home={tmp_path}", "parallelism=2", *more)
        settings = load_settings(None, assignments)
        send(settings, joined + shared + none + apart + far)
        mini_cluster.run("recommend", assignments)
        records = read_all(settings, settings.topics.recommendations)
        found = {answer["recommendation_id"]: answer for answer in (json.loads(record.value) for record in records)}
        assert len(found) == len(records)
        assert read_all(settings, settings.topics.dlq) == []
        return found

    def counts(found: dict[str, dict[str, Any]], *names: str) -> list[int]:
        return [found[name]["session"]["events"] for name in names]

    found = run()
    assert counts(found, "c/1", "c/2", "u1/3", "c/4", "u1/5", "u1/6") == [1, 2, 3, 4, 5, 1]
    assert "u1/2" not in found
    assert [found[name]["session"]["cart_size"] for name in ("c/2", "u1/3", "c/4", "u1/5", "u1/6")] == [1, 1, 1, 1, 0]
    assert found["c/1"]["session_id"] == f"c/{START}"
    assert found["u1/3"]["session_id"] == found["u1/5"]["session_id"] == f"u1/{START}"
    assert counts(found, "d/1", "u2/2", "d/3", "u3/4", "u3/5") == [1, 2, 3, 1, 2]
    assert [found[name]["session"]["cart_size"] for name in ("u2/2", "d/3", "u3/4", "u3/5")] == [1, 1, 0, 0]
    assert found["u3/4"]["session_id"] == f"u3/{START + 3 * MINUTE}"
    assert counts(found, "u4/1", "u5/1", "u4/2") == [1, 1, 2]
    assert counts(found, "u6/1", "u6/2", "u6/3") == [1, 1, 2]
    assert counts(found, "u9/1", "u8/1") == [1, 1]
    assert counts(found, "u7/100") == [101]

    of_users = run("session.join_logins=false")
    assert counts(of_users, "c/1", "c/2", "u1/3", "c/4", "u1/5") == [1, 2, 1, 3, 2]
    assert of_users["u1/3"]["session"]["cart_size"] == 0
    assert counts(of_users, "u6/3") == [3]
    assert "u1/2" in of_users


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Valid events with disorder, repeats and bad records among them."""
    catalog = make_catalog(600)
    return list(simulate(catalog, events=SIMULATED, shoppers=300, bad_share=0.01))


def test_answers_ignore_batches_and_parallelism(
    own: Callable[..., list[str]], mini_cluster: MiniCluster, bundles: Path, records: list[Record], tmp_path: Path
):
    def run(size: int, parallelism: int, part: list[Record], *more: str) -> dict[str, bytes]:
        assignments = own(
            f"bundles={bundles}", f"home={tmp_path}", f"python.bundle_size={size}", f"parallelism={parallelism}",
            "rank.explore=0.1", *more
        )  # fmt: skip
        settings = load_settings(None, assignments)
        send(settings, [(record.key, record.value) for record in part])
        started = time.monotonic()
        mini_cluster.run("recommend", assignments)
        print(
            f"{len(part):,} records, bundle size {size}, parallelism {parallelism}: {time.monotonic() - started:.1f} s"
        )
        found = read_all(settings, settings.topics.recommendations)
        by_id = {json.loads(record.value)["recommendation_id"]: record.value for record in found}
        assert len(by_id) == len(found)
        assert set(by_id) == due(part)
        assert len(read_all(settings, settings.topics.dlq)) == sum(record.kind == "bad" for record in part)
        return by_id

    first = run(256, 1, records)
    # Byte for byte, whatever the batches, the slots and where state is.
    assert run(7, 2, records, "checkpoint.backend=rocksdb") == first
    # One row a call costs 10 ms a record. What comes later changes no answer, so a part must give a part.
    some = run(1, 1, records[:SINGLE_ROW_RECORDS], "checkpoint.changelog=true")
    assert some == {name: first[name] for name in some}

    validator = jsonschema.Draft202012Validator(json_schema("recommendations"))
    answers = [json.loads(value) for value in first.values()]
    for answer in answers[::50]:
        validator.validate(answer)
        assert [item["rank"] for item in answer["items"]] == list(range(1, len(answer["items"]) + 1))
        assert all(0 < item["propensity"] <= 1 for item in answer["items"])
    assert 0.05 < sum("explored" in answer for answer in answers) / len(answers) < 0.15


def due(records: list[Record]) -> set[str]:
    """The ids of the recommendations that these records ask for."""
    rows = [parse_event(record.value) for record in records if record.kind == "valid"]
    return {f"{row[4]}/{row[2]}" for row in rows if row[3] in Settings().triggers}


def test_plan_reads_kafka_once(mini_cluster: MiniCluster, tmp_path: Path):
    plan = mini_cluster.explain("recommend", [f"home={tmp_path}"])
    assert plan.count("TableSourceScan") == 1
    assert plan.count("parse(value)") == 1
    # Repeats are not ranked, and answers, the largest rows, cross no exchange.
    assert plan.index("recommend(") < plan.index("Deduplicate(keep=[FirstRow]")
    assert "outputInsertOnly=[true]" in plan
