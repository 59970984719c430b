from pathlib import Path

import pytest

from flink_jobs.settings.loading import load_settings
from flink_jobs.sql.catalog import changes_table
from flink_jobs.sql.lake import lake_table
from udfs.core.paths import flink_uri


def test_uri_keeps_every_character():
    assert flink_uri(Path("/a/my shöp/100% #1?")) == "file:///a/my shöp/100% #1?"


def test_uri_of_relative_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert flink_uri(Path("lake")) == f"file://{tmp_path}/lake"


def test_tables_name_their_folders_unescaped():
    settings = load_settings(None, ["home=/a/my shöp's"])
    assert "'path' = 'file:///a/my shöp''s/lake/events'" in lake_table(settings, "events", streaming=False)
    assert "'path' = 'file:///a/my shöp''s/bundles/" in changes_table(settings)
