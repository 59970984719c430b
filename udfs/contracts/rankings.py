"""Records of `recommendations`."""

from typing import Annotated

from msgspec import Meta, Struct

from udfs.contracts.fields import EpochMs, PositiveCount, Text


class Reason(Struct, gc=False):
    """One part of an item's score. The weights of an item's reasons add up to its score.

    source: the name of a source of candidates, or "diversity". New sources come with new names.
    """

    source: Text
    weight: float
    because: str


class RankedItem(Struct, gc=False):
    """One recommended item, rank counted from 1."""

    item_id: Text
    rank: PositiveCount
    score: float
    reasons: Annotated[list[Reason], Meta(min_length=1)]


class Recommendation(Struct, gc=False):
    """One record of `recommendations`, keyed by user_id: the answer to one trigger event."""

    recommendation_id: Text
    user_id: Text
    session_id: Text
    trigger_event_id: Text
    event_time: EpochMs
    model: Text
    session: dict[str, float | int | str | None]
    items: list[RankedItem]
