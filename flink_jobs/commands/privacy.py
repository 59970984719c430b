"""`shopstream privacy`: pseudonyms of user ids, and the erasure of users on request."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from flink_jobs.brokers.clients import open_producer, transaction
from flink_jobs.brokers.errors import reachable
from flink_jobs.brokers.reading import ConsumerRecord, committed_offsets, read_topic
from flink_jobs.brokers.topics import require_topics, retention_ms
from flink_jobs.settings.settings import Settings
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

#: Requests per transaction, for which the lake is searched once.
CHUNK = 1000
#: Seconds between two looks for new requests.
FOLLOW_S = 5.0
#: Settings in `topics`: the topics that may hold records of a user.
HOLDING = (
    "clickstream", "recommendations", "session_features", "dlq", "late", "privacy_requests", "privacy_acknowledgements",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a run did. requests: acknowledged; refused: those of them that are unreadable; lake_rows: rows removed."""

    requests: int
    refused: int
    lake_rows: int


def pseudonyms(settings: Settings, user_ids: Iterable[str], at: str | None) -> Iterator[str]:
    """Yields the pseudonym of each user id by the key of now, or of `at` (RFC 3339 with a zone).

    Raises ShopstreamError without keys, or if `at` is not a time.
    """
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


def follow_erasures(settings: Settings) -> Iterator[Done]:
    """Handles requests as they come, for ever; yields a result at first, and whenever there were any."""
    yield erase(settings)
    while True:
        time.sleep(FOLLOW_S)
        done = erase(settings)
        if done.requests:
            yield done


def erase(settings: Settings) -> Done:
    """Erases the users that requests name, and acknowledges each request.

    A user's rows are removed from the lake and from what rankers, exports and backfills use. The state of jobs and the
    topics expire: an acknowledgement tells when. Jobs may close a session from their state after an erasure, so the
    lake is searched again for users whose state has expired since.

    One transaction holds the acknowledgements and, as offsets of a consumer group, the requests read. So readers with
    read_committed see each request acknowledged once. Earlier steps may be repeated, and then find nothing. Two runs
    that share a folder of bundles wait for each other.
    """
    topics = settings.topics
    require_topics(settings, topics.privacy_requests, topics.privacy_acknowledgements)
    kept_ms = retention_ms(settings, *(getattr(topics, name) for name in HOLDING))
    keys = settings.keys()
    # One run at a time replaces the list of erased users.
    with exclusive(settings.bundle_folder / ".forgetting.lock"), reachable(settings):
        producer = open_producer(settings, transactional_id=f"{settings.sink.transactional_id_prefix}-privacy")
        try:
            producer.init_transactions()
            requests = refused = 0
            rows = sum(sweep(settings).values())
            read_to = committed_offsets(settings, topics.privacy_requests, _group(settings))
            begin = {number: read.offset for number, read in read_to.items() if read}
            records = read_topic(settings, topics.privacy_requests, begin)
            while chunk := list(islice(records, CHUNK)):
                outcomes = _handle(settings, keys, kept_ms, chunk)
                _acknowledge(settings, producer, chunk, outcomes)
                requests += len(outcomes)
                refused += sum(outcome.error is not None for outcome in outcomes)
                rows += sum(outcome.lake_rows for outcome in outcomes)
        finally:
            producer.close()
    return Done(requests, refused, rows)


def _handle(
    settings: Settings, keys: Keys | None, kept_ms: Mapping[str, int | None], chunk: list[ConsumerRecord]
) -> list[PrivacyAcknowledgement]:
    """Erases the users that these records name; returns an acknowledgement per record."""
    requests = [_read(record) for record in chunk]
    good = [request for request in requests if isinstance(request, DeleteRequest)]
    names = {request.user_id: keys.aliases(request.user_id) if keys else [request.user_id] for request in good}
    known_as = {user: list(map(shopper_hash, every)) for user, every in names.items()}
    now = _now()
    if good:
        known = ErasureList.read(settings.bundle_folder)
        hashed = (number for every in known_as.values() for number in every)
        known.with_more(hashed, now).write(settings.bundle_folder)
    rows = sweep(settings)
    outcomes = []
    for request in requests:
        if isinstance(request, DeleteRequest):
            removed = sum(rows.pop(number, 0) for number in known_as[request.user_id])
            expires = now + settings.max_state_age_ms()
            kept = {topic: None if ms is None else now + ms for topic, ms in kept_ms.items()}
            outcomes.append(PrivacyAcknowledgement(request.request_id, request.user_id, now, removed, expires, kept))
        else:
            outcomes.append(PrivacyAcknowledgement(request.request_id, request.user_id, now, error=request.error))
    return outcomes


