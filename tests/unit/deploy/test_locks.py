"""Nothing is installed but what the locks name, by version and hash."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support import ROOT

from deploy.local.jars import ROOTS, read_lock

LOCKS = [file for file in sorted((ROOT / "requirements").glob("*.*")) if file.suffix in (".lock", ".txt")]
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_packages_have_versions_and_hashes(lock: Path):
    text = re.sub(r"\s*#.*", "", lock.read_text()).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines
    for line in lines:
        named, *hashes = line.split("--hash=")
        requirement = Requirement(named)
        assert requirement.url is None
        assert [each.operator for each in requirement.specifier] == ["=="]
        assert "*" not in str(requirement.specifier)
        assert hashes
        assert all(SHA256.fullmatch(each.strip()) for each in hashes), line


def test_requested_jars_are_locked():
    locked = {(jar.role, jar.coordinate) for jar in read_lock()}
    assert {(root.role, root.coordinate) for root in ROOTS} <= locked
