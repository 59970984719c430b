"""`shopstream demo`: everything on this machine, seen working, measured, and put away again."""

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer
from kafka.admin import NewTopic
from rich.live import Live
from rich.panel import Panel

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from flink_jobs import brokers, simulate, submit
from flink_jobs.console import notes, result
from flink_jobs.settings import Settings
from flink_jobs.watch import decode, describe, titles
from udfs.bundles.bundle import CURRENT, open_bundle
from udfs.contracts.clickstream import ClickstreamEvent
from udfs.contracts.rankings import Recommendation
from udfs.core.clock import epoch_ms
from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import choose
from udfs.privacy.pseudonyms import Keys

ITEMS, PAST_SESSIONS = 1500, 10_000
#: Sent first and left out of the latencies: they wait while the workers load the model.
WARM_UP_EVENTS = 20
START_TIMEOUT_S, DRAIN_TIMEOUT_S = 120.0, 60.0
DEMO_CHECKPOINT_MS = 200
SHOWN_SESSIONS = 3


@dataclass
class Seen:
    """What has come through Kafka so far. Times are the broker's, of appending, in epoch ms."""

    appended: dict[str, int] = field(default_factory=dict)  #: trigger event_id to its time
    expected: set[str] = field(default_factory=set)  #: recommendation ids that are due
    events: int = 0
    answers: dict[str, Recommendation] = field(default_factory=dict)
    doubled: int = 0
    dead_letters: int = 0
    computed_ms: dict[str, int] = field(default_factory=dict)  #: recommendation written, since its trigger
    readable_ms: dict[str, int] = field(default_factory=dict)  #: and readable with read_committed
    newest: deque[Recommendation] = field(default_factory=lambda: deque(maxlen=3))

    def complete(self, dead_letters: int) -> bool:
        """Every trigger has its answer and every bad record its dead letter."""
        return len(self.answers) >= len(self.expected) and self.dead_letters >= dead_letters


def run(
    settings: Settings,
    config: Path | None,
    assignments: Sequence[str],
    *,
    seconds: float,
    rate: float,
    seed: int,
    as_json: bool,
) -> None:
    """The demo from start to end; whatever happens, what it started is stopped.

    Raises ShopstreamError unless each trigger gets one answer and each bad record one dead letter.
    """
    # SIGINT too: a shell starts background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        settings = _services(settings, stack)
        with ThreadPoolExecutor(1) as background:
            exporting = background.submit(_bundle, settings, seed)
            settings = _topics(settings, stack)
            bundle = exporting.result()
        title_of = titles(settings)
        command = submit.flink_run(submit.JOBS["recommend"], settings, _arguments(settings, config, assignments))
        with _step("submitting the job"):
            job_id = submit.submit(command, settings)
        stack.callback(_quietly_cancel, settings, job_id)
        records = simulate.simulate(
            simulate.make_catalog(ITEMS, seed),
            shoppers=200,
            seed=seed,
            start_ms=int(time.time() * 1000),
            bad_share=0.01,
        )
        seen, sent = _stream(settings, records, seconds, rate, title_of)
        variants = open_bundle(settings.bundle_folder, bundle).manifest.encoder.variants
        variant = choose(variants, settings.recommend_options().encoder).variant
    summary = _summary(seen, sent, variant, bundle)
    wrong = {
        "triggers without an answer": len(seen.expected - seen.answers.keys()),
        "answers too many": seen.doubled + len(seen.answers.keys() - seen.expected),
        "bad records without a dead letter": _bad(sent) - seen.dead_letters,
    }
    if any(wrong.values()):
        found = ", ".join(f"{number} {what}" for what, number in wrong.items() if number)
        raise ShopstreamError(f"the demo found {found}; see the logs in {settings.home}")
    result(summary, _report(summary, seen, sent, title_of), as_json)


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    if notes.is_terminal:
        with notes.status(what):
            yield
    else:
        yield
    notes.print(f"{what}: {time.monotonic() - started:.1f} s")


