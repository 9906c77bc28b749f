"""Processes of two versions of the project over the same servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from shared.metadata.engine import connection_string

ROOT = Path(__file__).parents[2]

_PAUSE_SECONDS = 0.1


class Process:
    """One `python -m …` with the code of one folder."""

    def __init__(self, name: str, code: Path, log: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.name = name
        self.log = log
        # The bytecode of the earlier code goes with its folder.
        bytecode = {} if code == ROOT else {"PYTHONPYCACHEPREFIX": f"{log.parent}/bytecode"}
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=log.parent,
                env={**os.environ, **environment, **bytecode, "PYTHONPATH": str(code)},
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, seconds: float = 600) -> int:
        """SIGTERM, and the exit code once it has ended by itself."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        if self.alive():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)


class Database:
    """Questions to the system's database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(connection_string(self.url), autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        found = self.rows(query, *parameters)
        return found[0][0] if found else None


def wait_for(what: str, true: Callable[[], object], seconds: float = 900) -> None:
    """Raises TimeoutError, naming `what`, where it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not in {seconds:g} s")
        time.sleep(_PAUSE_SECONDS)
