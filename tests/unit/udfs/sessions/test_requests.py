import numpy as np
from histories import DIMENSIONS, IDS, encode

from udfs.bundles.bundle import Bundle
from udfs.catalog.items import LiveItems
from udfs.sessions.columns import Sessions
from udfs.sessions.requests import RankInputs, RankRequest


def test_searches_are_encoded_as_such_and_titles_not(learned: Bundle):
    sessions = Sessions.from_arrays(
        [1],
        [1],
        [3],
        event_time=[[1, 2, 3]],
        event_type=[["view", "search", "click"]],
        item_id=[[IDS[4], None, IDS[7]]],
        query=[[None, "title 9", None]],
    )
    asked: list[tuple[str, bool]] = []

    def spy(texts: list[str], queries: np.ndarray) -> np.ndarray:
        asked.extend(zip(texts, queries.tolist(), strict=True))
        return encode(texts)

    inputs = RankInputs.of(RankRequest(["u"], sessions), LiveItems(learned), spy, recent=8, decay=0.8)
    assert asked == [("title 4", False), ("title 9", True), ("title 7", False)]
    assert inputs.vectors.shape == (3, DIMENSIONS)
