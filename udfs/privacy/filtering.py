"""Leaves out the events of erased users."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from udfs.bundles.forgotten import ErasureList, shopper_hashes
from udfs.privacy.pseudonyms import Keys


def without_erased(
    batches: Iterable[pa.RecordBatch], keys: Keys | None, erased: ErasureList
) -> Iterator[pa.RecordBatch]:
    """Yield events (schema udfs.events.files.EVENTS) without those that are erased; with keys, under pseudonyms."""
    for batch in batches:
        events = keys.pseudonymize(batch) if keys else batch
        if len(erased.shopper):
            kept = events["event_time"].to_numpy() > erased.at_of(shopper_hashes(events["user_id"]))
            events = events.filter(pa.array(kept))
        yield events
