"""The files of a bundle that the sources of candidates read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from export.history.co_visits import visits_of
from export.history.interactions import Interactions
from export.history.neighbours import near, past_sessions
from udfs.encoder import Vectors


def write_past(folder: Path, log: Interactions, items: pa.Table, vectors: Vectors) -> None:
    """The files of a bundle that the sources read."""
    beside, follows = near(log, len(items))
    popularity = np.bincount(log.item, minlength=len(items)).astype(np.float64)
    pq.write_table(items.append_column("popularity", pa.array(popularity)), folder / "items.parquet")
    np.save(folder / "item_vectors.npy", vectors)
    sp.save_npz(folder / "co_visits.npz", visits_of(log.session, log.time, log.item, len(items)))
    sp.save_npz(folder / "beside.npz", beside)
    sp.save_npz(folder / "follows.npz", follows)
    past = past_sessions(log)
    np.savez(folder / "past_sessions.npz", **{name: getattr(past, name) for name in past.__dataclass_fields__})
