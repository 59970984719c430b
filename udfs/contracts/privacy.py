"""Records of `privacy-requests` and `privacy-acknowledgements`."""

from msgspec import Struct

from udfs.contracts.fields import Count, EpochMs, Text


class DeleteRequest(Struct):
    """One record of `privacy-requests`, keyed by user_id: erase this shopper. user_id: the shop's own."""

    request_id: Text
    user_id: Text


class PrivacyAcknowledgement(Struct):
    """One record of `privacy-acknowledgements`, with the key of its request. Times are epoch ms.

    lake_rows: the number removed. state_expires_at: when the state of running jobs no longer holds earlier events.
    kept_until: by topic, when Kafka has deleted its records; null: never. error: why the record was not a request; then
    nothing was done.
    """

    request_id: str | None
    user_id: str | None
    done_at: EpochMs
    lake_rows: Count = 0
    state_expires_at: EpochMs | None = None
    kept_until: dict[str, EpochMs | None] | None = None
    error: str | None = None
