"""A real broker with SASL_SSL and mutual-TLS listeners, which denies what no grant allows; certificates on the fly."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from deploy.local.kafka import LocalKafka
from deploy.local.process import HOST, free_port

Key = ec.EllipticCurvePrivateKey
YEAR = datetime.timedelta(days=365)
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Authority:
    """A CA of its own, in `folder`."""

    folder: Path
    key: Key
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Certificate and PKCS#8 key, both PEM, for CN=name; good for this host too."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(name, key, self.certificate.subject, self.key)
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        return files


def authority(folder: Path) -> Authority:
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(folder, key, _signed("ca", key))
    made.file.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    return made


def _signed(name: str, key: Key, issuer: x509.Name | None = None, signer: Key | None = None) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(datetime.datetime.now(datetime.UTC) + YEAR)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(signer or key, hashes.SHA256())
    )


@dataclass(frozen=True)
class Secured:
    """A broker that runs. `sasl_ssl`, `mutual`: addresses of its listeners; `open`: where all is allowed."""

    broker: LocalKafka
    authority: Authority

    @property
    def open(self) -> str:
        return f"{HOST}:{self.broker.port}"

    @property
    def sasl_ssl(self) -> str:
        return f"{HOST}:{self.broker.secured['SASL_SSL']}"

    @property
    def mutual(self) -> str:
        return f"{HOST}:{self.broker.secured['SSL']}"

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.open)

    def add_user(self, name: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
        admin = self.admin()
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, mechanism, password)])
        admin.close()

    def allow(self, user: str, grants: list[tuple[str, str, str, str]]) -> None:
        """grants: resource type, name, pattern (LITERAL or PREFIXED) and operation, as Kafka names them."""
        admin = self.admin()
        rules = [
            ACL(
                principal=f"User:{user}",
                host="*",
                operation=ACLOperation[operation],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(ResourceType[kind], name, ACLResourcePatternType[pattern]),
            )
            for kind, name, pattern, operation in grants
        ]
        done = admin.create_acls(rules)
        admin.close()
        assert not done["failed"], done


def secured_broker(folder: Path, plain_user: str, plain_password: str) -> Secured:
    """Not started yet. The user is one of SASL's PLAIN, which a broker knows from its settings."""
    own = authority(folder / "ca")
    certificate, key = own.issue("broker")
    both = folder / "ca" / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    module = "org.apache.kafka.common.security"
    listener = "listener.name.sasl_ssl"
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(own.file),
        "listener.name.ssl.ssl.client.auth": "required",
        f"{listener}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        f"{listener}.scram-sha-256.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        f"{listener}.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        f"{listener}.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required "
        f'user_{plain_user}="{plain_password}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # everyone on the open listener
    }
    ports = {"SASL_SSL": free_port(), "SSL": free_port()}
    return Secured(LocalKafka(folder / "kafka", free_port(), ports, properties), own)
