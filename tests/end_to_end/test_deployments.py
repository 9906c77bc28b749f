"""Deployments through the whole system: real api, controller and launcher processes, a stand-in in TGI's place."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from typer.testing import CliRunner

from services.cli.client import Unreachable
from services.cli.main import app
from shared.artifacts.directory import DirectoryStore
from shared.domain.models import ModelRegistration
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.repositories.serving import ServingRepository
from shared.metadata.tables import Job, Project
from tests.end_to_end.conftest import Driver
from tests.services.inference.launching import Launcher, crash, generate, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class _Api:
    """Where the launcher of a test finds the api."""

    def __init__(self, url: str) -> None:
        self.http = type("Http", (), {"url": url})


class Serving:
    """Deployments of one test, on launchers of its own."""

    def __init__(self, driver: Driver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.name = f"model-{uuid4().hex[:8]}"
        self.launchers: list[Launcher] = []
        record = driver.system._state.record()
        assert record is not None
        self.database_url = record.database_url

    def launcher(self, name: str, places: int = 1) -> Launcher:
        made = Launcher(
            _Api(self.driver.system.api_url),  # type: ignore[arg-type]
            self.folder / name,
            "--name", f"{self.name}-{name}", "--kind", "tgi", "--gpus-per-place", "0", "--places", str(places),
            "--replace", "overlap",
        )  # fmt: skip
        self.launchers.append(made)
        return made

    def model(self, **behaviour: Any) -> str:
        """A registered model that makes the stand-in behave so."""
        return asyncio.run(self._register(json.dumps(behaviour).encode()))

    async def _register(self, content: bytes) -> str:
        job_id = f"job_{uuid4().hex}"
        store = DirectoryStore(self.driver.state_folder / "artifacts")
        stored = await store.put_bytes(f"artifacts/default/{job_id}/50-sft/model/behaviour.json", content)
        engine = create_engine(self.database_url, pool_size=1)
        async with session_factory(engine)() as session, session.begin():
            await session.execute(insert(Project).values(id="default").on_conflict_do_nothing())
            await session.execute(
                sa.insert(Job).values(
                    id=job_id, project_id="default", name="made by a test", spec={}, taxonomy={}, state="succeeded",
                    teacher_is_simulator=True, max_reject_rate=1.0, run_no=1, settled_at=sa.func.now(),
                )
            )  # fmt: skip
            await ArtifactRepository(session).add(
                project_id="default", job_id=job_id, stage="sft", name="model/behaviour.json", key=stored.key, kind="model",
                media_type="application/json", sha256=stored.sha256, size=stored.size, step_id="step_1",
            )  # fmt: skip
            registration = ModelRegistration("made by a test", "sft", "full", {}, 7, "float32", {}, {}, False)
            model_id = await ModelRepository(session).add(
                project_id="default", job_id=job_id, stage="sft", attempt_id=1, registration=registration
            )
        await engine.dispose()
        return model_id

    def deploy(self, model: str, name: str | None = None) -> dict[str, Any]:
        body = {"name": name or self.name, "target": {"registry": model}, "options": {"server": "tgi"}}
        made: dict[str, Any] = self.driver.client.post("/v1/deployments", body)
        return made

    def show(self, name: str | None = None) -> dict[str, Any]:
        shown: dict[str, Any] = self.driver.client.get(f"/v1/deployments/{name or self.name}")
        return shown

    def until(
        self, holds: Callable[[dict[str, Any]], Any], name: str | None = None, seconds: float = 60
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            now = self.show(name)
            if holds(now):
                return now
            assert time.monotonic() < deadline, (now, [launcher.said()[-3000:] for launcher in self.launchers])
            time.sleep(0.05)

    def until_ready(self, revision: int, name: str | None = None) -> dict[str, Any]:
        return self.until(lambda now: now["state"] == "ready" and now["serving_revision"] == revision, name)

    def address(self, name: str | None = None) -> str | None:
        """Where clients of the deployment are sent now."""

        async def find() -> str | None:
            engine = create_engine(self.database_url, pool_size=1)
            async with session_factory(engine)() as session:
                found = await ServingRepository(session).find("default", name or self.name)
            await engine.dispose()
            return None if found is None else found.server_address

        return asyncio.run(find())

    def answer(self) -> str:
        address = self.address()
        assert address is not None
        return str(generate(address)["generated_text"])


@pytest.fixture
def serving(driver: Driver, tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(driver, tmp_path)
    yield serving
    for launcher in serving.launchers:
        launcher.close()
    for row in driver.client.get("/v1/deployments")["items"]:
        driver.client.delete(f"/v1/deployments/{row['id']}")


def test_deployed_replaced_failed_rolled_back_crashed_and_undeployed(serving: Serving) -> None:
    assert "no server of kind tgi is there" in serving.deploy(serving.model(answer="one"))["detail"]
    launcher = serving.launcher("only")
    serving.until_ready(1)
    assert serving.answer() == "one"

    serving.deploy(serving.model(answer="two"))
    serving.until_ready(2)
    assert serving.answer() == "two"

    serving.deploy(serving.model(exit=3))
    kept = serving.until(lambda now: now["revisions"][0]["state"] == "failed")
    assert (kept["state"], kept["serving_revision"]) == ("ready", 2)
    assert "ended with status 3" in kept["detail"]
    assert "out of memory" in kept["revisions"][0]["error"]
    assert serving.answer() == "two"

    serving.driver.client.post(f"/v1/deployments/{serving.name}/rollback")
    serving.until_ready(4)
    assert serving.answer() == "one"

    address = serving.address()
    assert address is not None
    crash(address)
    serving.until(lambda now: any(event["type"] == "restarting" for event in now["events"]))
    serving.until_ready(4)
    assert serving.answer() == "one"

    last = serving.address()
    assert last is not None
    serving.driver.client.delete(f"/v1/deployments/{serving.name}")
    assert serving.address() is None
    until_silent(last)
    assert launcher.process.poll() is None


def test_a_killed_launchers_deployment_moves_to_one_that_is_there(serving: Serving) -> None:
    first = serving.launcher("first")
    serving.deploy(serving.model(answer="moved"))
    serving.until_ready(1)
    address = serving.address()
    assert address is not None
    left_running = generate(address)["pid"]
    serving.launcher("second")
    first.kill()
    lost = serving.until(lambda now: any(event["type"] == "lost" for event in now["events"]))
    assert "has not been heard of" in next(event["detail"] for event in lost["events"] if event["type"] == "lost")
    found = serving.until(
        lambda now: now["state"] == "ready" and [place["id"] for place in now["places"]] == [f"{serving.name}-second/0"]
    )
    assert found["serving_revision"] == 1
    assert serving.answer() == "moved"
    first.start()  # it ends what it left running, and takes nothing from the other
    deadline = time.monotonic() + 60
    while runs(left_running):
        assert time.monotonic() < deadline, first.said()[-3000:]
        time.sleep(0.1)
    serving.until_ready(1)
    assert serving.answer() == "moved"


def test_a_launcher_that_is_stopped_gives_its_deployment_to_another_at_once(serving: Serving) -> None:
    first = serving.launcher("first")
    serving.deploy(serving.model(answer="handed over"))
    serving.until_ready(1)
    serving.launcher("second")
    first.stop()
    serving.until(
        lambda now: now["state"] == "ready" and [place["id"] for place in now["places"]] == [f"{serving.name}-second/0"]
    )
    assert serving.answer() == "handed over"


def test_the_api_and_the_controller_may_be_killed_and_what_serves_serves_on(serving: Serving) -> None:
    serving.launcher("only")
    serving.deploy(serving.model(answer="steady"))
    serving.until_ready(1)
    address = serving.address()
    assert address is not None
    pid = generate(address)["pid"]
    for name in ("api", "controller"):
        os.kill(serving.driver.pid(name), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            serving.show()
            break
        except Unreachable:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert generate(address)["pid"] == pid
    serving.until_ready(1)
    assert serving.address() == address


def test_the_command_deploys_shows_rolls_back_and_stops(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIFACET_URL", serving.driver.system.api_url)
    serving.launcher("only")
    one, two, broken = serving.model(answer="one"), serving.model(answer="two"), serving.model(exit=3)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["deployments", *arguments], env={"COLUMNS": "200"})
        return result.exit_code, result.output

    def create(model: str) -> tuple[int, str]:
        return run("create", serving.name, "--model", model, "--server", "tgi", "--wait")

    assert create(one)[0] == 0
    assert create(two)[0] == 0
    code, said = create(broken)
    assert code == 1
    assert "could not be served" in said
    assert run("rollback", serving.name, "--wait")[0] == 0
    assert serving.answer() == "one"
    code, said = run("show", serving.name)
    assert code == 0
    assert "rollback" in said
    assert "out of memory" in said
    assert serving.name in run()[1]
    assert run("stop", serving.name)[1].strip() == f"{serving.name} stopped"
    assert serving.name not in run()[1]


def until_silent(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx2.get(f"{address}/health", timeout=2)
        except httpx2.TransportError:
            return
        time.sleep(0.1)
    raise AssertionError(f"{address} still answers")
