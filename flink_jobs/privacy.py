"""`shopstream privacy`: pseudonyms for who has to look shoppers up, and requests to forget a shopper."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kafka.structs import OffsetAndMetadata, TopicPartition

from flink_jobs import brokers
from flink_jobs.settings import Settings
from udfs.bundles.forgotten import ErasureList, shopper_hashes
from udfs.contracts.privacy import DeleteRequest, PrivacyAcknowledgement
from udfs.core.arrays import Bools, Ints
from udfs.core.clock import epoch_ms
from udfs.core.errors import ShopstreamError
from udfs.core.hashing import shopper_hash
from udfs.core.locking import exclusive
from udfs.lake.files import data_files
from udfs.lake.schema import TABLES, TIME_OF
from udfs.privacy.pseudonyms import Keys

#: Requests in one transaction, for which the lake is gone through once.
CHUNK = 1000
#: What may hold something of a shopper, settings in `topics`.
HOLDING = (
    "clickstream", "recommendations", "session_features", "dlq", "late", "privacy_requests", "privacy_acknowledgements",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a run did. requests: acknowledged; refused: of these, such as cannot be read; lake_rows: removed."""

    requests: int
    refused: int
    lake_rows: int


def pseudonyms(settings: Settings, user_ids: Iterable[str], at: str | None) -> Iterator[str]:
    """By the key of now, or of `at` (RFC 3339 with a zone); ShopstreamError without keys or for what is no time."""
    keys = settings.keys()
    if keys is None:
        raise ShopstreamError("there are no pseudonyms without keys: set privacy.keys_file (docs/privacy.md)")
    moment = _now()
    if at is not None:
        try:
            moment = epoch_ms(msgspec.convert(at, type=datetime))
        except (msgspec.ValidationError, TypeError):
            raise ShopstreamError(f"--at {at!r} should be a time with a zone, as in 2026-01-31T00:00:00Z") from None
    return (keys.pseudonyms([user_id], [moment])[0] for user_id in user_ids)


def forget(settings: Settings) -> Done:
    """Forget the shoppers that requests ask for, and acknowledge each.

    What is known of a shopper goes from the lake and from what rankers, exports and backfills use; the state of jobs
    and topics only tell until when they hold it. The lake is gone through again for those whose state in a job has run
    out since: it may have closed a session meanwhile.

    Acknowledgements and the requests' offsets, in a consumer group, are one transaction: for readers with
    read_committed each request is acknowledged once. What comes before may be repeated, and then finds nothing. Of two
    runs at a time one waits for the other, as long as they see the same folder of bundles.
    """
    topics = settings.topics
    brokers.require_topics(settings, topics.privacy_requests, topics.privacy_acknowledgements)
    kept_ms, keys = brokers.kept_ms(settings, *(getattr(topics, name) for name in HOLDING)), settings.keys()
    # One run at a time replaces the list of who is forgotten.
    with exclusive(settings.bundle_folder / ".forgetting.lock"), brokers.reachable(settings):
        producer = brokers.producer(settings, transactional_id=f"{settings.sink.transactional_id_prefix}-privacy")
        try:
            producer.init_transactions()
            requests = refused = 0
            rows = sum(sweep(settings).values())
            read_to = brokers.committed(settings, topics.privacy_requests, _group(settings))
            begin = {number: place.offset for number, place in read_to.items() if place}
            records = brokers.records(settings, topics.privacy_requests, begin)
            while chunk := list(islice(records, CHUNK)):
                told = _handle(settings, keys, kept_ms, chunk)
                _acknowledge(settings, producer, chunk, told)
                requests += len(told)
                refused += sum(each.error is not None for each in told)
                rows += sum(each.lake_rows for each in told)
        finally:
            producer.close()
    return Done(requests, refused, rows)


def _handle(
    settings: Settings, keys: Keys | None, kept_ms: Mapping[str, int | None], chunk: list[Any]
) -> list[PrivacyAcknowledgement]:
    """Forget those whom these records ask for; what to say to each."""
    asked = [_read(record) for record in chunk]
    good = [each for each in asked if isinstance(each, DeleteRequest)]
    names = {each.user_id: keys.aliases(each.user_id) if keys else [each.user_id] for each in good}
    known_as = {user: list(map(shopper_hash, every)) for user, every in names.items()}
    now = _now()
    if good:
        known = ErasureList.read(settings.bundle_folder)
        known.with_more((number for every in known_as.values() for number in every), now).write(settings.bundle_folder)
    rows = sweep(settings)
    told = []
    for each in asked:
        if isinstance(each, DeleteRequest):
            mine = sum(rows.pop(number, 0) for number in known_as[each.user_id])
            expires = now + settings.settled_ms()
            kept = {topic: None if ms is None else now + ms for topic, ms in kept_ms.items()}
            told.append(PrivacyAcknowledgement(each.request_id, each.user_id, now, mine, expires, kept))
        else:
            told.append(PrivacyAcknowledgement(each.request_id, each.user_id, now, error=each.error))
    return told


