import pytest

from deploy.local.java import child_env


@pytest.mark.parametrize(
    ("given", "locale"),
    [
        ({"LC_ALL": "C"}, "C.UTF-8"),
        ({}, "C.UTF-8"),
        ({"LANG": "de_DE.UTF-8"}, None),
        ({"LANG": "C", "LC_CTYPE": "C.utf8"}, None),
    ],
)
def test_java_gets_a_utf8_locale(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], locale: str | None):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert child_env().get("LC_ALL") == locale
