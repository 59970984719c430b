"""The `shopstream` command: all groups of commands, the settings and the demo."""

from typing import Annotated

import typer
from rich.table import Table

from flink_jobs.cli import answers, dlq, jobs, lake, privacy, services, shop
from flink_jobs.cli.options import Assignments, Config, Json
from flink_jobs.console import out, result
from flink_jobs.settings.loading import load_settings, settings_table
from udfs.core.errors import exit_with_one_line

app = typer.Typer(
    help="In-session recommendations: BERT inside Flink, Kafka in and out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (services, jobs, shop, answers, lake, dlq, privacy):
    app.add_typer(group.app)


@app.command("settings")
def show_settings(as_json: Json = False) -> None:
    """List every setting with its default and its meaning."""
    rows = settings_table()
    if as_json:
        result({name: {"default": default, "meaning": meaning} for name, default, meaning in rows}, "", True)
        return
    table = Table("setting", "default", "meaning")
    for row in rows:
        table.add_row(*row)
    out.print(table)


@app.command()
def demo(
    config: Config = None,
    assignments: Assignments = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long shoppers shop.")] = 30,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed makes the same shoppers.")] = 7,
    as_json: Json = False,
) -> None:
    """Start a broker and a cluster, train a model, simulate shoppers, show recommendations, and stop it all."""
    from flink_jobs.brokers.errors import reachable
    from flink_jobs.demo.run import run_demo

    settings = load_settings(config, assignments or ())
    with reachable(settings):
        summary, report = run_demo(settings, seconds=seconds, rate=rate, seed=seed)
    result(summary, report, as_json)


def main() -> None:
    """Entry point."""
    exit_with_one_line(app)
