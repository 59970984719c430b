"""Our side of `python -m bench quality`: the ranker that a job runs, trained as `python -m export train` does."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from export.bundle import ExportOptions, export_bundle
from export.interactions import Interactions
from export.learn import Encode, bare_manifest, learn, sessions_of, write_past
from udfs.bundle import Bundle
from udfs.encoder import CachedEncoder, Encoder
from udfs.learned import LearnedRanker
from udfs.ranking import RankOptions

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

#: Texts whose vectors are kept: all titles of a catalogue.
CACHE = 2_000_000


class Ours:
    """The learned ranker; text: whether titles are read."""

    def __init__(self, name: str = "ours", *, repeats: bool, text: bool = True) -> None:
        self.name, self._repeats, self._text = name, repeats, text
        self.parameters: dict[str, Any] = {}
        self._folder = TemporaryDirectory(prefix="shopstream-quality-")

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Learn a ranker, and put it beside what its sources read."""
        folder = Path(self._folder.name)
        items = _table(train.items, catalog)
        vectors, encode = self._encoder(items, catalog, folder)
        (folder / "learning").mkdir()
        learned = learn(train, items, vectors, encode, folder / "learning", repeats=self._repeats)
        final = folder / "learned"
        final.mkdir()
        write_past(final, train, items, vectors)
        (final / "ranker.onnx").write_bytes(learned.model)
        manifest = msgspec.structs.replace(bare_manifest(vectors.shape[1]), ranker=learned.info)
        options = RankOptions(k=20, exclude_seen=not self._repeats)
        self.ranker = LearnedRanker(Bundle(final, manifest), options)
        self._encode = encode
        self.parameters = learned.info.quality | {
            name: round(share, 3) for name, share in sorted(learned.importance.items(), key=lambda each: -each[1])[:8]
        }

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:
        """int64 [S, k], see bench.quality.Contender."""
        if repeats != self._repeats:
            raise ValueError("a ranker learns with repeats or without")
        users = [sofar.users[number] for number in sofar.user]
        out = np.full((len(sofar), k), -1)
        row_of = self.ranker.finder.row_of
        for session, ranked in enumerate(self.ranker.answer(users, sessions_of(sofar), self._encode)):
            found = [row_of[item.item_id] for item in ranked[:k]]
            out[session, : len(found)] = found
        return out

    def _encoder(self, items: pa.Table, catalog: pa.Table | None, folder: Path) -> tuple[Vectors, Encode]:
        """Vectors of the items, and what makes them; zeros where there are no titles or none are to be read."""
        if catalog is None or not self._text:
            return np.zeros((len(items), 1), np.float32), _no_text
        file = folder / "catalog.parquet"
        pq.write_table(catalog, file)
        options = ExportOptions(catalog=file, out=folder / "bundles", variants=("fp32", "int8"))
        bundle = export_bundle(options, Console(quiet=True)).bundle
        encoder = CachedEncoder(Encoder(bundle), CACHE)
        row_of, titled = bundle.items().row_of, bundle.item_vectors()
        rows = np.array([row_of.get(item, -1) for item in items["item_id"].to_pylist()])
        return np.where((rows >= 0)[:, None], titled[rows], np.float32(0)), encoder.encode


def _no_text(texts: Sequence[str]) -> Vectors:
    return np.zeros((len(texts), 1), np.float32)


def _table(ids: Sequence[str], catalog: pa.Table | None) -> pa.Table:
    """A row an item in the order of their numbers; an item without a title goes by its id."""
    known = {} if catalog is None else {row["item_id"]: row for row in catalog.to_pylist()}
    rows = [known.get(item, {}) for item in ids]
    columns = {name: [row.get(name) for row in rows] for name in ("category", "brand", "price")}
    return pa.table(
        {
            "item_id": pa.array(ids, pa.string()),
            "title": pa.array([row.get("title", item) for item, row in zip(ids, rows, strict=True)], pa.string()),
            "category": pa.array(columns["category"], pa.string()),
            "brand": pa.array(columns["brand"], pa.string()),
            "price": pa.array(columns["price"], pa.float64()),
            "in_stock": pa.array([True] * len(ids)),
        }
    )
