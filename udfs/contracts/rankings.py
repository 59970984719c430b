"""Records of `recommendations`, and the ids of answers and sessions."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from udfs.contracts.fields import EpochMs, PositiveCount, Text


class Reason(Struct, gc=False):
    """One part of an item's score. The weights of an item's reasons add up to its score.

    source: the name of a source of candidates, or "diversity". New sources come with new names.
    """

    source: Text
    weight: float
    because: str


class RankedItem(Struct, gc=False):
    """One recommended item, rank counted from 1.

    propensity: only with `rank.explore`; the probability of this item at this rank.
    """

    item_id: Text
    rank: PositiveCount
    score: float
    reasons: Annotated[list[Reason], Meta(min_length=1)]
    propensity: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET


class Recommendation(Struct, gc=False):
    """One record of `recommendations`, keyed by user_id: the answer to one trigger event.

    clock_ahead: only where it is true. The trigger's time was too far ahead of its record's timestamp; its session is
    apart from those of other events. explored: only where it is true. The items were drawn at random from the best
    ones, and stand in random order.
    """

    recommendation_id: Text
    user_id: Text
    session_id: Text
    trigger_event_id: Text
    event_time: EpochMs
    model: Text
    session: dict[str, float | int | str | None]
    items: list[RankedItem]
    clock_ahead: Literal[True] | UnsetType = UNSET
    explored: Literal[True] | UnsetType = UNSET


#: What answers an event or a request.
Surface = Literal["recommend", "search", "ad"]


def answer_id(surface: Surface, user_id: str, event_id: str, content: str | None = None) -> str:
    """Return the id of a surface's answer to an event or a request; no two different answers share one.

    A recommendation's is `<user_id>/<event_id>` where neither has a slash. Any other id has three parts,
    `<surface>/<user_id>/<event_id>`, in which a slash is `%2F` and a percent sign `%25`, as in URLs.
    content: of an event whose event_id was another event's before; it becomes a fourth part.
    """
    if content is None and surface == "recommend" and "/" not in user_id and "/" not in event_id:
        return f"{user_id}/{event_id}"
    user, event = (text.replace("%", "%25").replace("/", "%2F") for text in (user_id, event_id))
    return f"{surface}/{user}/{event}" if content is None else f"{surface}/{user}/{event}/{content}"


def user_of(answer: str) -> str | None:
    """Return the user_id in an answer's id; None for a text that is no such id."""
    match answer.split("/"):
        case [user, _]:
            return user
        case [_, user, _] | ["recommend" | "search" | "ad", user, _, _]:
            return user.replace("%2F", "/").replace("%25", "%")
    return None


def session_id(user_id: str, start_ms: int) -> str:
    """Return the id of a user's session by its start, epoch ms: what comes after the last slash."""
    return f"{user_id}/{start_ms}"
