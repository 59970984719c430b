"""Our side of `python -m bench quality`: the ranker that a job runs, trained as `python -m export train` does."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from export.bundle.build import export_bundle
from export.bundle.options import ExportOptions
from export.history.files import write_past
from export.history.interactions import Interactions
from export.ranker.positions import Encode, bare_manifest, candidates, sessions_of
from export.ranker.train import train_ranker
from udfs.bundles.bundle import Bundle, open_bundle
from udfs.candidates.generator import CandidateGenerator
from udfs.catalog.items import LiveItems
from udfs.core.arrays import position_in_group
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions
from udfs.ranking.learned import LearnedRanker
from udfs.ranking.options import RankOptions

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

#: Texts whose vectors are kept: all titles of a catalogue.
CACHE = 2_000_000
#: Sources alone, by the name of their row: the column that puts their candidates in order.
ALONE = {
    "ours-text-only": "content",
    "ours-similar-sessions": "similar",
    "ours-co-visits": "beside",
    "ours-follows": "follows",
    "ours-history": "history",
    "ours-category": "category_share",
    "ours-listing": "listed_near",
    "ours-popularity": "popularity_recent",
}
NAMES = ("ours", "ours-no-text", *ALONE)
WITH_TEXT = ("ours", "ours-text-only")


class Texts:
    """Vectors of a catalogue's titles, made once for all that want them."""

    def __init__(self, bundles: Path | None) -> None:
        self._bundles = bundles
        self._vectors: dict[str, Vectors] = {}
        self._encode: Encode = _no_text

    def of(self, items: pa.Table, catalog: pa.Table) -> tuple[Vectors, Encode]:
        """float32 [items, dimensions], zero for items without a title, and what encodes texts as a job does."""
        if not self._vectors:
            with TemporaryDirectory(prefix="shopstream-texts-") as folder:
                bundle = open_bundle(self._bundles) if self._bundles else _exported(catalog, Path(folder))
                self._encode = CachedEncoder(open_encoder(bundle), CACHE).encode
                reference = open_encoder(bundle, EncoderOptions(variant="fp32"))
            vectors = reference.encode(catalog["title"].to_pylist())
            self._vectors = dict(zip(catalog["item_id"].to_pylist(), vectors, strict=True))
        nothing = np.zeros_like(next(iter(self._vectors.values())))
        return np.stack([self._vectors.get(item, nothing) for item in items["item_id"].to_pylist()]), self._encode


def _exported(catalog: pa.Table, folder: Path) -> Bundle:
    pq.write_table(catalog, folder / "catalog.parquet")
    options = ExportOptions(catalog=folder / "catalog.parquet", out=folder / "bundles", variants=("fp32", "int8"))
    return export_bundle(options, Console(quiet=True)).bundle


class Ours:
    """The learned ranker; texts: where vectors of titles are from, None where titles are not to be read."""

    def __init__(self, name: str, texts: Texts | None, *, repeats: bool) -> None:
        self.name, self._texts, self._repeats = name, texts, repeats
        self.parameters: dict[str, Any] = {}
        self._encode: Encode

    def fit(self, train: Interactions, catalog: pa.Table | None) -> None:
        """Learn a ranker, and put it beside what its sources read."""
        items = _table(train.items, catalog)
        vectors, self._encode = np.zeros((len(items), 1), np.float32), _no_text
        if catalog is not None and self._texts is not None:
            vectors, self._encode = self._texts.of(items, catalog)
        with TemporaryDirectory(prefix="shopstream-quality-") as folder:
            self._learn(train, items, vectors, Path(folder))

    def _learn(self, train: Interactions, items: pa.Table, vectors: Vectors, folder: Path) -> None:
        write_past(folder, train, items, vectors)
        bundle = Bundle(folder, bare_manifest(vectors.shape[1]))
        if self.name in ALONE:
            self.finder = CandidateGenerator(bundle, LiveItems(bundle), repeats=self._repeats)
            return
        (folder / "learning").mkdir()
        learned = train_ranker(train, items, vectors, self._encode, folder / "learning", recommend_seen=self._repeats)
        (folder / "ranker.onnx").write_bytes(learned.model)
        manifest = msgspec.structs.replace(bundle.manifest, ranker=learned.info)
        options = RankOptions(k=20, exclude_seen=not self._repeats)
        self.ranker = LearnedRanker(Bundle(folder, manifest), LiveItems(bundle), options)
        self.finder = self.ranker.finder
        heaviest = sorted(learned.importance.items(), key=lambda each: -each[1])[:8]
        self.parameters = {name: round(share, 3) for name, share in heaviest}

    def predict(self, sofar: Interactions, k: int, *, repeats: bool) -> Ints:
        """int64 [S, k], see bench.quality.Contender."""
        if repeats != self._repeats:
            raise ValueError("a ranker learns with repeats or without")
        out = np.full((len(sofar), k), -1)
        if self.name in ALONE:
            for first in range(0, len(sofar), self.finder.most_sessions):
                part = sofar.part(first, min(first + self.finder.most_sessions, len(sofar)))
                found = candidates(self.finder, part, self._encode)
                score = found.columns[:, self.finder.columns.index(ALONE[self.name])]
                session, item = best(found.session, found.item, score, k)
                out[first + session, position_in_group(session)] = item
            return out
        users, row_of = [sofar.users[number] for number in sofar.user], self.finder.items.row_of
        for number, ranked in enumerate(self.ranker.answer(users, sessions_of(sofar), self._encode)):
            rows = [row_of[each.item_id] for each in ranked[:k]]
            out[number, : len(rows)] = rows
        return out


def contenders(bundles: Path | None, *, repeats: bool) -> Mapping[str, Callable[[], Ours]]:
    """What makes each of our rows; vectors of titles are made once for all of them."""
    texts = Texts(bundles)
    return {name: partial(Ours, name, texts if name in WITH_TEXT else None, repeats=repeats) for name in NAMES}


def best(session: Ints, item: Ints, score: Vectors, k: int) -> tuple[Ints, Ints]:
    """Session and item of the k highest positive scores of each session, the best first; ties to the earlier item."""
    order = np.lexsort((item, -score, session))
    order = order[score[order] > 0]
    order = order[position_in_group(session[order]) < k]
    return session[order], item[order]


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
