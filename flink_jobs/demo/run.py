"""`shopstream demo`: starts everything on this machine, shows and measures it, and stops what it started."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from kafka.admin import NewTopic

from flink_jobs.brokers.clients import open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.commands.watch import known_titles
from flink_jobs.console import notes
from flink_jobs.demo.report import CHECKPOINT_MS, report, summarize
from flink_jobs.demo.screen import step
from flink_jobs.demo.seen import count_bad
from flink_jobs.demo.stream import stream
from flink_jobs.settings.settings import Settings
from flink_jobs.simulation.catalog import make_catalog
from flink_jobs.simulation.simulate import simulate, write_shop
from flink_jobs.submit.cluster import cancel
from flink_jobs.submit.command import flink_run, job_arguments, submit_command
from flink_jobs.submit.local import local_flink, local_kafka
from flink_jobs.submit.registry import JOBS
from udfs.bundles.bundle import CURRENT, open_bundle
from udfs.core.errors import ShopstreamError
from udfs.encoder.selection import choose

ITEMS, PAST_SESSIONS = 1500, 10_000


def run_demo(settings: Settings, *, seconds: float, rate: float, seed: int) -> tuple[dict[str, Any], str]:
    """Runs the demo from start to end; stops what it started, whatever happens.

    Returns the figures by name, and a report as text. Raises ShopstreamError unless each trigger gets one answer and
    each bad record one dead letter.
    """
    # SIGINT too: shells make background jobs ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        settings = _services(settings, stack)
        with ThreadPoolExecutor(1) as background:
            exporting = background.submit(_bundle, settings, seed)
            settings = _topics(settings, stack)
            bundle = exporting.result()
        title_of = known_titles(settings)
        command = flink_run(JOBS["recommend"], settings, job_arguments(settings))
        with step("submitting the job"):
            job_id = submit_command(command, settings)
        stack.callback(_quietly_cancel, settings, job_id)
        records = simulate(
            make_catalog(ITEMS, seed),
            shoppers=200,
            seed=seed,
            start_ms=int(time.time() * 1000),
            bad_share=0.01,
        )
        seen, sent = stream(settings, records, seconds, rate, title_of)
        variants = open_bundle(settings.bundle_folder, bundle).manifest.encoder.variants
        variant = choose(variants, settings.encoder.options()).variant
    summary = summarize(seen, sent, variant, bundle)
    wrong = {
        "triggers without an answer": len(seen.expected - seen.answers.keys()),
        "surplus answers": seen.doubled + len(seen.answers.keys() - seen.expected),
        "bad records without a dead letter": count_bad(sent) - seen.dead_letters,
    }
    if any(wrong.values()):
        found = ", ".join(f"{number} {what}" for what, number in wrong.items() if number)
        raise ShopstreamError(f"the demo found {found}; see the logs in {settings.home}")
    return summary, report(summary, seen, sent, title_of)


def _services(settings: Settings, stack: ExitStack) -> Settings:
    """Starts the broker and the cluster unless they run; returns the settings with their addresses."""
    kafka, flink = local_kafka(settings), local_flink(settings)
    started = [service for service in (kafka, flink) if not service.status().running]
    for service in started:
        stack.callback(service.stop)
    with step("starting Kafka and Flink" if started else "Kafka and Flink run already"), ThreadPoolExecutor(2) as pool:
        broker, cluster = pool.submit(kafka.start), pool.submit(flink.start)
        addresses = {
            "kafka": settings.kafka.model_copy(update={"bootstrap": broker.result().bootstrap}),
            "flink": settings.flink.model_copy(update={"address": cluster.result().url.removeprefix("http://")}),
        }
    return settings.model_copy(update=addresses | {"bundles": settings.bundles or settings.home / "demo" / "bundles"})


def _topics(settings: Settings, stack: ExitStack) -> Settings:
    """Creates topics for this run alone, stamped with the time of appending; returns the settings with their names.

    They are deleted when the stack closes.
    """
    run_name = f"demo-{int(time.time())}"
    names = {
        name: f"{run_name}.{topic}"
        for name, topic in settings.topics.model_dump().items()
        if name in ("clickstream", "recommendations", "dlq")
    }
    stamped = {"message.timestamp.type": "LogAppendTime"}
    with reachable(settings):
        admin = open_admin(settings)
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
            "checkpoint": settings.checkpoint.model_copy(update={"interval": CHECKPOINT_MS}),
        }
    )


def _bundle(settings: Settings, seed: int) -> str:
    """Returns the id of the bundle of the demo's shop; trains one if there is none."""
    folder = settings.bundle_folder
    if not (folder / CURRENT).exists():
        with step("exporting the model and training a ranker"):
            shop = settings.home / "demo" / "shop"
            write_shop(shop, events=1, sessions=PAST_SESSIONS, items=ITEMS, seed=seed)
            files = ["--catalog", str(shop / "catalog.jsonl"), "--sessions", str(shop / "sessions.jsonl")]
            command = [sys.executable, "-m", "export", "train", *files, "--out", str(folder)]
            export = subprocess.run(command, capture_output=True, text=True, check=False)
        if export.returncode:
            raise ShopstreamError(f"the export failed: {(export.stderr.strip().splitlines() or ['no output'])[-1]}")
    return open_bundle(folder).id


def _quietly_cancel(settings: Settings, job_id: str) -> None:
    try:
        cancel(settings, job_id)
    except (ShopstreamError, OSError) as error:
        notes.print(f"the job could not be cancelled: {error}")
