import socketserver
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from flink_jobs.brokers.reading import end_offsets
from flink_jobs.brokers.security import client_options, flink_options
from flink_jobs.settings.kafka import KafkaSettings
from flink_jobs.settings.loading import load_settings
from flink_jobs.sql.ddl import literal
from flink_jobs.sql.dead_letters import dead_letter_table
from flink_jobs.sql.sessions import clickstream_table
from flink_jobs.submit.command import job_arguments
from udfs.core.errors import ShopstreamError

PLANTED = "un1que"


def scram(folder: Path, password: str = PLANTED, **more: object) -> KafkaSettings:
    file = folder / "password"
    file.write_text(password)
    options = {"security": "SASL_PLAINTEXT", "username": "shop", "password_file": file}
    return KafkaSettings.model_validate(options | more)


def test_jobs_get_references_not_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file = scram(tmp_path).password_file
    assignments = ["kafka.security=SASL_SSL", "kafka.username=shop", "kafka.password_file=password"]
    assignments += ["kafka.certificate_file=shop.pem", "kafka.key_file=shop.key", "kafka.key_password_file=key"]
    settings = load_settings(None, assignments)
    for ddl in (clickstream_table(settings), dead_letter_table(settings)):
        assert PLANTED not in ddl
        assert f'username="shop" password="${{file:{tmp_path}:password}}\n;' in ddl
        for name, given in {"key": "shop.key", "certificate.chain": "shop.pem"}.items():
            assert f"{literal(f'properties.ssl.keystore.{name}')} = '${{file:{tmp_path}:{given}}}'" in ddl
    _, handed = job_arguments(settings)
    assert f'password_file = "{file}"' in Path(handed).read_text()  # absolute
    assert PLANTED not in Path(handed).read_text()


def test_plaintext_adds_no_options():
    assert flink_options(KafkaSettings()) == {}
    assert client_options(KafkaSettings()) == {"security_protocol": "PLAINTEXT"}


def test_password_file_holds_one_line(tmp_path: Path):
    assert client_options(scram(tmp_path, f"{PLANTED} $1\r\n"))["sasl_plain_password"] == f"{PLANTED} $1"


@pytest.mark.parametrize("password", [f'{PLANTED}"', f"{PLANTED}\\", f"{PLANTED}\n{PLANTED}", "", "\n"])
def test_password_that_flink_would_misread(tmp_path: Path, password: str):
    with pytest.raises(ShopstreamError, match=r"kafka\.password_file") as error:
        client_options(scram(tmp_path, password))
    assert PLANTED not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ca_file": "ca.pem"}, "kafka.ca_file has no use with kafka.security=SASL_PLAINTEXT"),
        ({"security": "PLAINTEXT"}, "kafka.username has no use with kafka.security=PLAINTEXT"),
        ({"security": "SSL"}, "kafka.username has no use with kafka.security=SSL"),
        ({"username": None}, "kafka.security=SASL_PLAINTEXT needs the setting kafka.username"),
        ({"password_file": None}, "needs the setting kafka.password_file"),
        ({"password_file": "/a:b"}, "kafka.password_file: Kafka cannot read a path"),
        ({"security": "SASL_SSL", "key_file": "k"}, "kafka.certificate_file and kafka.key_file go together"),
        ({"security": "SASL_SSL", "ca_file": "password"}, "password (setting kafka.ca_file) holds no PEM certificate"),
        (
            {"security": "SASL_SSL", "certificate_file": "password", "key_file": "password"},
            "is not a PKCS#8 key in PEM",
        ),
    ],
)
def test_conflicting_security_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], says: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShopstreamError) as error:
        client_options(scram(tmp_path, **settings))
    assert says in str(error.value)
    assert PLANTED not in str(error.value)


class Alert(socketserver.BaseRequestHandler):
    """Answers as TLS does what is not TLS: a fatal alert, protocol_version (RFC 5246, sections 6.2.1 and 7.2)."""

    def handle(self) -> None:
        self.request.sendall(bytes.fromhex("15 03 03 00 02 02 46"))
        with suppress(ConnectionError):
            while self.request.recv(4096):  # until the client has seen it and closes
                pass


def test_tls_broker_suggests_the_security_setting():
    with socketserver.TCPServer(("127.0.0.1", 0), Alert) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = load_settings(None, [f"kafka.bootstrap=127.0.0.1:{server.server_address[1]}"])
        with pytest.raises(ShopstreamError, match=r"wants TLS or a password .* see kafka\.security"):
            end_offsets(settings, "clickstream")
        server.shutdown()
