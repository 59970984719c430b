"""A Kafka broker on this machine: one process in KRaft mode, broker and controller."""

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.local import process
from deploy.local.jars import jars
from deploy.local.java import child_env, java
from udfs.core.errors import ShopstreamError
from udfs.core.locking import exclusive

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
HEAP = "512m"
JVM_FLAGS = ("-XX:+UseSerialGC", "-Dlog4j2.disableJmx=true", "-Djava.awt.headless=true")

SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
  SASL_SSL:SASL_SSL
log.dirs={data}

# There is only one broker.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

auto.create.topics.enable=false
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
num.partitions=2
group.initial.rebalance.delay.ms=0

# Replayed events keep their time, years ago. Retention by that time would delete them at once, and rolling by it (by
# default every 7 days) would open a segment for every week of events.
log.retention.ms=-1
log.roll.ms=315360000000
"""

LOG4J_PROPERTIES = """\
rootLogger.level = WARN
rootLogger.appenderRef.file.ref = file
logger.server.name = kafka.server
logger.server.level = INFO
logger.app.name = org.apache.kafka.common.utils.AppInfoParser
logger.app.level = INFO
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %-5p %c{{1}}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


@dataclass(frozen=True)
class Status:
    """The state of the broker: `bootstrap` is "127.0.0.1:PORT", `pid` is None unless it runs."""

    running: bool
    bootstrap: str
    pid: int | None
    home: Path
    log: Path


@dataclass
class LocalKafka:
    """A broker whose data, configuration, log and pid live in `home`, a folder of its own.

    port: of the open listener. secured: ports of further listeners by protocol (SSL, SASL_PLAINTEXT, SASL_SSL).
    properties: the broker's own settings, which override ours; secured listeners need some.
    """

    home: Path
    port: int = 9092
    secured: Mapping[str, int] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.home.absolute()

    def start(self) -> Status:
        """Starts the broker and waits until it answers; fine if it runs already. Keeps its data.

        Raises:
            ShopstreamError: the port is taken, it runs on another port, or it did not come up (with its last error).
        """
        with exclusive(self.home / "lock"):
            status = self.status()
            if status.running:
                if status.bootstrap != self._bootstrap(self.port):
                    raise ShopstreamError(
                        f"the Kafka broker in {self.home} already runs at {status.bootstrap}; "
                        f"stop it first to have it on port {self.port}"
                    )
                return status
            process.require_free(self.port, "the Kafka broker")
            classpath = ":".join(str(jar) for jar in jars("kafka"))
            self._configure()
            self._format(classpath)
            self._run(classpath)
            return self.status()

    def stop(self) -> Status:
        """Stops the broker and waits until it is gone; fine if it does not run. Keeps its data."""
        with exclusive(self.home / "lock"):
            record = process.read_record(self._pid_file)
            if record is not None:
                process.terminate(record.pid, STOP_TIMEOUT_S)
            self._pid_file.unlink(missing_ok=True)
            return self.status()

    def status(self) -> Status:
        """Returns whether the broker of this folder runs, and on which port it was started."""
        record = process.read_record(self._pid_file)
        return Status(
            running=record is not None,
            bootstrap=self._bootstrap(record.port if record else self.port),
            pid=record.pid if record else None,
            home=self.home,
            log=self._log,
        )

    @property
    def _pid_file(self) -> Path:
        return self.home / "kafka.pid.json"

    @property
    def _log(self) -> Path:
        return self.home / "log" / "kafka.log"

    @property
    def _out(self) -> Path:
        return self.home / "log" / "kafka.out"

    @property
    def _properties(self) -> Path:
        return self.home / "conf" / "server.properties"

    @property
    def _log4j(self) -> Path:
        return self.home / "conf" / "log4j2.properties"

    @staticmethod
    def _bootstrap(port: int) -> str:
        return f"{process.HOST}:{port}"

    def _configure(self) -> None:
        """Writes the configuration at each start, as the ports may have changed."""
        for folder in ("conf", "data", "log"):
            (self.home / folder).mkdir(exist_ok=True)
        open_and_secured = {"PLAINTEXT": self.port, **self.secured}
        listeners = ",".join(f"{protocol}://{process.HOST}:{port}" for protocol, port in open_and_secured.items())
        data = str(self.home / "data")
        if "," in data:
            raise ShopstreamError(f"Kafka would take {data} for several folders: choose a home without a comma")
        settings = {"listeners": listeners, "controller_port": process.free_port(), "data": _escaped(data)}
        own = "".join(f"{name}={value}\n" for name, value in self.properties.items())
        self._properties.write_text(SERVER_PROPERTIES.format(**settings) + own, encoding="utf-8")
        self._log4j.write_text(LOG4J_PROPERTIES.format(log=_escaped(str(self._log))), encoding="utf-8")
        process.set_aside(self._log)

    def _format(self, classpath: str) -> None:
        """Gives a new data folder its cluster id."""
        if (self.home / "data" / "meta.properties").exists():
            return
        arguments = ["format", "--cluster-id", _cluster_id(), "--config", str(self._properties)]
        command = self._command(classpath, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, env=child_env(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._out.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise self._failure("could not format its storage")

    def _run(self, classpath: str) -> None:
        pid = process.spawn(self._command(classpath, "kafka.Kafka", str(self._properties)), child_env(), self._out)
        try:
            process.write_record(self._pid_file, pid, self.port)
            deadline = time.monotonic() + START_TIMEOUT_S
            while not self._answers():
                if not process.alive(pid):
                    raise self._failure("ended while it started")
                if time.monotonic() > deadline:
                    raise self._failure(f"did not answer within {START_TIMEOUT_S:.0f} s")
                time.sleep(process.POLL_S)
        except BaseException:
            process.terminate(pid, STOP_TIMEOUT_S)
            self._pid_file.unlink(missing_ok=True)
            raise

    def _command(self, classpath: str, *main: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self._log4j.as_uri()}"
        return [str(java()), f"-Xmx{HEAP}", *JVM_FLAGS, log4j, "-cp", classpath, *main]

    def _answers(self) -> bool:
        if not process.port_open(process.HOST, self.port):
            return False
        try:
            admin = KafkaAdminClient(bootstrap_servers=self._bootstrap(self.port), request_timeout_ms=5000)
        except KafkaError:
            return False
        try:
            admin.list_topics()
        except KafkaError:
            return False
        finally:
            admin.close()
        return True

    def _failure(self, what: str) -> ShopstreamError:
        return ShopstreamError(
            f"the Kafka broker {what}: {process.last_error(self._out, self._log)} (log: {self._log})"
        )


def _cluster_id() -> str:
    """Makes a random id in Kafka's form: 16 bytes in URL-safe base64 without padding, not starting with a dash."""
    identity = "-"
    while identity.startswith("-"):
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return identity


def _escaped(value: str) -> str:
    """Writes a value for a file of Java properties, which is Latin-1 with the escapes of JSON."""
    return json.dumps(value)[1:-1]
