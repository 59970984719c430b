"""The `shopstream` command."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from flink_jobs import brokers, console
from flink_jobs.settings import Settings, load_settings, settings_table
from udfs.core.errors import ShopstreamError, exit_with_one_line
from udfs.events.mapping import parse_mapping

app = typer.Typer(
    help="In-session recommendations: BERT inside Flink, Kafka in and out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
kafka_app = typer.Typer(help="A real Kafka broker on this machine.", no_args_is_help=True)
flink_app = typer.Typer(help="A real Flink cluster on this machine.", no_args_is_help=True)
lake_app = typer.Typer(help="Closed sessions and their events as Parquet files.", no_args_is_help=True)
dlq_app = typer.Typer(help="Events that could not be read, with the reason.", no_args_is_help=True)
app.add_typer(kafka_app, name="kafka")
app.add_typer(flink_app, name="flink")
app.add_typer(lake_app, name="lake")
catalog_app = typer.Typer(help="Items as they change.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
app.add_typer(dlq_app, name="dlq")
privacy_app = typer.Typer(help="Pseudonyms for user ids, and requests to be forgotten.", no_args_is_help=True)
app.add_typer(privacy_app, name="privacy")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting; may be repeated. See `shopstream settings`."),
]
Preset = Annotated[str, typer.Option("--format", help="auto, events (our field names), online_retail or yoochoose.")]
Columns = Annotated[
    list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Where a field stands; may be repeated.")
]
Lake = Annotated[Path | None, typer.Option("--folder", help="Folder of the lake, by default that of the settings.")]
Port = Annotated[int | None, typer.Option(help="Port, by default that of the settings.")]

#: Seconds between two looks at what is to be forgotten.
FOLLOW_S = 5.0


def _settings(config: Path | None, assignments: list[str] | None) -> Settings:
    return load_settings(config, assignments or ())


def _port(address: str) -> int:
    return int(address.split(",")[0].rpartition(":")[2])


def _local_kafka(settings: Settings, port: int | None) -> LocalKafka:
    return LocalKafka(settings.home / "kafka", port or _port(settings.kafka.bootstrap))


def _local_flink(settings: Settings, port: int | None, slots: int = 2) -> LocalFlink:
    address, ports = settings.flink.address, settings.flink.metrics_ports
    return LocalFlink(settings.home / "flink", port or _port(address), slots, metrics_ports=ports)


def _kafka_said(status: Any, as_json: bool) -> None:
    text = f"Kafka runs at {status.bootstrap}" if status.running else f"Kafka does not run (folder {status.home})"
    console.result(asdict(status), text, as_json)


def _flink_said(status: Any, as_json: bool) -> None:
    running = f"Flink runs at {status.url}, {status.free_slots} of {status.task_slots} slots free"
    console.result(asdict(status), running if status.running else f"Flink does not run (folder {status.home})", as_json)


@kafka_app.command("start")
def kafka_start(
    config: Config = None, assignments: Assignments = None, port: Port = None, as_json: Json = False
) -> None:
    """Start a broker and create the topics; fine if it runs already. Next: `shopstream flink start`."""
    settings = _settings(config, assignments)
    status = _local_kafka(settings, port).start()
    own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": status.bootstrap})})
    brokers.create_topics(own)
    _kafka_said(status, as_json)


@kafka_app.command("stop")
def kafka_stop(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Stop the broker; its data stays. Fine if it does not run."""
    _kafka_said(_local_kafka(_settings(config, assignments), None).stop(), as_json)


