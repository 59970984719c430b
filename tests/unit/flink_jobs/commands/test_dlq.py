from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs.commands.dlq import Place, Reason, can_go_back, reason_of
from udfs.core.errors import ShopstreamError

FROM = ("__connect.errors.topic", b"clickstream")


@given(st.integers(0, 2**60), st.sets(st.integers(0, 2000), max_size=300))
def test_what_was_sent_is_remembered_as_it_is(first: int, beyond: set[int]):
    place = Place(first, {first + offset for offset in beyond})
    committed = place.to_commit()
    assert len(committed.metadata) <= 4096
    again = Place.committed(committed)
    assert (again.first, again.sent) == (place.first, place.sent)


def test_what_kafka_cannot_remember_is_an_error():
    steps = [offset for offset in range(200_000) if (offset * offset * 7919) % 10_007 < 5000]
    with pytest.raises(ShopstreamError, match="too scattered"):
        Place(0, set(steps)).to_commit()


def test_a_place_moves_on_to_the_first_letter_left():
    place = Place(3, {4, 5, 8}, read_to=10, left=7)
    place.forget()
    assert (place.first, place.sent) == (7, {8})
    cut_short = Place(0, {2, 5}, read_to=5)
    cut_short.forget()
    assert (cut_short.first, cut_short.sent) == (5, {5})
    whole = Place(3, {3, 4, 5}, read_to=6)
    whole.forget()
    assert (whole.first, whole.sent) == (6, set())


def test_a_reason_is_without_what_differs():
    def reason(message: bytes) -> Reason:
        return reason_of([FROM, ("__connect.errors.exception.message", message)])

    assert reason(b"Invalid enum value 'stare' - at `$.event_type`").message == (
        "Invalid enum value '…' - at `$.event_type`"
    )
    assert (
        reason(b"byte 0xff in position 12")
        == reason(b"byte 0xc3 in position 7")
        == Reason("", "byte N in position N", "clickstream", "")
    )
    assert reason_of([]) == Reason("", "", "", "")


@pytest.mark.parametrize(
    ("key", "value", "headers", "can"),
    [
        (b"k", None, [FROM], True),
        (None, b"v", [FROM], True),
        (None, None, [FROM], False),
        (b"k", b"v", [], False),
        (b"k", b"v", [FROM, ("own", None)], False),
    ],
)
def test_what_cannot_go_back(key: bytes | None, value: bytes | None, headers: list[object], can: bool):
    assert can_go_back(SimpleNamespace(key=key, value=value, headers=headers)) is can
