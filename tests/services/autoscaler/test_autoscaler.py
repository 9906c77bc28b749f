"""The loop against the engine of the one-machine mode and a real database: real processes are started, nothing is ever ended."""

import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import sqlalchemy as sa

from services.autoscaler.autoscaler import Autoscaler
from services.autoscaler.engine import DockerEngine, EngineUnreachable
from services.cli.embedded.children import Child
from services.cli.embedded.engine import ProcessEngine
from services.cli.embedded.state import StateFolder
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.pools import PoolRepository
from shared.metadata.repositories.workers import WorkerRepository
from shared.settings import Settings
from tests.support.scheduling import Sessions, make_steps, submitted, unblock

STAYS, CRASHES, LEAVES = "import time; time.sleep(600)", "raise SystemExit(3)", "pass"


class Machine:
    """Stopped processes that do what `code` says once they are started."""

    def __init__(self, folder: Path, code: str, count: int, **labels: str) -> None:
        module = f"started_{abs(hash(code))}"
        (folder / f"{module}.py").write_text(code)
        state = StateFolder(folder / "state")
        state.make()
        environment = {"PYTHONPATH": str(folder)}
        self.children = [Child(f"w{n}", [module], environment, state, may_leave=True) for n in range(count)]
        named = {"multifacet.roles": "curation", "multifacet.steps": "2"}
        named |= {f"multifacet.{key.replace('_', '-')}": text for key, text in labels.items()}
        self.engine = ProcessEngine(self.children, named)

    def running(self) -> int:
        return sum(child.alive() for child in self.children)

    def ended(self, status: int) -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(child.exit_status == status for child in self.children):
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self.engine.close()
        for child in self.children:
            child.stop(0)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(code: str = STAYS, count: int = 4, **labels: str) -> Machine:
        made.append(Machine(tmp_path, code, count, **labels))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(postgres_url)
    yield session_factory(engine)
    async with engine.begin() as connection:
        for table in ("outbox", "event", "attempt", "step", "stage", "job", "gpu_slot", "worker_group", "worker"):
            await connection.execute(sa.text(f"DELETE FROM {table}"))
    await engine.dispose()


async def demand(sessions: Sessions, jobs: int) -> None:
    for _ in range(jobs):
        await make_steps(sessions, await submitted(sessions), "curate", 1)
    await unblock(sessions)


async def test_as_many_are_started_as_the_steps_want_and_all_is_written_down(
    sessions: Sessions, machine: Callable[..., Machine]
) -> None:
    pool = machine()
    async with DockerEngine(pool.engine.url, "") as engine:
        autoscaler = Autoscaler(Settings(), sessions, engine)
        await autoscaler.round()
        assert pool.running() == 0
        await demand(sessions, 3)
        (row,) = await autoscaler.round()
        assert (row.desired, row.running, pool.running()) == (2, 2, 2)
        await demand(sessions, 20)
        (row,) = await autoscaler.round()
        assert (row.desired, row.running, pool.running()) == (4, 4, 4), "no more than there are"
        await autoscaler.round()
        async with sessions() as session:
            (shown,) = await PoolRepository(session).groups()
        assert (shown.name, shown.desired, shown.running, shown.maximum, shown.stale) == ("curation", 4, 4, 4, False)


