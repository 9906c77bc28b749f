"""Events of jobs: pages, streams, and streams that were cut off; against a server in a process of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import sqlalchemy as sa

from services.api.state import ApiState
from shared.domain.states import JobState
from shared.metadata.repositories.jobs import JobRepository
from shared.settings import Settings
from tests.services.api.support import (
    ADMIN_KEY,
    add_event,
    api_settings,
    assert_problem,
    end_job,
    running_server,
    submit_directly,
)

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}", "Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def server(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("server")
    settings: Settings = api_settings(postgres_url, folder)
    with running_server(settings) as url:
        yield url


async def messages(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """Events of a stream as {id, event, data}; comments come as {comment}."""
    message: dict[str, Any] = {}
    async for line in response.aiter_lines():
        if line == "":
            if message:
                yield message
            message = {}
        elif line.startswith(":"):
            message["comment"] = line
        else:
            name, _, value = line.partition(": ")
            message[name] = orjson.loads(value) if name == "data" else value


async def read(server: str, job_id: str, count: int | None = None, **headers: str) -> list[dict[str, Any]]:
    """`count` events (all to the end for None) of one connection, comments left out."""
    found: list[dict[str, Any]] = []
    async with (
        httpx2.AsyncClient(base_url=server, headers={**HEADERS, **headers}, timeout=30) as client,
        client.stream("GET", f"/v1/jobs/{job_id}/events") as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        if count == 0:
            return found
        async for message in messages(response):
            if "event" in message:
                found.append(message)
            if count is not None and len(found) >= count:
                return found
    return found


async def test_a_stream_tells_everything_and_ends_with_the_job(server: str, state: ApiState) -> None:
    job = await submit_directly(state)
    reading = asyncio.create_task(read(server, job.id))
    for number in range(30):
        await add_event(state, job.id, number)
    await end_job(state, job.id)

    found = await asyncio.wait_for(reading, 30)

    assert [message["id"] for message in found[:-1]] == [str(number) for number in range(1, 33)]
    assert [message["data"]["data"]["number"] for message in found[1:-2]] == list(range(30))
    assert found[-2]["event"] == "job.state"
    assert found[-2]["data"]["data"]["state"] == "succeeded"
    assert found[-1]["event"] == "end"
    assert "id" not in found[-1]


async def test_a_stream_resumes_where_it_was_cut_off(server: str, state: ApiState) -> None:
    job = await submit_directly(state)

    async def write() -> None:
        for number in range(120):
            await add_event(state, job.id, number)
            await asyncio.sleep(0.003)
        await end_job(state, job.id)

    writing = asyncio.create_task(write())
    seen: list[str] = []
    while not seen or seen[-1] != "end":
        resumed = {} if not seen else {"Last-Event-ID": seen[-1]}
        part = await asyncio.wait_for(read(server, job.id, 7, **resumed), 30)
        seen += [message.get("id", "end") for message in part]
    await writing

    assert seen == [str(number) for number in range(1, 123)] + ["end"]


async def test_many_streams_are_fed_by_one_listener(server: str, state: ApiState) -> None:
    jobs = [await submit_directly(state) for _ in range(5)]
    readings = [asyncio.create_task(read(server, job.id)) for job in jobs for _ in range(4)]
    await asyncio.sleep(0.5)
    async with state.transaction() as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"

        listeners = (await session.execute(sa.text(query))).scalar_one()
    for job in jobs:
        for number in range(10):
            await add_event(state, job.id, number)
        await end_job(state, job.id)

    found = await asyncio.wait_for(asyncio.gather(*readings), 30)

    assert listeners == 2  # the server's and that of the app in this process
    assert all([message["id"] for message in stream[:-1]] == [str(n) for n in range(1, 13)] for stream in found)


async def test_events_come_again_after_the_listener_lost_its_connection(server: str, state: ApiState) -> None:

    job = await submit_directly(state)
    reading = asyncio.create_task(read(server, job.id))
    await asyncio.sleep(0.3)
    async with state.transaction() as session:
        await session.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
        )
    await add_event(state, job.id, 1)
    await end_job(state, job.id)

    assert [message["event"] for message in await asyncio.wait_for(reading, 30)] == [
        "job.state",
        "note",
        "job.state",
        "end",
    ]


async def test_who_knows_the_end_is_told_not_to_come_back(server: str, state: ApiState) -> None:
    job = await submit_directly(state)
    await end_job(state, job.id)
    async with httpx2.AsyncClient(base_url=server, headers=HEADERS) as client:
        path = f"/v1/jobs/{job.id}/events"
        assert (await client.get(path, headers={"Last-Event-ID": "2"})).status_code == 204
        partly = await client.get(path, headers={"Last-Event-ID": "1"})
        assert partly.text.count("id: ") == 1
        assert_problem(await client.get(path, headers={"Last-Event-ID": "x"}), 422)
        assert_problem(await client.get(path, headers={"Authorization": ""}), 401)


async def test_a_retried_job_goes_on_telling(server: str, state: ApiState) -> None:
    job = await submit_directly(state)
    await end_job(state, job.id, JobState.FAILED)
    async with state.transaction() as session:
        await JobRepository(session).retry("default", job.id)
    reading = asyncio.create_task(read(server, job.id))
    await asyncio.sleep(0.2)
    await end_job(state, job.id)

    states = [message["data"]["data"]["state"] for message in (await asyncio.wait_for(reading, 30))[:-1]]

    assert states == ["queued", "failed", "queued", "succeeded"]


async def test_pages_of_events(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)
    for number in range(9):
        await add_event(state, job.id, number)

    seen: list[int] = []
    page: dict[str, Any] = {"last": 0}
    for _ in range(4):
        answer = await client.get(
            f"/v1/jobs/{job.id}/events",
            params={"after": page["last"], "limit": 4},
            headers={"Accept": "application/json"},
        )
        page = answer.json()
        seen += [event["sequence"] for event in page["items"]]

    assert seen == list(range(1, 11))
    assert (page["state"], page["ended"], page["items"]) == ("queued", False, [])
    await end_job(state, job.id)
    answer = await client.get(f"/v1/jobs/{job.id}/events", params={"after": 10}, headers={"Accept": "application/json"})
    assert (answer.json()["ended"], answer.json()["last"]) == (True, 11)


async def test_a_server_that_stops_lets_its_streams_go(postgres_url: str, state: ApiState, tmp_path: Path) -> None:
    job = await submit_directly(state)
    with running_server(api_settings(postgres_url, tmp_path)) as url:
        reading = asyncio.create_task(read(url, job.id))
        await asyncio.sleep(1)
        assert not reading.done()
    # The server was ended by SIGTERM while the stream was open: the stream ends properly, in the middle of the job.

    assert [message["event"] for message in await asyncio.wait_for(reading, 10)] == ["job.state"]
