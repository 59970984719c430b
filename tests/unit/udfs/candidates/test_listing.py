from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from histories import bundle_of, tiny

from export.ranker.positions import candidates
from udfs.candidates.generator import CandidateGenerator
from udfs.candidates.listing import SIDE, IdNeighbours, sort_key

#: In order: i2, i9, i10, i11, i100, ä1.
UNORDERED = ["i10", "i9", "i2", "ä1", "i100", "i11"]


def listed(generator: CandidateGenerator, letters: str) -> dict[str, list[float]]:
    """The features of the order of ids, and the item that is evidence or -1, by candidate."""
    sofar = tiny(("u", letters)) if letters else replace(tiny(("u", "a")), item=np.array([99]))
    sofar = replace(sofar, items=[*generator.items.ids, *[""] * 100][:100])
    found = candidates(generator, sofar, lambda texts, _: np.zeros((len(texts), 6), np.float32))
    columns = [generator.feature_names.index(name) for name in IdNeighbours.feature_names]
    evidence = generator.evidence(found, found.session, found.item)["listing"]
    assert (evidence >= 0).tolist() == (found.features[:, columns[1]] >= 1 / (1 + SIDE)).tolist()
    return {
        generator.items.ids[item]: [*values, found.context.item[index] if index >= 0 else -1]
        for item, values, index in zip(found.item.tolist(), found.features[:, columns].tolist(), evidence, strict=True)
    }


def test_neighbours_are_ordered_by_id(tmp_path: Path):
    generator = bundle_of(tmp_path, replace(tiny(("u", "af"), ("v", "bcde")), items=UNORDERED))
    last = 5  # i11, after i10
    assert listed(generator, "af") == {
        "i9": [-2, pytest.approx(1 / 2), 1, 0],
        "i2": [-3, pytest.approx(1 / 3), 1, 0],
        "ä1": [2, pytest.approx(1 / 3), 1, last],
        "i100": [1, pytest.approx(1 / 2), 1, last],
    }
    assert {tuple(values[:3]) for values in listed(generator, "").values()} == {(0, 0, 0)}
    new = {"item_id": ["i012", "h1"], "title": ["new", "newer"], "in_stock": [True, True], "price": [1.0, 1.0]}
    unknown = {"category": [None] * 2, "brand": [None] * 2, "encoder": ["other"] * 2, "vector": [None] * 2}
    generator.items.apply(pa.table(new | unknown), lambda titles: np.zeros((len(titles), 6), np.float32))
    generator.refresh()
    assert listed(generator, "af")["i012"] == [1, pytest.approx(1 / 2), 1, last]
    assert listed(generator, "af")["i100"] == [2, pytest.approx(1 / 3), 1, last]
    assert listed(generator, "af")["h1"] == [-4, pytest.approx(1 / 4), 1, 0]
    generator.items.in_stock[[3, 5]] = False  # ä1 and i11, which has the slot of i012
    generator.refresh()
    assert listed(generator, "af")["i012"] == [0, 1, 1, last]
    assert listed(generator, "af")["i100"] == [1, pytest.approx(1 / 2), 1, last]
    assert "ä1" not in listed(generator, "d")


def test_unknown_shoppers_get_neighbours(tmp_path: Path):
    generator = bundle_of(tmp_path, replace(tiny(("u", "af"), ("v", "bcde")), items=UNORDERED))
    assert listed(generator, "d").keys() == {"i10", "i9", "i2", "i100", "i11"}


def test_ids_are_ordered_by_their_numbers():
    ids = [
        "1", "9", "10", "0012", "1000", "999999999999", "1000000000000", "sku-2024-0001-blue-1", "sku-2024-0001-blue-2",
        "sku-2024-0001-blue-10", "sku-2024-0002-blue-1", "t",
    ]  # fmt: skip
    assert sorted(np.random.default_rng(0).permutation(ids).tolist(), key=sort_key) == ids
