import pytest

from flink_jobs.settings.loading import load_settings
from flink_jobs.sql.catalog import catalog_table
from flink_jobs.sql.closed_sessions import timed_clickstream_table
from flink_jobs.sql.sessions import clickstream_table


@pytest.mark.parametrize(("given", "interval"), [([], "30000"), (["kafka.partition_discovery=5 s"], "5000")])
def test_sources_look_for_added_partitions(given: list[str], interval: str):
    settings = load_settings(None, given)
    for table in (clickstream_table(settings), timed_clickstream_table(settings), catalog_table(settings)):
        assert f"'scan.topic-partition-discovery.interval' = '{interval} ms'" in table
