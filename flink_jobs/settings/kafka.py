"""Settings of Kafka: how to reach it, its topics, how long they keep records, and how results are written."""

from typing import Annotated, Literal

from pydantic import Field

from flink_jobs.settings.fields import AbsolutePath, Addresses, PositiveDuration, SettingsGroup
from udfs.events.envelopes import Envelope
from udfs.events.registry import RegistryOptions

#: How long producers gather records before they send them, and how many bytes per partition.
LINGER_MS, BATCH_BYTES = 5, 256 * 1024
#: Largest record that producers send. A dead letter is its record and the reason.
MAX_RECORD_BYTES = 16 * 1024 * 1024
#: What a record adds to its own bytes at most: the frame of its batch, and our headers.
FRAME_BYTES = 8 * 1024

Guarantee = Literal["exactly-once", "at-least-once"]
StartupMode = Literal["group-offsets", "earliest-offset", "latest-offset"]


class KafkaSettings(SettingsGroup):
    """Where Kafka is."""

    bootstrap: Addresses = Field("localhost:9092", description="Brokers, host:port, comma separated.")
    group: str = Field("shopstream", description="Consumer group of the jobs.")
    startup: StartupMode = Field(
        "group-offsets",
        description="Where a new job starts reading: the group's offsets (the earliest record if there are none), "
        "earliest-offset or latest-offset. A restored job resumes where it was.",
    )
    bounded: bool = Field(False, description="Stop at the offsets that are the latest when the job starts.")
    partition_discovery: PositiveDuration = Field(
        30_000, description="How often a running job looks for partitions that were added to the topics that it reads."
    )
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to brokers: over TLS (SSL), with a password (SASL), both or neither."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="With SASL: how the password is proved."
    )
    username: str | None = Field(None, description="With SASL: the user.")
    password_file: AbsolutePath | None = Field(
        None, description="With SASL: file of the password, at the same path on every machine of the cluster."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="With TLS: PEM of the trusted CAs; none: each machine's own. On every machine."
    )
    certificate_file: AbsolutePath | None = Field(
        None, description="For mutual TLS: PEM of our certificate and its chain. On every machine."
    )
    key_file: AbsolutePath | None = Field(None, description="For mutual TLS: PEM of its key, PKCS#8. On every machine.")
    key_password_file: AbsolutePath | None = Field(
        None, description="File of the password of an encrypted key_file. On every machine."
    )

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker has to prove its name."""
        return self.security.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Whether brokers ask for a user and a password."""
        return self.security.startswith("SASL")


class TopicSettings(SettingsGroup):
    """Names of the topics."""

    clickstream: str = Field("clickstream", description="Events in.")
    recommendations: str = Field("recommendations", description="Recommendations out.")
    dlq: str = Field("clickstream.dlq", description="Unreadable events, with the reason in their headers.")
    catalog: str = Field("catalog", description="Items, by item_id.")
    session_features: str = Field("session-features", description="Closed sessions.")
    late: str = Field("clickstream.late", description="Events too late for their window.")
    privacy_requests: str = Field("privacy-requests", description="Requests to erase users.")
    privacy_acknowledgements: str = Field("privacy-acknowledgements", description="The outcome of each request.")


class ClickstreamSettings(SettingsGroup):
    """How events come."""

    envelope: Envelope = Field(
        "none",
        description="What is around each event: schema-registry (JSON or Avro behind a registry's header), connect "
        "(Kafka Connect's schema and payload), debezium, cloudevents, segment (track events), or none.",
    )


class RegistrySettings(SettingsGroup):
    """The schema registry of records in Avro, with clickstream.envelope or catalog.envelope=schema-registry."""

    url: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = Field(
        None, description="Its address, without user and password; none: what is behind the header is JSON."
    )
    username: str | None = Field(None, description="The user, for basic authentication.")
    password_file: AbsolutePath | None = Field(None, description="File of the password. On every machine.")
    ca_file: AbsolutePath | None = Field(
        None, description="PEM of the trusted CAs; none: each machine's own. On every machine."
    )

    def options(self) -> RegistryOptions | None:
        """Returns what workers need to ask the registry, if there is one."""
        if self.url is None:
            return None
        return RegistryOptions(self.url, self.username, self.password_file, self.ca_file)


class RetentionSettings(SettingsGroup):
    """How long Kafka keeps records, on topics that `shopstream kafka topics` creates; none: as the broker is set up."""

    clickstream: PositiveDuration | None = Field(None, description="Retention of events; none: the broker's.")
    recommendations: PositiveDuration | None = Field(None, description="Retention of recommendations.")
    dlq: PositiveDuration | None = Field(None, description="Retention of dead letters.")
    session_features: PositiveDuration | None = Field(None, description="Retention of closed sessions.")
    late: PositiveDuration | None = Field(None, description="Retention of late events.")
    privacy_requests: PositiveDuration | None = Field(None, description="Retention of requests for erasure.")
    privacy_acknowledgements: PositiveDuration | None = Field(None, description="Retention of their acknowledgements.")


class SinkSettings(SettingsGroup):
    """How results are written."""

    guarantee: Guarantee = Field(
        "exactly-once", description="exactly-once (readers use read_committed) or at-least-once."
    )
    transactional_id_prefix: str = Field(
        "shopstream", min_length=1, description="Unique to each running copy of a job."
    )
    transaction_timeout: PositiveDuration = Field(
        600_000, description="Longer than a checkpoint plus a restart, at most the broker's limit (15 min)."
    )
    max_letter_bytes: int | None = Field(
        None, gt=0, description="Cut larger dead letters. None: what the topic takes, which `submit` asks the broker."
    )
    max_answer_bytes: int | None = Field(
        None,
        gt=0,
        description="Cut larger recommendations. None: what the topic takes, which `submit` asks the broker.",
    )

    @property
    def letter_bytes(self) -> int:
        """Bytes of the key, the value and the record's own headers that fit into a dead letter."""
        return _room(self.max_letter_bytes)

    @property
    def answer_bytes(self) -> int:
        """Bytes of a value that fit into a record of `recommendations`."""
        return _room(self.max_answer_bytes)


def _room(limit: int | None) -> int:
    return max(min(limit or MAX_RECORD_BYTES, MAX_RECORD_BYTES) - FRAME_BYTES, FRAME_BYTES)
