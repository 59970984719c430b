"""The `shopstream` command: one file per group of commands, mounted by `main`.

What a command needs is imported when it runs: importing all of it would take seconds from `shopstream --help`.
"""

from flink_jobs.cli.main import main

__all__ = ["main"]