@dataclass(frozen=True)
class _Unreadable:
    """A record that is not a request, with the ids that it has all the same."""

    request_id: str | None
    user_id: str | None
    error: str


def _read(record: ConsumerRecord) -> DeleteRequest | _Unreadable:
    try:
        return msgspec.json.decode(record.value or b"", type=DeleteRequest)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        reason = f"record {record.offset} of partition {record.partition} of {record.topic} is no request: {error}"
    try:
        fields = msgspec.json.decode(record.value or b"")
    except (ValueError, RecursionError, msgspec.MsgspecError):
        fields = None
    texts = {name: value for name, value in (fields if isinstance(fields, dict) else {}).items() if type(value) is str}
    return _Unreadable(texts.get("request_id"), texts.get("user_id"), reason)


def _acknowledge(
    settings: Settings, producer: KafkaProducer, chunk: list[ConsumerRecord], outcomes: list[PrivacyAcknowledgement]
) -> None:
    """Acknowledges each request, and commits how far they have been read."""
    topics = settings.topics
    read_to = {TopicPartition(topics.privacy_requests, record.partition): record.offset + 1 for record in chunk}
    with transaction(producer, _group(settings)) as (send, offsets):
        for record, outcome in zip(chunk, outcomes, strict=True):
            send(topics.privacy_acknowledgements, key=record.key, value=msgspec.json.encode(outcome))
        offsets |= {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in read_to.items()}


def _group(settings: Settings) -> str:
    return f"{settings.kafka.group}-privacy"


def _now() -> int:
    return time.time_ns() // 1_000_000


def sweep(settings: Settings) -> Counter[int]:
    """Removes erased users' rows that may still come into the lake; returns their number by the user's hash."""
    known, now = ErasureList.read(settings.bundle_folder), _now()
    due = known.swept_at < known.at + settings.max_state_age_ms()
    if not due.any():
        return Counter()
    # The first sweep removes all rows, also those with a time in the future.
    up_to = replace(known, at=np.where(known.swept_at, known.at, np.iinfo(np.int64).max))
    rows = remove_rows(settings.lake_folder, up_to.select(due))
    replace(known, swept_at=np.where(due, now, known.swept_at)).write(settings.bundle_folder)
    return rows


def remove_rows(lake: Path, erased: ErasureList) -> Counter[int]:
    """Removes erased users' rows up to their time from both tables; returns their number by the user's hash.

    A file with such rows is rewritten next to itself and replaced in one step: readers find the old or the new one, or
    none if no row is left. Files that a job is writing have other names. Raises ShopstreamError for an unreadable file.
    """
    rows: Counter[int] = Counter()
    for table in TABLES:
        if (lake / table).is_dir():
            for file in (file for files in data_files(lake, table).values() for file in files):
                try:
                    rows.update(_remove_from(file, TIME_OF[table], erased))
                except FileNotFoundError:  # a backfill has replaced it
                    continue
                except (pa.ArrowException, OSError) as error:
                    raise ShopstreamError(f"{file}: {error}; `shopstream lake check` finds all that is wrong") from None
    return rows


def _remove_from(file: Path, time_column: str, erased: ErasureList) -> Counter[int]:
    def erased_rows(batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        shopper = shopper_hashes(batch["user_id"])
        return shopper, batch[time_column].to_numpy(zero_copy_only=False) <= erased.at_of(shopper)

    rows: Counter[int] = Counter()
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(columns=["user_id", time_column]):
            shopper, which = erased_rows(batch)
            rows.update(shopper[which].tolist())
        if rows.total() == source.metadata.num_rows:
            file.unlink()
        elif rows:
            draft = file.with_name(f".forgetting-{uuid4().hex}")
            compression = source.metadata.row_group(0).column(0).compression
            try:
                with pq.ParquetWriter(draft, source.schema_arrow, compression=compression) as writer:
                    for batch in source.iter_batches():
                        writer.write_batch(batch.filter(pa.array(~erased_rows(batch)[1])))
                draft.replace(file)
            finally:
                draft.unlink(missing_ok=True)
    return rows
