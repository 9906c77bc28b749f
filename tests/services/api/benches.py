"""Benches for tests of the api: one of a job, one of an uploaded file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from services.api.state import ApiState
from shared.artifacts.tables import write_rows
from shared.domain.benches import BENCH_ROWS_FILE, BenchRegistration
from shared.domain.rows import InstructionRow
from shared.metadata.repositories.benches import BenchRepository
from shared.stages.answer_inputs import bench_object
from tests.services.api.support import add_artifact, end_job, submit_directly


async def bench_of_job(state: ApiState, folder: Path, rows: Sequence[InstructionRow], name: str = "made") -> str:
    """A bench that a simulator's job kept; its id."""
    job = await submit_directly(state)
    await end_job(state, job.id)
    path = folder / f"{job.id}-{BENCH_ROWS_FILE}"
    write_rows(path, rows)
    await add_artifact(state, job, "bench", BENCH_ROWS_FILE, path, ordinal=6, rows=len(rows))
    items = sum(len(row.facets) for row in rows)
    async with state.transaction() as session:
        registration = BenchRegistration(name, len(rows), items, "simulator/simulator-large")
        return await BenchRepository(session).add(job.project_id, registration, job_id=job.id)


async def uploaded(client: httpx2.AsyncClient, lines: Sequence[dict[str, Any]], name: str = "mine.jsonl") -> str:
    """The id of an uploaded file of JSON lines."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    answer = await client.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    identifier: str = answer.json()["id"]
    return identifier


async def lose_bytes(state: ApiState, bench_id: str) -> None:
    """Take the items of a bench out of the store."""
    async with state.transaction() as session:
        bench = await BenchRepository(session).require("default", bench_id)
        held = await bench_object(session, bench)
    assert held is not None
    await state.store.delete(held.key)
