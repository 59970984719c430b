"""The command line that a job is submitted with."""

import pytest

from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.command import flink_run
from flink_jobs.submit.registry import JOBS


@pytest.mark.parametrize(
    ("changelog", "restore", "claims"), [(True, "p", True), (False, "p", False), (True, None, False)]
)
def test_with_a_changelog_what_is_restored_becomes_the_jobs_own(changelog: bool, restore: str | None, claims: bool):
    settings = load_settings(None, [f"checkpoint.changelog={str(changelog).lower()}"])
    command = flink_run(JOBS["recommend"], settings, ["--set", "a=b"], restore=restore)
    options = command[: command.index("-pyexec")]
    assert options[-4:] == ["-s", "p", "--claimMode", "claim"] if claims else "--claimMode" not in options
    assert ("-s" in options) == (restore is not None)
