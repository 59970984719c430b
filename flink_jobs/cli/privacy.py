"""`shopstream privacy`: pseudonyms, and requests for erasure."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import result
from flink_jobs.settings.loading import load_settings

app = typer.Typer()
privacy_app = typer.Typer(help="Pseudonyms of user ids, and requests for erasure.", no_args_is_help=True)
app.add_typer(privacy_app, name="privacy")


@privacy_app.command("pseudonym")
def privacy_pseudonym(
    user_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[USER_ID]...", help="None: one per line from standard input.")
    ] = None,
    config: Config = None,
    assignments: Assignments = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Use the key of this time (RFC 3339), not of now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the pseudonym that each user id has in the records, one per line."""
    from flink_jobs.commands.privacy import pseudonyms

    settings = load_settings(config, assignments or ())
    ids = user_ids or [line.rstrip("\r\n") for line in sys.stdin]
    made = list(pseudonyms(settings, ids, at))
    result({"pseudonyms": made}, "\n".join(made), as_json)


@privacy_app.command("forget")
def privacy_forget(
    config: Config = None,
    assignments: Assignments = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep handling requests as they come, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase the users that `privacy-requests` names, and acknowledge each request once; see docs/privacy.md."""
    from flink_jobs.commands.privacy import erase, follow_erasures

    settings = load_settings(config, assignments or ())
    for done in follow_erasures(settings) if follow else [erase(settings)]:
        text = f"acknowledged {done.requests:,} requests, {done.refused:,} of them unreadable"
        result(asdict(done), f"{text}; removed {done.lake_rows:,} rows from the lake", as_json)
