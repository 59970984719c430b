"""Turns Kafka's errors into one line that says what to do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import (
    InvalidReceiveError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailedError,
)

from flink_jobs.settings.kafka import KafkaSettings
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError


class _LastFailure(logging.Handler):
    """Remembers why the last connection failed, as kafka-python's own error only says that it has none."""

    reason: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        failures = record.args if isinstance(record.args, tuple) else ()
        reasons = (part for part in failures if isinstance(part, Exception) and not isinstance(part, KafkaTimeoutError))
        self.reason = next(reasons, self.reason)


_last_failure = _LastFailure()
_connections = logging.getLogger("kafka.net.manager")
_connections.setLevel(logging.WARNING)
_connections.propagate = False
_connections.addHandler(_last_failure)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Turns Kafka's errors in the block into a ShopstreamError that says which broker and what to do."""
    kafka, _last_failure.reason = settings.kafka, None
    try:
        yield
    except KafkaError as error:
        reason = (isinstance(error, KafkaTimeoutError) and _last_failure.reason) or error
        text = str(reason).partition(": Request '")[0]  # the whole request follows
        raise ShopstreamError(
            f"Kafka at {kafka.bootstrap} (setting kafka.bootstrap) is not reachable: {text}; {_advice(kafka, reason)}"
        ) from None


def _advice(kafka: KafkaSettings, reason: Exception) -> str:
    if isinstance(reason, MessageSizeTooLargeError):
        return "raise the topic's max.message.bytes"
    if "Authorization" in str(reason):
        return "docs/operations.md lists what each command has to be allowed"
    # Over TLS, kafka-python loses the broker's last message if the broker closes the connection right after it.
    closed = "disconnected" in str(reason)
    if kafka.sasl and (closed or isinstance(reason, SaslAuthenticationFailedError)):
        return f"the broker refuses kafka.username={kafka.username}, kafka.password_file or kafka.sasl_mechanism"
    if kafka.tls and isinstance(reason, KafkaConnectionError):
        return "see kafka.ca_file, and kafka.certificate_file if the broker asks who we are"
    # A client without TLS reads a broker's TLS message as a record of an impossible length.
    turned_away = closed or isinstance(reason, InvalidReceiveError)
    wanted = "a broker that wants TLS or a password closes the connection: see kafka.security; " if turned_away else ""
    return f"{wanted}a local broker is started by `shopstream kafka start`"
