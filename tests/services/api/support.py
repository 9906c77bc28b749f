"""What the api's tests share: an application in this process or in its own, and jobs that look finished."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from pydantic import SecretStr

from services.api.app import bootstrap, create_app
from services.api.state import ApiState
from shared.artifacts.layout import job_file_key, stage_folder
from shared.artifacts.tables import REJECTED_ROW_SCHEMA, write_records, write_rows
from shared.domain.jobs import JobSpec
from shared.domain.rows import Check, Facet, InstructionRow, Preference, Rejection
from shared.domain.states import JobState
from shared.domain.taxonomy import default_taxonomy
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from shared.settings import Settings
from tests.support.servers import free_port

ADMIN_KEY = "mf_test-admin-key-that-is-long-enough-0123456789"
SPEC: dict[str, Any] = {
    "name": "small",
    "sources": [{"bundled": "demo", "limit": 5}],
    "teacher": {"provider": "simulator", "model": "simulator-large"},
}


def api_settings(postgres_url: str, folder: Path, **changes: Any) -> Settings:
    return Settings(
        database_url=postgres_url,
        artifact_store="directory",
        artifact_directory=folder / "store",
        work_folder=folder,
        bootstrap_key=SecretStr(ADMIN_KEY),
    ).model_copy(update=changes)


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    await bootstrap(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, key: str | None = ADMIN_KEY, base_url: str = "http://testserver") -> httpx2.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=base_url, headers=headers)


def state_of(app: FastAPI) -> ApiState:
    state: ApiState = app.state.api
    return state


@contextmanager
def running_server(settings: Settings, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """`python -m services.api` in a process of its own; its base URL."""
    port = free_port()
    values = {
        "MULTIFACET_DATABASE_URL": settings.database_url,
        "MULTIFACET_ARTIFACT_DIRECTORY": str(settings.artifact_directory),
        "MULTIFACET_WORK_FOLDER": str(settings.work_folder),
        "MULTIFACET_API_PORT": str(port),
        "MULTIFACET_BOOTSTRAP_KEY": ADMIN_KEY,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.api"],
        env={**os.environ, **values, **(environment or {})},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                httpx2.get(f"{url}/health/live").raise_for_status()
                break
            except httpx2.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the api did not start") from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(120)


async def submit_directly(state: ApiState, project_id: str = "default", **changes: Any) -> Job:
    """A job stored without the api's checks."""
    spec = JobSpec.model_validate({**SPEC, **changes})
    async with state.transaction() as session:
        job, _ = await JobRepository(session).submit(
            project_id, spec, default_taxonomy(), teacher_is_simulator=True, estimate=None
        )
    return job


async def end_job(state: ApiState, job_id: str, end: JobState = JobState.SUCCEEDED) -> None:
    """Set an end state with its event in one transaction, as the controller does."""
    async with state.transaction() as session:
        job = await session.get_one(Job, job_id)
        job.state = end.value
        if end is JobState.FAILED:
            job.error = {"code": "teacher_failed", "message": "the teacher failed"}
        await session.flush()
        await EventRepository(session).append(job_id, "job.state", {"state": end.value})


async def add_event(state: ApiState, job_id: str, number: int) -> int:
    async with state.transaction() as session:
        return await EventRepository(session).append(job_id, "note", {"number": number})


async def add_artifact(
    state: ApiState,
    job: Job,
    stage: str,
    name: str,
    path: Path,
    *,
    ordinal: int = 0,
    rows: int | None = None,
    media_type: str = "application/vnd.apache.parquet",
    job_level: bool = False,
) -> str:
    """Store a file as an artifact of a job; returns the artifact's id."""
    key = (
        job_file_key(job.project_id, job.id, name, 1)
        if job_level
        else f"{stage_folder(job.project_id, job.id, ordinal, stage)}/{name}"
    )
    stored = await state.store.put_file(key, path, media_type)
    async with state.transaction() as session:
        return await ArtifactRepository(session).add(
            project_id=job.project_id,
            job_id=job.id,
            stage=stage,
            name=name,
            key=key,
            kind="table" if rows is not None else "report",
            media_type=media_type,
            sha256=stored.sha256,
            size=stored.size,
            rows=rows,
        )


def preference(dimension: str, subdimension: str, pole: str, keywords: str = "short answers") -> Preference:
    check = Check("maximum_words", {"words": 50}) if keywords == "short answers" else None
    return Preference(dimension, subdimension, keywords, f"Wants {keywords}.", pole, check=check)


def instruction_row(number: int) -> InstructionRow:
    """Row `number`: two facets; the second of every third row is rejected. Dimensions alternate by number."""
    poles = ("brief", "thorough")
    facets = [
        Facet(
            index=index,
            preferences=[
                preference("style", "conciseness", poles[(number + index) % 2]),
                preference("informativeness", f"depth {number % 4}", poles[index], f"keyword {number % 10}"),
            ],
            system=f"You are helper {number}.",
            response=f"Answer {number} of facet {index}. " + ("Needle" if number % 50 == 7 else "Hay"),
            check_results={"conciseness": "pass"},
        )
        for index in range(2)
    ]
    if number % 3 == 0:
        facets[1].rejection = Rejection("respond", "too_similar", "it says the same")
    return InstructionRow(f"{number:016x}", f"Question number {number}?", "set", "set", number, facets=facets)


async def job_with_rows(state: ApiState, folder: Path, rows: int = 120, part_rows: int = 50) -> Job:
    """A job whose stage `respond` has parts of `part_rows` rows, and whose curation rejected three."""
    job = await submit_directly(state)
    everything = [instruction_row(number) for number in range(rows)]
    for shard, start in enumerate(range(0, rows, part_rows)):
        path = folder / f"part-{shard}.parquet"
        count = await asyncio.to_thread(write_rows, path, everything[start : start + part_rows])
        await add_artifact(state, job, "respond", f"part-{shard:05d}.parquet", path, ordinal=3, rows=count)
    rejected = [
        {"main_source": "set", "source_row": n, "reason": reason, "detail": "seen", "text": "x"}
        for n, reason in enumerate(("duplicate", "duplicate", "persona"))
    ]
    path = folder / "rejected.parquet"
    await asyncio.to_thread(write_records, path, rejected, REJECTED_ROW_SCHEMA)
    await add_artifact(state, job, "curate", "rejected.parquet", path, rows=3)
    return job


def assert_problem(
    response: httpx2.Response, status: int, code: str | None = None, pointers: Iterable[str] = ()
) -> Any:
    """The answer is a whole RFC 9457 problem with these pointers; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert {"type", "title", "status", "detail", "instance", "code", "errors"} <= body.keys()
    assert body["status"] == status
    assert body["instance"] == response.request.url.path
    if code is not None:
        assert body["code"] == code
        assert body["type"].endswith(code)
    seen = [error["pointer"] for error in body["errors"]]
    assert set(pointers) <= set(seen), body
    return body