@kafka_app.command("status")
def kafka_status(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Say whether the broker runs, and where."""
    _kafka_said(_local_kafka(_settings(config, assignments), None).status(), as_json)


@kafka_app.command("topics")
def kafka_topics(
    config: Config = None,
    assignments: Assignments = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of new topics.")] = brokers.DEFAULT_PARTITIONS,
    as_json: Json = False,
) -> None:
    """Create the topics of the settings that are missing, on any cluster. Next: `shopstream submit recommend`."""
    created = brokers.create_topics(_settings(config, assignments), partitions)
    console.result(
        {"created": created}, f"created {', '.join(created)}" if created else "all topics are there", as_json
    )


@flink_app.command("start")
def flink_start(
    config: Config = None,
    assignments: Assignments = None,
    port: Port = None,
    slots: Annotated[int, typer.Option(min=1, help="Task slots.")] = 2,
    as_json: Json = False,
) -> None:
    """Start a job manager and a task manager; fine if they run already. Next: `shopstream submit recommend`."""
    _flink_said(_local_flink(_settings(config, assignments), port, slots).start(), as_json)


@flink_app.command("stop")
def flink_stop(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Stop the cluster and its jobs. Fine if it does not run."""
    _flink_said(_local_flink(_settings(config, assignments), None).stop(), as_json)


@flink_app.command("status")
def flink_status(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Say whether the cluster runs, where, and how many slots are free."""
    _flink_said(_local_flink(_settings(config, assignments), None).status(), as_json)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet; .gz too.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    speed: Annotated[str, typer.Option(help="Multiple of the recorded speed, or max.")] = "max",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events.")] = None,
    as_json: Json = False,
) -> None:
    """Send recorded events to Kafka. Next: `shopstream watch`."""
    from flink_jobs.replay import replay as send

    mapping = parse_mapping(columns or ())
    factor = None if speed == "max" else _positive(speed)
    settings = _settings(config, assignments)
    done = send(settings, file, mapping=mapping, preset=preset, speed=factor, limit=limit)
    text = f"sent {done.events:,} events to {settings.topics.clickstream} in {done.seconds:.1f} s"
    console.result(asdict(done), text, as_json)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ShopstreamError(f"--speed {text!r} should be max or a number above 0")
    return number


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file that was replayed.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many events were replayed.")] = None,
    idle: Annotated[float, typer.Option(min=1, help="Give up after so many seconds without a record.")] = 60,
    as_json: Json = False,
) -> None:
    """Check that each trigger event of a replayed file has exactly one good recommendation; exit code 1 if not."""
    from flink_jobs import check as checking

    settings = _settings(config, assignments)
    mapping = parse_mapping(columns or ())
    expected = checking.expected_ids(settings, file, mapping=mapping, preset=preset, limit=limit)
    outcome = checking.check(settings, expected, idle)
    found = asdict(outcome)
    console.result(found, ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in found.items()), as_json)
    if not outcome.holds:
        raise ShopstreamError("the recommendations are not exactly one good record for each trigger event")


@app.command()
def submit(
    job: Annotated[str, typer.Argument(help="Name of the job: recommend, session-features or catalog.")],
    config: Config = None,
    assignments: Assignments = None,
    embedded: Annotated[
        bool, typer.Option(help="Run here on the embedded mini-cluster, until the job ends or Ctrl-C.")
    ] = False,
    restore: Annotated[
        str | None, typer.Option(metavar="PATH", help="Savepoint or checkpoint to go on from, a path or URI.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the command line and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Check bundle, broker and topics, then `flink run` a job. Next: `shopstream watch`."""
    import shlex

    from flink_jobs import submit as submitting

    chosen = submitting.job_named(job)
    settings = _settings(config, assignments)
    submitting.check(chosen, settings)
    arguments = submitting.job_arguments(settings, config, assignments or ())
    if embedded and restore:
        raise ShopstreamError("--restore needs a cluster: the embedded mini-cluster starts afresh")
    if embedded:
        submitting.run_embedded(chosen, settings, arguments)
        return
    command = submitting.flink_run(chosen, settings, arguments, restore=restore)
    console.notes.print(f"[dim]{shlex.join(command)}[/dim]")
    if dry_run:
        console.result({"command": command}, "checked; nothing was submitted", as_json)
        return
    submitting.require_own_transactions(job, settings)
    job_id = submitting.submit(command, settings)
    text = f"job {job_id} runs: http://{settings.flink.address}/#/job/{job_id}/overview"
    console.result({"job": job, "job_id": job_id, "command": command}, text, as_json)


@app.command()
def backfill(
    source: Annotated[str, typer.Argument(help="A file as for replay, or `lake`: the events that are there.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First UTC day to write.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last UTC day to write.")] = None,
    cluster: Annotated[bool, typer.Option(help="Run on the cluster, not here on the embedded mini-cluster.")] = False,
    as_json: Json = False,
) -> None:
    """Compute the lake's days anew from recorded events, without Kafka. Next: `shopstream lake show`.

    A day is replaced whole, so a second run changes nothing; days without rows stay as they are. Leave out days that
    a running job still writes. A file replaces events and sessions, `lake` the sessions only.
    """
    from flink_jobs import backfill as filling

    settings = _settings(config, assignments)
    mapping = parse_mapping(columns or ())
    done = filling.backfill(
        settings, source, config, assignments or (), mapping, preset, first=first, last=last, cluster=cluster
    )
    read = "" if done.events is None else f" from {done.events:,} events, {done.refused:,} refused"
    console.result(asdict(done), f"wrote {settings.lake_folder}{read}, in {done.seconds:.0f} s", as_json)


@app.command()
def watch(
    config: Config = None,
    assignments: Assignments = None,
    from_beginning: Annotated[bool, typer.Option(help="Start with the oldest record, not with the next.")] = False,
    uncommitted: Annotated[bool, typer.Option(help="Show records of open transactions too.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    idle: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds without a record.")] = None,
    as_json: Json = False,
) -> None:
    """Show recommendations as they arrive; with --json the records themselves, one a line."""
    from flink_jobs import watch as watching

    settings = _settings(config, assignments)
    title_of = watching.titles(settings)

    def show(value: bytes, record: Any) -> None:
        if as_json:
            sys.stdout.write(value.decode() + "\n")
            sys.stdout.flush()
        else:
            console.out.print(watching.describe(record, title_of), markup=False)

    watching.watch(settings, show, from_beginning=from_beginning, committed=not uncommitted, limit=limit, idle_s=idle)


@app.command()
def explain(
    recommendation_id: Annotated[str, typer.Argument(help="USER/EVENT, as records carry it.")],
    config: Config = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Show one recommendation with all the reasons of its items, which add up to their scores."""
    import msgspec

    from flink_jobs import explain as explaining
    from flink_jobs import watch as watching

    settings = _settings(config, assignments)
    record = explaining.find(settings, recommendation_id)
    if as_json:
        sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    else:
        console.out.print(explaining.describe(record, watching.titles(settings)), markup=False)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for catalog.jsonl, sessions.jsonl and events.jsonl.")],
    events: Annotated[int, typer.Option(min=1, help="Events to make.")] = 20_000,
    items: Annotated[int, typer.Option(min=1, help="Items in the catalogue.")] = 1500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 7,
    as_json: Json = False,
) -> None:
    """Write a simulated shop: a catalogue, past sessions and events. Next: `python -m export bundle`."""
    from flink_jobs.simulate import write

    write(out, events=events, items=items, seed=seed)
    console.result(
        {"out": out, "events": events, "items": items}, f"wrote {events:,} events and {items:,} items to {out}", as_json
    )


@lake_app.command("show")
def lake_show(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """List the days of the lake, rows, files and times; the newest 30 days as text, all with --json."""
    from flink_jobs import lake

    where = folder or _settings(config, assignments).lake_folder
    parts = lake.show(where)
    if as_json:
        console.result({"folder": where, "parts": [asdict(part) for part in parts]}, "", True)
    else:
        console.out.print(lake.as_table(where, parts))


@lake_app.command("check")
def lake_check(
    folder: Lake = None, config: Config = None, assignments: Assignments = None, as_json: Json = False
) -> None:
    """Read the whole lake and say what is wrong with it, a line each; exit code 1 if anything is."""
    from flink_jobs import lake

    where = folder or _settings(config, assignments).lake_folder
    found = lake.check(where)
    lines = [*(f"wrong: {line}" for line in found.wrong), *(f"note: {line}" for line in found.notes)]
    console.result({"folder": where, **asdict(found)}, "\n".join(lines) or f"nothing is wrong with {where}", as_json)
    if found.wrong:
        raise ShopstreamError(f"faults in the lake in {where}: {len(found.wrong):,}")


@catalog_app.command("send")
def catalog_send(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet; .gz too.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Send a file's items to the catalog topic. Next: `shopstream submit catalog`, if it does not run yet."""
    from flink_jobs import catalog_records

    settings = _settings(config, assignments)
    sent = catalog_records.send(settings, file, mapping=parse_mapping(columns or ()), preset=preset)
    console.result({"items": sent}, f"sent {sent:,} items to {settings.topics.catalog}", as_json)


@catalog_app.command("remove")
def catalog_remove(
    item_ids: Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="Items that are no longer there.")],
    config: Config = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Send tombstones to the catalog topic: within seconds these items are recommended no more."""
    from flink_jobs import catalog_records

    settings = _settings(config, assignments)
    catalog_records.remove(settings, item_ids)
    text = f"sent {len(item_ids):,} removals to {settings.topics.catalog}"
    console.result({"removals": len(item_ids)}, text, as_json)


@catalog_app.command("show")
def catalog_show(config: Config = None, assignments: Assignments = None, as_json: Json = False) -> None:
    """Say what the catalogue job has written beside the bundles."""
    from flink_jobs import catalog_records

    settings = _settings(config, assignments)
    found = catalog_records.show(settings)
    text = (
        f"{found.changed:,} items changed since the bundles were made, {found.removed:,} of them removed and "
        f"{found.sold_out:,} sold out, in {found.files:,} segments of {found.bytes:,} bytes"
    )
    console.result(asdict(found), text, as_json)


@dlq_app.command("show")
def dlq_show(
    config: Config = None,
    assignments: Assignments = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at the first so many alone.")] = None,
    as_json: Json = False,
) -> None:
    """Say why dead letters are there: reasons with counts and a few examples. Next: `shopstream dlq replay`."""
    from flink_jobs import dlq

    found = dlq.show(_settings(config, assignments), limit)
    reasons = [asdict(reason) | asdict(letters) for reason, letters in found.items()]
    console.result({"reasons": reasons}, dlq.describe(found) or "there are no dead letters", as_json)


@dlq_app.command("replay")
def dlq_replay(
    config: Config = None,
    assignments: Assignments = None,
    topic: Annotated[str | None, typer.Option(help="Only those that came from this topic.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those whose reason, as `show` has it, says this.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: Json = False,
) -> None:
    """Send dead letters back to the topics they came from, each once. Mend first what they died of."""
    from flink_jobs import dlq

    done = dlq.replay(_settings(config, assignments), topic=topic, reason=reason, limit=limit)
    console.result(asdict(done), f"sent back {done.sent:,} dead letters; {done.left:,} are left", as_json)


@privacy_app.command("pseudonym")
def privacy_pseudonym(
    user_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[USER_ID]...", help="None: one a line from standard input.")
    ] = None,
    config: Config = None,
    assignments: Assignments = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="By the key of then (RFC 3339), not of now.")] = None,
    as_json: Json = False,
) -> None:
    """Print the pseudonym that each user id has in the records, one a line."""
    from flink_jobs.privacy import pseudonyms

    settings = _settings(config, assignments)
    ids = user_ids or [line.rstrip("\r\n") for line in sys.stdin]
    made = list(pseudonyms(settings, ids, at))
    console.result({"pseudonyms": made}, "\n".join(made), as_json)


@privacy_app.command("forget")
def privacy_forget(
    config: Config = None,
    assignments: Assignments = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with requests as they come, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Forget the shoppers that `privacy-requests` names, and acknowledge each request once; see docs/privacy.md."""
    from flink_jobs import privacy

    settings = _settings(config, assignments)
    while True:
        done = privacy.forget(settings)
        text = f"acknowledged {done.requests:,} requests, {done.refused:,} of them unreadable"
        if not follow or done.requests:
            console.result(asdict(done), f"{text}; removed {done.lake_rows:,} rows from the lake", as_json)
        if not follow:
            return
        time.sleep(FOLLOW_S)


@app.command("settings")
def show_settings(as_json: Json = False) -> None:
    """List every setting with its default and its meaning."""
    rows = settings_table()
    if as_json:
        console.result({name: {"default": default, "meaning": meaning} for name, default, meaning in rows}, "", True)
        return
    table = Table("setting", "default", "meaning")
    for row in rows:
        table.add_row(*row)
    console.out.print(table)


@app.command()
def demo(
    config: Config = None,
    assignments: Assignments = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long shoppers shop.")] = 30,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed makes the same shoppers.")] = 7,
    as_json: Json = False,
) -> None:
    """Show it all on this machine: broker, cluster, model, shoppers, recommendations. Stops what it started."""
    from flink_jobs.demo import run

    settings = _settings(config, assignments)
    with brokers.reachable(settings):
        run(settings, config, assignments or (), seconds=seconds, rate=rate, seed=seed, as_json=as_json)


def main() -> None:
    """Entry point."""
    exit_with_one_line(app)


if __name__ == "__main__":
    main()
