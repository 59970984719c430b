"""Events without those of users who were erased."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from udfs.bundles.forgotten import ErasureList, shopper_hashes
from udfs.privacy.pseudonyms import Keys


def without_erased(
    batches: Iterable[pa.RecordBatch], keys: Keys | None, forgotten: ErasureList
) -> Iterator[pa.RecordBatch]:
    """Events (schema udfs.datasets.EVENTS) by pseudonyms, if there are keys, without those that are forgotten."""
    for batch in batches:
        named = keys.named(batch) if keys else batch
        if len(forgotten.shopper):
            known = named["event_time"].to_numpy() > forgotten.at_of(shopper_hashes(named["user_id"]))
            named = named.filter(pa.array(known))
        yield named
