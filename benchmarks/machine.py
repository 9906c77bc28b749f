"""The one machine that benchmarks run on: the real servers and processes of the product, and what they used."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import psutil
import psycopg
import yaml

from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.redis import EmbeddedRedis
from services.cli.embedded.supervisor import free_port
from shared.metadata.engine import connection_string, create_tables
from shared.settings import Settings

IN_FLIGHT = 64
PROJECT_PATH = Path(__file__).parents[1]


class Process:
    """A Python module run as a process of its own, its output in a log file."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, "PYTHONPATH": str(PROJECT_PATH), **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def require_alive(self) -> None:
        """Raise RuntimeError with the log's end where the process has ended."""
        if self._process.poll() is not None:
            end = self._log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{end}")

    def kill(self) -> None:
        """SIGKILL for the whole group: nothing is told, nothing is flushed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, grace_seconds: float = 20.0) -> None:
        """SIGTERM, wait, then SIGKILL for what is left."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        self.kill()


class Endpoint:
    """The fake chat endpoint as a process, or another that says where it listens in its first line."""

    module = "benchmarks.fake_endpoint"

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT_PATH,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().split()[-1].rpartition(":")[2]
        self.url = f"http://127.0.0.1:{port}"

    def counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = json.load(urlopen(f"{self.url}/counters", timeout=30))
        return counters

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class SimulatedEndpoint(Endpoint):
    """The simulator as a process, with the model `m`."""

    module = "services.simulator"

    def __init__(self, plan: Mapping[str, Any]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(plan, file)
            file.flush()
            super().__init__(["--port", "0", "--models", "m", "--faults", file.name])

    def counters(self) -> dict[str, Any]:
        """Calls by class and status, as the simulator counts them."""
        counters: dict[str, Any] = json.load(urlopen(f"{self.url}/v1/simulator/statistics", timeout=30))
        return counters


class Machine:
    """PostgreSQL and Redis with the settings of the one-machine mode (durable: fsync and synchronous commits are on), a
    directory store, and the processes that a case starts. Use as a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="multifacet-bench-"))
        # PostgreSQL's own user must pass through this folder when we are root.
        self.folder.chmod(0o755)
        self.postgres = EmbeddedPostgres(self.folder / "postgres", self.folder / "postgres.log")
        self.redis = EmbeddedRedis(free_port(), self.folder / "redis.log")
        self._processes: list[Process] = []

    def __enter__(self) -> "Machine":
        try:
            self.postgres.start()
            self.redis.start()
            create_tables(self.postgres.url())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.stop(5)
        self.redis.stop()
        self.postgres.stop()
        if not os.environ.get("BENCHMARK_KEEP_FOLDER"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def settings(self) -> Settings:
        return Settings(
            database_url=self.postgres.url(),
            redis_url=self.redis.url,
            artifact_store="directory",
            artifact_directory=self.folder / "artifacts",
        )

    def environment(self, **endpoints: Endpoint) -> dict[str, str]:
        """The settings of every process; each endpoint becomes a provider of its name with the model `m`."""
        values = {
            "MULTIFACET_DATABASE_URL": self.postgres.url(),
            "MULTIFACET_REDIS_URL": self.redis.url,
            "MULTIFACET_ARTIFACT_STORE": "directory",
            "MULTIFACET_ARTIFACT_DIRECTORY": str(self.folder / "artifacts"),
            "MULTIFACET_MAXIMUM_IN_FLIGHT": str(IN_FLIGHT),
            "MULTIFACET_LOG_LEVEL": "WARNING",
        }
        if endpoints:
            prices = {"prompt_price": 1.0, "completion_price": 3.0}
            providers = {
                name: {"base_url": f"{endpoint.url}/v1", "models": {"m": prices}}
                for name, endpoint in endpoints.items()
            }
            path = self.folder / "providers.yaml"
            path.write_text(yaml.safe_dump({"providers": providers}))
            values["MULTIFACET_PROVIDERS_FILE"] = str(path)
        return values

    @contextlib.contextmanager
    def process(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Process]:
        """A running process, stopped at the end."""
        process = Process(name, arguments, environment, self.folder / f"{name}.log")
        self._processes.append(process)
        try:
            yield process
        finally:
            process.stop()
            self._processes.remove(process)

    def connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(connection_string(self.postgres.url()), autocommit=True)


class CpuSeconds(msgspec.Struct, frozen=True):
    """CPU time by part of the system. `servers` are PostgreSQL with all its backends, and Redis."""

    worker: float
    servers: float
    controller: float

    def since(self, earlier: "CpuSeconds") -> "CpuSeconds":
        return CpuSeconds(
            self.worker - earlier.worker, self.servers - earlier.servers, self.controller - earlier.controller
        )


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its descendants, ended ones included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_megabytes(pid: int) -> float:
    """Highest resident memory that a process ever had (VmHWM), in MB of 2^20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status names no VmHWM")


class OtherLoad:
    """Share of the machine's cores that others than this benchmark used: everything busy minus our process trees."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy = self._busy_seconds()
        self._own = self._own_seconds()

    def cores(self) -> float:
        """Cores that others kept busy on average since this object was made. Processes of ours that have ended are counted
        with their parents."""
        seconds = time.monotonic() - self._started
        return max(0.0, (self._busy_seconds() - self._busy - (self._own_seconds() - self._own)) / seconds)

    @staticmethod
    def _busy_seconds() -> float:
        times = psutil.cpu_times()
        return float(times.user + times.system + times.nice + times.irq + times.softirq)

    @staticmethod
    def _own_seconds() -> float:
        return cpu_of_tree(os.getpid())
