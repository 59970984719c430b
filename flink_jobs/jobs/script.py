"""What every job's script does: read its arguments, submit its statements."""

import argparse
from pathlib import Path

from pyflink.table import StatementSet


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """What every job's file is called with."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; may be repeated")
    parser.add_argument("--jar", action="append", type=Path, default=[], help="connector, on the mini-cluster alone")
    parser.add_argument("--wait", action="store_true", help="wait for the job to end (it does when kafka.bounded)")
    parser.add_argument("--explain", action="store_true", help="print the plan and run nothing")
    return parser


def run_job(statements: StatementSet, options: argparse.Namespace) -> None:
    """Submit the job where PyFlink finds a cluster; with --wait, stay until it ends; with --explain, show its plan."""
    if options.explain:
        print(statements.explain())  # noqa: T201
        return
    result = statements.execute()
    if options.wait:
        result.wait()
