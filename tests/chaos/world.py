"""One system per try: its own servers, its own processes, faults on demand, and secrets planted where none may leave.

    async with World(grounds, seed=7) as world:
        world.start_controller()
        worker = world.start_worker()
        job = await world.submit(world.toy_spec("slow rows", 64))
        await world.until_running(job.id, "augmentation")
        world.kill(worker)
        world.start_worker()
        await world.wait(job.id)

The product reaches every server through a `Link`; the world itself goes past them.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx2
import msgspec
import orjson
import psutil
import psycopg
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from shared.artifacts.directory import DirectoryStore
from shared.artifacts.layout import upload_key
from shared.artifacts.protocol import ArtifactStore
from shared.artifacts.s3 import S3Store
from shared.domain.identifiers import new_id
from shared.domain.jobs import JobSpec
from shared.domain.states import JOB_END_STATES, JobState
from shared.domain.taxonomy import default_taxonomy
from shared.metadata.engine import connection_string, session_factory
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.jobs import JobConflict, JobRepository
from shared.metadata.tables import Job, UploadedFile
from shared.sources.bundled import bundled_file
from tests.chaos.link import Link
from tests.chaos.servers import Grounds, SimulatorServer, StoreServer
from tests.support.control_plane import toy_spec, toy_taxonomy

PROJECT = "default"
BUCKET = "multifacet"
WORLD_VARIABLE = "MULTIFACET_CHAOS_WORLD"
"""In the environment of every process that a world starts, and so of all their children."""

WORKER_ROLES = "curation,augmentation,composition,generation,training"
"""Roles that a collection and its trainings need."""

Handlers = Literal["toy", "real"]

_PROVIDERS = """\
providers:
  simulator:
    base_url: ${MULTIFACET_SIMULATOR_URL}
    api_key_env: OPENAI_API_KEY
    simulator: true
    models:
      simulator-large: {prompt_price: 1.0, completion_price: 3.0}
      simulator-small: {prompt_price: 0.1, completion_price: 0.3}
"""
_BEGIN_SECONDS = 15.0
_STOP_SECONDS = 40.0
_LAG_PROBE_SECONDS = 0.05
_POLL_SECONDS = 0.1
_LEASE_SECONDS = 3.0


class Process:
    """A process of the product, in a session of its own, with a log of its own."""

    def __init__(self, name: str, log: Path, popen: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.log = log
        self.popen = popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def children(self) -> list[psutil.Process]:
        """Processes below it now, nearest first."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []


class JobEnded(Exception):
    """A job was over before what a scenario waited for."""


class Interruption(msgspec.Struct, frozen=True):
    """From when to when a process could not keep what it was told: LLM answers of the 100 ms before may be lost with it."""

    at: float
    until: float


class Expected(msgspec.Struct):
    """How a submitted job is to end."""

    states: tuple[JobState, ...]
    """One of these."""
    spec: JobSpec | None
    """None where the job was not submitted by the world; then its rows are compared with nothing."""
    compare: bool
    """Whether its rows must equal those of a run without faults."""
    rows: int = 0
    """Instructions of the uploaded file, 0 where there is none."""


