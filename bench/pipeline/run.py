"""`python -m bench pipeline`: the throughput of our job and its alternatives on one real Kafka broker.

Every contender catches up alone on the same prepared topic, with the same bundle and one worker per core.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.chart import require_drawing
from bench.environment import cores
from bench.output import print_json, progress_console, require_known, table_console
from bench.pipeline.contenders import FLINK, NAMES, flink, process_group
from bench.pipeline.encoder_alone import run_encoder, write_batches
from bench.pipeline.measure import Run, read_records, watch
from bench.pipeline.prepare import (
    EVENTS,
    Prepared,
    broker,
    bundle_for,
    prepare,
    settings_for,
    shopper_count,
    write_bad_topic,
)
from bench.pipeline.report import Row, draw, progress_line, row_of, show, with_ratio
from flink_jobs.brokers.clients import open_admin
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.simulation.simulate import simulate
from udfs.bundles.bundle import Bundle
from udfs.core.errors import ShopstreamError


@dataclass(frozen=True)
class Options:
    """The options of the command; `only` empty: all contenders.

    limit_s: seconds after which a contender is cut off. bundles: the folder of bundles to rank with; without one, a
    bundle is exported. assignments: settings of the Flink jobs, `name=value` each.
    """

    events: int = EVENTS
    rounds: int = 1
    only: tuple[str, ...] = ()
    limit_s: float = 900.0
    bundles: Path | None = None
    assignments: tuple[str, ...] = ()


def run(options: Options, *, as_json: bool, chart: Path | None) -> None:
    """Measure, and print a table or a JSON list; raise ShopstreamError for what a user can fix."""
    require_known(options.only, NAMES)
    if chart is not None:
        require_drawing(chart)
    with TemporaryDirectory(prefix="shopstream-bench-", ignore_cleanup_errors=True) as folder:
        about, rows = catch_up(options, Path(folder), progress_console())
    if chart is not None:
        draw(rows, chart)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show(about, rows, table_console())


def catch_up(options: Options, folder: Path, progress: Console) -> tuple[str, list[Row]]:
    """Return a description of the events, and a row per contender that ran; all files go to `folder`."""
    shoppers = shopper_count(options.events)
    bundle = bundle_for(options.bundles, shoppers, folder, progress)
    names = [name for name in NAMES if not options.only or name in options.only]
    with broker(folder) as address:
        base = [*settings_for(address, bundle), *options.assignments]
        catalog = bundle.items().table.to_pylist()
        stream = simulate(catalog, events=options.events, shoppers=shoppers, bad_share=0)
        prepared = prepare(load_settings(None, base), stream, progress)
        prepared = replace(prepared, about=f"{prepared.about}; 2 % of the events up to 20 s late; bundle {bundle.id}")
        progress.print(prepared.about, markup=False)
        if "ours-bad" in names:
            settings = load_settings(None, [*base, *FLINK["ours-bad"].settings])
            write_bad_topic(settings, catalog, options.events, shoppers)
        runs: dict[str, list[Run]] = {}
        for turn in range(options.rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                progress.print(f"{name}: round {turn + 1} of {options.rounds}", markup=False)
                own = folder / f"{name}-{turn}"
                own.mkdir()
                try:
                    done = run_contender(name, own, base, bundle, prepared, options.limit_s, progress)
                except ShopstreamError as error:
                    progress.print(f"warning: left out: {name}: {error}", markup=False)
                    continue
                runs.setdefault(name, []).append(done)
                progress.print(f"  {progress_line(row_of(name, [done], prepared, None))}", markup=False)
    if not runs:
        raise ShopstreamError("no contender is left to measure")
    ours = runs.get("ours", [None])[0]
    rows = [row_of(name, runs[name], prepared, ours) for name in NAMES if name in runs]
    base_rate = next((row.events_per_s for row in rows if row.name == "ours"), None)
    return prepared.about, [with_ratio(row, base_rate) for row in rows]


def run_contender(
    name: str, own: Path, base: Sequence[str], bundle: Bundle, prepared: Prepared, limit_s: float, progress: Console
) -> Run:
    """Start a contender, watch it catch up, stop it, and read its records; raise ShopstreamError if it fails.

    own: its folder. base: settings that all contenders share.
    """
    topic = f"recommendations-{own.name}"
    assignments = [*base, f"home={own}", f"topics.recommendations={topic}", f"kafka.group={topic}"]
    assignments.append(f"sink.transactional_id_prefix={topic}")
    settings = load_settings(None, assignments)
    if name == "encoder":
        answers_per_text = write_batches(own / "batches.json", bundle, prepared.first_records)
        with process_group(name, own, settings, prepared.events, progress) as contender:
            return run_encoder(contender, answers_per_text)
    create_topics(settings, cores())
    with (
        flink(name, own, assignments)
        if name in FLINK
        else process_group(name, own, settings, prepared.events, progress) as contender
    ):
        samples, finished = watch(settings, contender, len(prepared.due), limit_s)
        texts = contender.texts()
        state_mb = contender.state_mb()
    digests, record_count = read_records(settings)
    with reachable(settings):
        client = open_admin(settings)
        client.delete_topics([topic])
        client.close()
    return Run(samples, texts, finished, digests, record_count, state_mb)
