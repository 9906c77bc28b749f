"""The servers of a world: each is a process of its own that can be killed, stopped, frozen and started again where it was."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import orjson
import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.cli.embedded.postgres import EmbeddedPostgres
from services.cli.embedded.redis import EmbeddedRedis
from shared.metadata.engine import create_tables
from tests.support.servers import free_port

START_SECONDS = 60.0


def pace() -> float:
    """How much slower than a quiet machine this one is now, 1 to 6: leases and time-outs grow with it."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import asyncio, json, ssl, sqlite3, xml.dom"], check=True)
    took = time.monotonic() - started
    queued = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(6.0, max(1.0, took / 0.25, queued))


class ServerProcess:
    """A program that listens on a port of 127.0.0.1."""

    def __init__(
        self, name: str, arguments: Sequence[str], port: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it listens. Raises RuntimeError with the log's end."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, awaited."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(30)
            self._process = None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ChaosPostgres(EmbeddedPostgres):
    """PostgreSQL that is stopped in the ways operators and machines stop it. fsync is on."""

    def __init__(self, folder: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        # No warm-up is wanted of these small databases, and immediate restarts are.
        super().__init__(folder, log, {"max_wal_size": "256MB", "wal_keep_size": "0", **(settings or {})})
        self.socket = folder / "run" / ".s.PGSQL.5432"

    def stop_immediately(self) -> None:
        """SIGQUIT: every backend dies at once, without a checkpoint, as in a crash; the next start recovers."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP to the server and its backends."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            for process in (server, *server.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)


class ChaosRedis(EmbeddedRedis):
    """Redis that keeps nothing on disk."""

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, socket_connect_timeout=5, socket_timeout=30)

    def kill(self) -> None:
        """SIGKILL: all in it is gone; `start` begins empty on the same port."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def flush(self) -> None:
        self.client.flushall()

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections, nobody answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def sleep(self, seconds: float) -> None:
        """DEBUG SLEEP: the server is busy for so long; returns when it is over."""
        # By itself the client would give up after 5 s and ask for the same again.
        with redis.Redis(port=self.port, socket_timeout=seconds + 60, retry=Retry(NoBackoff(), 0)) as client:
            client.execute_command("DEBUG", "SLEEP", seconds)

    def limit_memory(self, limit_bytes: int) -> None:
        """`maxmemory` with noeviction: writes above it are refused. 0 takes the limit away."""
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", limit_bytes)


class StoreServer(ServerProcess):
    """The S3 server of `tests.chaos.store_server` over a folder: the object `key` is the file `objects / key`."""

    def __init__(self, folder: Path, log: Path, environment: Mapping[str, str], bucket: str) -> None:
        port = free_port()
        super().__init__("store", ["tests.chaos.store_server", str(port), str(folder)], port, log, environment)
        self.objects = folder / bucket
        self.objects.mkdir(parents=True, exist_ok=True)


class SimulatorServer(ServerProcess):
    """The simulator with a journal of its calls."""

    def __init__(self, folder: Path, environment: Mapping[str, str], seed: int, plan: Mapping[str, object]) -> None:
        port = free_port()
        self.journal = folder / "calls.jsonl"
        self.journal.touch()
        faults = folder / "faults.json"
        faults.write_bytes(orjson.dumps(plan))
        arguments = ["tests.chaos.recording_simulator", str(self.journal), "--port", str(port), "--seed", str(seed)]
        super().__init__(
            "simulator", [*arguments, "--faults", str(faults)], port, folder / "simulator.log", environment
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def calls(self) -> list[dict[str, object]]:
        """What was asked and answered so far."""
        return [
            orjson.loads(line) for line in self.journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
        ]


class Grounds:
    """What all worlds of one process share: a folder, and a database cluster with all tables that each world copies."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mf-chaos-"))
        self.folder.chmod(0o755)
        self.pace = pace()
        self.marker = f"marker{uuid4().hex[:10]}n"
        """In every instruction of every world here, so that their rows can be compared."""
        self.references: dict[str, object] = {}
        """What jobs make without faults, see `tests.chaos.invariants`."""
        self._template: Path | None = None
        self._worlds = 0

    def new_folder(self) -> Path:
        self._worlds += 1
        folder = self.folder / f"w{self._worlds}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def postgres(self, folder: Path, name: str, settings: Mapping[str, str] | None = None) -> ChaosPostgres:
        """A server over a copy of the template; not started. It lies beside the worlds, as the programs are copied there."""
        if self._template is None:
            made = EmbeddedPostgres(self.folder / "template", self.folder / "template.log")
            made.start()
            try:
                create_tables(made.url())
            finally:
                made.stop()
            self._template = self.folder / "template"
        place = self.folder / name
        subprocess.run(["cp", "-a", str(self._template), str(place)], check=True)
        (place / "data" / "postmaster.pid").unlink(missing_ok=True)
        return ChaosPostgres(place, folder / "postgres.log", settings)

    @staticmethod
    def redis(folder: Path) -> ChaosRedis:
        return ChaosRedis(free_port(), folder / "redis.log")

    def remove(self, folder: Path) -> None:
        """A world has ended: its files are of no use any more, unless MULTIFACET_CHAOS_KEEP is set."""
        if not os.environ.get("MULTIFACET_CHAOS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(self.folder / f"{folder.name}-pg", ignore_errors=True)

    def close(self) -> None:
        if os.environ.get("MULTIFACET_CHAOS_KEEP"):
            print(f"kept: {self.folder}")
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Grounds":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