class World:
    """One system. Enter it to start its servers; leaving ends everything that it started."""

    def __init__(
        self,
        grounds: Grounds,
        seed: int,
        *,
        handlers: Handlers = "toy",
        plan: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        lease_seconds: float = _LEASE_SECONDS,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        """`handlers`: those of tests/support/toy_handlers, or the product's own with the simulator as teacher under `plan`."""
        self.grounds = grounds
        self.seed = seed
        self.random = random.Random(seed)
        self.handlers: Handlers = handlers
        self.pace = grounds.pace
        self.lease_seconds = lease_seconds * self.pace
        self.folder = grounds.new_folder()
        self.name = f"{self.folder.name}-{os.getpid()}"
        self.processes: list[Process] = []
        self.interruptions: list[Interruption] = []
        self.marks: list[float] = []
        self.expected: dict[str, Expected] = {}
        self.may_fail: set[str] = set()
        """Logs of processes that a scenario lets end with another status than 0."""
        self.api_url: str | None = None
        self.marker = grounds.marker
        """Stands in every instruction of `real_spec`, and must stand in no log."""
        token = self.random.randbytes
        self.secrets = {
            "OPENAI_API_KEY": f"sk-planted-{token(12).hex()}",
            "MULTIFACET_S3_SECRET_KEY": f"s3planted{token(12).hex()}",
            "MULTIFACET_LAUNCHER_TOKEN": f"launcherplanted{token(12).hex()}",
            "MULTIFACET_BOOTSTRAP_KEY": f"mf_planted{token(16).hex()}",
            "database password": f"pgplanted{token(12).hex()}",
        }
        own = {WORLD_VARIABLE: self.name, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.postgres = grounds.postgres(self.folder, f"{self.folder.name}-pg", postgres_settings)
        self.redis = grounds.redis(self.folder)
        self.store_server = StoreServer(self.folder / "store", self.folder / "store.log", own, BUCKET)
        self.simulator = SimulatorServer(self.folder, own, 0, plan or {})
        self._own = own
        self._extra = dict(environment or {})
        self.files: dict[int, str] = {}
        """Rows of an uploaded file -> its id."""
        self._database: psycopg.Connection[Any] | None = None
        self._database_lock = threading.Lock()
        self.lag_seconds = 0.0
        """The longest that this machine let a thread wait which wanted to run: what it adds to any time that is promised."""
        self._ended = threading.Event()

    # ---- life ----------------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        threading.Thread(target=self._probe_lag, name="lag", daemon=True).start()
        try:
            await asyncio.to_thread(self._start_servers)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def _probe_lag(self) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            time.sleep(_LAG_PROBE_SECONDS)
            self.lag_seconds = max(self.lag_seconds, time.monotonic() - started - _LAG_PROBE_SECONDS)

    def _start_servers(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.store_server.start()
        if self.handlers == "real":
            self.simulator.start()
        self.postgres_link = Link(self.postgres.socket, "postgres")
        self.redis_link = Link(("127.0.0.1", self.redis.port), "redis")
        self.store_link = Link(("127.0.0.1", self.store_server.port), "store")
        self.llm_link = Link(("127.0.0.1", self.simulator.port), "llm")
        self.environment = self._environment()
        self.database_url = self.postgres.url()
        """Past the link, as all here."""
        self.engine = create_async_engine(self.database_url, poolclass=NullPool)
        self.sessions = session_factory(self.engine)
        self.objects = self.store_server.objects
        """Folder of the store's objects."""
        self.store: ArtifactStore = S3Store(f"127.0.0.1:{self.store_server.port}", "planted", "past the link", BUCKET)

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(
            link
            for name in ("postgres_link", "redis_link", "store_link", "llm_link")
            if (link := getattr(self, name, None)) is not None
        )

    def _environment(self) -> dict[str, str]:
        providers = self.folder / "providers.yaml"
        providers.write_text(_PROVIDERS)
        (self.folder / "work").mkdir(exist_ok=True)
        password = self.secrets["database password"]
        return {
            **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
            **self._own,
            **{name: value for name, value in self.secrets.items() if name.isupper()},
            "MULTIFACET_DATABASE_URL": (
                f"postgresql+psycopg://postgres:{password}@127.0.0.1:{self.postgres_link.port}/multifacet"
            ),
            "MULTIFACET_REDIS_URL": f"redis://127.0.0.1:{self.redis_link.port}/0",
            "MULTIFACET_ARTIFACT_STORE": "s3",
            "MULTIFACET_S3_ENDPOINT": f"127.0.0.1:{self.store_link.port}",
            "MULTIFACET_S3_ACCESS_KEY": "planted",
            "MULTIFACET_S3_BUCKET": BUCKET,
            "MULTIFACET_ARTIFACT_DIRECTORY": str(self.folder / "toy-state"),
            "MULTIFACET_WORK_FOLDER": str(self.folder / "work"),
            "MULTIFACET_PROVIDERS_FILE": str(providers),
            "MULTIFACET_SIMULATOR_URL": f"http://127.0.0.1:{self.llm_link.port}/v1",
            "MULTIFACET_LEASE_SECONDS": str(self.lease_seconds),
            "MULTIFACET_CANCEL_GRACE_SECONDS": str(1.5 * self.pace),
            "MULTIFACET_CONTROLLER_TICK_SECONDS": "0.3",
            "MULTIFACET_REDISPATCH_SECONDS": str(3 * self.pace),
            "MULTIFACET_LLM_REQUEST_TIMEOUT_SECONDS": str(10 * self.pace),
            "MULTIFACET_LLM_CALL_DEADLINE_SECONDS": str(120 * self.pace),
            "MULTIFACET_LLM_CIRCUIT_OPEN_SECONDS": "2",
            "MULTIFACET_MAXIMUM_IN_FLIGHT": "16",
            "MULTIFACET_LOG_LEVEL": "DEBUG" if self.handlers == "real" else "INFO",
            "TOY_ROW_SECONDS": "0.25",
            **self._extra,
        }

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._ended.set()
        for process in self.living():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self.processes:
            started.popen.wait(30)
        for link in self.links:
            link.close()
        if self._database is not None:
            self._database.close()
        self.redis.thaw()
        self.redis.kill()
        self.postgres.thaw()
        self.postgres.stop_immediately()
        self.store_server.kill()
        self.simulator.kill()
        self.grounds.remove(self.folder)

    def living(self) -> list[psutil.Process]:
        """Every process that carries this world's name, servers of the world apart."""
        servers = {self.store_server.pid, self.simulator.pid}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                ours = process.pid not in servers and process.environ().get(WORLD_VARIABLE) == self.name
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    # ---- processes of the product --------------------------------------------------------------------------------
    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """`python -m ARGUMENTS` with the world's settings."""
        log = self.folder / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as sink:
            popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
            )
        process = Process(name, log, popen)
        self.processes.append(process)
        return process

    def start_controller(self, **environment: str) -> Process:
        return self.start("controller", "services.controller", **environment)

    def worker_arguments(self, roles: str) -> tuple[str, ...]:
        """Module and arguments of a worker with the world's handlers."""
        handlers = [
            part for role in roles.split(",") for part in ("--handlers", f"{role}=tests.support.toy_handlers.{role}")
        ]
        return ("shared.stages.worker", "--roles", roles, *(handlers if self.handlers == "toy" else ()))

    def start_worker(self, roles: str = WORKER_ROLES, **environment: str) -> Process:
        return self.start("worker", *self.worker_arguments(roles), **environment)

    async def start_api(self, **environment: str) -> str:
        """Start an api and wait until it is ready; its address. Ask it with `ask`."""
        from tests.support.servers import free_port

        port = free_port()
        process = self.start("api", "services.api", MULTIFACET_API_PORT=str(port), **environment)
        self.api_url = url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60 * self.pace
        async with httpx2.AsyncClient() as client:
            while True:
                with suppress(httpx2.HTTPError):
                    if (await client.get(f"{url}/health/ready", timeout=5)).status_code == 200:
                        return url
                if not process.running or time.monotonic() > deadline:
                    raise RuntimeError(f"the api did not start:\n{process.log.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(0.1)

    async def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """One request to the api with the planted key."""
        headers = {"Authorization": f"Bearer {self.secrets['MULTIFACET_BOOTSTRAP_KEY']}", **more.pop("headers", {})}
        async with httpx2.AsyncClient(base_url=self.api_url or "", timeout=30) as client:
            return await client.request(method, path, headers=headers, **more)

    def kill(self, process: Process) -> None:
        """SIGKILL to that one process, awaited: what it started is left to itself."""
        self.interruptions.append(Interruption(time.time(), time.time()))
        process.popen.kill()
        process.popen.wait(30)
        self.mark()

    def signal(self, process: Process, number: int) -> None:
        process.popen.send_signal(number)

    def freeze(self, process: Process) -> None:
        """SIGSTOP: it holds its connections and says nothing."""
        self.interruptions.append(Interruption(time.time(), time.time()))
        self.signal(process, signal.SIGSTOP)

    def thaw(self, process: Process) -> None:
        self.signal(process, signal.SIGCONT)
        self.interruptions.append(Interruption(self.interruptions[-1].at, time.time()))
        self.mark()

    async def stop(self, process: Process, seconds: float = _STOP_SECONDS) -> int:
        """SIGTERM, and wait for its end; its exit status. One that was only just started is let begin before."""
        deadline = time.monotonic() + _BEGIN_SECONDS * self.pace
        while process.running and not process.log.stat().st_size and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        if process.running:
            self.signal(process, signal.SIGTERM)
        return await asyncio.to_thread(process.popen.wait, seconds * self.pace)

    async def stop_all(self) -> dict[str, int]:
        """SIGTERM to all; exit statuses by log name. Raises TimeoutExpired for one that does not leave."""
        for process in self.processes:
            if process.running:
                self.signal(process, signal.SIGTERM)
        return {
            process.log.stem: await asyncio.to_thread(process.popen.wait, _STOP_SECONDS * self.pace)
            for process in self.processes
        }

    def interrupted(self, at: float, until: float | None = None) -> None:
        """Say that answers of that time may not have reached a worker: a link to the LLM was cut, a child was killed."""
        self.interruptions.append(Interruption(at, time.time() if until is None else until))

    def mark(self) -> None:
        """The fault is over now: recovery counts from here to the next success of a step."""
        self.marks.append(time.time())

    # ---- jobs ----------------------------------------------------------------------------------------------------
    def toy_spec(self, name: str = "toy", rows: int = 32, **more: Any) -> JobSpec:
        """A job of toy handlers up to its responses; its name tells them how to behave, see tests/support/toy_handlers."""
        return toy_spec(name, rows, **{"stop_after": "respond", **more})

    async def real_spec(self, rows: int = 24, **more: Any) -> JobSpec:
        """A collection by the product's own handlers, from an uploaded file whose every instruction holds `marker`."""
        if rows not in self.files:
            self.files[rows] = await self._upload(rows)
        return JobSpec.model_validate(
            {
                "name": "a collection",
                "seed": 17,
                "sources": [{"file": self.files[rows], "name": "chaos"}],
                "teacher": {"provider": "simulator", "model": "simulator-small"},
                **more,
            }
        )

    async def _upload(self, rows: int) -> str:
        lines = [orjson.loads(line) for line in bundled_file("demo", "").read_bytes().splitlines() if line.strip()]
        content = b"".join(
            orjson.dumps({"instruction": f"{line['instruction']} Note {self.marker}{number}."}) + b"\n"
            for number, line in enumerate(lines[:rows])
        )
        file_id = new_id("file")
        key = upload_key(PROJECT, file_id, "instructions.jsonl")
        stored = await self.store.put_bytes(key, content)
        async with self.sessions() as session, session.begin():
            await FileRepository(session).add(
                UploadedFile(
                    id=file_id,
                    project_id=PROJECT,
                    name="instructions.jsonl",
                    key=key,
                    sha256=stored.sha256,
                    size=stored.size,
                )
            )
        return file_id

    async def submit(self, spec: JobSpec, *, expect: str = "succeeded", compare: bool = True) -> Job:
        """Submit a job that must end as `expect` (or as one of several, `a|b`); its rows must equal those of a run without faults
        if `compare`."""
        taxonomy = toy_taxonomy() if self.handlers == "toy" else default_taxonomy()
        async with self.sessions() as session, session.begin():
            job, _ = await JobRepository(session).submit(PROJECT, spec, taxonomy, teacher_is_simulator=True)
        file = spec.sources[0].file if spec.sources else None
        rows = next((rows for rows, name in self.files.items() if name == file), 0)
        self.expected[job.id] = Expected(tuple(map(JobState, expect.split("|"))), spec, compare, rows)
        return job

    def expect(self, job_id: str, states: str = "succeeded") -> None:
        """A job that somebody else submitted must end as one of `states`."""
        self.expected[job_id] = Expected(tuple(map(JobState, states.split("|"))), None, False)

    async def upload_training(self, name: str, training: Mapping[str, Any]) -> JobSpec:
        """A job that only trains, on an uploaded file that the toy never opens."""
        file_id = await self._upload(1)
        return JobSpec.model_validate({"name": name, "train": [{**training, "data": {"file": file_id}}]})

    def adopt(self, database_url: str, objects: Path) -> None:
        """Look at another database and at a directory store from now on: those of a system that a scenario started."""
        self.database_url = database_url
        self.objects = objects
        self.store = DirectoryStore(objects)
        if self._database is not None:
            self._database.close()
            self._database = None
        self.engine = create_async_engine(database_url, poolclass=NullPool)
        self.sessions = session_factory(self.engine)

    async def cancel(self, job_id: str) -> None:
        async with self.sessions() as session, session.begin():
            await JobRepository(session).request_cancel(PROJECT, job_id)

    async def try_cancel(self, job_id: str) -> None:
        """Cancel a job that may just have ended."""
        with suppress(JobConflict):
            await self.cancel(job_id)

    async def job(self, job_id: str) -> Job:
        async with self.sessions() as session:
            return await JobRepository(session).require(PROJECT, job_id)

    async def wait(self, job_id: str, seconds: float = 120) -> Job:
        """The job once it has ended and nothing of it runs any more. Raises TimeoutError with states and ends of logs.

        `seconds` are those of a quiet machine, as all seconds given to a world."""
        deadline = time.monotonic() + seconds * self.pace
        while True:
            job = await self.job(job_id)
            if JobState(job.state) in JOB_END_STATES and job.settled_at is not None:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is still {job.state}\n{self.overview(job_id)}\n{self.logs()}")
            await asyncio.sleep(2 * _POLL_SECONDS)

    async def until(self, query: str, *parameters: Any, seconds: float = 60) -> None:
        """Until the query's first value is true. Raises TimeoutError."""
        deadline = time.monotonic() + seconds * self.pace
        while not await asyncio.to_thread(self.value, query, *parameters):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true in {seconds} s: {query} {parameters}\n{self.logs()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def until_running(self, job_id: str, queue: str) -> None:
        """Until a step of that queue (`augmentation`, `training`, …) runs. Raises JobEnded where none will any more."""
        await self._until_of_job(
            job_id,
            "SELECT count(*) > 0 FROM attempt JOIN step ON step.id = step_id "
            "WHERE attempt.state = 'running' AND job_id = %s AND queue = %s",
            job_id,
            queue,
        )

    async def until_successes(self, job_id: str, steps: int) -> None:
        """Until so many steps of the job have succeeded: the point at which a fault is drawn to strike. Raises JobEnded."""
        query = "SELECT count(*) >= %s FROM step WHERE state = 'succeeded' AND job_id = %s"
        await self._until_of_job(job_id, query, steps, job_id)

    async def _until_of_job(self, job_id: str, query: str, *parameters: Any) -> None:
        ended = "SELECT settled_at IS NOT NULL FROM job WHERE id = %s"
        await self.until(f"SELECT ({query}) OR ({ended})", *parameters, job_id, seconds=120)
        if not self.value(query, *parameters) and self.value(ended, job_id):
            raise JobEnded(f"job {job_id} ended before the fault could strike:\n{self.overview(job_id)}")

    async def until_calls(self, calls: int, seconds: float = 60) -> None:
        """Until the simulator has answered so many calls."""
        deadline = time.monotonic() + seconds * self.pace
        while len(self.simulator.calls()) < calls:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.simulator.calls())} of {calls} calls in {seconds} s\n{self.logs()}")
            await asyncio.sleep(_POLL_SECONDS)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database says, past the link. May be called from any thread."""
        return self._ask_database(query, parameters).fetchall()

    def _ask_database(self, query: str, parameters: tuple[Any, ...]) -> psycopg.Cursor[Any]:
        with self._database_lock:
            if self._database is not None:
                with suppress(psycopg.OperationalError):
                    return self._database.execute(query.encode(), parameters or None)
                self._database.close()  # the server was restarted since
            self._database = psycopg.connect(
                connection_string(self.database_url), autocommit=True, connect_timeout=5, application_name="world"
            )
            return self._database.execute(query.encode(), parameters or None)

    def value(self, query: str, *parameters: Any) -> Any:
        rows = self.rows(query, *parameters)
        return rows[0][0] if rows else None

    def execute(self, statement: str, *parameters: Any) -> None:
        """One statement, past the link."""
        self._ask_database(statement, parameters)

    def overview(self, job_id: str) -> str:
        steps = self.rows(
            "SELECT g.name, s.shard, s.state, s.dispatch_no, s.failures, s.losses, s.error FROM step s "
            "JOIN stage g ON g.id = s.stage_id WHERE s.job_id = %s ORDER BY g.ordinal, s.shard",
            job_id,
        )
        return "\n".join(map(str, steps))

    def logs(self, characters: int = 1500) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-characters:]}"
            for path in sorted(self.folder.rglob("*.log"))
        )
