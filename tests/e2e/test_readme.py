"""The README's commands, run unchanged in an empty folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, online_retail

from deploy.local.flink import LocalFlink
from deploy.local.kafka import LocalKafka
from deploy.local.process import free_port
from flink_jobs.settings.loading import load_settings

pytestmark = pytest.mark.e2e

README = (ROOT / "README.md").read_text()
#: Lines of Online Retail, of 541,909, that the README's commands run on here; all of them take five minutes.
RETAIL_LINES = int(os.environ.get("SHOPSTREAM_README_LINES", "6000"))
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    yield tmp_path
    for home in (tmp_path / ".shopstream", tmp_path / "retail"):
        LocalFlink(home / "flink").stop()
        LocalKafka(home / "kafka").stop()


def run_block(block: str, folder: Path) -> str:
    """Run a block as a shell would, with ports of its own; the output, after the test has seen that it went well."""
    env = os.environ | {
        "SHOPSTREAM_KAFKA__BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "SHOPSTREAM_FLINK__ADDRESS": f"127.0.0.1:{free_port()}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["/bin/sh", "-ex"], input=block, cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_first_commands_match_makefile():
    makefile = (ROOT / "Makefile").read_text()
    assert BLOCKS[0].split() == ["make", "demo", "make", "test"]
    assert re.search(r"^demo: setup .*\n\t\$\(BIN\)/shopstream demo$", makefile, re.MULTILINE)
    assert re.search(r"^test: setup .*\n\t\$\(BIN\)/pytest -n 2$", makefile, re.MULTILINE)
    assert len(BLOCKS) == 3


def test_commands_of_the_tour(folder: Path):
    out = run_block(BLOCKS[1], folder)
    assert " 0 missing, 0 doubled, 0 unexpected" in out
    assert "co visit" in out or "content" in out


@pytest.mark.timeout(1000)
def test_commands_on_real_purchases(folder: Path):
    online_retail(folder / "online_retail.csv.gz", RETAIL_LINES)
    out = run_block(BLOCKS[2], folder)
    zeros = "0 missing, 0 doubled, 0 unexpected, 0 unreadable, 0 misranked, 0 unknown items"
    found = re.search(rf"([\d,]+) triggers, ([\d,]+) recommendations, {zeros}", out)
    assert found is not None, out
    assert found[1] == found[2]
    assert found[1] == "397,924" if RETAIL_LINES >= 541_909 else int(found[1].replace(",", "")) > RETAIL_LINES / 2


def test_settings_file_is_valid(tmp_path: Path):
    (toml,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "shop.toml").write_text(toml)
    settings = load_settings(tmp_path / "shop.toml")
    assert settings.parallelism == 8
    assert settings.session.gap == 20 * 60_000


def test_local_links_exist():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
