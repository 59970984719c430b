"""All settings, from a TOML file, the environment and the command line; later ones win."""

from pathlib import Path
from typing import Annotated, get_args

from pydantic import BeforeValidator, Field
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flink_jobs.settings.fields import comma_separated
from flink_jobs.settings.flink import (
    CHECKPOINT_MS,
    RARE_CHECKPOINT_MS,
    CheckpointSettings,
    FlinkSettings,
    PythonSettings,
)
from flink_jobs.settings.kafka import KafkaSettings, RetentionSettings, SinkSettings, TopicSettings
from flink_jobs.settings.models import CatalogSettings, EncoderSettings, FeatureSettings, RankSettings
from flink_jobs.settings.sessions import (
    DedupSettings,
    LakeSettings,
    PrivacySettings,
    SessionSettings,
    WatermarkSettings,
)
from udfs.catalog import CatalogOptions
from udfs.contracts import EventType
from udfs.privacy import Keys, read_keys
from udfs.ranking import RankOptions
from udfs.recommend import RecommendOptions
from udfs.runtimes import EncoderOptions
from udfs.session_features import ClosingOptions


class Settings(BaseSettings):
    """Everything that can be set. A name in the environment is SHOPSTREAM_ with `__` for the dot."""

    model_config = SettingsConfigDict(
        env_prefix="SHOPSTREAM_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    kafka: KafkaSettings = KafkaSettings()
    flink: FlinkSettings = FlinkSettings()
    topics: TopicSettings = TopicSettings()
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
        frozenset(get_args(EventType)) - {"rate", "impression"}, description="Event types that are answered."
    )
    parallelism: int = Field(1, ge=1, description="Slots that a job takes.")
    home: Path = Field(
        Path(".shopstream"), description="Folder of the local broker, the local cluster and the bundles."
    )
    bundles: Path | None = Field(None, description="Folder of the model bundles; none: `bundles` in home.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line before the environment before the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def bundle_folder(self) -> Path:
        """The folder of the model bundles, absolute."""
        return (self.bundles or self.home / "bundles").absolute()

    @property
    def lake_folder(self) -> Path:
        """The folder of the lake, absolute."""
        return (self.lake.folder or self.home / "lake").absolute()

    @property
    def keys_file(self) -> Path | None:
        """The file of the keys of pseudonyms, absolute."""
        return self.privacy.keys_file and self.privacy.keys_file.absolute()

    def keys(self) -> Keys | None:
        """The keys of pseudonyms; ShopstreamError for a file that does not fit."""
        return read_keys(self.keys_file) if self.keys_file else None

    def closing_options(self) -> ClosingOptions:
        """What the function on closed sessions needs of this."""
        return ClosingOptions(
            self.bundle_folder, self.session.max_events, self.features.modules, self.encoder_options()
        )

    def catalog_options(self) -> CatalogOptions:
        """What the function on catalogue records needs of this."""
        return CatalogOptions(self.bundle_folder, self.encoder_options())

    def encoder_options(self) -> EncoderOptions:
        """What the encoder needs of this."""
        engines = str(Path(self.encoder.engine_cache).absolute())
        return EncoderOptions(**self.encoder.model_dump() | {"engine_cache": engines})

    def recommend_options(self) -> RecommendOptions:
        """What the recommending function needs of this."""
        return RecommendOptions(
            bundles=self.bundle_folder,
            encoder=self.encoder_options(),
            rank=RankOptions(**self.rank.model_dump()),
            max_events=self.session.max_events,
            feature_modules=self.features.modules,
            log_level=self.python.log_level,
        )

    def checkpoint_ms(self) -> int:
        """Time between the main job's checkpoints. With at-least-once no answer waits for one, and each costs time."""
        default = CHECKPOINT_MS if self.sink.guarantee == "exactly-once" else RARE_CHECKPOINT_MS
        return self.checkpoint.interval or default

    def state_ttl_ms(self) -> int:
        """How long state outlives its last use: at least dedup.ttl, and two gaps for a session under way."""
        return max(self.dedup.ttl, 2 * self.session.gap)

    def settled_ms(self) -> int:
        """How long until what came from a shopper is in no job's state any more, but in the lake, if events go on."""
        return self.state_ttl_ms() + self.watermark.delay + self.watermark.idle + self.lake.interval
