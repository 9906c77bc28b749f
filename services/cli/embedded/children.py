"""Child processes of the supervisor: started in a session of their own, logged, remembered by pid, ended as a group."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from services.cli.embedded.state import StateFolder

_QUICK_CRASH_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 30.0


class Child:
    """One process of the product, `python -m <module> …`. `ensure` starts it again after a crash, with growing pauses; one that
    `may_leave` and ended with 0 stays away until `start_stopped`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        state: StateFolder,
        *,
        may_leave: bool = False,
    ) -> None:
        self.name = name
        self.log = state.logs / f"{name}.log"
        self.restarts = 0
        self._arguments = [sys.executable, "-m", *arguments]
        self._environment = {**os.environ, **environment}
        self._pid_file = state.pids / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._not_before = 0.0
        self._may_leave = may_leave
        self._starting = threading.Lock()
        """Two threads start a process: the supervisor's, and the one that answers the autoscaler."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._started = time.monotonic()
        remember(self._pid_file, self._process.pid)

    @property
    def exit_status(self) -> int | None:
        """Of the last run; None while it runs and before the first one."""
        return None if self._process is None else self._process.poll()

    @property
    def waits_for_restart(self) -> bool:
        """It crashed, and `ensure` will start it again."""
        return self.exit_status is not None and not self._left

    @property
    def _left(self) -> bool:
        return self._may_leave and (self._process is None or self._process.poll() == 0)

    def start_stopped(self) -> bool:
        """Start it where it has never run or has left; False where it runs, or crashed and is started again anyway."""
        with self._starting:
            if not self._left:
                return False
            self.start()
            return True

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ensure(self) -> int | None:
        """Start it again if it ended and its pause is over; returns the exit code that was seen, if any."""
        with self._starting:
            return self._ensure()

    def _ensure(self) -> int | None:
        if self.alive() or self._process is None or self._left:
            return None
        now = time.monotonic()
        if self._not_before == 0.0:
            quick = now - self._started < _QUICK_CRASH_SECONDS
            if not quick:
                self.restarts = 0  # it ran well for a while: this crash is a new story
            self._not_before = now + (min(_LONGEST_PAUSE_SECONDS, 2.0**self.restarts) if quick else 0.5)
            return self._process.returncode
        if now >= self._not_before:
            self.restarts += 1
            self._not_before = 0.0
            self.start()
        return None

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, wait, then SIGKILL for the whole group."""
        with self._starting:
            self._stop(grace_seconds)
        self._pid_file.unlink(missing_ok=True)

    def _stop(self, grace_seconds: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        _kill_group(self._process.pid)
        self._process.wait()
        self._process = None

    def log_end(self, characters: int = 1500) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


def remember(pid_file: Path, pid: int) -> None:
    """Keep a pid with its start time, which tells it from a later process that got the same number."""
    pid_file.write_text(f"{pid} {psutil.Process(pid).create_time()}\n")


def end_leftovers(state: StateFolder) -> list[str]:
    """End children that an earlier supervisor of this state folder left running; returns their names."""
    ended = []
    for pid_file in sorted(state.pids.glob("*.pid")):
        try:
            pid_text, created = pid_file.read_text().split()
            process = psutil.Process(int(pid_text))
            if abs(process.create_time() - float(created)) < 1.0:
                process.terminate()
                try:
                    process.wait(5)
                except psutil.TimeoutExpired:
                    process.kill()
                _kill_group(int(pid_text))
                ended.append(pid_file.stem)
        except (ValueError, psutil.NoSuchProcess):
            pass  # an unreadable pid file or an ended process: nothing is left to end
        pid_file.unlink(missing_ok=True)
    return ended


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
