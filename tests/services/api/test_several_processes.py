"""An api of two processes: both answer at one port, a key works in both, and both end with it."""

import time
from pathlib import Path

import httpx2
import psutil
import pytest

from shared.settings import Settings
from tests.services.api.support import ADMIN_KEY, running_server

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_LONGEST_SECONDS = 200.0


def test_two_processes_share_the_port_and_end_together(settings: Settings, tmp_path: Path) -> None:
    environment = {"MULTIFACET_API_WORKERS": "2", "TMPDIR": str(tmp_path)}
    with running_server(settings, environment) as url:
        # Other modules' servers may live beside it: its port tells it from them.
        (api,) = [child for child in psutil.Process().children() if _port(child) == url.rpartition(":")[2]]
        deadline = time.monotonic() + _LONGEST_SECONDS
        while len(serving := _serving(api)) < 2:
            assert time.monotonic() < deadline, f"processes of the api: {[one.cmdline() for one in api.children()]}"
            time.sleep(0.2)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        # A connection for each request: the kernel gives them to either process.
        answers = [httpx2.get(f"{url}/v1/jobs", headers=headers, timeout=60) for _ in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20
    _, alive = psutil.wait_procs(serving, timeout=60)
    assert alive == []


def _port(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("MULTIFACET_API_PORT")
    except psutil.Error:  # ended meanwhile
        return None


def _serving(api: psutil.Process) -> list[psutil.Process]:
    """Children that serve: multiprocessing starts a helper beside them."""
    return [child for child in api.children() if any("spawn_main" in part for part in child.cmdline())]
