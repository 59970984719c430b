"""The command line and the settings that a job is submitted with."""

import sys
import tomllib
from pathlib import Path

import pytest

from deploy.local.flink import LocalFlink, require_startable
from flink_jobs.jobs.script import job_parser, job_settings
from flink_jobs.settings.loading import load_settings
from flink_jobs.settings.settings import Settings
from flink_jobs.submit.command import flink_run, job_arguments, run_embedded, with_record_sizes
from flink_jobs.submit.registry import JOBS, job_named
from udfs.core.errors import ShopstreamError


@pytest.mark.parametrize(
    ("changelog", "restore", "claims"), [(True, "p", True), (False, "p", False), (True, None, False)]
)
def test_changelog_job_claims_restored_state(changelog: bool, restore: str | None, claims: bool):
    settings = load_settings(None, [f"checkpoint.changelog={str(changelog).lower()}"])
    command = flink_run(JOBS["recommend"], settings, ["--set", "a=b"], restore=restore)
    options = command[: command.index("-pyexec")]
    assert options[-4:] == ["-s", "p", "--claimMode", "claim"] if claims else "--claimMode" not in options
    assert ("-s" in options) == (restore is not None)


def test_python_with_a_blank_in_its_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    require_startable("/opt/shöp/bin/python3")
    monkeypatch.setattr(sys, "executable", "/my shop/bin/python")
    settings = Settings(home=tmp_path)
    for start in (
        LocalFlink(tmp_path).start,
        lambda: flink_run(JOBS["recommend"], settings, []),
        lambda: run_embedded(JOBS["recommend"], settings, []),
    ):
        with pytest.raises(ShopstreamError, match=r"cannot start .*'/my shop/bin/python'.*flink\.python"):
            start()


def as_read_by_job(*arguments: str) -> Settings:
    return job_settings(job_parser(None).parse_args(arguments))


ASSIGNMENTS = (
    "home=here", "lake.folder=lakes/one", "kafka.security=SASL_SSL", "kafka.username=shöp \"1\" \\ '2'",
    "kafka.password_file=secret", "privacy.keys_file=keys", "triggers=view,search", "features.modules=mine, theirs",
    "rank.decay=0.123456789012345", "session.gap=20 min", "checkpoint.changelog=true", "flink.python=python3",
)  # fmt: skip


def test_job_reads_the_submitted_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("shop.toml").write_text("[rank]\nk = 7\n")
    monkeypatch.setenv("SHOPSTREAM_RANK__CONTENT", "0.25")
    settings = load_settings(Path("shop.toml"), ASSIGNMENTS)
    arguments = job_arguments(settings)
    assert (settings.rank.k, settings.rank.content) == (7, 0.25)
    monkeypatch.chdir("/")
    assert as_read_by_job(*arguments).model_dump() == settings.model_dump()
    assert settings.home == tmp_path / "here"
    assert settings.kafka.password_file == tmp_path / "secret"
    assert settings.flink.python == Path("python3")  # a name on the cluster's machines


def test_submitted_settings_beat_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = job_arguments(load_settings(None, [f"home={tmp_path}", "parallelism=4"]))
    monkeypatch.setenv("SHOPSTREAM_PARALLELISM", "2")
    monkeypatch.setenv("SHOPSTREAM_RANK__K", "3")
    read = as_read_by_job(*arguments, "--set", "rank.decay=0.5")
    assert (read.parallelism, read.rank.k, read.rank.decay) == (4, Settings.model_fields["rank"].default.k, 0.5)
    monkeypatch.setenv("SHOPSTREAM_PARALLELISM", "6")
    assert as_read_by_job("--set", "rank.k=2").parallelism == 6  # a script that is run by hand


def test_settings_file_is_named_by_its_content(tmp_path: Path):
    first, second = ([f"home={tmp_path}", f"rank.k={k}"] for k in (1, 2))
    named = [job_arguments(load_settings(None, each))[1] for each in (first, second, first)]
    assert named[0] == named[2] != named[1]
    assert sorted(file.name for file in (tmp_path / "submitted").iterdir()) == sorted(
        {Path(name).name for name in named}
    )
    assert tomllib.loads(Path(named[1]).read_text())["rank"]["k"] == 2


def test_unknown_job_lists_the_jobs():
    with pytest.raises(ShopstreamError, match="no job 'sessions'; the jobs are catalog, recommend, session-features"):
        job_named("sessions")


def test_registry_names_scripts_and_topics():
    for job in JOBS.values():
        assert job.file.is_file()
        assert set(job.topics) <= set(Settings().topics.model_dump())


def sizes(monkeypatch: pytest.MonkeyPatch, **of: int) -> None:
    """Lets the broker say how large records may be."""
    monkeypatch.setattr(
        "flink_jobs.submit.command.max_record_bytes", lambda _, *topics: {topic: of.get(topic) for topic in topics}
    )


def test_job_gets_the_limits_of_its_topics(monkeypatch: pytest.MonkeyPatch):
    sizes(monkeypatch, clickstream=1000, recommendations=1000, **{"clickstream.dlq": 2_000_000})
    settings, lines = with_record_sizes(JOBS["recommend"], Settings())
    assert (settings.sink.max_letter_bytes, settings.sink.max_answer_bytes) == (2_000_000, 1000)
    assert lines == []
    given = load_settings(None, ["sink.max_letter_bytes=9"])
    assert with_record_sizes(JOBS["recommend"], given)[0].sink.max_letter_bytes == 9
    assert with_record_sizes(JOBS["catalog"], Settings())[0].sink.max_answer_bytes is None


def test_smaller_topics_are_one_line(monkeypatch: pytest.MonkeyPatch):
    sizes(monkeypatch, clickstream=16_777_216, recommendations=1_048_588, **{"clickstream.dlq": 1_048_588})
    _, lines = with_record_sizes(JOBS["recommend"], Settings())
    (line,) = lines
    assert line.startswith("clickstream takes records of 16,777,216 bytes, recommendations only 1,048,588, clickstream")
    assert line.endswith(
        "clickstream.dlq only 1,048,588: what is larger is cut; give those topics max.message.bytes=16777216"
    )


def test_undescribed_topics_are_one_line(monkeypatch: pytest.MonkeyPatch):
    sizes(monkeypatch, clickstream=1000)
    settings, lines = with_record_sizes(JOBS["session-features"], Settings())
    assert settings.sink.max_letter_bytes is None
    assert len(lines) == 1
    assert "a record of session-features, clickstream.late may be (max.message.bytes): allow us" in lines[0]
