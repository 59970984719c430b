"""`shopstream privacy`: pseudonyms, and requests for erasure."""

import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import result
from flink_jobs.settings.loading import load_settings

app = typer.Typer()
privacy_app = typer.Typer(help="Pseudonyms for user ids, and requests to be forgotten.", no_args_is_help=True)
app.add_typer(privacy_app, name="privacy")

#: Seconds between two looks at what is to be forgotten.
FOLLOW_S = 5.0


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
    from flink_jobs.commands.privacy import pseudonyms

    settings = load_settings(config, assignments or ())
    ids = user_ids or [line.rstrip("\r\n") for line in sys.stdin]
    made = list(pseudonyms(settings, ids, at))
    result({"pseudonyms": made}, "\n".join(made), as_json)


@privacy_app.command("forget")
def privacy_forget(
    config: Config = None,
    assignments: Assignments = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with requests as they come, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Forget the shoppers that `privacy-requests` names, and acknowledge each request once; see docs/privacy.md."""
    from flink_jobs.commands.privacy import forget

    settings = load_settings(config, assignments or ())
    while True:
        done = forget(settings)
        text = f"acknowledged {done.requests:,} requests, {done.refused:,} of them unreadable"
        if not follow or done.requests:
            result(asdict(done), f"{text}; removed {done.lake_rows:,} rows from the lake", as_json)
        if not follow:
            return
        time.sleep(FOLLOW_S)
