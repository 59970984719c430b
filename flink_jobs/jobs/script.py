"""What every job's script does: read its arguments and settings, submit its statements."""

import argparse
from pathlib import Path

from pyflink.table import StatementSet

from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser of the arguments that every job's script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    parser.add_argument("--settings", type=Path, help="effective settings, as `shopstream submit` writes them")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; may be repeated")
    parser.add_argument(
        "--jar", action="append", type=Path, default=[], help="for the mini-cluster: a jar that the job needs"
    )
    parser.add_argument("--add-jar", action="append", type=Path, default=[], help="a jar besides that of `flink run`")
    parser.add_argument("--wait", action="store_true", help="wait for the job to end (it does when kafka.bounded)")
    parser.add_argument("--explain", action="store_true", help="print the plan and run nothing")
    return parser


def job_settings(options: argparse.Namespace) -> Settings:
    """Reads the settings that a job's script is called with.

    A file of effective settings has taken the environment in already: variables do not override it, --set does.
    """
    if options.settings:
        return load_settings(options.settings, options.set, environment=False)
    return load_settings(options.config, options.set)


def run_job(statements: StatementSet, options: argparse.Namespace) -> None:
    """Submits the job to the cluster that PyFlink finds. --wait: until it ends; --explain: prints the plan instead."""
    if options.explain:
        print(statements.explain())  # noqa: T201
        return
    result = statements.execute()
    if options.wait:
        result.wait()
