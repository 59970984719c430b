import base64
import logging
import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from pseudonymous import JANUARY, JULY, KEYS, SECRETS, file_of, line

from udfs.core.errors import ShopstreamError
from udfs.privacy.keys_file import KeysFile, read_keys
from udfs.privacy.pseudonyms import Key

SECRET = base64.b64encode(b"planted-planted-planted-planted!").decode()


def test_first_key_covers_earlier_times(tmp_path: Path):
    lines = ["# ours", "", line("new", "2026-07-01T00:00:00Z", SECRETS[1])]
    file = file_of(tmp_path, *lines, f"  {line('old', '2026-01-01T00:00:00+00:00', SECRETS[0])} # retired in July")
    keys = read_keys(file)
    assert [name.split(":")[0] for name in keys.pseudonyms("uuuu", [0, JANUARY, JULY - 1, JULY])] == [
        *["old"] * 3,
        "new",
    ]
    assert keys.pseudonyms(["u"], [JULY]) == [KEYS.pseudonyms(["u"], [JULY])[0].replace("k2", "new")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key"),
        (f"k1 {SECRET}", "line 1, is no key of pseudonyms: it should have three parts"),
        (f"# one\nk/1 2026-01-01T00:00:00Z {SECRET}", "line 2, is no key of pseudonyms: an id is"),
        (f"k1 2026-01-01 {SECRET}", "a time is RFC 3339 in UTC"),
        (f"k1 2026-01-01T00:00:00+01:00 {SECRET}", "a time is RFC 3339 in UTC"),
        (f"k1 {SECRET} 2026-01-01T00:00:00Z", "a time is RFC 3339 in UTC"),
        (f"k1 2026-01-01T00:00:00Z {SECRET[:-4]}", "a secret is base64 of 32 bytes or more"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}!", "a secret is base64"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}\nk1 2026-02-01T00:00:00Z {SECRET}", "line 2, is no key"),
        (f"k1 2026-01-01T00:00:00Z {SECRET}\nk2 2026-01-01T00:00:00Z {SECRET}", "line 2, is no key"),
    ],
)
def test_wrong_line_is_named_not_quoted(text: str, says: str, tmp_path: Path):
    with pytest.raises(ShopstreamError) as error:
        read_keys(file_of(tmp_path, text))
    assert says in str(error.value)
    assert SECRET[:8] not in str(error.value)
    assert SECRET[:8] not in "".join(traceback.format_exception(error.value))


def test_errors_and_repr_hide_secrets(tmp_path: Path):
    assert "secret" not in repr(Key("k1", 0, b"planted"))
    with pytest.raises(ShopstreamError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")


def test_added_key_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    monkeypatch.setattr("udfs.privacy.keys_file.CHECK_S", 0.0)
    first, second = (
        line(*each) for each in (("k1", "2026-01-01T00:00:00Z", SECRETS[0]), ("k2", "2026-07-01T00:00:00Z", SECRETS[1]))
    )
    file = file_of(tmp_path, first)
    known = KeysFile(file)
    before = known.latest().pseudonyms(["u"], [JULY])
    file.write_text("broken")
    os.utime(file, ns=(1, 1))
    with caplog.at_level(logging.ERROR):
        assert known.latest().pseudonyms(["u"], [JULY]) == before == known.latest().pseudonyms(["u"], [JULY])
    assert len(caplog.records) == 1
    file_of(tmp_path, first, second)
    assert known.latest().pseudonyms(["u"], [JULY]) == KEYS.pseudonyms(["u"], [JULY])
