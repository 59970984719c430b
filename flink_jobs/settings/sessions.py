"""Settings of sessions: what one is, when it closes, where it is stored, and under which user ids."""

from pydantic import Field

from flink_jobs.settings.fields import AbsolutePath, Duration, PositiveDuration, SettingsGroup


class SessionSettings(SettingsGroup):
    """What a session is."""

    gap: PositiveDuration = Field(1_800_000, ge=2, description="Event time without an event that ends a session.")
    max_events: int = Field(
        64, ge=1, le=1024, description="Compute features on at most this many of a session's latest events."
    )
    join_logins: bool = Field(
        True,
        description="`recommend`: a visit goes on when its shopper logs in. Events with one anonymous_id are one "
        "session, until another user logs in. `false`: a session is of one user_id, and of all its devices.",
    )


class DedupSettings(SettingsGroup):
    """Repeated events."""

    ttl: PositiveDuration = Field(3_600_000, description="How long an event is remembered, to know its repeats.")


class WatermarkSettings(SettingsGroup):
    """When a session is closed: how far the watermark stays behind the latest event time."""

    delay: Duration = Field(
        30_000, description="An event may arrive this much later than newer ones without being late."
    )
    idle: PositiveDuration = Field(
        60_000, description="After this much silence a partition no longer holds back the watermark."
    )
    ahead: Duration = Field(
        60_000,
        description="An event time further ahead of its Kafka record's timestamp moves the watermark no further, and "
        "has a session apart from others.",
    )


class LakeSettings(SettingsGroup):
    """Closed sessions and their events as Parquet files."""

    folder: AbsolutePath | None = Field(
        None, description="Folder of the lake, visible to every worker; none: `lake` in home."
    )
    interval: PositiveDuration = Field(
        10_000,
        description="Time between checkpoints of the job that writes the lake. Each makes files; until then one file "
        "is open per day of the events, which takes memory while the job catches up on many days.",
    )


class PrivacySettings(SettingsGroup):
    """Under which ids users are known."""

    keys_file: AbsolutePath | None = Field(
        None,
        description="File of the keys of pseudonyms, which replace user ids in everything that is written; none: ids "
        "stay as they come. On every machine.",
    )
