"""One embedded system for all tests here: real servers, real processes, the simulator as teacher."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.cli.client import ApiClient
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import EmbeddedSystem, running_system

END_STATES = {"succeeded", "failed", "cancelled"}
_SHORT_LEASES = {
    "MULTIFACET_LEASE_SECONDS": "4",
    "MULTIFACET_HEARTBEAT_SECONDS": "1",
    "MULTIFACET_HEARTBEAT_GIVE_UP_SECONDS": "3",
    "MULTIFACET_REDISPATCH_SECONDS": "3",
    "MULTIFACET_CANCEL_GRACE_SECONDS": "2",
    "MULTIFACET_LLM_CIRCUIT_OPEN_SECONDS": "2",
    "MULTIFACET_LAUNCHER_LEASE_SECONDS": "4",
}


STAND_IN = """
  stand-in:
    base_url: ${MULTIFACET_SIMULATOR_URL}
    models:
      simulator-large: {prompt_price: 0.4, completion_price: 1.6}
"""
"""The simulator by another name: a provider that counts as a real one, for what refuses the simulator."""


class Driver:
    """The system as a test uses it."""

    def __init__(self, system: EmbeddedSystem, state_folder: Path) -> None:
        self.system = system
        self.state_folder = state_folder
        self.client = ApiClient(system.api_url)

    def spec(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "test",
            "sources": [{"bundled": "demo", "limit": 48}],
            "teacher": {"provider": "simulator", "model": "simulator-small"},
            **changes,
        }

    def submit(self, **changes: Any) -> str:
        return str(self.client.post("/v1/jobs", self.spec(**changes))["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}")
        return found

    def until(self, job_id: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if holds(job):
                return job
            assert time.monotonic() < deadline, [(s["name"], s["state"], s["ledger"]) for s in job["stages"]]
            time.sleep(0.1)

    def finished(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: job["state"] in END_STATES)

    def until_responding(self, job_id: str, calls: int = 20) -> None:
        """Wait until so many of the job's calls for responses were answered; more of them are then still to come."""
        before = self.responses()
        self.until(job_id, lambda _: self.responses() - before >= calls)
        respond = next(stage for stage in self.job(job_id)["stages"] if stage["name"] == "respond")
        assert respond["state"] == "running"

    def responses(self) -> int:
        found = httpx2.get(f"{self.system.simulator_url}/simulator/statistics").json()
        return sum(found["calls"].get("respond", {}).values())

    def faults(self, plan: dict[str, Any]) -> None:
        httpx2.put(f"{self.system.simulator_url}/simulator/faults", json=plan).raise_for_status()

    def simulator_calls(self) -> int:
        found = httpx2.get(f"{self.system.simulator_url}/simulator/statistics").json()
        return int(found["total"])

    def pid(self, name: str) -> int:
        pid = next(child for child in self.system.children if child.name == name).pid
        assert pid is not None
        return pid


@pytest.fixture(scope="session")
def embedded() -> Iterator[Driver]:
    folder = Path(tempfile.mkdtemp(prefix="mf-e2e-"))
    folder.chmod(0o755)
    providers = folder / "providers.yaml"
    shipped = resources.files("shared.llm").joinpath("providers.yaml").read_text(encoding="utf-8")
    providers.write_text(shipped + STAND_IN)
    changes = {**_SHORT_LEASES, "MULTIFACET_PROVIDERS_FILE": str(providers)}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    ended = threading.Event()
    try:
        with running_system(StateFolder(folder), tell=lambda _: None) as system:

            def supervise() -> None:
                while not ended.wait(0.3):
                    system.supervise()

            thread = threading.Thread(target=supervise)
            thread.start()
            try:
                yield Driver(system, folder)
            finally:
                ended.set()
                thread.join()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def driver(embedded: Driver) -> Iterator[Driver]:
    """The system without faults; whatever a test injects is taken back."""
    embedded.faults({})
    yield embedded
    embedded.faults({})