def _services(settings: Settings, stack: ExitStack) -> Settings:
    """Start broker and cluster unless they run; the settings with their addresses."""
    home = settings.home
    kafka = LocalKafka(home / "kafka", int(settings.kafka.bootstrap.rpartition(":")[2]))
    port, ports = int(settings.flink.address.rpartition(":")[2]), settings.flink.metrics_ports
    flink = LocalFlink(home / "flink", port, metrics_ports=ports)
    started = [service for service in (kafka, flink) if not service.status().running]
    for service in started:
        stack.callback(service.stop)
    with _step("starting Kafka and Flink" if started else "Kafka and Flink run already"), ThreadPoolExecutor(2) as pool:
        broker, cluster = pool.submit(kafka.start), pool.submit(flink.start)
        addresses = {
            "kafka": settings.kafka.model_copy(update={"bootstrap": broker.result().bootstrap}),
            "flink": settings.flink.model_copy(update={"address": cluster.result().url.removeprefix("http://")}),
        }
    return settings.model_copy(update=addresses | {"bundles": settings.bundles or home / "demo" / "bundles"})


def _topics(settings: Settings, stack: ExitStack) -> Settings:
    """Topics of this run alone, deleted at its end; the broker stamps the time of appending on them."""
    run_name = f"demo-{int(time.time())}"
    names = {
        name: f"{run_name}.{topic}"
        for name, topic in settings.topics.model_dump().items()
        if name in ("clickstream", "recommendations", "dlq")
    }
    stamped = {"message.timestamp.type": "LogAppendTime"}
    with brokers.reachable(settings):
        admin = brokers.admin(settings)
        admin.create_topics(
            [NewTopic(topic, 2, 1, topic_configs={} if name == "dlq" else stamped) for name, topic in names.items()]
        )
        admin.wait_for_topics(list(names.values()))

    def remove() -> None:
        admin.delete_topics(list(names.values()))
        admin.close()

    stack.callback(remove)
    return settings.model_copy(
        update={
            "topics": settings.topics.model_copy(update=names),
            "kafka": settings.kafka.model_copy(update={"group": run_name, "startup": "earliest-offset"}),
            "sink": settings.sink.model_copy(update={"transactional_id_prefix": run_name}),
            "checkpoint": settings.checkpoint.model_copy(update={"interval": DEMO_CHECKPOINT_MS}),
        }
    )


def _arguments(settings: Settings, config: Path | None, assignments: Sequence[str]) -> list[str]:
    """The settings for the job: the user's, and above them those that the demo chooses."""
    chosen = [f"topics.{name}={topic}" for name, topic in settings.topics.model_dump().items()]
    chosen += [f"kafka.{name}={getattr(settings.kafka, name)}" for name in ("bootstrap", "group", "startup")]
    chosen.append(f"sink.transactional_id_prefix={settings.sink.transactional_id_prefix}")
    chosen.append(f"checkpoint.interval={settings.checkpoint_ms()}")
    return submit.job_arguments(settings, config, [*assignments, *chosen])


def _bundle(settings: Settings, seed: int) -> str:
    """Id of the bundle of the demo's shop, trained if there is none."""
    folder = settings.bundle_folder
    if not (folder / CURRENT).exists():
        with _step("exporting the model and learning a ranker"):
            shop = settings.home / "demo" / "shop"
            simulate.write(shop, events=1, sessions=PAST_SESSIONS, items=ITEMS, seed=seed)
            files = ["--catalog", str(shop / "catalog.jsonl"), "--sessions", str(shop / "sessions.jsonl")]
            command = [sys.executable, "-m", "export", "train", *files, "--out", str(folder)]
            export = subprocess.run(command, capture_output=True, text=True, check=False)
        if export.returncode:
            raise ShopstreamError(f"the export failed: {(export.stderr.strip().splitlines() or ['no output'])[-1]}")
    return open_bundle(folder).id


def _quietly_cancel(settings: Settings, job_id: str) -> None:
    try:
        submit.cancel(settings, job_id)
    except (ShopstreamError, OSError) as error:
        notes.print(f"the job could not be cancelled: {error}")


