"""The lock of the jars: how it is read, and that a file is used only if it is the one that was locked."""

import hashlib
from pathlib import Path

import pytest

from deploy.local.jars import LOCK, ROLES, LockedJar, jars, read_lock, write_lock
from udfs.core.errors import ShopstreamError

CONTENT = b"a small jar"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another jar").hexdigest()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local Maven repository, with nothing beyond it in reach."""
    repository = tmp_path / "repository"
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "no-such-file"))
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")  # refuses at once
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    return repository


def locked(tmp_path: Path, *lines: str) -> Path:
    lock = tmp_path / "jars.lock"
    lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lock


def put(repository: Path, name: str, content: bytes = CONTENT) -> Path:
    jar = repository / "org" / "example" / name / "1.0" / f"{name}-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(content)
    return jar


def test_lock_has_each_jar_once() -> None:
    found = read_lock()
    assert {jar.role for jar in found} == set(ROLES)
    assert len({(jar.role, jar.group, jar.artifact) for jar in found}) == len(found)
    assert "://" not in LOCK.read_text(encoding="utf-8")


def test_lock_roundtrip(tmp_path: Path) -> None:
    found = read_lock()
    write_lock(reversed(found), tmp_path / "jars.lock")
    assert read_lock(tmp_path / "jars.lock") == found
    assert (tmp_path / "jars.lock").read_bytes() == LOCK.read_bytes()


def test_comments_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    lock = locked(tmp_path, "# a comment", "", f"kafka org.example:a:1.0 {SHA256}")
    assert read_lock(lock) == [LockedJar("kafka", "org.example", "a", "1.0", SHA256)]


@pytest.mark.parametrize(
    "line",
    [
        "kafka org.example:a:1.0",
        f"org.example:a:1.0 {SHA256}",
        f"kafka org.example:a {SHA256}",
        f"kafka org.example:../a:1.0/.. {SHA256}",
        f"kafka org.example:a:1.0 {SHA256[:-1]}",
        f"kafka org.example:a:1.0 {SHA256} more",
    ],
)
def test_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    lock = locked(tmp_path, "# a comment", line)
    with pytest.raises(ShopstreamError, match=r"jars\.lock:2: .* should be"):
        read_lock(lock)


def test_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShopstreamError, match="no-lock cannot be read"):
        read_lock(tmp_path / "no-lock")


def test_jars_come_in_lock_order(tmp_path: Path, repository: Path) -> None:
    paths = [put(repository, name) for name in ("b", "a")]
    put(repository, "c")
    lines = [f"kafka org.example:{name}:1.0 {SHA256}" for name in ("b", "a")]
    lock = locked(tmp_path, *lines, f"flink org.example:c:1.0 {SHA256}")
    seen: list[tuple[int, int, str]] = []
    assert jars("kafka", lambda *step: seen.append(step), lock) == paths
    assert [step[:2] for step in seen] == [(1, 2), (2, 2)]
    assert {step[2] for step in seen} == {"a-1.0.jar", "b-1.0.jar"}


def test_role_without_jars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShopstreamError, match="names no jars for 'storm'"):
        jars("storm", lock=locked(tmp_path, f"kafka org.example:a:1.0 {SHA256}"))


def test_wrong_checksum_is_refused(tmp_path: Path, repository: Path) -> None:
    jar = put(repository, "a")
    lock = locked(tmp_path, f"kafka org.example:a:1.0 {OTHER}")
    with pytest.raises(ShopstreamError) as refusal:
        jars("kafka", lock=lock)
    message = str(refusal.value)
    for part in (str(jar), SHA256, OTHER, "delete that file"):
        assert part in message
    assert "\n" not in message
    assert jar.exists()


def test_changed_file_is_refused(tmp_path: Path, repository: Path) -> None:
    jar = put(repository, "a")
    lock = locked(tmp_path, f"kafka org.example:a:1.0 {SHA256}")
    assert jars("kafka", lock=lock) == [jar]
    jar.write_bytes(CONTENT[::-1])
    with pytest.raises(ShopstreamError, match="delete that file"):
        jars("kafka", lock=lock)


def test_unreachable_repository_leaves_nothing(tmp_path: Path, repository: Path) -> None:
    lock = locked(tmp_path, f"kafka org.example:a:1.0 {SHA256}")
    with pytest.raises(ShopstreamError, match=r"org\.example:a:1\.0 cannot be downloaded") as refusal:
        jars("kafka", lock=lock)
    assert "\n" not in str(refusal.value)
    assert not [path for path in repository.rglob("*") if path.is_file()]
