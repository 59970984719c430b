from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from flink_jobs.settings.fields import Duration, PositiveDuration, SettingsGroup, duration_ms
from flink_jobs.settings.loading import load_settings, settings_table
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("30 min", 1_800_000), ("250ms", 250), ("1.5 s", 1500), ("2 h", 7_200_000), ("1 d", 86_400_000), ("40", "40")],
)
def test_durations_with_units_are_parsed(text: str, milliseconds: object):
    assert duration_ms(text) == milliseconds


def test_command_line_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "shop.toml"
    file.write_text('[rank]\nk = 4\ncontent = 0.5\ndecay = 0.7\n[session]\ngap = "1 h"\n')
    monkeypatch.setenv("SHOPSTREAM_RANK__K", "3")
    monkeypatch.setenv("SHOPSTREAM_RANK__CONTENT", "0.25")
    settings = load_settings(file, ["rank.content=0.9"])
    assert settings.rank.content == 0.9
    assert settings.rank.k == 3
    assert settings.rank.decay == 0.7
    assert settings.session.gap == 3_600_000
    assert settings.rank.popularity == Settings().rank.popularity


def test_triggers_are_comma_separated(monkeypatch: pytest.MonkeyPatch):
    assert load_settings(None, ["triggers=view, search"]).triggers == {"view", "search"}
    monkeypatch.setenv("SHOPSTREAM_TRIGGERS", "click")
    assert load_settings().triggers == {"click"}


def test_default_triggers_match_the_contract():
    assert Settings().triggers == {"view", "click", "search", "add_to_cart", "remove_from_cart", "purchase"}


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("sesion.gap=1 h", "did you mean session.gap"),
        ("rank.kk=3", "did you mean rank.k"),
        ("session.gap=soon", "session.gap cannot be 'soon': give a number with a unit"),
        ("session.gap=0 s", "session.gap"),
        ("rank.k=0", "rank.k"),
        ("triggers=view,stare", "'stare'"),
        ("sink.guarantee=perhaps", "'exactly-once' or 'at-least-once'"),
        ("parallelism", "name=value"),
        ("session=3", "session"),
        ("rank.k.deep=3", "rank.k"),
        ("kafka.bootstrap=here", "kafka.bootstrap cannot be 'here': give host:port"),
        ("kafka.bootstrap=a:1,b:x", "kafka.bootstrap"),
        ("flink.address=localhost:abc", "flink.address"),
    ],
)
def test_bad_setting_is_named_in_one_line(assignment: str, says: str):
    with pytest.raises(ShopstreamError) as error:
        load_settings(None, [assignment])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_group_set_whole_and_in_part():
    with pytest.raises(ShopstreamError, match=r"setting 'rank\.k' is in 'rank'"):
        load_settings(None, ["rank=5", "rank.k=3"])


def test_bad_settings_file_is_named(tmp_path: Path):
    with pytest.raises(ShopstreamError, match=r"no settings file .*none\.toml"):
        load_settings(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("rank = ")
    with pytest.raises(ShopstreamError, match=r"broken\.toml"):
        load_settings(broken)


def test_every_setting_has_a_description():
    rows = settings_table()
    assert len(rows) > 25
    assert all(meaning for _, _, meaning in rows)


def test_duration_defaults_are_shown_with_units():
    class Pacing(SettingsGroup):
        patience: Duration = Field(90_000, description="p")
        window: PositiveDuration | None = Field(7_200_000, description="w")
        pause: Duration = Field(1, description="s")
        attempts: int = Field(60_000, description="a")

    class Jobs(BaseModel):
        pacing: Pacing = Pacing()

    shown = {name: default for name, default, _ in settings_table(Jobs)}
    assert shown == {
        "pacing.patience": "90 s", "pacing.window": "2 h", "pacing.pause": "1 ms", "pacing.attempts": "60000",
    }  # fmt: skip
    assert {name: default for name, default, _ in settings_table()}["watermark.idle"] == "1 min"


def test_state_outlives_dedup_and_open_sessions():
    assert load_settings(None, ["dedup.ttl=3 h"]).state_ttl_ms() == 3 * 3_600_000
    assert load_settings(None, ["session.gap=2 h"]).state_ttl_ms() == 4 * 3_600_000


def test_at_least_once_makes_checkpoints_rare():
    assert load_settings(None).checkpoint_ms() == 1000
    assert load_settings(None, ["sink.guarantee=at-least-once"]).checkpoint_ms() == 10_000
    assert load_settings(None, ["sink.guarantee=at-least-once", "checkpoint.interval=2 s"]).checkpoint_ms() == 2000