def _stream(
    settings: Settings, records: Iterator[simulate.Record], seconds: float, rate: float, title_of: Mapping[str, str]
) -> tuple[Seen, list[simulate.Record]]:
    """Send records at `rate` a second and read what comes of them until all is answered."""
    seen, sent, stop, keys = Seen(), [], threading.Event(), settings.keys()
    topics = settings.topics
    consumer = brokers.consumer(
        settings, topics.clickstream, topics.recommendations, topics.dlq, auto_offset_reset="earliest"
    )
    producer = brokers.producer(settings, linger_ms=0)
    reader = threading.Thread(target=_read, args=(settings, consumer, seen, stop), daemon=True)
    reader.start()

    def send(record: simulate.Record) -> None:
        producer.send(topics.clickstream, key=record.key, value=record.value)
        sent.append(record)
        if (trigger := trigger_of(settings, keys, record)) is not None:
            seen.expected.add(trigger)

    try:
        with _step("waiting for the first answer"):
            for record in islice(records, WARM_UP_EVENTS):
                send(record)
            producer.flush()
            _until(lambda: seen.complete(_bad(sent)), START_TIMEOUT_S)
        warm_up = set(seen.answers)
        with _shown(seen, title_of) as refresh:
            started = time.monotonic()
            for number, record in enumerate(islice(records, max(1, round(seconds * rate)))):
                wait = number / rate - (time.monotonic() - started)
                if wait > 0:
                    time.sleep(wait)
                send(record)
                refresh()
            producer.flush()
            _until(lambda: seen.complete(_bad(sent)), DRAIN_TIMEOUT_S)
            # A doubled answer would come with the next checkpoints.
            time.sleep(5 * settings.checkpoint_ms() / 1000)
    finally:
        stop.set()
        producer.close()
        reader.join(10)
    for recommendation_id in warm_up:
        seen.computed_ms.pop(recommendation_id, None)
        seen.readable_ms.pop(recommendation_id, None)
    return seen, sent


def _bad(sent: list[simulate.Record]) -> int:
    return sum(record.kind == "bad" for record in sent)


def trigger_of(settings: Settings, keys: Keys | None, record: simulate.Record) -> str | None:
    """The id of the recommendation that a record is due, None if it is due none."""
    if record.kind != "valid" or record.value is None:
        return None
    event = msgspec.json.decode(record.value, type=ClickstreamEvent)
    user = keys.pseudonyms([event.user_id], [epoch_ms(event.event_time)])[0] if keys else event.user_id
    return f"{user}/{event.event_id}" if event.event_type in settings.triggers else None


def _read(settings: Settings, consumer: KafkaConsumer, seen: Seen, stop: threading.Event) -> None:
    topics = settings.topics
    while not stop.is_set():
        for place, messages in consumer.poll(timeout_ms=100).items():
            now = time.time() * 1000
            for message in messages:
                if place.topic == topics.clickstream:
                    seen.events += 1
                    _note_trigger(seen, message)
                elif place.topic == topics.dlq:
                    seen.dead_letters += 1
                else:
                    _note_answer(seen, message, now)
    consumer.close()


