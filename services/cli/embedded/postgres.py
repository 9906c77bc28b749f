"""PostgreSQL from a wheel as a direct child process: started, awaited and stopped by us."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from services.cli.embedded.binaries import postgres_programs
from shared.domain.errors import MultifacetError

_LONGEST_SOCKET_FOLDER = 80
"""A Unix socket's path holds at most 107 bytes."""

_STOP_SECONDS = 20

_RECOVERY_SECONDS = 600
"""After a crash the server reads what was written last before it answers: to end it then would only begin that anew."""


class EmbeddedPostgres:
    """One server over `folder/data`, reached by a Unix socket only, with the database `multifacet`."""

    def __init__(self, folder: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = log
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary_socket_folder: Path | None = None
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._socket_folder = folder / "run"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self, database: str = "multifacet") -> str:
        """SQLAlchemy URL (psycopg 3)."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._socket_folder}"

    def start(self, timeout_seconds: float = 30) -> None:
        """Initialise where needed, start, wait until it answers. Raises MultifacetError with the log's end."""
        programs = postgres_programs(self._folder.parent)
        self._make_folders()
        if not (self._data / "PG_VERSION").exists():
            self._run(programs / "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--no-locale", "--no-sync")  # fmt: skip
        self._end_leftover()
        options = [f"-c{key}={value}" for key, value in self._settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(programs / "postgres"), "-D", str(self._data), "-k", str(self._socket_folder),
                    "-c", "listen_addresses=", "-c", "max_connections=200", *options,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **self._identity(),
            )  # fmt: skip
        self._await_answer(timeout_seconds)
        self.create_database("multifacet")

    def create_database(self, name: str, template: str = "template1") -> None:
        """Make a database of that name where there is none, as a copy of `template`, which nobody may be connected to."""
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
            if not found:
                made = psycopg.sql.SQL("create database {} template {}")
                connection.execute(made.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)))

    def stop(self, immediately: bool = False) -> None:
        """Fast shutdown, awaited; killed if it does not end. `immediately` leaves all that a later start has to recover."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
                try:
                    self._process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._process = None
        if self._temporary_socket_folder:
            shutil.rmtree(self._temporary_socket_folder, ignore_errors=True)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _dsn(self, database: str) -> str:
        return f"host={self._socket_folder} user=postgres dbname={database} connect_timeout=3"

    def _identity(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _make_folders(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if len(str(self._socket_folder)) > _LONGEST_SOCKET_FOLDER:
            self._temporary_socket_folder = Path(tempfile.mkdtemp(prefix="multifacet-pg-"))
            self._socket_folder = self._temporary_socket_folder
        for folder in (self._data, self._socket_folder):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
            if self._owner is not None:
                os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run([str(part) for part in command], capture_output=True, check=False, **self._identity())
        if done.returncode:
            raise MultifacetError(
                f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-800:]}"
            )

    def _end_leftover(self) -> None:
        """End a server that an earlier supervisor left running over the same data, found by its own pid file."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text().splitlines()[0])
        command_line = Path(f"/proc/{pid}/cmdline")
        if command_line.exists() and str(self._data).encode() in command_line.read_bytes():
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + _STOP_SECONDS
            while command_line.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            if command_line.exists():
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.2)
        pid_file.unlink(missing_ok=True)

    def _await_answer(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.alive():
                raise MultifacetError(f"PostgreSQL ended while starting; the end of {self._log}:\n{self._log_end()}")
            try:
                psycopg.connect(self._dsn("postgres")).close()
            except psycopg.OperationalError as error:
                recovers = "starting up" in str(error) and time.monotonic() < deadline + _RECOVERY_SECONDS
                if time.monotonic() > deadline and not recovers:
                    self.stop()
                    raise MultifacetError(
                        f"PostgreSQL did not answer within {timeout_seconds} s ({error}); see {self._log}"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]
