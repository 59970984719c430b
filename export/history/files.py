"""Writes a bundle's files of the catalog and of past sessions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from export.history.co_visits import ItemStatistics
from export.history.interactions import Interactions
from export.history.neighbours import cooccurrence, past_sessions
from udfs.encoder.encoder import Vectors


def write_items(folder: Path, log: Interactions, items: pa.Table, vectors: Vectors) -> None:
    """Write the items with their popularity, their vectors (float32 [items, dimensions]) and their co-visits."""
    statistics = ItemStatistics.of(log)
    pq.write_table(items.append_column("popularity", pa.array(statistics.popularity)), folder / "items.parquet")
    np.save(folder / "item_vectors.npy", vectors)
    sp.save_npz(folder / "co_visits.npz", statistics.co_visits)


def write_past(folder: Path, log: Interactions, items: pa.Table, vectors: Vectors) -> None:
    """Write the items and what the candidate sources of a learned ranker read: neighbours and past sessions."""
    write_items(folder, log, items, vectors)
    near, follows = cooccurrence(log)
    sp.save_npz(folder / "beside.npz", near)
    sp.save_npz(folder / "follows.npz", follows)
    past = past_sessions(log)
    np.savez(folder / "past_sessions.npz", **{name: getattr(past, name) for name in past.__dataclass_fields__})
