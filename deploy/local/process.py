"""Processes that outlive the command that started them: spawned, recorded, found again, and stopped by pid only.

A record has the pid and the start of the process, so that a pid which the system has since given to another process is
never taken for ours.
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from udfs.core.errors import ShopstreamError

HOST = "127.0.0.1"
POLL_S = 0.05
KILL_TIMEOUT_S = 5.0
CLOCK_SLACK_S = 2.0
"""Two readings of one process's start may differ this much, as the system clock may be set in between."""


@dataclass(frozen=True)
class Record:
    """A process of ours: its pid, its start in epoch seconds, and its port."""

    pid: int
    created: float
    port: int


def spawn(argv: Sequence[str], env: Mapping[str, str], output: Path) -> int:
    """Starts a program in a session of its own, with its output in a file that is emptied first; returns its pid.

    Not subprocess.Popen: that object warns, and may wait, when it is dropped before its process ends.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=True)


def write_record(path: Path, pid: int, port: int) -> None:
    """Records a running process; does nothing if it has ended already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        record = Record(pid, psutil.Process(pid).create_time(), port)
        path.write_text(json.dumps(asdict(record)), encoding="utf-8")


def read_record(path: Path) -> Record | None:
    """Reads the record of a process; None if it ended, its pid is another process's, or there is no record."""
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        created = psutil.Process(record.pid).create_time()
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    same = abs(created - record.created) <= CLOCK_SLACK_S
    return record if same and alive(record.pid) else None


def alive(pid: int) -> bool:
    """Returns whether the process runs; a zombie does not. Reaps it if it is a child of ours."""
    try:
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return True
        reaped, _ = os.waitpid(pid, os.WNOHANG)  # (0, 0) while threads of it are still ending
    except (psutil.NoSuchProcess, ChildProcessError):
        return False
    return reaped == 0


def terminate(pid: int, timeout: float) -> None:
    """Sends SIGTERM, then SIGKILL if it still runs after `timeout` seconds; returns once it is gone.

    Raises:
        ShopstreamError: it is another user's, or not even SIGKILL ended it within 5 s.
    """
    try:
        process = psutil.Process(pid)
        process.terminate()
        if _gone(process, timeout):
            return
        process.kill()
        if not _gone(process, KILL_TIMEOUT_S):
            raise ShopstreamError(f"process {pid} does not end, not even on SIGKILL; look at it with ps")
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise ShopstreamError(f"process {pid} belongs to another user; stop it as that user") from error


def _gone(process: psutil.Process, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while process.is_running() and alive(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def with_variable(name: str, value: str) -> list[int]:
    """Finds this user's processes whose environment has the variable with this value, except for the caller."""
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                pids.append(process.pid)
    return pids


def port_open(host: str, port: int) -> bool:
    """Returns whether something accepts connections there."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((host, port)) == 0


def free_port() -> int:
    """Finds a port of this host that nothing uses at the moment."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        return int(server.getsockname()[1])


def require_free(port: int, what: str) -> None:
    """Checks that a server can listen on the port.

    Raises:
        ShopstreamError: it cannot; with the process that has the port, if the system tells.
    """
    if not 0 < port < 65536:
        raise ShopstreamError(f"port {port} for {what} is out of range; choose one from 1 to 65535 with --port")
    with socket.socket() as server:
        # Java binds in this way too: the last connections of a server that was just stopped do not matter.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError as error:
            raise ShopstreamError(
                f"port {port}, wanted for {what}, {_why(port, error)}; choose another with --port"
            ) from error


def _why(port: int, error: OSError) -> str:
    if not port_open(HOST, port):
        return f"cannot be used ({error.strerror})"
    holder = _holder(port)
    return f"is taken by {holder}; stop that" if holder else "is taken by another process; stop that"


def _holder(port: int) -> str | None:
    """Returns name and pid of the process that listens on the port; None if the system does not say."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.pid is not None
            if listening and connection.laddr and connection.laddr[1] == port:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None


def set_aside(log: Path) -> None:
    """Renames the last run's log to `NAME.1`, so that the file will have only this run's lines."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def last_error(*logs: Path) -> str:
    """Picks the line that says why a program ended: its root cause, its first exception or error, or the last line."""
    lines = [
        line.strip()
        for log in logs
        if log.exists()
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    causes = [line for line in lines if line.startswith("Caused by:")]
    exceptions = [line for line in lines if re.match(r"(Exception in thread .*|[\w.$]+(Exception|Error)): ", line)]
    errors = [line for line in lines if re.search(r"\b(ERROR|FATAL)\b|^Error\b", line)]
    return (causes[-1:] or exceptions[:1] or errors[:1] or lines[-1:] or ["its logs are empty"])[0]