def _note_trigger(seen: Seen, message: Any) -> None:
    try:
        event = msgspec.json.decode(message.value or b"", type=ClickstreamEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    seen.appended.setdefault(event.event_id, message.timestamp)


def _note_answer(seen: Seen, message: Any, now: float) -> None:
    answer = decode(message.value)
    name = answer.recommendation_id
    seen.doubled += name in seen.answers
    seen.answers[name] = answer
    seen.newest.append(answer)
    appended = seen.appended.get(answer.trigger_event_id)
    if appended is not None:
        seen.computed_ms[name] = message.timestamp - appended
        seen.readable_ms[name] = round(now - appended)


def _until(done: Any, timeout: float) -> None:
    limit = time.monotonic() + timeout
    while not done() and time.monotonic() < limit:
        time.sleep(0.05)


@contextmanager
def _shown(seen: Seen, title_of: Mapping[str, str]) -> Iterator[Any]:
    """Show what comes in and goes out: a live panel in a terminal, a line now and then elsewhere."""

    def counts() -> str:
        return f"{seen.events:,} events in, {len(seen.answers):,} recommendations out, {seen.dead_letters} dead letters"

    def panel() -> Panel:
        newest = "\n".join(describe(answer, title_of) for answer in list(seen.newest))
        return Panel(newest or "…", title=counts())

    last = time.monotonic()

    def plain() -> None:
        nonlocal last
        if time.monotonic() - last > 2:
            last = time.monotonic()
            notes.print(counts())
            if seen.newest:
                notes.print(describe(seen.newest[-1], title_of), markup=False)

    if notes.is_terminal:
        with Live(get_renderable=panel, console=notes, refresh_per_second=4, transient=True):
            yield lambda: None
    else:
        yield plain
    notes.print(counts())


def _percentile(values: Mapping[str, int], share: float) -> int | None:
    return round(float(np.percentile(list(values.values()), share))) if values else None


def _summary(seen: Seen, sent: list[simulate.Record], variant: str, bundle: str) -> dict[str, Any]:
    return {
        "events": len(sent),
        "triggers": len(seen.expected),
        "recommendations": len(seen.answers),
        "dead_letters": seen.dead_letters,
        "p50_ms": _percentile(seen.readable_ms, 50),
        "p99_ms": _percentile(seen.readable_ms, 99),
        "computed_p50_ms": _percentile(seen.computed_ms, 50),
        "computed_p99_ms": _percentile(seen.computed_ms, 99),
        "encoder_variant": variant,
        "bundle_id": bundle,
    }


def _report(summary: Mapping[str, Any], seen: Seen, sent: list[simulate.Record], title_of: Mapping[str, str]) -> str:
    counted = (
        f"{summary['events']:,} events, {summary['triggers']:,} of them triggers: "
        f"{summary['recommendations']:,} recommendations, each trigger answered exactly once; "
        f"{summary['dead_letters']} unreadable records in the dead-letter topic."
    )
    timed = (
        f"From a click in Kafka to its recommendation written: p50 {summary['computed_p50_ms']} ms, "
        f"p99 {summary['computed_p99_ms']} ms; readable exactly-once (a checkpoint every {DEMO_CHECKPOINT_MS} ms): "
        f"p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms."
    )
    lines = ["", counted, timed, f"Encoder {summary['encoder_variant']} of bundle {summary['bundle_id']}."]
    return "\n".join([*lines, *_sessions(seen, sent, title_of)])


def _sessions(seen: Seen, sent: list[simulate.Record], title_of: Mapping[str, str]) -> Iterator[str]:
    """A few sessions as a person would read them: what was looked at, what was recommended at the end and why."""
    events: dict[str, ClickstreamEvent] = {}
    for record in sent:
        if record.kind == "valid" and record.value is not None:
            event = msgspec.json.decode(record.value, type=ClickstreamEvent)
            events[event.event_id] = event
    by_session: dict[str, list[Recommendation]] = {}
    for answer in seen.answers.values():
        by_session.setdefault(answer.session_id, []).append(answer)
    for answers in sorted(by_session.values(), key=len, reverse=True)[:SHOWN_SESSIONS]:
        yield f"\n{answers[-1].user_id}"
        for answer in answers[-8:]:
            event = events[answer.trigger_event_id]
            what = (
                f'"{event.query}"' if event.event_type == "search" else title_of.get(event.item_id or "", event.item_id)
            )
            yield f"  {event.event_type.replace('_', ' '):17} {what}"
        yield "  recommended:"
        for item in answers[-1].items[:4]:
            why = "; ".join(
                f"{reason.source.replace('_', ' ')} {reason.weight:.2f} ({reason.because})" for reason in item.reasons
            )
            yield f"    {item.rank}. {title_of.get(item.item_id, item.item_id)}  {item.score:.2f} = {why}"
