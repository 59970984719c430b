"""The public names of the `shopstream` command."""

from typer.main import get_command
from typer.testing import CliRunner

from flink_jobs.cli.main import app

COMMANDS = {
    "kafka start", "kafka stop", "kafka status", "kafka topics", "flink start", "flink stop", "flink status",
    "submit", "backfill", "replay", "inspect", "simulate", "catalog send", "catalog remove", "catalog show",
    "watch", "explain",
    "check", "lake show", "lake check", "dlq show", "dlq replay", "privacy pseudonym", "privacy forget", "settings",
    "demo",
}  # fmt: skip


def paths(group: object, prefix: str = "") -> set[str]:
    commands = getattr(group, "commands", None)
    if commands is None:
        return {prefix.strip()}
    return {path for name, command in commands.items() for path in paths(command, f"{prefix} {name}")}


def test_command_names_are_kept():
    assert paths(get_command(app)) == COMMANDS


def test_every_command_explains_itself():
    runner = CliRunner()
    for command in sorted(COMMANDS):
        shown = runner.invoke(app, [*command.split(), "--help"])
        assert shown.exit_code == 0, command
        assert "Usage" in shown.output
