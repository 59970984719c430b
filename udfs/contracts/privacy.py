"""Records of `privacy-requests` and `privacy-acknowledgements`."""

from msgspec import Struct

from udfs.contracts.fields import Count, EpochMs, Text


class DeleteRequest(Struct):
    """One record of `privacy-requests`, keyed by user_id: forget this shopper. user_id: as the shop knows them."""

    request_id: Text
    user_id: Text


class PrivacyAcknowledgement(Struct):
    """One record of `privacy-acknowledgements`, with the key of its request. Times are epoch ms.

    lake_rows: removed. state_expires_at: when running jobs have forgotten what came before. kept_until: by topic, when
    Kafka has deleted what it holds; null: never. error: why the record was no request; then nothing was done.
    """

    request_id: str | None
    user_id: str | None
    done_at: EpochMs
    lake_rows: Count = 0
    state_expires_at: EpochMs | None = None
    kept_until: dict[str, EpochMs | None] | None = None
    error: str | None = None
