import hashlib
import hmac
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pseudonymous import JULY, KEYS, SECRETS, event

from udfs.contracts.fields import MAX_TIME_MS, MIN_TIME_MS
from udfs.events.columns import EVENT_COLUMNS
from udfs.events.parsing import parse_event, parse_events

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
IDS = TEXTS.filter(bool)
TIMES = st.integers(MIN_TIME_MS, MAX_TIME_MS)


@given(st.lists(st.tuples(IDS, TIMES), max_size=20))
def test_pseudonym_hashes_with_its_times_key(pairs: list[tuple[str, int]]):
    def by_hand(user_id: str, time: int) -> str:
        secret = SECRETS[1] if time >= JULY else SECRETS[0]
        hashed = hmac.new(secret, user_id.encode(), hashlib.sha256).hexdigest()
        return f"{'k2' if time >= JULY else 'k1'}:{hashed[:32]}"

    users, times = [user for user, _ in pairs], [time for _, time in pairs]
    made = KEYS.pseudonyms(users, times)
    assert made == [by_hand(*pair) for pair in pairs]
    assert KEYS.pseudonyms(made, times[::-1]) == made  # whenever they come back
    for user, name in zip(users, made, strict=True):
        aliases = KEYS.aliases(user)
        assert aliases[0] == user
        assert name in aliases[1:]


def test_other_text_is_an_id():
    for user in ("k3:" + "0" * 32, "k1:" + "0" * 31, "k1:" + "G" * 32, "k1:" + "0" * 32 + "\n", "k1", "k1:"):
        assert KEYS.pseudonyms([user], [0]) != [user]
    assert KEYS.aliases("k2:" + "0" * 32) == ["k2:" + "0" * 32]


@given(st.lists(st.builds(event, IDS, TIMES | st.just("2026-07-01T00:00:00Z")) | st.binary() | st.none(), max_size=8))
def test_parsing_replaces_only_user_ids(values: list[bytes | None]):
    for plain, masked in zip(parse_events(values), parse_events(values, KEYS.pseudonyms), strict=True):
        expected = dict(zip(EVENT_COLUMNS, plain, strict=True))
        if plain[0] is None:
            expected["user_id"] = KEYS.pseudonyms([str(plain[4])], [int(str(plain[5]))])[0]
        else:
            expected["error"] = re.sub("'.*'", "'…'", str(plain[0]))
        assert dict(zip(EVENT_COLUMNS, masked, strict=True)) == expected


def test_a_cookie_is_one_pseudonym_before_and_after_a_login():
    before, after = event("", JULY, anonymous_id="c-77"), event("u1", JULY, anonymous_id="c-77")
    rows = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in parse_events([before, after], KEYS.pseudonyms)]
    cookie, user = KEYS.pseudonyms(["c-77", "u1"], [JULY, JULY])
    assert [(row["user_id"], row["anonymous_id"]) for row in rows] == [(cookie, cookie), (user, cookie)]


def test_errors_quote_no_value():
    shifted = event("u", event_type="planted@example.com")
    assert "planted" in str(parse_events([shifted])[0][0])
    assert parse_events([shifted], KEYS.pseudonyms)[0][0] == "Invalid enum value '…' - at `$.event_type`"


def test_repeated_id_is_hashed_once(monkeypatch: pytest.MonkeyPatch):
    digest, hashed = hmac.digest, list[bytes]()

    def counting(key: bytes, message: bytes, name: str) -> bytes:
        hashed.append(message)
        return digest(key, message, name)

    monkeypatch.setattr(hmac, "digest", counting)
    values = [event(f"u{number % 7}", JULY) for number in range(500)]
    parse_events(values, KEYS.pseudonyms)
    assert sorted(hashed) == [f"u{number}".encode() for number in range(7)]


def test_times_may_be_numpy_integers():
    batch = pa.record_batch({"user_id": ["u1", "u1"], "event_time": np.array([JULY, 0])})
    assert KEYS.pseudonymize(batch)["user_id"].to_pylist() == KEYS.pseudonyms(["u1", "u1"], [JULY, 0])
    assert parse_event(event("u1"))[4] == "u1"
