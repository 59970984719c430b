"""Settings of sessions: what one is, when it closes, where it is stored, and under which names."""

from pathlib import Path

from pydantic import Field

from flink_jobs.settings.fields import Duration, PositiveDuration, SettingsGroup


class PrivacySettings(SettingsGroup):
    """Who a shopper is."""

    keys_file: Path | None = Field(
        None,
        description="File of the keys of pseudonyms, which then stand for user ids in all that is written; none: ids "
        "travel as they come. On every machine.",
    )


class SessionSettings(SettingsGroup):
    """What a session is."""

    gap: PositiveDuration = Field(1_800_000, ge=2, description="Event time without an event that ends a session.")
    max_events: int = Field(64, ge=1, le=1024, description="Features are computed on a session's last so many events.")


class DedupSettings(SettingsGroup):
    """Repeated events."""

    ttl: PositiveDuration = Field(3_600_000, description="How long an event_id is remembered.")


class WatermarkSettings(SettingsGroup):
    """When a session is closed: how far behind the latest event time the watermark stays."""

    delay: Duration = Field(30_000, description="How much later than newer ones an event may come and not be late.")
    idle: PositiveDuration = Field(60_000, description="Time without a record after which no partition is waited for.")
    ahead: Duration = Field(
        60_000,
        description="An event time further ahead of its Kafka record's timestamp moves the watermark no further.",
    )


class LakeSettings(SettingsGroup):
    """Closed sessions and their events as Parquet files."""

    folder: Path | None = Field(None, description="Folder of the lake, seen by every worker; none: `lake` in home.")
    interval: PositiveDuration = Field(
        10_000,
        description="Time between checkpoints of the job that writes the lake. Each makes files; until it, one is "
        "open for each day of the events, which takes memory while many days are caught up on.",
    )
