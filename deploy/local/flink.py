"""A Flink cluster on this machine: the standalone one of the PyFlink wheel, one job manager and one task manager."""

import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyflink
from ruamel.yaml import YAML

from deploy.local import process
from deploy.local.java import child_env, java
from udfs.core.errors import ShopstreamError
from udfs.core.locking import exclusive
from udfs.core.paths import flink_uri

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
JOB_MANAGER_MEMORY = "1024m"
MARK = "SHOPSTREAM_LOCAL_FLINK"
"""Variable that is set to a cluster's home for its processes, and so for the Python workers that they start."""

WHEEL = Path(pyflink.__file__).parent
ANSWER = "BASH_JAVA_UTILS_EXEC_RESULT:"


@dataclass(frozen=True)
class Daemon:
    """One of Flink's processes: its logs' name, main class, question for its memory, and options for Java."""

    log_name: str
    main_class: str
    memory: str
    java_options: tuple[str, ...] = ()


DAEMONS = {
    "job manager": Daemon(
        "standalonesession",
        "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        "GET_JM_RESOURCE_PARAMS",
    ),
    "task manager": Daemon(
        "taskexecutor",
        "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
        "GET_TM_RESOURCE_PARAMS",
        # An object of half a region goes straight to the heap's old part, and the collector then checks whether that is
        # full. With Java's regions of 1 MB, batches of rows to and from Python caused several checks per second.
        ("-XX:G1HeapRegionSize=8m",),
    ),
}


@dataclass(frozen=True)
class Status:
    """The state of the cluster: `url` is its REST address and web UI; a pid is None unless that process runs.

    `running` is true while both processes run; `task_slots` and `free_slots` are 0 unless the job manager answers.
    """

    running: bool
    url: str
    job_manager_pid: int | None
    task_manager_pid: int | None
    task_slots: int
    free_slots: int
    home: Path
    logs: tuple[Path, ...]


def flink_command() -> list[str]:
    """Returns the wheel's `flink` program, which runs with the environment of LocalFlink.flink_env()."""
    return [str(WHEEL / "bin" / "flink")]


def require_startable(python: str) -> None:
    """Raises ShopstreamError for a Python that Flink cannot start: its script does not quote the path."""
    if re.search(r"[\s*?\[]", python):
        raise ShopstreamError(
            f"Flink cannot start Python workers with {python!r}, because of the blank or bracket in its path: move the "
            "environment to another folder, or name the cluster's Python by the setting flink.python"
        )


