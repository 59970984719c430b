"""`python -m flink_jobs.cli`: the `shopstream` command of the Python that runs it."""

from flink_jobs.cli.main import main

main()
