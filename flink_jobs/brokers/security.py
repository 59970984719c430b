"""TLS and SASL for Kafka, from settings: options of kafka-python and of Flink's Kafka connector.

Secrets stay in files. kafka-python gets their content. Flink gets references, which Kafka's own configuration provider
resolves in the client on each machine: no plan, page, log or command line holds a secret.
"""

import re
import ssl
from pathlib import Path
from typing import Any

from flink_jobs.settings.kafka import KafkaSettings
from udfs.core.errors import ShopstreamError

#: The connector's jar holds Kafka's client under these names.
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common"
_LOGIN = {"PLAIN": "plain.PlainLoginModule"}
_SCRAM_LOGIN = "scram.ScramLoginModule"
FILES = ("password_file", "ca_file", "certificate_file", "key_file", "key_password_file")
_TLS_ALONE, _SASL_ALONE = FILES[1:], ("username", "password_file")


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Returns options of kafka-python's clients; reads the files. ShopstreamError names the setting that is wrong."""
    _check(kafka)
    options: dict[str, Any] = {"security_protocol": kafka.security}
    if kafka.tls:
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.sasl:
        password = _read(kafka, "password_file").rstrip("\r\n")
        if re.search(r'["\\\x00-\x1f]', password):
            raise ShopstreamError(
                f"the password in {kafka.password_file} (setting kafka.password_file) has a quote, a backslash or a "
                "control character, which Kafka's login configuration cannot take from a file"
            )
        options |= {"sasl_mechanism": kafka.sasl_mechanism, "sasl_plain_username": kafka.username}
        options["sasl_plain_password"] = password
    return options


def flink_options(kafka: KafkaSettings) -> dict[str, str]:
    """Returns options of a Kafka table; only the job's processes read the files."""
    if kafka.security == "PLAINTEXT":
        return {}
    options: dict[str, str] = {"security.protocol": kafka.security}
    if kafka.ca_file:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(kafka.ca_file)}
    if kafka.certificate_file and kafka.key_file:
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _reference(kafka.certificate_file),
            "ssl.keystore.key": _reference(kafka.key_file),
        }
    if kafka.key_password_file:
        options["ssl.key.password"] = _reference(kafka.key_password_file)
    if kafka.username and kafka.password_file:
        login = f"{_SHADED}.security.{_LOGIN.get(kafka.sasl_mechanism, _SCRAM_LOGIN)}"
        username = kafka.username.replace("\\", r"\\").replace('"', r"\"")
        # A string ends at its quote or its line. This one ends at its line, which the file may have ended already.
        jaas = f'{login} required username="{username}" password="{_reference(kafka.password_file)}\n;'
        options |= {"sasl.mechanism": kafka.sasl_mechanism, "sasl.jaas.config": jaas}
    options |= {
        "config.providers": "file",
        "config.providers.file.class": f"{_SHADED}.config.provider.DirectoryConfigProvider",
    }
    return {f"properties.{name}": value for name, value in options.items()}


def _reference(file: Path) -> str:
    """Refers to a file's whole content in the form that Kafka's DirectoryConfigProvider resolves."""
    return f"${{file:{file.parent}:{file.name}}}"


def _check(kafka: KafkaSettings) -> None:
    """Raises ShopstreamError for settings that do not go together, so that nothing is less protected than intended."""
    for name in (*(() if kafka.tls else _TLS_ALONE), *(() if kafka.sasl else _SASL_ALONE)):
        if getattr(kafka, name):
            raise ShopstreamError(f"setting kafka.{name} has no use with kafka.security={kafka.security}")
    for name in _SASL_ALONE if kafka.sasl else ():
        if not getattr(kafka, name):
            raise ShopstreamError(f"kafka.security={kafka.security} needs the setting kafka.{name}")
    if bool(kafka.certificate_file) != bool(kafka.key_file):
        raise ShopstreamError("settings kafka.certificate_file and kafka.key_file go together; only one is set")
    for name in FILES:
        if re.search("[:}]", str(getattr(kafka, name) or "")):
            raise ShopstreamError(f"setting kafka.{name}: Kafka cannot read a path that has a colon or a brace")


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """Checks what Kafka's Java client checks: the broker's certificate and name, by the CA file or the system's CAs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if kafka.ca_file:
        _read(kafka, "ca_file")
        try:
            context.load_verify_locations(kafka.ca_file)
        except ssl.SSLError:
            raise ShopstreamError(f"{kafka.ca_file} (setting kafka.ca_file) holds no PEM certificate") from None
    else:
        context.load_default_certs()
    if kafka.certificate_file and kafka.key_file:
        _read(kafka, "certificate_file")
        if not re.search("-----BEGIN (ENCRYPTED )?PRIVATE KEY-----", _read(kafka, "key_file")):
            raise ShopstreamError(
                f"{kafka.key_file} (setting kafka.key_file) is not a PKCS#8 key in PEM; "
                "`openssl pkcs8 -topk8` makes one"
            )
        # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
        password = _read(kafka, "key_password_file").strip() if kafka.key_password_file else ""
        try:
            context.load_cert_chain(kafka.certificate_file, kafka.key_file, lambda: password)
        except ssl.SSLError:
            raise ShopstreamError(
                f"{kafka.certificate_file} and {kafka.key_file} (settings kafka.certificate_file and kafka.key_file) "
                "are not a PEM certificate with its key, or kafka.key_password_file is not the key's"
            ) from None
    return context


def _read(kafka: KafkaSettings, name: str) -> str:
    """Reads the file of a setting; raises ShopstreamError if it is unreadable or empty."""
    file: Path = getattr(kafka, name)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ShopstreamError(f"{file} (setting kafka.{name}) cannot be read: {reason}") from None
    if not text.strip():
        raise ShopstreamError(f"{file} (setting kafka.{name}) is empty")
    return text
