"""`shopstream dlq`: why dead letters are there, and the way back."""

from dataclasses import asdict
from typing import Annotated

import typer

from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import result
from flink_jobs.settings.loading import load_settings

app = typer.Typer()
dlq_app = typer.Typer(help="Unreadable events, with the reason.", no_args_is_help=True)
app.add_typer(dlq_app, name="dlq")


@dlq_app.command("show")
def dlq_show(
    config: Config = None,
    assignments: Assignments = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at only this many of the first letters.")] = None,
    as_json: Json = False,
) -> None:
    """Show why events became dead letters: reasons with counts and examples. Next: `shopstream dlq replay`."""
    from flink_jobs.commands.dlq import dead_letters_by_reason, describe_reasons

    found = dead_letters_by_reason(load_settings(config, assignments or ()), limit)
    reasons = [asdict(reason) | asdict(letters) for reason, letters in found.items()]
    result({"reasons": reasons}, describe_reasons(found) or "there are no dead letters", as_json)


@dlq_app.command("replay")
def dlq_replay(
    config: Config = None,
    assignments: Assignments = None,
    topic: Annotated[str | None, typer.Option(help="Only letters from this topic.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only letters whose reason, as `show` writes it, contains this.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many.")] = None,
    as_json: Json = False,
) -> None:
    """Send dead letters back to the topics they came from, each once. First fix what made them unreadable."""
    from flink_jobs.commands.dlq import replay_dead_letters

    done = replay_dead_letters(load_settings(config, assignments or ()), topic=topic, reason=reason, limit=limit)
    result(asdict(done), f"sent back {done.sent:,} dead letters; {done.left:,} are left", as_json)
