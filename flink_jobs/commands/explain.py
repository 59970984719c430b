"""`shopstream explain`: one recommendation with all its reasons, for people to read."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from flink_jobs.brokers.reading import read_topic
from flink_jobs.brokers.topics import require_topics
from flink_jobs.settings.settings import Settings
from udfs.contracts.rankings import Recommendation, user_of
from udfs.core.errors import ShopstreamError


def find_recommendation(settings: Settings, recommendation_id: str) -> Recommendation:
    """Finds a recommendation by reading the whole topic; raises ShopstreamError if it is not there."""
    topic = settings.topics.recommendations
    require_topics(settings, topic)
    needle = msgspec.json.encode(recommendation_id)
    for record in read_topic(settings, topic):
        if record.value and needle in record.value:  # decoding each record would take ten times as long
            found = msgspec.json.decode(record.value, type=Recommendation)
            if found.recommendation_id == recommendation_id:
                return found
    user = user_of(recommendation_id)
    raise ShopstreamError(
        f"topic {topic} has no recommendation {recommendation_id!r}; ids are USER/EVENT, and `shopstream watch "
        f"--from-beginning --json` shows those there are{f' of {user}' if user else ''}"
    )


def explain_recommendation(record: Recommendation, title_of: Mapping[str, str]) -> str:
    """Describes the session, the items and every reason with its share of the score, one line each."""
    known = [f"{name} {value}" for name, value in record.session.items() if value not in (None, 0, "")]
    lines = [
        f"{record.recommendation_id}: for {record.user_id} after event {record.trigger_event_id}, model {record.model}",
        f"session {record.session_id}: {', '.join(known)}",
    ]
    if record.explored is True:
        lines.append("explored: these items were drawn at random from the best ones, and stand in random order")
    for item in record.items:
        shown = "" if item.propensity is UNSET else f", here with probability {item.propensity:g}"
        title = title_of.get(item.item_id, item.item_id)
        lines.append(f"{item.rank:>3}. {title} ({item.item_id}), score {item.score:.3f}{shown}")
        lines += [
            f"       {reason.weight:+.3f}  {reason.source.replace('_', ' ')}: {reason.because}"
            for reason in item.reasons
        ]
    return "\n".join(lines)