async def test_another_is_started_where_steps_wait_for_long_and_no_worker_has_room(
    sessions: Sessions, machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = machine(steps="4")
    await demand(sessions, 3)
    async with DockerEngine(pool.engine.url, "") as engine:
        autoscaler = Autoscaler(Settings(), sessions, engine)
        for _ in range(3):
            (row,) = await autoscaler.round()
            assert (row.desired, pool.running()) == (1, 1), "one that has just been started has no slots yet"
        monkeypatch.setattr("services.autoscaler.autoscaler.FULL_SECONDS", 0.0)
        (row,) = await autoscaler.round()
        assert (row.desired, row.running, pool.running()) == (2, 2, 2)
        async with sessions() as session, session.begin():
            await WorkerRepository(session).beat(
                "roomy", host="here", process_id=1, roles=["curation"], slots=2, busy=0, draining=False
            )
        (row,) = await autoscaler.round()
        assert (row.desired, pool.running()) == (1, 2), "there is room"


async def test_what_has_not_changed_is_written_down_once_and_a_change_at_once(
    sessions: Sessions, machine: Callable[..., Machine]
) -> None:
    pool = machine()
    async with DockerEngine(pool.engine.url, "") as engine:
        autoscaler = Autoscaler(Settings(), sessions, engine)
        seen = []
        for jobs in (0, 0, 1):
            await demand(sessions, jobs)
            await autoscaler.round()
            async with sessions() as session:
                (shown,) = await PoolRepository(session).groups()
            seen.append((shown.desired, shown.seen_at))
    assert seen[0] == seen[1]
    assert seen[2][0] == 1
    assert seen[2][1] > seen[1][1]


async def test_what_leaves_is_started_again_only_when_steps_wait(
    sessions: Sessions, machine: Callable[..., Machine]
) -> None:
    pool = machine(LEAVES, 1)
    await demand(sessions, 1)
    async with DockerEngine(pool.engine.url, "") as engine:
        autoscaler = Autoscaler(Settings(), sessions, engine)
        await autoscaler.round()
        assert pool.ended(0)
        async with sessions() as session, session.begin():
            await session.execute(sa.text("UPDATE step SET state = 'succeeded' WHERE state = 'ready'"))
        (row,) = await autoscaler.round()
        assert (row.desired, row.running, row.failures) == (0, 0, 0)


async def test_a_group_whose_starts_crash_is_left_alone_for_a_while_and_says_so(
    sessions: Sessions, machine: Callable[..., Machine]
) -> None:
    pool = machine(CRASHES, 3)
    await demand(sessions, 6)
    async with DockerEngine(pool.engine.url, "") as engine:
        autoscaler = Autoscaler(Settings(), sessions, engine)
        await autoscaler.round()
        for child in pool.children:
            assert child.exit_status is not None or pool.ended(3)
        deadline = time.monotonic() + 60
        while (row := (await autoscaler.round())[0]).paused_seconds is None:
            assert time.monotonic() < deadline
        assert "starts in a row failed" in row.detail
        starts = pool.children[0].log.read_text() if pool.children[0].log.exists() else ""
        await autoscaler.round()
        assert (pool.children[0].log.read_text() if pool.children[0].log.exists() else "") == starts


async def test_gpus_that_a_model_server_has_are_not_waited_for(
    sessions: Sessions, machine: Callable[..., Machine]
) -> None:
    pool = machine(gpu_host="big")
    await demand(sessions, 8)
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text(
                "INSERT INTO gpu_slot (host, device, holder, lease_until) VALUES ('big', 0, NULL, NULL), "
                "('big', 1, 'server:a', now() + interval '1 minute'), ('other', 0, NULL, NULL)"
            )
        )
    async with DockerEngine(pool.engine.url, "") as engine:
        (row,) = await Autoscaler(Settings(), sessions, engine).round()
        assert (row.name, row.desired, pool.running()) == ("curation@big", 1, 1)
        assert "no GPU of big is free" in row.detail


async def test_of_a_project_only_containers_that_are_no_passing_commands_are_asked_for() -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(unquote(self.path))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for project in ("", "ours"):
        async with DockerEngine(f"http://127.0.0.1:{server.server_port}", project) as engine:
            assert await engine.containers() == []
    server.shutdown()
    thread.join()
    server.server_close()
    assert ["com.docker.compose.project=ours" in path for path in asked] == [False, True]
    assert ["com.docker.compose.oneoff=False" in path for path in asked] == [False, True]


async def test_a_container_that_is_not_ours_or_another_request_is_refused(machine: Callable[..., Machine]) -> None:
    pool = machine()
    async with DockerEngine(pool.engine.url, "") as engine:
        with pytest.raises(EngineUnreachable, match="404"):
            await engine.start("nobody")
        with pytest.raises(EngineUnreachable, match="403"):
            await engine._ask("POST", "/containers/w0/stop", {})
        with pytest.raises(EngineUnreachable, match="403"):
            await engine._ask("GET", "/containers/w0/json", {})
    async with DockerEngine("unix:///nowhere/engine.sock", "") as engine:
        with pytest.raises(EngineUnreachable, match="MULTIFACET_DOCKER_URL"):
            await engine.containers()


def test_nothing_to_start_with_is_told_at_the_start() -> None:
    import os
    import subprocess

    environment = {**os.environ, "MULTIFACET_DOCKER_URL": ""}
    done = subprocess.run(
        [sys.executable, "-m", "services.autoscaler"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "MULTIFACET_DOCKER_URL is not set" in done.stderr
