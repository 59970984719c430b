"""The whole path over TLS with passwords and with certificates, on a broker that denies what no grant allows."""

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from secured import Secured, authority, secured_broker
from support import ROOT, Ran, as_options, linked_bundles, read_all, run_command, send

from flink_jobs.brokers.clients import open_producer
from flink_jobs.brokers.topics import create_topics
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.cluster import cancel

pytestmark = pytest.mark.e2e

#: In every secret that these tests plant, and nowhere else.
MARK = "pl4nted"
EVENTS = 300


def documented_grants(command: str) -> list[tuple[str, str, str, str]]:
    """Resource, name, pattern and operation of each grant that docs/operations.md lists for a command."""
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    rows = [line.split() for line in lines if re.match(rf"{command}\s+[A-Z_]+\s", line)]
    assert rows, f"no grants are documented for {command}"
    return [(kind, name, pattern, operation) for _, kind, name, pattern, operation in rows]


@dataclass(frozen=True)
class Shop:
    """A secured broker with topics, and assignments for each way in."""

    kafka: Secured
    secrets: Path

    def secret(self, name: str, text: str) -> Path:
        file = self.secrets / name
        file.write_text(text)
        return file

    def scram(self, user: str = "shop", mechanism: str = "SCRAM-SHA-512") -> list[str]:
        to = [f"kafka.bootstrap={self.kafka.sasl_ssl}", "kafka.security=SASL_SSL"]
        to += [f"kafka.ca_file={self.kafka.authority.file}", f"kafka.sasl_mechanism={mechanism}"]
        return [*to, f"kafka.username={user}", f"kafka.password_file={self.secrets / user}"]

    def mutual(self, name: str = "") -> list[str]:
        """As User:CN=name; without a certificate where there is no name."""
        assignments = [f"kafka.bootstrap={self.kafka.mutual}", "kafka.security=SSL"]
        assignments += [f"kafka.ca_file={self.kafka.authority.file}"]
        files = self.kafka.authority.folder / f"{name}.pem", self.kafka.authority.folder / f"{name}.key"
        certificate = [f"kafka.certificate_file={files[0]}", f"kafka.key_file={files[1]}"]
        return [*assignments, *(certificate if name else [])]

    def user(self, name: str, grants: list[tuple[str, str, str, str]], mechanism: str = "SCRAM-SHA-512") -> None:
        """A SCRAM user whose password file ends with a line end, as editors leave it."""
        self.kafka.add_user(name, f"{MARK}-{name}", mechanism)
        self.secret(name, f"{MARK}-{name}\n")
        self.kafka.allow(name, grants)


@pytest.fixture(scope="module")
def shop_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("secured")
    secured = secured_broker(folder, "plain", f"{MARK}-plain")
    (folder / "secrets").mkdir()
    shop = Shop(secured, folder / "secrets")
    shop.secret("plain", f"{MARK}-plain")
    try:
        secured.broker.start()
        create_topics(load_settings(None, [f"kafka.bootstrap={secured.open}"]))
        yield shop
    finally:
        secured.broker.stop()


def fails(*arguments: str, says: str) -> None:
    """One line, exit code 1, in seconds, and no secret in it."""
    started = time.monotonic()
    ran = run_command(*arguments)
    assert (ran.code, ran.out) == (1, ""), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("error: ")
    assert says in ran.err
    assert MARK not in ran.err
    assert time.monotonic() - started < 20


def succeeds(*arguments: str, timeout: float = 300) -> Ran:
    ran = run_command(*arguments, timeout=timeout)
    assert ran.code == 0, ran.err
    assert MARK not in ran.out + ran.err
    return ran


