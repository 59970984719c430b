from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs.commands.dlq import (
    Letters,
    Reason,
    ReplayState,
    _example,
    describe_reasons,
    is_replayable,
    reason_of,
)
from udfs.core.errors import ShopstreamError
from udfs.events.parsing import parse_event

FROM = ("__connect.errors.topic", b"clickstream")


@given(st.integers(0, 2**60), st.sets(st.integers(0, 2000), max_size=300))
def test_replay_state_survives_a_commit(first: int, beyond: set[int]):
    state = ReplayState(first, {first + offset for offset in beyond})
    committed = state.to_commit()
    assert len(committed.metadata) <= 4096
    again = ReplayState.committed(committed)
    assert (again.first, again.sent) == (state.first, state.sent)


def test_too_scattered_state_is_an_error():
    steps = [offset for offset in range(200_000) if (offset * offset * 7919) % 10_007 < 5000]
    with pytest.raises(ShopstreamError, match="too scattered"):
        ReplayState(0, set(steps)).to_commit()


def test_compacted_state_starts_at_first_skipped():
    state = ReplayState(3, {4, 5, 8}, read_to=10, left=7)
    state.compact()
    assert (state.first, state.sent) == (7, {8})
    cut_short = ReplayState(0, {2, 5}, read_to=5)
    cut_short.compact()
    assert (cut_short.first, cut_short.sent) == (5, {5})
    whole = ReplayState(3, {3, 4, 5}, read_to=6)
    whole.compact()
    assert (whole.first, whole.sent) == (6, set())


def test_reason_omits_what_differs():
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


def test_summary_of_many_letters_is_printable():
    value = b"\0\0\0\0\x2a{\x1b[31m\xe2\x80\xae"
    found: dict[Reason, Letters] = {}
    for number in range(1000):
        error = str(parse_event(value.replace(b"\x2a", bytes([number % 200])))[0]).encode()
        headers = [FROM, ("__connect.errors.exception.message", error), ("__connect.errors.offset", b"\x07")]
        letters = found.setdefault(reason_of(headers), Letters())
        letters.count += 1
        letters.examples = [_example(SimpleNamespace(key=b"\x07", value=value, headers=headers))]
    lines = describe_reasons(found).split("\n")
    assert len(lines) == 2
    assert "1,000 × : begins with a schema registry's header (magic byte N, schema id N); set" in lines[0]
    assert all(line.isprintable() for line in lines)
    assert r"\x00\x00\x00\x00*{\x1b[31m\u202e" in lines[1]


@pytest.mark.parametrize(
    ("key", "value", "headers", "can"),
    [
        (b"k", None, [FROM], True),
        (None, b"v", [FROM], True),
        (None, None, [FROM], False),
        (b"k", b"v", [], False),
        (b"k", b"v", [FROM, ("own", None)], False),
        (b"k", b"v", [FROM, ("__connect.errors.value.bytes", b"7")], False),
    ],
)
def test_letters_that_cannot_be_replayed(key: bytes | None, value: bytes | None, headers: list[object], can: bool):
    assert is_replayable(SimpleNamespace(key=key, value=value, headers=headers)) is can
