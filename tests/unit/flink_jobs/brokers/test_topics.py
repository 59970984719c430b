"""How long topics keep a record, by what a broker says of them."""

from types import SimpleNamespace

import pytest

from flink_jobs.brokers.topics import retention_ms
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError


def broker(**configs: dict[str, str]) -> SimpleNamespace:
    described = {topic: {name: {"value": value} for name, value in config.items()} for topic, config in configs.items()}
    return SimpleNamespace(describe_configs=lambda *_, **__: {"topic": described}, close=lambda: None)


def config(policy: str, retention: int, segment: int = 10) -> dict[str, str]:
    return {"cleanup.policy": policy, "retention.ms": str(retention), "segment.ms": str(segment)}


def test_retention_includes_a_whole_segment(monkeypatch: pytest.MonkeyPatch):
    client = broker(
        events=config("delete", 100), both=config("compact,delete", 200, 20), items=config("compact", 100),
        ever=config("delete", -1),
    )  # fmt: skip
    monkeypatch.setattr("flink_jobs.brokers.clients.open_admin", lambda _: client)
    kept = retention_ms(Settings(), "events", "both", "items", "ever")
    assert kept == {"events": 110, "both": 220, "items": None, "ever": None}


def test_undescribed_topics_are_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flink_jobs.brokers.clients.open_admin", lambda _: broker(events=config("delete", 1), late={}))
    with pytest.raises(ShopstreamError, match=r"how long it keeps late, gone: .*DESCRIBE_CONFIGS"):
        retention_ms(Settings(), "events", "late", "gone")
