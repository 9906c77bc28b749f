"""The whole system on one machine: real PostgreSQL, Redis and services as children, no second code path."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

from services.cli.embedded.children import Child, end_leftovers, remember
from services.cli.embedded.engine import ProcessEngine
from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.redis import EmbeddedRedis
from services.cli.embedded.state import StateFolder, SystemRecord
from shared.domain.errors import MultifacetError
from shared.settings import Settings

_START_SECONDS = 180.0
_STOP_GRACE_SECONDS = 20.0
_IDLE_SECONDS = 60
"""After which a worker beyond those that are always there leaves."""
_MODEL_SERVER_PLACES = 3
_MODEL_SERVER_STOP_SECONDS = 10
"""Below the launcher's own grace, so that no server outlives it."""


def default_most_workers() -> int:
    """Workers at most, where nobody says how many: as many as this machine has cores, up to 4."""
    return min(4, os.cpu_count() or 1)


class EmbeddedSystem:
    """Start with `start`, then call `supervise` about once a second; `stop` ends everything that `start` began."""

    def __init__(
        self,
        state: StateFolder,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        workers: int = 1,
        most_workers: int | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        """`workers` are always there; up to `most_workers` (default: no more) are started while steps wait."""
        self._state = state
        self._host = host
        self._port = port or free_port(host)
        self._workers = workers
        self._most_workers = max(workers, most_workers or 0)
        self._engine: ProcessEngine | None = None
        self._tell = tell
        self._postgres = EmbeddedPostgres(state.root / "postgres", state.logs / "postgres.log")
        self._redis = EmbeddedRedis(free_port(), state.logs / "redis.log")
        self._simulator_port = free_port()
        self.children: list[Child] = []

    @property
    def api_url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def simulator_url(self) -> str:
        return f"http://127.0.0.1:{self._simulator_port}/v1"

    def environment(self) -> dict[str, str]:
        """The settings of every child."""
        return {
            "MULTIFACET_DATABASE_URL": self._postgres.url(),
            "MULTIFACET_REDIS_URL": self._redis.url,
            "MULTIFACET_ARTIFACT_STORE": "directory",
            "MULTIFACET_ARTIFACT_DIRECTORY": str(self._state.root / "artifacts"),
            "MULTIFACET_AUTHENTICATION": "loopback",
            "MULTIFACET_API_HOST": self._host,
            "MULTIFACET_API_PORT": str(self._port),
            "MULTIFACET_SIMULATOR_URL": self.simulator_url,
            "MULTIFACET_LOG_FORMAT": os.environ.get("MULTIFACET_LOG_FORMAT", "text"),
        }

    def start(self) -> None:
        """Everything up and answering. Raises MultifacetError with the end of the log of what failed."""
        for name in end_leftovers(self._state):
            self._tell(f"ended {name}, left running by an earlier start")
        self._tell("starting PostgreSQL and Redis")
        self._postgres.start()
        self._redis.start()
        for name, server_pid in (("postgres", self._postgres.pid), ("redis", self._redis.pid)):
            if server_pid is not None:
                remember(self._state.pids / f"{name}.pid", server_pid)
        environment = self.environment()
        self._tell("bringing the database up to date")
        self._migrate()
        commands = {
            "simulator": ["services.simulator", "--host", "127.0.0.1", "--port", str(self._simulator_port)],
            "api": ["services.api"],
            "controller": ["services.controller"],
        }
        # Nothing of a model is loaded before one is deployed.
        commands["inference"] = [
            "services.inference.launcher", "--api", self.api_url, "--name", "embedded",
            "--cache", str(self._state.root / "inference"), "--places", str(_MODEL_SERVER_PLACES),
            "--stop-seconds", str(_MODEL_SERVER_STOP_SECONDS),
        ]  # fmt: skip
        self._tell(f"starting {', '.join(commands)} and {self._workers_told()}")
        for name, arguments in commands.items():
            child = Child(name, arguments, environment, self._state)
            self.children.append(child)
            child.start()
        self._start_workers(environment)
        self._await_http("simulator", f"http://127.0.0.1:{self._simulator_port}/health")
        self._await_http("api", f"{self.api_url}/health/ready")
        self._state.write_record(
            SystemRecord(os.getpid(), self.api_url, self._postgres.url(), self._redis.url, self.simulator_url)
        )

    def _start_workers(self, environment: dict[str, str]) -> None:
        scales = self._most_workers > self._workers
        more = {"MULTIFACET_WORKER_IDLE_SECONDS": str(_IDLE_SECONDS), "MULTIFACET_POOL_MINIMUM": str(self._workers)}
        workers = [
            Child(
                "worker" if self._most_workers == 1 else f"worker-{number}",
                ["shared.stages.worker", "--roles", "all"],
                {**environment, **(more if scales else {})},
                self._state,
                may_leave=scales,
            )
            for number in range(self._most_workers)
        ]
        for worker in workers[: self._workers]:
            worker.start()
        self.children.extend(workers)
        if scales:
            labels = {
                "multifacet.roles": "all",
                "multifacet.minimum": str(self._workers),
                "multifacet.steps": str(Settings().worker_most_slots),
            }
            self._engine = ProcessEngine(workers, labels)
            told = {**environment, "MULTIFACET_DOCKER_URL": self._engine.url}
            autoscaler = Child("autoscaler", ["services.autoscaler"], told, self._state)
            self.children.append(autoscaler)
            autoscaler.start()

    def _workers_told(self) -> str:
        if self._most_workers == self._workers:
            return "a worker" if self._workers == 1 else f"{self._workers} workers"
        return f"{self._workers} to {self._most_workers} workers"

    def supervise(self) -> None:
        """Start what crashed again, and say so."""
        for server, name in ((self._postgres, "PostgreSQL"), (self._redis, "Redis")):
            if not server.alive():
                self._tell(f"{name} ended; starting it again")
                server.start()
        for child in self.children:
            code = child.ensure()
            if code is not None:
                self._tell(f"{child.name} ended with {code}; starting it again (log: {child.log})")

    def stop(self) -> None:
        """Services first, then Redis and PostgreSQL."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        for child in reversed(self.children):
            child.stop(_STOP_GRACE_SECONDS)
        self.children = []
        self._redis.stop()
        self._postgres.stop()
        for name in ("redis", "postgres"):
            (self._state.pids / f"{name}.pid").unlink(missing_ok=True)

    def _migrate(self) -> None:
        from shared.metadata.engine import create_tables

        create_tables(self._postgres.url())

    def _await_http(self, name: str, url: str) -> None:
        child = next(child for child in self.children if child.name == name)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(url, timeout=2).status_code == 200:
                    return
            if not child.alive() or time.monotonic() > deadline:
                raise MultifacetError(f"{name} does not answer at {url}; the end of {child.log}:\n{child.log_end()}")
            time.sleep(0.1)


@contextmanager
def running_system(
    state: StateFolder,
    *,
    port: int | None = None,
    workers: int = 1,
    most_workers: int | None = None,
    tell: Callable[[str], None] = print,
) -> Iterator[EmbeddedSystem]:
    """A started system over a locked state folder; stopped at the end, also after an error or an interrupt."""
    with state.locked():
        system = EmbeddedSystem(state, port=port, workers=workers, most_workers=most_workers, tell=tell)
        try:
            system.start()
            yield system
        finally:
            system.stop()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