@dataclass(frozen=True)
class _Unreadable:
    """A record that is no request, and what it says of itself all the same."""

    request_id: str | None
    user_id: str | None
    error: str


def _read(record: Any) -> DeleteRequest | _Unreadable:
    try:
        return msgspec.json.decode(record.value or b"", type=DeleteRequest)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        said = f"record {record.offset} of partition {record.partition} of {record.topic} is no request: {error}"
    try:
        fields = msgspec.json.decode(record.value or b"")
    except (ValueError, RecursionError, msgspec.MsgspecError):
        fields = None
    texts = {name: value for name, value in (fields if isinstance(fields, dict) else {}).items() if type(value) is str}
    return _Unreadable(texts.get("request_id"), texts.get("user_id"), said)


def _acknowledge(settings: Settings, producer: Any, chunk: list[Any], told: list[PrivacyAcknowledgement]) -> None:
    """One transaction: what is said to each request, and how far they have been read."""
    topics = settings.topics
    read_to = {TopicPartition(topics.privacy_requests, each.partition): each.offset + 1 for each in chunk}
    with brokers.transaction(producer, _group(settings)) as (send, offsets):
        for record, each in zip(chunk, told, strict=True):
            send(topics.privacy_acknowledgements, key=record.key, value=msgspec.json.encode(each))
        offsets |= {place: OffsetAndMetadata(offset, "", -1) for place, offset in read_to.items()}


def _group(settings: Settings) -> str:
    return f"{settings.kafka.group}-privacy"


def _now() -> int:
    return time.time_ns() // 1_000_000


# --- the lake ---------------------------------------------------------------------------------------------------------


def sweep(settings: Settings) -> Counter[int]:
    """Remove from the lake what is forgotten and may still come into it; rows by the shopper's hash."""
    known, now = ErasureList.read(settings.bundle_folder), _now()
    due = known.swept_at < known.at + settings.settled_ms()
    if not due.any():
        return Counter()
    # At first whatever there is, also by clocks that are ahead.
    up_to = replace(known, at=np.where(known.swept_at, known.at, np.iinfo(np.int64).max))
    rows = remove(settings.lake_folder, up_to.select(due))
    replace(known, swept_at=np.where(due, now, known.swept_at)).write(settings.bundle_folder)
    return rows


def remove(lake: Path, forgotten: ErasureList) -> Counter[int]:
    """Take rows of forgotten shoppers from their time or before out of both tables; how many, by the shopper's hash.

    A file that has some is written anew beside itself and takes its own place in one step: readers find the old one or
    the new one, and none where no row is left. Files that a job is writing have other names. ShopstreamError for a file
    that cannot be read.
    """
    rows: Counter[int] = Counter()
    for table in TABLES:
        if (lake / table).is_dir():
            for file in (file for files in data_files(lake, table).values() for file in files):
                try:
                    rows.update(_remove_from(file, TIME_OF[table], forgotten))
                except FileNotFoundError:  # a backfill has replaced it
                    continue
                except (pa.ArrowException, OSError) as error:
                    raise ShopstreamError(f"{file}: {error}; `shopstream lake check` finds all that is wrong") from None
    return rows


def _remove_from(file: Path, time_column: str, forgotten: ErasureList) -> Counter[int]:
    def gone(batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        shopper = shopper_hashes(batch["user_id"])
        return shopper, batch[time_column].to_numpy(zero_copy_only=False) <= forgotten.at_of(shopper)

    rows: Counter[int] = Counter()
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(columns=["user_id", time_column]):
            shopper, which = gone(batch)
            rows.update(shopper[which].tolist())
        if rows.total() == source.metadata.num_rows:
            file.unlink()
        elif rows:
            draft = file.with_name(f".forgetting-{uuid4().hex}")
            compression = source.metadata.row_group(0).column(0).compression
            try:
                with pq.ParquetWriter(draft, source.schema_arrow, compression=compression) as writer:
                    for batch in source.iter_batches():
                        writer.write_batch(batch.filter(pa.array(~gone(batch)[1])))
                draft.replace(file)
            finally:
                draft.unlink(missing_ok=True)
    return rows
