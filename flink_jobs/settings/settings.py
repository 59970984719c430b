"""All settings, from a TOML file, the environment and the command line; later ones win."""

from pathlib import Path
from typing import Annotated, get_args

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flink_jobs.settings.fields import AbsolutePath, comma_separated
from flink_jobs.settings.flink import (
    CHECKPOINT_MS,
    RARE_CHECKPOINT_MS,
    CheckpointSettings,
    FlinkSettings,
    PythonSettings,
)
from flink_jobs.settings.kafka import (
    ClickstreamSettings,
    KafkaSettings,
    RegistrySettings,
    RetentionSettings,
    SinkSettings,
    TopicSettings,
)
from flink_jobs.settings.models import CatalogSettings, EncoderSettings, FeatureSettings, RankSettings
from flink_jobs.settings.sessions import (
    DedupSettings,
    LakeSettings,
    PrivacySettings,
    SessionSettings,
    WatermarkSettings,
)
from udfs.contracts.clickstream import EventType
from udfs.privacy.keys_file import read_keys
from udfs.privacy.pseudonyms import Keys


class Settings(BaseSettings):
    """Everything that can be set. In the environment, `rank.k` is SHOPSTREAM_RANK__K."""

    model_config = SettingsConfigDict(
        env_prefix="SHOPSTREAM_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    kafka: KafkaSettings = KafkaSettings()
    flink: FlinkSettings = FlinkSettings()
    topics: TopicSettings = TopicSettings()
    clickstream: ClickstreamSettings = ClickstreamSettings()
    registry: RegistrySettings = RegistrySettings()
    retention: RetentionSettings = RetentionSettings()
    privacy: PrivacySettings = PrivacySettings()
    session: SessionSettings = SessionSettings()
    dedup: DedupSettings = DedupSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    lake: LakeSettings = LakeSettings()
    catalog: CatalogSettings = CatalogSettings()
    sink: SinkSettings = SinkSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    python: PythonSettings = PythonSettings()
    encoder: EncoderSettings = EncoderSettings()
    rank: RankSettings = RankSettings()
    features: FeatureSettings = FeatureSettings()
    triggers: Annotated[frozenset[EventType], NoDecode, BeforeValidator(comma_separated)] = Field(
        frozenset(get_args(EventType)) - {"rate", "impression"},
        description="Event types that trigger a recommendation.",
    )
    parallelism: int = Field(1, ge=1, description="Slots that a job takes.")
    home: AbsolutePath = Field(
        Path(".shopstream"), description="Folder of the local broker, the local cluster and the bundles."
    )
    bundles: AbsolutePath | None = Field(None, description="Folder of the model bundles; none: `bundles` in home.")

    @property
    def bundle_folder(self) -> Path:
        """The folder of the model bundles."""
        return self.bundles or self.home / "bundles"

    @property
    def lake_folder(self) -> Path:
        """The folder of the lake."""
        return self.lake.folder or self.home / "lake"

    def keys(self) -> Keys | None:
        """Reads the keys of pseudonyms, if there are any; raises ShopstreamError for a file that does not fit."""
        return read_keys(self.privacy.keys_file) if self.privacy.keys_file else None

    @property
    def may_be_avro(self) -> bool:
        """Whether events may be Avro, whose times SQL cannot read."""
        return self.clickstream.envelope == "schema-registry" and self.registry.url is not None

    def checkpoint_ms(self) -> int:
        """Time between the main job's checkpoints: rare with at-least-once, where no answer waits for one."""
        default = CHECKPOINT_MS if self.sink.guarantee == "exactly-once" else RARE_CHECKPOINT_MS
        return self.checkpoint.interval or default

    def state_ttl_ms(self) -> int:
        """How long state outlives its last use: at least dedup.ttl, and two gaps for an open session."""
        return max(self.dedup.ttl, 2 * self.session.gap)

    def max_state_age_ms(self) -> int:
        """Time after which no job's state holds anything of a user's past events, if other events keep coming."""
        return self.state_ttl_ms() + self.watermark.delay + self.watermark.idle + self.lake.interval
