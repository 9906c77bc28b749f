"""`GET /metrics` of a running application: who may read it, what it holds, and that it answers without a database."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from services.api.request_metrics import counted_together
from services.api.state import ApiState
from services.api.system_metrics import SystemMetrics
from shared.domain.plan import SERVICES
from shared.metadata.engine import create_engine, session_factory
from shared.settings import Settings
from tests.services.api.support import api_settings, client_of, running_app, running_server, submit_directly
from tests.support.servers import free_port

TOKEN = "a-token-of-prometheus"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return api_settings(postgres_url, tmp_path, metrics_token=SecretStr(TOKEN))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_only_whoever_has_the_token_reads_metrics(client: httpx2.AsyncClient, app: FastAPI) -> None:
    with_key = await client.get("/metrics")
    assert (with_key.status_code, with_key.json()["code"]) == (401, "unauthorized")
    async with client_of(app, None) as nobody:
        assert (await nobody.get("/metrics")).status_code == 401
        assert (await nobody.get("/metrics", headers={"Authorization": TOKEN})).status_code == 401
        answer = await nobody.get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")


async def test_without_a_token_nobody_reads_metrics(postgres_url: str, tmp_path: Path) -> None:
    async with running_app(api_settings(postgres_url, tmp_path)) as app, client_of(app) as client:
        answer = await client.get("/metrics", headers={"Authorization": "Bearer "})
    assert (answer.status_code, answer.json()["code"]) == (403, "metrics_refused")
    assert "MULTIFACET_METRICS_TOKEN" in answer.json()["detail"]


async def test_loopback_mode_asks_for_no_token(postgres_url: str, tmp_path: Path) -> None:
    settings = api_settings(postgres_url, tmp_path, authentication="loopback")
    async with running_app(settings) as app, client_of(app, None, "http://127.0.0.1") as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_every_state_of_every_pool_is_told_also_where_nothing_is(app: FastAPI, state: ApiState) -> None:
    await submit_directly(state)
    async with client_of(app, None) as client:
        found = samples((await client.get("/metrics", headers=BEARER)).text)
    assert found["multifacet_database_up", ()] == 1
    assert found["multifacet_jobs", (("state", "queued"),)] >= 1
    assert found["multifacet_jobs", (("state", "cancelling"),)] == 0
    for pool in SERVICES:
        assert ("multifacet_oldest_ready_step_seconds", (("pool", pool),)) in found
        assert found["multifacet_steps", (("pool", pool), ("state", "skipped"))] == 0
        assert found["multifacet_attempts_ended_total", (("end", "lost"), ("pool", pool))] == 0
        assert found["multifacet_workers", (("pool", pool), ("state", "live"))] == 0
    assert found["multifacet_gpu_slots", (("holder", "free"),)] == 0
    assert found["multifacet_controller_leads", ()] == 0


async def test_requests_are_timed_by_route_and_never_by_path(app: FastAPI) -> None:
    async with client_of(app) as client:
        before = samples((await client.get("/metrics", headers=BEARER)).text)
        await client.get("/v1/jobs/job_unknown")
        await client.get("/v1/models")
        await client.get("/static/multifacet.css")
        await client.get("/no/such/page")
        await client.request("BREW", "/v1/jobs")
        text = (await client.get("/metrics", headers=BEARER)).text
        after = samples(text)

    def grown(method: str, route: str, status: str) -> float:
        at = (
            "multifacet_http_request_seconds_count",
            (("method", method), ("route", route), ("status", status)),
        )
        return after.get(at, 0) - before.get(at, 0)

    assert grown("GET", "/v1/jobs/{job_id}", "4xx") == 1
    assert grown("GET", "/v1/models", "2xx") == 1
    assert grown("GET", "/static/{path}", "2xx") == 1
    assert grown("GET", "none", "4xx") == 1
    assert grown("other", "/v1/jobs", "4xx") == 1
    assert "job_unknown" not in text
    assert "such" not in text


async def test_openmetrics_is_given_to_who_asks_for_it(app: FastAPI) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    async with client_of(app, None) as client:
        answer = await client.get("/metrics", headers={**BEARER, "Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.count("# EOF") == 1
    assert answer.text.endswith("# EOF\n")


async def test_a_database_that_is_away_is_told_in_a_good_answer(app: FastAPI, state: ApiState) -> None:
    engine = create_engine(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none", pool_size=1)
    object.__setattr__(state, "system_metrics", SystemMetrics(session_factory(engine), 20))
    async with client_of(app, None) as client:
        answer = await client.get("/metrics", headers=BEARER)
    await engine.dispose()
    found = samples(answer.text)
    assert answer.status_code == 200
    assert found["multifacet_database_up", ()] == 0
    assert not any(name == "multifacet_jobs" for name, _ in found)
    assert any(name == "multifacet_http_request_seconds_count" for name, _ in found)


async def test_figures_are_counted_once_for_scrapes_that_follow_each_other(app: FastAPI, state: ApiState) -> None:
    first, second = await state.system_metrics.collector(), await state.system_metrics.collector()
    assert first._figures is second._figures is not None


@pytest.mark.timeout(600)
def test_an_api_process_tells_its_own_memory_and_time(settings: Settings) -> None:
    with running_server(settings, {"MULTIFACET_METRICS_TOKEN": TOKEN}) as url:
        text = httpx2.get(f"{url}/metrics", headers=BEARER, timeout=60).text
    found = samples(text)
    assert found["process_resident_memory_bytes", ()] > 10_000_000
    assert found["multifacet_database_up", ()] == 1


@pytest.mark.timeout(600)
def test_processes_behind_one_port_count_together() -> None:
    counting = """
from services.api.request_metrics import REQUEST_SECONDS
REQUEST_SECONDS.labels("GET", "/a/route", "2xx").observe(0.2)
"""
    telling = """
from prometheus_client import generate_latest
from services.api.request_metrics import process_registry
print(generate_latest(process_registry()).decode())
"""

    def run(program: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=300
        ).stdout

    with counted_together():
        run(counting)
        run(counting)
        found = samples(run(telling))
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    labels = (("method", "GET"), ("route", "/a/route"), ("status", "2xx"))
    assert found["multifacet_http_request_seconds_count", labels] == 2
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_api_of_several_processes_tells_the_requests_of_all(settings: Settings) -> None:
    environment = {"MULTIFACET_METRICS_TOKEN": TOKEN, "MULTIFACET_API_WORKERS": "2"}
    with running_server(settings, environment) as url:
        # A connection stays with its process, so each request has its own.
        for _ in range(40):
            httpx2.get(f"{url}/health/live", timeout=60).raise_for_status()
        found = samples(httpx2.get(f"{url}/metrics", headers=BEARER, timeout=60).text)
    labels = (("method", "GET"), ("route", "/health/live"), ("status", "2xx"))
    assert found["multifacet_http_request_seconds_count", labels] >= 40
