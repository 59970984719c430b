"""Settings: typed, with defaults, from a TOML file, the environment and the command line, the later ones winning."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from udfs.catalog.encoding import CatalogOptions
from udfs.contracts.clickstream import EventType
from udfs.core.errors import ShopstreamError
from udfs.encoder.options import EncoderOptions
from udfs.lake.closing import ClosingOptions
from udfs.privacy.keys_file import read_keys
from udfs.privacy.pseudonyms import Keys
from udfs.ranking.options import RankOptions
from udfs.recommend.options import RecommendOptions

#: What a job with transactions tells of them to Flink, and so to whoever submits another: parameters of the job.
PREFIX_TOLD, BROKERS_TOLD = "shopstream.transactional_id_prefix", "shopstream.kafka_bootstrap"
#: Defaults of checkpoint.interval: where results wait for checkpoints, and where they do not.
CHECKPOINT_MS, RARE_CHECKPOINT_MS = 1000, 10_000
#: What producers gather before they send: for how long, and how much for a partition.
LINGER_MS, BATCH_BYTES = 5, 256 * 1024
#: Names of the settings that are shown with a unit.
_DURATIONS = ("gap", "ttl", "transaction_timeout", "interval", "bundle_time", "delay", "idle", "ahead")
_UNITS_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(value: object) -> object:
    """'30 min', '1 s', '250ms', '1 h', '2 d' or a number of milliseconds, as whole milliseconds; ValueError else."""
    if not isinstance(value, str) or value.isdecimal():
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)", value.strip())
    if match is None:
        raise ValueError("give a number with a unit: ms, s, min, h or d, as in '30 min'")
    return round(float(match[1]) * _UNITS_MS[match[2]])


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(duration_ms), Field(ge=0)]
PositiveDuration = Annotated[int, BeforeValidator(duration_ms), Field(gt=0)]


def _addresses(value: str) -> str:
    for address in value.split(","):
        host, _, port = address.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("give host:port, as in localhost:9092")
    return value


Addresses = Annotated[str, AfterValidator(_addresses)]
Ports = Annotated[str, Field(pattern=r"^\d{1,5}([-,]\d{1,5})*$")]
Guarantee = Literal["exactly-once", "at-least-once"]
StartupMode = Literal["group-offsets", "earliest-offset", "latest-offset"]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class KafkaSettings(_Group):
    """Where Kafka is."""

    bootstrap: Addresses = Field("localhost:9092", description="Brokers, host:port, comma separated.")
    group: str = Field("shopstream", description="Consumer group of the jobs.")
    startup: StartupMode = Field(
        "group-offsets",
        description="Where a new job starts reading: the group's offsets (the earliest record where there are none), "
        "earliest-offset or latest-offset. A restored job goes on where it was.",
    )
    bounded: bool = Field(False, description="Stop at the offsets that are the latest when the job starts.")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to: by TLS (SSL), with a password (SASL), both or neither."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="With SASL: how the password is proved."
    )
    username: str | None = Field(None, description="With SASL: the user.")
    password_file: Path | None = Field(
        None, description="With SASL: file of the password, at the same place on every machine of the cluster."
    )
    ca_file: Path | None = Field(
        None, description="With TLS: PEM of the CAs that are trusted; none: each machine's own. On every machine."
    )
    certificate_file: Path | None = Field(
        None, description="For mutual TLS: PEM of our certificate and those it rests on. On every machine."
    )
    key_file: Path | None = Field(None, description="For mutual TLS: PEM of its key, PKCS#8. On every machine.")
    key_password_file: Path | None = Field(
        None, description="File of the password of an encrypted key_file. On every machine."
    )

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker has to prove its name."""
        return self.security.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Whether a user and a password are asked for."""
        return self.security.startswith("SASL")


class FlinkSettings(_Group):
    """Where Flink is."""

    address: Addresses = Field("localhost:8081", description="REST address of the cluster, host:port.")
    python: Path | None = Field(None, description="Python on the cluster's machines; none: the one that submits.")
    metrics_ports: Ports | None = Field(
        None,
        description="Ports on which the local cluster's processes tell Prometheus their metrics, one each, as in "
        "9249-9250, to whoever reaches this machine; none: they do not.",
    )


class TopicSettings(_Group):
    """Names of the topics."""

    clickstream: str = Field("clickstream", description="Events in.")
    recommendations: str = Field("recommendations", description="Recommendations out.")
    dlq: str = Field("clickstream.dlq", description="Events that cannot be read, with the reason in their headers.")
    catalog: str = Field("catalog", description="Items, by item_id.")
    session_features: str = Field("session-features", description="Closed sessions.")
    late: str = Field("clickstream.late", description="Events too late for their window.")
    privacy_requests: str = Field("privacy-requests", description="Shoppers who are to be forgotten.")
    privacy_acknowledgements: str = Field("privacy-acknowledgements", description="What became of those requests.")


class RetentionSettings(_Group):
    """How long Kafka keeps records, on topics that `shopstream kafka topics` creates; none: as the broker is set up."""

    clickstream: PositiveDuration | None = Field(None, description="Retention of events; none: the broker's.")
    recommendations: PositiveDuration | None = Field(None, description="Retention of recommendations.")
    dlq: PositiveDuration | None = Field(None, description="Retention of dead letters.")
    session_features: PositiveDuration | None = Field(None, description="Retention of closed sessions.")
    late: PositiveDuration | None = Field(None, description="Retention of late events.")
    privacy_requests: PositiveDuration | None = Field(None, description="Retention of requests to forget.")
    privacy_acknowledgements: PositiveDuration | None = Field(None, description="Retention of their acknowledgements.")


class PrivacySettings(_Group):
    """Who a shopper is."""

    keys_file: Path | None = Field(
        None,
        description="File of the keys of pseudonyms, which then stand for user ids in all that is written; none: ids "
        "travel as they come. On every machine.",
    )


class SessionSettings(_Group):
    """What a session is."""

    gap: PositiveDuration = Field(1_800_000, ge=2, description="Event time without an event that ends a session.")
    max_events: int = Field(64, ge=1, le=1024, description="Features are computed on a session's last so many events.")


class DedupSettings(_Group):
    """Repeated events."""

    ttl: PositiveDuration = Field(3_600_000, description="How long an event_id is remembered.")


class WatermarkSettings(_Group):
    """When a session is closed: how far behind the latest event time the watermark stays."""

    delay: Duration = Field(30_000, description="How much later than newer ones an event may come and not be late.")
    idle: PositiveDuration = Field(60_000, description="Time without a record after which no partition is waited for.")
    ahead: Duration = Field(
        60_000,
        description="An event time further ahead of its Kafka record's timestamp moves the watermark no further.",
    )


class LakeSettings(_Group):
    """Closed sessions and their events as Parquet files."""

    folder: Path | None = Field(None, description="Folder of the lake, seen by every worker; none: `lake` in home.")
    interval: PositiveDuration = Field(
        10_000,
        description="Time between checkpoints of the job that writes the lake. Each makes files; until it, one is "
        "open for each day of the events, which takes memory while many days are caught up on.",
    )


class CatalogSettings(_Group):
    """Catalogue changes, which running rankers take up."""

    interval: PositiveDuration = Field(
        1000, description="Time between checkpoints of the catalogue job, at which changes become visible to rankers."
    )


class SinkSettings(_Group):
    """How results are written."""

    guarantee: Guarantee = Field(
        "exactly-once", description="exactly-once (readers use read_committed) or at-least-once."
    )
    transactional_id_prefix: str = Field(
        "shopstream", min_length=1, description="Unique to each running copy of a job."
    )
    transaction_timeout: PositiveDuration = Field(
        600_000, description="Longer than a checkpoint and a restart together, at most the broker's limit (15 min)."
    )


class CheckpointSettings(_Group):
    """Checkpoints, on which exactly-once results wait."""

    interval: PositiveDuration | None = Field(
        None, description="Time between checkpoints of the main job; none: 1 s, and 10 s with at-least-once."
    )
    folder: str | None = Field(None, description="Path or URI of the checkpoints; none: as the cluster is set up.")
    backend: Literal["hashmap", "rocksdb"] | None = Field(
        None, description="Where state is: in the JVM's heap, or in RocksDB on disk; none: as the cluster is set up."
    )
    changelog: bool = Field(
        False,
        description="Write changes of state as they happen, so that a checkpoint need not write all of it; the cluster "
        "has to say where to (state.changelog.storage).",
    )


class PythonSettings(_Group):
    """How rows cross into Python."""

    bundle_size: int = Field(256, ge=1, description="Most rows in one call of a Python function.")
    bundle_time: PositiveDuration = Field(
        20, description="How long a call waits for more rows; a row may wait twice that."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="What workers that recommend log; DEBUG: a line of JSON for each answer, with the user's id in it.",
    )


class EncoderSettings(_Group):
    """The BERT encoder."""

    variant: str = Field("auto", description="Variant of the bundle; auto: the fastest for provider and processor.")
    provider: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = Field(
        "auto", description="auto: a CUDA device if there is one, else the CPU by ONNX Runtime (cpu)."
    )
    allow_fallback: bool = Field(False, description="Run on cpu when the provider asked for cannot be used.")
    threads: int = Field(
        1,
        ge=0,
        description="A worker's model calls at a time, and its matrix products' threads: cores by slots; 0: all cores.",
    )
    cache: int = Field(50_000, ge=0, description="Texts whose vectors are kept, a worker; about 2 KB each.")
    engine_cache: str = Field(".shopstream/engines", description="Folder of TensorRT's engines, on the workers.")


class RankSettings(_Group):
    """What is recommended."""

    k: int = Field(10, ge=1, le=1000, description="Items a record.")
    content: float = Field(0.6, ge=0, le=5, description="Blend, without a learned ranker: weight of likeness by text.")
    co_visit: float = Field(1.0, ge=0, le=5, description="Blend: weight of co-visits.")
    popularity: float = Field(0.1, ge=0, le=5, description="Blend: weight of popularity.")
    recent: int = Field(10, ge=1, le=1024, description="Events of a session that speak, the last ones.")
    decay: float = Field(0.8, gt=0, le=1, description="Weight of an event against the next newer one.")
    exclude_seen: bool = Field(True, description="Do not recommend what the session has already met.")
    per_category: int = Field(0, ge=0, description="Most items of one category in a record; 0: any number.")
    per_brand: int = Field(0, ge=0, description="Most items of one brand in a record; 0: any number.")
    diversity: float = Field(
        0.0, ge=0, le=5, description="What an item's score loses for the same title as an item before it has."
    )


class FeatureSettings(_Group):
    """Session features."""

    modules: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="Modules with features of your own, comma separated; the workers import them."
    )


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
    triggers: Annotated[frozenset[EventType], NoDecode, BeforeValidator(_comma_separated)] = Field(
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


def load_settings(file: Path | None = None, assignments: Iterable[str] = ()) -> Settings:
    """Settings from a TOML file, SHOPSTREAM_… variables and `name=value` assignments, the later ones winning.

    Raises ShopstreamError that names the setting and what it may be.
    """
    if file is not None and not file.is_file():
        raise ShopstreamError(f"there is no settings file {file}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ShopstreamError(f"setting {assignment!r} should look like name=value, as in session.gap='20 min'")
        group = values
        *groups, last = name.strip().split(".")
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ShopstreamError(f"setting {name!r} is in {part!r}, which is set as a whole before it")
        group[last] = value
    try:
        return FromFile(**values)
    except ValidationError as error:
        raise ShopstreamError(_explain(error)) from None
    except (ValueError, RecursionError) as error:  # of TOML that is none, too deep, or with a number too long
        raise ShopstreamError(f"{file or 'the environment'} cannot be read as settings: {error}") from None


def settings_table() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting."""

    def rows(model: type[BaseModel], prefix: str) -> Iterable[tuple[str, str, str]]:
        for name, field in model.model_fields.items():
            if isinstance(field.default, _Group):
                yield from rows(type(field.default), f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", _shown(name, field.default), field.description or ""

    return list(rows(Settings, ""))


def _shown(name: str, default: object) -> str:
    if isinstance(default, frozenset):
        return ",".join(kind for kind in get_args(EventType) if kind in default)
    if name in _DURATIONS and isinstance(default, int):
        for unit in ("h", "min", "s"):
            if default % _UNITS_MS[unit] == 0:
                return f"{default // _UNITS_MS[unit]} {unit}"
        return f"{default} ms"
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [setting for setting, _, _ in settings_table()]
        near = difflib.get_close_matches(name, known, n=3) or known
        return f"there is no setting {name!r}; did you mean {', '.join(near)}?"
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {name} cannot be {first['input']!r}: {message[0].lower()}{message[1:]}"
