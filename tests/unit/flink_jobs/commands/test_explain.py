import msgspec

from flink_jobs.commands.explain import explain_recommendation
from udfs.contracts.rankings import RankedItem, Reason, Recommendation

PLAIN = Recommendation(
    recommendation_id="u/e",
    user_id="u",
    session_id="u/1",
    trigger_event_id="e",
    event_time=1_767_225_600_000,
    model="m",
    session={"events": 2, "last_query": None},
    items=[RankedItem("a", 1, 0.5, [Reason("co_visit", 0.5, "seen with Mug")])],
)


def test_answer_reads_line_by_line():
    assert explain_recommendation(PLAIN, {"a": "Stoneware mug"}).splitlines() == [
        "u/e: for u after event e, model m",
        "session u/1: events 2",
        "  1. Stoneware mug (a), score 0.500",
        "       +0.500  co visit: seen with Mug",
    ]


def test_explored_answer_says_so():
    items = [msgspec.structs.replace(PLAIN.items[0], propensity=0.0025)]
    explored = explain_recommendation(msgspec.structs.replace(PLAIN, items=items, explored=True), {})
    assert "explored: these items were drawn at random" in explored
    assert "  1. a (a), score 0.500, here with probability 0.0025" in explored
