"""Many jobs on one of PyFlink's mini-clusters: `submit --embedded` starts Java, Flink and Python again for each.

As a program, it runs the jobs' scripts that it reads from standard input, one after another.
"""

import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import psutil

from deploy.local.java import child_env
from flink_jobs.settings.loading import load_settings
from flink_jobs.submit.command import job_arguments
from flink_jobs.submit.registry import job_named

#: Seconds in which the process has to end once no job follows.
END_TIMEOUT_S = 60
#: Characters of Java's thread dump that a failing test shows.
MAX_SHOWN_CHARS = 100_000


class MiniCluster:
    """Runs jobs in a process of its own, which starts with the first job. Its logs go to a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(self, name: str, assignments: list[str], *arguments: str) -> None:
        """Run a job over what is in its topics and wait for its end."""
        self._call(name, [*assignments, "kafka.bounded=true"], "--wait", *arguments)

    def explain(self, name: str, assignments: list[str]) -> str:
        """Return the execution plan of a job."""
        return self._call(name, assignments, "--explain").partition("== Optimized Execution Plan ==")[2]

    def close(self) -> None:
        """End the process, by force if a job does not let it."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._give_up()

    def _call(self, name: str, assignments: list[str], *arguments: str) -> str:
        """Run a job's script; return what it printed."""
        job = job_named(name)
        connectors = [part for jar in job.jar_files() for part in ("--jar", str(jar))]
        call = [str(job.file), *connectors, *job_arguments(load_settings(None, assignments)), *arguments]
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(call) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, f"the mini-cluster ended; see {self._folder}"
        except BaseException:  # as pytest's time limit: a later job must not read this one's answer
            self._give_up()
            raise
        output, error = json.loads(answer)
        assert not error, error
        return str(output)

    def _give_up(self) -> None:
        """Show where Java's threads are, kill the process and its children; the next job starts another one."""
        assert self._process is not None
        running = psutil.Process(self._process.pid).children(recursive=True)
        for java in running:
            java.send_signal(signal.SIGQUIT)
        time.sleep(1)
        print((self._folder / "stderr").read_text(errors="replace")[-MAX_SHOWN_CHARS:])
        self._process.kill()
        psutil.wait_procs(running, timeout=5)
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate()
        self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            with (self._folder / "stderr").open("w") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, __file__], env=child_env({"FLINK_LOG_DIR": str(self._folder)}), text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                )  # fmt: skip
        return self._process


def serve() -> None:
    """Read a script's path and arguments per line; answer with its output and, if it failed, its traceback."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Java prints goes with the errors
    for line in sys.stdin:
        sys.argv = json.loads(line)
        output, error = io.StringIO(), ""
        try:
            with contextlib.redirect_stdout(output):
                runpy.run_path(sys.argv[0], run_name="__main__")
        except Exception:
            error = traceback.format_exc()
        print(json.dumps([output.getvalue(), error]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
