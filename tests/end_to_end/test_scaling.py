"""The one-machine system from no worker to as many as steps want and back to none, losing nothing on the way."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.client import ApiClient
from services.cli.embedded import supervisor
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import EmbeddedSystem, running_system

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(600)]

CHANGES = {"MULTIFACET_AUTOSCALER_SECONDS": "0.5", "MULTIFACET_WORKER_MOST_SLOTS": "2"}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedSystem]:
    monkeypatch.setattr(supervisor, "_IDLE_SECONDS", 2)
    for name, value in CHANGES.items():
        monkeypatch.setenv(name, value)
    folder = Path(tempfile.mkdtemp(prefix="mf-scale-"))
    folder.chmod(0o755)
    ended = threading.Event()
    try:
        with running_system(StateFolder(folder), workers=0, most_workers=2, tell=lambda _: None) as system:

            def supervise() -> None:
                while not ended.wait(0.3):
                    system.supervise()

            thread = threading.Thread(target=supervise)
            thread.start()
            try:
                yield system
            finally:
                ended.set()
                thread.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(client: ApiClient, holds: Callable[[dict[str, Any]], bool], seconds: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not holds(found := client.get("/v1/pools")):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return dict(found)


def test_from_none_to_two_and_back_to_none_with_every_row_there(system: EmbeddedSystem) -> None:
    client = ApiClient(system.api_url)
    until(client, lambda found: [group["desired"] for group in found["groups"]] == [0])
    assert client.get("/v1/pools")["workers"] == []
    spec = {
        "name": "scale",
        "sources": [{"bundled": "demo", "limit": 64}],
        "teacher": {"provider": "simulator", "model": "simulator-small"},
        "stop_after": "respond",
    }
    job_id = client.post("/v1/jobs", spec)["id"]
    until(client, lambda found: len(found["workers"]) == 2)
    deadline = time.monotonic() + 300
    while (job := client.get(f"/v1/jobs/{job_id}"))["state"] not in {"succeeded", "failed", "cancelled"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    assert job["state"] == "succeeded", job["error"]
    for stage in job["stages"]:
        ledger = stage["ledger"]
        assert ledger["rows_in"] == ledger["rows_out"] + ledger["rows_rejected"]
    found = until(client, lambda found: not found["workers"] and found["groups"][0]["running"] == 0)
    (autoscaler,) = (child for child in system.children if child.name == "autoscaler")
    assert (found["groups"][0]["desired"], found["groups"][0]["failures"]) == (0, 0), autoscaler.log_end()
    workers = [child for child in system.children if child.name.startswith("worker-")]
    assert [worker.exit_status for worker in workers] == [0, 0]
