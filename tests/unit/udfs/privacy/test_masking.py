import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pseudonymous import JULY, KEYS, event

from udfs.contracts.fields import MIN_TIME_MS
from udfs.privacy.masking import NAMES, WITHHELD, masked_record

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
IDS = TEXTS.filter(bool)
OTHER_NAMES = TEXTS.filter(lambda name: name.encode() not in NAMES)
TIMES = st.integers(MIN_TIME_MS, 10**9 - 1) | st.integers(10**10, 19 * 10**12 - 1)  #: ms by their size
U1, U2 = (KEYS.pseudonyms([user], [JULY])[0] for user in ("u1", "u2"))


@given(IDS, TIMES, st.dictionaries(OTHER_NAMES, TEXTS | st.integers() | st.booleans()), st.booleans())
@example('é\u2028"\\/', JULY, {"user_id ": "u", 'an "user_id': "u"}, True)
def test_masking_replaces_only_user_ids(user: str, time: int, more: dict[str, object], ascii_only: bool):
    def payload(user: str) -> bytes:
        return json.dumps(more | {"user_id": user, "event_time": time}, ensure_ascii=ascii_only).encode()

    (name,) = KEYS.pseudonyms([user], [time])
    assert masked_record(KEYS, user.encode(), payload(user), 0) == (name.encode(), payload(name))
    assert masked_record(KEYS, name.encode(), payload(name), 0) == (
        name.encode(),
        payload(name),
    )


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (None, None),
        (b"", WITHHELD),
        (b"\xff\xfe", WITHHELD),
        (b"e1,view,u1,1782864000000", WITHHELD),
        (b'{"userid": "u1"}', WITHHELD),
        (b'{"userId": "u1", "anonymousId":"u2"}', f'{{"userId": "{U1}", "anonymousId":"{U2}"}}'.encode()),
        (b'{"user_id": null, "anonymous_id": "u2"}', b'{"user_id": null, "anonymous_id": "%s"}' % U2.encode()),
        (b'{"user_id": null, "anonymous_id": {}}', WITHHELD),
        (b'\0\0\0\0\7\x0aalice{"anonymous_id": "c"}', WITHHELD),
        (b'\0\0\0\0\7{"user_id": "u1"}', b'\0\0\0\0\7{"user_id": "%s"}' % U1.encode()),
        (b'{"user_id": 1}', WITHHELD),
        (b'{"user_id": null}', WITHHELD),
        (b'{"user_id": "u', WITHHELD),
        (b'{"user_id": "u1", "also": {"user_id": 7}}', WITHHELD),
        (rb'"{\"user_id\": \"u1\"}"', WITHHELD),
        ('{"user_id": "u1"}'.encode("utf-16"), WITHHELD),
        (b'{"user_id" :\n"u1", "x": \xff', b'{"user_id" :\n"%s", "x": \xff' % U1.encode()),
        (rb'{"us\u0065r\u005Fid": "\u00751"}', rb'{"us\u0065r\u005Fid": "%s"}' % U1.encode()),
        (b'[{"user_id":"u1"},{"user_id":"u2"}]', f'[{{"user_id":"{U1}"}},{{"user_id":"{U2}"}}]'.encode()),
        (b'{"user_id": "u1", "user_id": ""}', b'{"user_id": "%s", "user_id": ""}' % U1.encode()),
        (b"[" * 100_000, WITHHELD),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_value_without_id_is_withheld(value: bytes | None, masked: bytes | None):
    assert masked_record(KEYS, b"u1", value, JULY) == (U1.encode(), masked)


def test_bytes_that_are_not_text():
    key, value = masked_record(KEYS, b"\xff", b'{"user_id": "\xff"}', JULY)
    assert key is not None
    assert re.fullmatch(b"k2:[0-9a-f]{32}", key)
    assert value == b'{"user_id": "%s"}' % key
    assert masked_record(KEYS, None, None, JULY) == (None, None)
    assert masked_record(KEYS, b"", None, JULY) == (b"", None)


def test_masking_uses_the_events_time():
    for time, moment, name in (
        (JULY, 0, "k2"),
        (JULY - 1, JULY, "k1"),
        ("soon", JULY, "k2"),
        (1.5, JULY - 1, "k1"),
        (JULY // 1000, 0, "k2"),
        (JULY * 1000, 0, "k2"),
    ):
        masked = masked_record(KEYS, b"u", event("u", time), moment)
        assert masked[0] is not None
        assert masked[0].startswith(name.encode())
