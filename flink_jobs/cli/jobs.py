"""`shopstream submit` and `backfill`: jobs that run for ever, and the one that ends."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flink_jobs.cli.options import (
    Assignments,
    Columns,
    Config,
    Json,
    Preset,
    Read,
    RejectedFile,
    Strict,
    rejected_rows,
)
from flink_jobs.console import notes, result
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.registry import JOBS, job_named
from udfs.core.errors import ShopstreamError
from udfs.events.mapping import parse_mapping
from udfs.events.options import parse_options

app = typer.Typer()


@app.command()
def submit(
    job: Annotated[str, typer.Argument(help=f"Name of the job: {', '.join(JOBS)}.")],
    config: Config = None,
    assignments: Assignments = None,
    embedded: Annotated[
        bool, typer.Option(help="Run here on the embedded mini-cluster, until the job ends or Ctrl-C.")
    ] = False,
    restore: Annotated[
        str | None, typer.Option(metavar="PATH", help="Savepoint or checkpoint to resume from, a path or URI.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the command line and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Check bundle, broker and topics, then `flink run` a job. Next: `shopstream watch`."""
    import shlex

    from flink_jobs.submit.cluster import require_own_transactions
    from flink_jobs.submit.command import (
        check_ready,
        doubts_of_restore,
        flink_run,
        job_arguments,
        run_embedded,
        submit_command,
        with_record_sizes,
    )

    chosen = job_named(job)
    settings = load_settings(config, assignments or ())
    check_ready(chosen, settings)
    settings, lines = with_record_sizes(chosen, settings)
    for line in lines:
        notes.print(line, markup=False)
    arguments = job_arguments(settings)
    if embedded and restore:
        raise ShopstreamError("--restore needs a cluster: the embedded mini-cluster always starts from nothing")
    if embedded:
        run_embedded(chosen, settings, arguments)
        return
    command = flink_run(chosen, settings, arguments, restore=restore)
    notes.print(f"[dim]{shlex.join(command)}[/dim]")
    if dry_run:
        result({"command": command}, "checked; nothing was submitted", as_json)
        return
    require_own_transactions(job, settings)
    if restore and (doubts := doubts_of_restore(chosen, settings)):
        notes.print(f"note: {doubts}", markup=False)
    job_id = submit_command(command, settings)
    text = f"job {job_id} runs: http://{settings.flink.address}/#/job/{job_id}/overview"
    result({"job": job, "job_id": job_id, "command": command}, text, as_json)


@app.command()
def backfill(
    source: Annotated[str, typer.Argument(help="A file as for replay, or `lake` for the events in the lake.")],
    config: Config = None,
    assignments: Assignments = None,
    preset: Preset = "auto",
    columns: Columns = None,
    read: Read = None,
    strict: Strict = False,
    rejected_file: RejectedFile = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First UTC day to write.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last UTC day to write.")] = None,
    cluster: Annotated[bool, typer.Option(help="Run on the cluster, not on the embedded mini-cluster.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite days of the lake from recorded events, without Kafka. Next: `shopstream lake show`.

    Whole days are replaced, so a second run changes nothing; days without rows stay as they are. Leave out days that
    a running job still writes. A file replaces events and sessions, `lake` only the sessions.
    """
    from flink_jobs.commands.backfill import backfill as run_backfill

    settings = load_settings(config, assignments or ())
    mapping = parse_mapping(columns or ())
    options = parse_options(read or ())
    with rejected_rows(Path(source), rejected_file, strict=strict) as rejected:
        done = run_backfill(
            settings,
            source,
            mapping,
            preset,
            first=first,
            last=last,
            cluster=cluster,
            options=options,
            rejected=rejected,
        )
    found = "" if done.events is None else f" from {done.events:,} events, {done.refused:,} refused"
    text = f"wrote {settings.lake_folder}{found}, in {done.seconds:.0f} s"
    result(asdict(done) | rejected.counts(), "\n".join([text, *rejected.lines()]), as_json)