def rest_answers(address: str, job_id: str) -> dict[str, str]:
    """Pages of the cluster about the job, settings, environments and logs, by path."""

    def get(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return str(answer.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:
            return str(error.read().decode(errors="replace"))

    pages = {
        f"/jobs/{job_id}{page}": "" for page in ("", "/config", "/plan", "/exceptions", "/checkpoints", "/metrics")
    }
    pages |= {f"/jobmanager/{page}": "" for page in ("config", "environment", "metrics", "log", "stdout", "logs")}
    for manager in json.loads(get("/taskmanagers"))["taskmanagers"]:
        pages |= {f"/taskmanagers/{manager['id']}{page}": "" for page in ("", "/log", "/stdout", "/thread-dump")}
    for vertex in json.loads(get(f"/jobs/{job_id}"))["vertices"]:
        pages |= {
            f"/jobs/{job_id}/vertices/{vertex['id']}{page}": "" for page in ("", "/subtasktimes", "/accumulators")
        }
    found = {path: get(path) for path in pages}
    for log in json.loads(found["/jobmanager/logs"])["logs"]:
        found[f"/jobmanager/logs/{log['name']}"] = get(f"/jobmanager/logs/{log['name']}")
    return found


def command_lines() -> str:
    """Of all processes of this machine that we may see, this one aside."""
    others = (each for each in psutil.process_iter(["cmdline"]) if each.pid != os.getpid())
    return "\n".join(" ".join(each.info["cmdline"] or ()) for each in others)


def files_with_mark(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file() and MARK.encode() in file.read_bytes()}


def test_scram_shows_no_secret(
    shop_kafka: Shop, flink: str, bundles: Path, shop: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Each part as a user who may do no more than docs/operations.md lists for it."""
    for command in ("recommend", "replay", "watch"):
        shop_kafka.user(command, documented_grants(command))
    common = [f"bundles={bundles}", f"flink.address={flink}", f"home={tmp_path}", "encoder.provider=cpu"]

    def options(user: str) -> list[str]:
        return as_options([*shop_kafka.scram(user), *common])

    events = str(shop / "events.jsonl")
    planned = succeeds("submit", "recommend", "--dry-run", "--json", *options("recommend"))
    command = planned.json()["command"]
    assert isinstance(command, list)
    handed = Path(command[command.index("--settings") + 1]).read_text()
    assert "password_file = " in handed
    job_id = str(succeeds("submit", "recommend", "--json", *options("recommend")).json()["job_id"])
    settings = load_settings(None, [*shop_kafka.scram("recommend"), *common])
    try:
        sent = succeeds("replay", events, "--limit", str(EVENTS), "--json", *options("replay"))
        assert sent.json()["events"] == EVENTS
        watched = succeeds("watch", "--from-beginning", "--limit", "50", "--idle", "120", "--json", *options("watch"))
        assert len(watched.out.splitlines()) == 50
        checked = succeeds("check", events, "--limit", str(EVENTS), "--json", *options("watch"), timeout=150)
        assert checked.json()["recommendations"] == checked.json()["triggers"] > 50

        pages = rest_answers(flink, job_id)
        assert "shopstream-recommend" in pages[f"/jobs/{job_id}"]
        log = next(text for path, text in pages.items() if path.startswith("/taskmanagers/") and path.endswith("/log"))
        assert "sasl.jaas.config = [hidden]" in log  # Kafka's client did log its settings there
        assert [path for path, text in pages.items() if MARK in text] == []
        seen = command_lines()
        assert "TaskManagerRunner" in seen
        assert MARK not in seen
    finally:
        cancel(settings, job_id)
    # The planted passwords are in their own files and the broker's settings alone, of all that was written.
    kept = files_with_mark(tmp_path_factory.getbasetemp())
    assert {file.parent for file in kept} == {shop_kafka.secrets, shop_kafka.kafka.broker.home / "conf"}


def test_mutual_tls_with_closed_sessions(shop_kafka: Shop, shop: Path, bundles: Path, tmp_path: Path):
    """Mutual TLS with an encrypted key, on the mini-cluster; replayed by PLAIN."""
    certificate, _ = shop_kafka.kafka.authority.issue("closer", f"{MARK}-key".encode())
    assert certificate.exists()
    shop_kafka.kafka.allow("CN=closer", documented_grants("session-features"))
    shop_kafka.kafka.allow("plain", documented_grants("replay"))
    plain = as_options(shop_kafka.scram("plain", "PLAIN"))
    succeeds("replay", str(shop / "events.jsonl"), "--limit", str(EVENTS), *plain)
    key_password = shop_kafka.secret("key", f"{MARK}-key\n")
    assignments = [*shop_kafka.mutual("closer"), f"kafka.key_password_file={key_password}"]
    job = [f"home={tmp_path}", f"bundles={bundles}", "kafka.bounded=true", "kafka.startup=earliest-offset"]
    succeeds("submit", "session-features", "--embedded", *as_options([*assignments, *job]), timeout=500)
    closed = read_all(load_settings(None, [f"kafka.bootstrap={shop_kafka.kafka.open}"]), "session-features")
    assert len(closed) > 1
    assert files_with_mark(tmp_path) == set()


def test_refusals_are_one_line_errors(shop_kafka: Shop, tmp_path: Path):
    shop_kafka.user("reader", documented_grants("watch"), "SCRAM-SHA-256")
    good = shop_kafka.scram("reader", "SCRAM-SHA-256")
    succeeds("watch", "--idle", "0.5", *as_options(good))
    wrong = shop_kafka.secret("wrong", f"{MARK}-wrong")
    foreign = authority(tmp_path / "foreign")
    for changed, says in {
        f"kafka.password_file={wrong}": "the broker refuses kafka.username=reader, kafka.password_file",
        "kafka.username=nobody": "the broker refuses kafka.username=nobody",
        f"kafka.ca_file={foreign.file}": "certificate verify failed",
        f"kafka.ca_file={tmp_path / 'none.pem'}": "none.pem (setting kafka.ca_file) cannot be read: No such file",
        f"kafka.password_file={tmp_path / 'none'}": "none (setting kafka.password_file) cannot be read: No such file",
        "kafka.security=SASL_PLAINTEXT": "setting kafka.ca_file has no use with kafka.security=SASL_PLAINTEXT",
    }.items():
        fails("watch", *as_options([*good, changed]), says=says)
    fails("watch", *as_options(shop_kafka.mutual()), says="see kafka.ca_file, and kafka.certificate_file")
    foreign_files = foreign.issue("stranger")
    stranger = [f"kafka.certificate_file={foreign_files[0]}", f"kafka.key_file={foreign_files[1]}"]
    fails("watch", *as_options([*shop_kafka.mutual(), *stranger]), says="kafka.certificate_file")
    fails("watch", "--set", f"kafka.bootstrap={shop_kafka.kafka.sasl_ssl}", says="see kafka.security")
    events = tmp_path / "events.jsonl"
    events.write_text('{"event_id":"e","event_type":"view","user_id":"u","event_time":1,"item_id":"i"}\n')
    fails("replay", str(events), *as_options(good), says="allow us to DESCRIBE it")


def test_topics_with_documented_grants(shop_kafka: Shop, tmp_path: Path):
    shop_kafka.user("maker", documented_grants("kafka-topics"))
    names = [f"topics.{name}=made.{name}" for name in load_settings().topics.model_dump()]
    maker = as_options([*shop_kafka.scram("maker"), *names])
    assert len(succeeds("kafka", "topics", "--json", *maker).json()["created"]) == len(names)
    assert succeeds("kafka", "topics", "--json", *maker).json()["created"] == []
    shop_kafka.user("guest", [("TOPIC", "clickstream", "LITERAL", "DESCRIBE")])
    fails("kafka", "topics", *as_options([*shop_kafka.scram("guest"), *names]), says="docs/operations.md lists")
    events = tmp_path / "events.jsonl"
    events.write_text('{"event_id":"e","event_type":"view","user_id":"u","event_time":1,"item_id":"i"}\n')
    fails("replay", str(events), *as_options(shop_kafka.scram("guest")), says="docs/operations.md lists")


def test_dead_letters_with_documented_grants(shop_kafka: Shop):
    producer = open_producer(load_settings(None, [f"kafka.bootstrap={shop_kafka.kafka.open}"]))
    headers = [("__connect.errors.topic", b"clickstream"), ("__connect.errors.exception.message", b"as planted")]
    producer.send("clickstream.dlq", key=b"k", value=b"v", headers=headers).get(10)
    producer.close()
    for command in ("dlq-show", "dlq-replay"):
        shop_kafka.user(command, documented_grants(command))
    shown, replayed = (as_options(shop_kafka.scram(user)) for user in ("dlq-show", "dlq-replay"))
    assert "1 × : as planted" in succeeds("dlq", "show", *shown).out
    fails("dlq", "replay", *shown, says="docs/operations.md lists")
    assert succeeds("dlq", "replay", "--reason", "as planted", "--json", *replayed).json()["sent"] == 1
    assert succeeds("dlq", "replay", "--reason", "as planted", "--json", *replayed).json()["sent"] == 0
    assert "1 sent back" in succeeds("dlq", "show", *shown).out


def test_erasure_with_documented_grants(shop_kafka: Shop, tmp_path: Path):
    request = b'{"request_id": "r", "user_id": "u"}'
    send(load_settings(None, [f"kafka.bootstrap={shop_kafka.kafka.open}"]), [(b"u", request)], "privacy-requests")
    grants = documented_grants("privacy-forget")
    shop_kafka.user("privacy-forget", grants)
    shop_kafka.user("cannot-ask", [grant for grant in grants if grant[3] != "DESCRIBE_CONFIGS"])
    home = f"home={tmp_path}"
    fails(
        "privacy", "forget", *as_options([*shop_kafka.scram("cannot-ask"), home]), says="allow us to DESCRIBE_CONFIGS"
    )
    done = succeeds("privacy", "forget", "--json", *as_options([*shop_kafka.scram("privacy-forget"), home])).json()
    assert done == {"requests": 1, "refused": 0, "lake_rows": 0}


def test_catalog_with_documented_grants(shop_kafka: Shop, bundles: Path, tmp_path: Path):
    for command in ("catalog", "catalog-send"):
        shop_kafka.user(command, documented_grants(command))
    folder, items = linked_bundles(bundles, tmp_path), tmp_path / "items.jsonl"
    items.write_text('{"item_id": "lamp", "title": "Hurricane lamp"}\n')
    succeeds("catalog", "send", str(items), *as_options(shop_kafka.scram("catalog-send")))
    succeeds("catalog", "remove", "vase", *as_options(shop_kafka.scram("catalog-send")))
    job = [f"home={tmp_path}", f"bundles={folder}", "kafka.bounded=true", "encoder.provider=cpu"]
    succeeds("submit", "catalog", "--embedded", *as_options([*shop_kafka.scram("catalog"), *job]))
    shown = succeeds("catalog", "show", "--json", *as_options([f"bundles={folder}"])).json()
    assert (shown["changed"], shown["removed"], shown["sold_out"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("missing", "says"), [("TRANSACTIONAL_ID", "TransactionalIdAuthorization"), ("GROUP", "group")]
)
def test_missing_grant_is_named(shop_kafka: Shop, bundles: Path, tmp_path: Path, missing: str, says: str):
    user = f"lacks-{missing.lower()}"
    shop_kafka.user(user, [grant for grant in documented_grants("recommend") if grant[0] != missing])
    job = [
        *shop_kafka.scram(user),
        f"home={tmp_path}",
        f"bundles={bundles}",
        "kafka.bounded=true",
        "encoder.provider=cpu",
    ]
    ran = run_command("submit", "recommend", "--embedded", *as_options(job))
    assert ran.code == 1, ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("error: the job failed: ")
    assert says in ran.err
    assert MARK not in ran.err
