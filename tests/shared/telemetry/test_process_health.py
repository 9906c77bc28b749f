"""Controllers, leading and waiting, and workers show that they live, and no longer do when they hang."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.telemetry.healthy import VARIABLE, fault
from tests.support.control_plane import ControlPlane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

OLDEST_SECONDS = 2.0


@pytest.fixture
def plane(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(postgres_url, redis_url, tmp_path)
    yield plane
    plane.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def test_a_process_is_well_while_it_works_and_not_while_it_hangs(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def well(name: str) -> bool:
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        return fault(OLDEST_SECONDS) is None

    processes = {
        "leader": plane.start("services.controller", **{VARIABLE: str(tmp_path / "leader")}),
        "waiting": plane.start("services.controller", **{VARIABLE: str(tmp_path / "waiting")}),
        "worker": plane.start_worker("curation", **{VARIABLE: str(tmp_path / "worker")}),
    }
    assert not any(map(well, processes))
    for name, process in processes.items():
        await until(lambda name=name: well(name), f"{name} never showed that it lives\n{plane.logs()}")  # type: ignore[misc]
        process.send_signal(signal.SIGSTOP)
        await until(lambda name=name: not well(name), f"{name} hangs and counts as well")  # type: ignore[misc]
        process.send_signal(signal.SIGCONT)
        await until(lambda name=name: well(name), f"{name} goes on and does not count as well")  # type: ignore[misc]


async def test_a_worker_without_its_database_is_not_well(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "worker"))
    nowhere = "postgresql+psycopg://multifacet@127.0.0.1:9/multifacet"
    worker = plane.start_worker("curation", **{VARIABLE: str(tmp_path / "worker"), "MULTIFACET_DATABASE_URL": nowhere})
    await until(lambda: "worker_not_registered" in plane.logs(), "the worker never said that it has no database")
    assert worker.poll() is None
    assert fault(OLDEST_SECONDS) is not None