@dataclass
class LocalFlink:
    """A cluster whose configuration, logs, pids, checkpoints and temporary files live in `home`, a folder of its own.

    port: of REST and the web UI. slots: task slots. task_memory: total memory of the task manager's JVM; the Python
    workers' memory comes on top. metrics_ports, as in 9249-9250 or 9249,9260: where the two processes serve metrics to
    Prometheus, on all of this machine's addresses; None: nowhere.
    """

    home: Path
    port: int = 8081
    slots: int = 2
    task_memory: str = "2048m"
    metrics_ports: str | None = None

    def __post_init__(self) -> None:
        self.home = self.home.absolute()

    def start(self) -> Status:
        """Starts both processes and waits for their slots; fine if the cluster runs already.

        A lost task manager is started again with the cluster's present settings, and the jobs go on.

        Raises:
            ShopstreamError: the port is taken, the cluster runs on another port, it did not come up, or it could not
                start Python workers.
        """
        require_startable(sys.executable)
        with exclusive(self.home / "lock"):
            status = self.status()
            if status.job_manager_pid is not None and status.url != self._url(self.port):
                raise ShopstreamError(
                    f"the Flink cluster in {self.home} already runs at {status.url}; "
                    f"stop it first to have it on port {self.port}"
                )
            if status.running:
                return status
            if status.job_manager_pid is not None:
                self._end_strays()
                self._launch("task manager")
                return self.status()
            self._stop()
            process.require_free(self.port, "the Flink cluster's REST interface")
            self._configure()
            self._launch(*DAEMONS)
            return self.status()

    def stop(self) -> Status:
        """Stops both processes and every Python worker, and waits until they are gone; fine if nothing runs."""
        with exclusive(self.home / "lock"):
            self._stop()
            return self.status()

    def status(self) -> Status:
        """Returns what runs of this folder's cluster, and on which port it was started."""
        records = {name: process.read_record(self._pid_file(name)) for name in DAEMONS}
        job_manager, task_manager = records["job manager"], records["task manager"]
        port = job_manager.port if job_manager else self.port
        overview = _rest(port, "overview") if job_manager else {}
        return Status(
            running=job_manager is not None and task_manager is not None,
            url=self._url(port),
            job_manager_pid=job_manager.pid if job_manager else None,
            task_manager_pid=task_manager.pid if task_manager else None,
            task_slots=overview.get("slots-total", 0),
            free_slots=overview.get("slots-available", 0),
            home=self.home,
            logs=tuple(self._log(name, "log") for name in DAEMONS),
        )

    def flink_env(self) -> dict[str, str]:
        """Returns the environment in which the wheel's programs find this cluster's configuration, Java and logs."""
        return child_env(
            {
                "FLINK_HOME": str(WHEEL),
                "FLINK_BIN_DIR": str(WHEEL / "bin"),
                "FLINK_LIB_DIR": str(WHEEL / "lib"),
                "FLINK_OPT_DIR": str(WHEEL / "opt"),
                "FLINK_PLUGINS_DIR": str(WHEEL / "plugins"),
                "FLINK_CONF_DIR": str(self.home / "conf"),
                "FLINK_LOG_DIR": str(self.home / "log"),
                # These two make up the name of a client's log file.
                "FLINK_IDENT_STRING": "shopstream",
                "HOSTNAME": "local",
            }
        )

    def _pid_file(self, name: str) -> Path:
        return self.home / f"{name.replace(' ', '')}.pid.json"

    def _log(self, name: str, ending: str) -> Path:
        return self.home / "log" / f"flink-shopstream-{DAEMONS[name].log_name}-0-local.{ending}"

    @staticmethod
    def _url(port: int) -> str:
        return f"http://{process.HOST}:{port}"

    def _configure(self) -> None:
        """Writes the configuration at each start, and empties the temporary folder."""
        for folder in ("conf", "tmp"):
            shutil.rmtree(self.home / folder, ignore_errors=True)
        for folder in ("conf", "tmp", "log", "checkpoints", "savepoints", "profiles"):
            (self.home / folder).mkdir(exist_ok=True)
        for file in (WHEEL / "conf").glob("log*"):
            shutil.copyfile(file, self.home / "conf" / file.name)
        # Flat keys, each value as JSON, are valid YAML to Flink.
        settings = {**_wheel_settings(), **self._settings(), "env.java.opts.all": " ".join(_java_options())}
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in sorted(settings.items())]
        (self.home / "conf" / "config.yaml").write_text("".join(lines), encoding="utf-8")

    def _settings(self) -> dict[str, Any]:
        reporter = {
            "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
            "metrics.reporter.prom.port": self.metrics_ports,
        }
        return {
            **(reporter if self.metrics_ports else {}),
            "jobmanager.rpc.address": process.HOST,
            "jobmanager.rpc.port": process.free_port(),
            "jobmanager.bind-host": process.HOST,
            "jobmanager.memory.process.size": JOB_MANAGER_MEMORY,
            "taskmanager.host": process.HOST,
            "taskmanager.bind-host": process.HOST,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.memory.process.size": self.task_memory,
            # The Python workers live outside Flink's memory and need what the machine has. By default jobs keep their
            # state on the heap, so more managed memory would lie idle.
            "taskmanager.memory.managed.fraction": 0.1,
            # A task manager that is up before the job manager tries again this soon; by default after 10 s.
            "cluster.registration.error-delay": "200 ms",
            "parallelism.default": 1,
            "rest.address": process.HOST,
            "rest.bind-address": process.HOST,
            "rest.port": self.port,
            "rest.bind-port": str(self.port),
            "rest.profiling.enabled": True,
            "rest.profiling.dir": str(self.home / "profiles"),  # which has to exist
            "execution.checkpointing.dir": flink_uri(self.home / "checkpoints"),
            "execution.checkpointing.savepoint-dir": flink_uri(self.home / "savepoints"),
            # For jobs with checkpoint.changelog: where changes of state are written.
            "state.changelog.storage": "filesystem",
            "dstl.dfs.base-path": flink_uri(self.home / "changelog"),
            # Flink's script that starts Python workers takes a path with spaces for several.
            "io.tmp.dirs": tempfile.gettempdir() if " " in str(self.home) else str(self.home / "tmp"),
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
        }

    def _launch(self, *names: str) -> None:
        """Starts these daemons and waits until the task manager is registered; on failure stops them."""
        env = {**self.flink_env(), MARK: str(self.home)}
        task_manager_id = f"task-manager-{uuid.uuid4()}"
        with ThreadPoolExecutor() as pool:
            commands = list(pool.map(lambda name: self._command(name, env), names))
        try:
            for name, command in zip(names, commands, strict=True):
                if name == "task manager":
                    command += ["-D", f"taskmanager.resource-id={task_manager_id}"]
                process.set_aside(self._log(name, "log"))
                pid = process.spawn(command, env, self._log(name, "out"))
                process.write_record(self._pid_file(name), pid, self.port)
            self._wait_for(task_manager_id)
        except BaseException:
            self._stop(*names)
            raise

    def _command(self, name: str, env: Mapping[str, str]) -> list[str]:
        """Builds the Java command of one daemon, equal to that of the wheel's jobmanager.sh and taskmanager.sh.

        Before their daemon, those scripts run Java three times each and sed and awk some hundred times: 7.2 s on two
        busy cores. Asking Java only how memory is split, which it alone knows, takes 0.9 to 2.0 s there.
        """
        conf = self.home / "conf"
        jvm, dynamic = self._memory(DAEMONS[name].memory, env)
        log4j = conf / "log4j.properties"
        return [
            str(java()),
            *jvm,
            "-XX:+IgnoreUnrecognizedVMOptions",
            *_java_options(),
            *DAEMONS[name].java_options,
            "-Djava.security.manager=allow",
            f"-Dlog.file={self._log(name, 'log')}",
            f"-Dlog4j.configurationFile={log4j.as_uri()}",
            "-classpath",
            ":".join(str(jar) for jar in sorted((WHEEL / "lib").glob("*.jar"))),
            DAEMONS[name].main_class,
            "--configDir",
            str(conf),
            *dynamic,
        ]

    def _memory(self, question: str, env: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Asks Flink how it splits a process's memory; returns JVM options, and settings for the command line."""
        (dist,) = (WHEEL / "lib").glob("flink-dist-*.jar")
        command = [str(java()), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command += ["-classpath", f"{WHEEL / 'bin' / 'bash-java-utils.jar'}:{dist}"]
        command += ["org.apache.flink.runtime.util.bash.BashJavaUtils", question]
        command += ["--configDir", str(self.home / "conf")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        answers = [line.removeprefix(ANSWER).split() for line in done.stdout.splitlines() if line.startswith(ANSWER)]
        if done.returncode != 0 or len(answers) != 2:
            out = self.home / "log" / "settings.out"
            out.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise ShopstreamError(f"Flink refuses its settings: {process.last_error(out)} (log: {out})")
        return answers[0], answers[1]

    def _wait_for(self, task_manager_id: str) -> None:
        """Waits for this task manager's slots, as the job manager may still count those of one that was killed."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._offers_slots(task_manager_id):
            for name in DAEMONS:
                if process.read_record(self._pid_file(name)) is None:
                    raise self._failure(f"{name} ended while it started", name)
            if time.monotonic() > deadline:
                raise self._failure(f"cluster did not offer its slots within {START_TIMEOUT_S:.0f} s", *DAEMONS)
            time.sleep(process.POLL_S)

    def _offers_slots(self, task_manager_id: str) -> bool:
        found = _rest(self.port, "taskmanagers").get("taskmanagers", [])
        return any(manager["id"] == task_manager_id and manager["slotsNumber"] >= 1 for manager in found)

    def _stop(self, *names: str) -> None:
        """Stops these daemons, or all, the task manager first, and the Python workers."""
        for name in reversed(names or tuple(DAEMONS)):
            record = process.read_record(self._pid_file(name))
            if record is not None:
                process.terminate(record.pid, STOP_TIMEOUT_S)
            self._pid_file(name).unlink(missing_ok=True)
        self._end_strays()

    def _end_strays(self) -> None:
        """Ends Python workers that outlived their task manager, and processes of an interrupted start."""
        records = [process.read_record(self._pid_file(name)) for name in DAEMONS]
        kept = {record.pid for record in records if record is not None}
        for pid in process.with_variable(MARK, str(self.home)):
            if pid not in kept:
                process.terminate(pid, STOP_TIMEOUT_S)

    def _failure(self, what: str, *names: str) -> ShopstreamError:
        logs = [self._log(name, ending) for name in names for ending in ("out", "log")]
        return ShopstreamError(f"the Flink {what}: {process.last_error(*logs)} (logs: {self.home / 'log'})")


def _wheel_settings() -> dict[str, Any]:
    """Reads the wheel's config.yaml as flat keys; among them are JVM options that Flink needs."""
    settings: dict[str, Any] = {}

    def flatten(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                flatten(f"{prefix}{key}.", value)
            else:
                settings[f"{prefix}{key}"] = value

    flatten("", YAML(typ="safe").load(WHEEL / "conf" / "config.yaml"))
    return settings


def _java_options() -> list[str]:
    """Returns Flink's Java options without those for the compiler, which this runtime does not have."""
    options = str(_wheel_settings()["env.java.opts.all"]).split()
    return [option for option in options if "=jdk.compiler/" not in option]


def _rest(port: int, path: str) -> dict[str, Any]:
    """Returns what the job manager answers over REST; empty if it does not."""
    connection = http.client.HTTPConnection(process.HOST, port, timeout=5)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        found = json.loads(answer.read()) if answer.status == http.client.OK else {}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}
