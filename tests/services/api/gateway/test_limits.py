"""Limits of keys as clients meet them: rates, daily quotas, caps, scopes, and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI

from services.api.gateway import keys
from services.api.state import ApiState
from shared.domain.identifiers import new_id
from shared.llm.servers.errors import ServerUnavailable
from shared.llm.servers.protocol import Piece, TokenUsage
from shared.settings import Settings
from tests.services.api.gateway.support import FakeServers, deploy, eventually, listening
from tests.services.api.support import ADMIN_KEY, api_settings, client_of, running_app, state_of

HELLO: list[Any] = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def settings(postgres_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return api_settings(postgres_url, tmp_path, redis_url=redis_url, live_open_requests=3)


@pytest.fixture
async def model(state: ApiState) -> str:
    """Name of a deployment of this test alone."""
    name = new_id("model").replace("_", "-")
    await deploy(state, name)
    return name


async def make_key(client: httpx2.AsyncClient, *scopes: str, **limits: int) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json={"name": "test", "scopes": list(scopes or ("chat",)), **limits})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def speaker(url: str, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def ask(ai: openai.AsyncOpenAI, model: str, **fields: Any) -> Any:
    return await ai.chat.completions.with_raw_response.create(model=model, messages=HELLO, **fields)


@asynccontextmanager
async def two_processes(
    url: str, settings: Settings, key: str
) -> AsyncIterator[tuple[openai.AsyncOpenAI, openai.AsyncOpenAI, ApiState]]:
    """A client of the api at `url`, and one of a second api over the same database and Redis, with that one's state. They share
    a process here, and nothing else."""
    async with (
        running_app(settings) as second,
        listening(second) as second_url,
        speaker(url, key) as here,
        speaker(second_url, key) as there,
    ):
        yield here, there, state_of(second)


async def usage_of(client: httpx2.AsyncClient, key_id: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/usage/keys", params={"key": key_id})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_limits_are_set_and_shown(client: httpx2.AsyncClient) -> None:
    limits = {"requests_per_minute": 5, "tokens_per_minute": 1_000, "tokens_per_day": 10**12}
    made = await make_key(client, "chat", **limits)
    listed = {key["id"]: key for key in (await client.get("/v1/keys")).json()["items"]}
    for shown in (made, listed[made["id"]]):
        assert {name: shown[name] for name in limits} == limits
    assert (await make_key(client, "chat"))["requests_per_minute"] is None
    refused = await client.post("/v1/keys", json={"name": "x", "scopes": ["chat"], "requests_per_minute": 0})
    assert refused.status_code == 422


async def test_requests_per_minute_hold_over_all_processes(
    client: httpx2.AsyncClient, url: str, model: str, settings: Settings, servers: FakeServers
) -> None:
    key = (await make_key(client, requests_per_minute=3))["key"]
    async with two_processes(url, settings, key) as (here, there, _):
        first = await ask(here, model)
        await ask(there, model)
        await ask(here, model)
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(there, model)
    assert first.headers["x-ratelimit-limit-requests"] == "3"
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.headers["x-ratelimit-reset-requests"] == "20s"
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 20
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(servers.calls) == 3


async def test_tokens_per_minute_are_reserved_and_corrected(
    client: httpx2.AsyncClient, url: str, model: str, servers: FakeServers
) -> None:
    key = (await make_key(client, tokens_per_minute=1_000))["key"]
    servers.pieces = [Piece("Hi.", finish_reason="stop", usage=TokenUsage(10, 10))]
    async with speaker(url, key) as ai:
        first = await ask(ai, model, max_tokens=900)
        # Of 905 reserved 885 were given back: the same can be asked again.
        second = await ask(ai, model, max_tokens=900)
        servers.pieces = [Piece("Hi.", finish_reason="stop", usage=TokenUsage(500, 1_400))]
        await ask(ai, model, max_tokens=10)
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(ai, model, max_tokens=10)
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
    assert int(second.headers["x-ratelimit-remaining-tokens"]) < 100
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["x-ratelimit-limit-tokens"] == "1000"


async def test_without_redis_a_process_holds_keys_to_their_limits_by_itself(
    postgres_url: str, tmp_path: Path, servers: FakeServers
) -> None:
    settings = api_settings(postgres_url, tmp_path, redis_url="redis://127.0.0.1:9/0")
    async with running_app(settings) as app, listening(app) as url, client_of(app) as client:
        await deploy(state_of(app), "no-redis")
        key = (await make_key(client, requests_per_minute=2))["key"]
        async with speaker(url, key) as ai:
            await ask(ai, "no-redis")
            await ask(ai, "no-redis")
            with pytest.raises(openai.RateLimitError):
                await ask(ai, "no-redis")


async def test_a_daily_quota_holds_and_is_told_from_a_rate(
    client: httpx2.AsyncClient, url: str, model: str, servers: FakeServers
) -> None:
    made = await make_key(client, tokens_per_day=25)
    async with speaker(url, made["key"]) as ai:
        for _ in range(3):  # of 10 tokens each: the third is the one that goes beyond
            await ask(ai, model)
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(ai, model)
    assert refused.value.code == "insufficient_quota"
    assert refused.value.type == "insufficient_quota"
    assert "30 of its 25 tokens" in str(refused.value)
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(servers.calls) == 3


async def test_a_quota_counts_what_other_processes_answered(
    client: httpx2.AsyncClient, url: str, model: str, settings: Settings, state: ApiState, servers: FakeServers
) -> None:
    key = (await make_key(client, tokens_per_day=20))["key"]
    async with two_processes(url, settings, key) as (here, there, second):
        await ask(here, model)
        await ask(there, model)
        await second.gateway.meter.flush()
        await state.gateway.meter.flush()
        with pytest.raises(openai.RateLimitError):
            await ask(here, model)


async def test_usage_is_counted_per_key_and_day(
    client: httpx2.AsyncClient, url: str, model: str, state: ApiState, servers: FakeServers
) -> None:
    made = await make_key(client)
    async with speaker(url, made["key"]) as ai:
        await ask(ai, model)
        [chunk async for chunk in await ai.chat.completions.create(model=model, messages=HELLO, stream=True)]
        servers.pieces = [ServerUnavailable("gone")]
        with pytest.raises(openai.InternalServerError):
            await ask(ai, model)
        with pytest.raises(openai.BadRequestError):
            await ask(ai, model, n=2)
    await state.gateway.meter.flush()

    (counted,) = await usage_of(client, made["id"])

    assert counted["name"] == "test"
    assert (counted["requests"], counted["prompt_tokens"], counted["completion_tokens"]) == (3, 14, 6)


async def test_an_answer_that_is_cut_off_is_counted_as_far_as_it_came(
    client: httpx2.AsyncClient, url: str, model: str, state: ApiState, servers: FakeServers
) -> None:
    made = await make_key(client)
    servers.hold = asyncio.Event()
    async with speaker(url, made["key"]) as ai:
        stream = await ai.chat.completions.create(model=model, messages=HELLO, stream=True)
        for _ in range(4):
            await anext(stream)
        await stream.close()
        await eventually(lambda: len(servers.ended) == 1)
    await eventually(lambda: bool(state.gateway.meter.unwritten()))
    await state.gateway.meter.flush()
    (counted,) = await usage_of(client, made["id"])
    assert (counted["requests"], counted["completion_tokens"]) == (1, 3)
    assert counted["prompt_tokens"] > 0


async def test_what_was_counted_is_written_when_the_process_ends(
    postgres_url: str, tmp_path: Path, servers: FakeServers, client: httpx2.AsyncClient
) -> None:
    made = await make_key(client)
    async with running_app(api_settings(postgres_url, tmp_path)) as app, listening(app) as url:
        await deploy(state_of(app), "ends")
        async with speaker(url, made["key"]) as ai:
            await ask(ai, "ends")
    (counted,) = await usage_of(client, made["id"])
    assert counted["requests"] == 1


async def test_a_process_takes_so_many_requests_at_once(
    client: httpx2.AsyncClient, url: str, model: str, servers: FakeServers
) -> None:
    servers.hold = asyncio.Event()
    async with speaker(url, ADMIN_KEY) as ai:
        open_ones = [asyncio.create_task(ask(ai, model)) for _ in range(3)]
        await eventually(lambda: len(servers.calls) == 3)
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(ai, model)
        servers.hold.set()
        await asyncio.gather(*open_ones)
        await ask(ai, model)
    assert refused.value.status_code == 503
    assert refused.value.code == "overloaded"
    assert "retry-after" in refused.value.response.headers


@pytest.mark.parametrize(
    ("scopes", "chats", "lists"),
    [
        (("chat",), True, True),
        (("read",), False, True),
        (("write",), True, True),
        (("admin",), True, True),
        (("chat", "read"), True, True),
    ],
)
async def test_scopes_of_the_live_routes(
    client: httpx2.AsyncClient,
    url: str,
    model: str,
    servers: FakeServers,
    scopes: tuple[str, ...],
    chats: bool,
    lists: bool,
) -> None:
    async with speaker(url, (await make_key(client, *scopes))["key"]) as ai:
        if chats:
            await ask(ai, model)
        else:
            with pytest.raises(openai.PermissionDeniedError, match="'chat'"):
                await ask(ai, model)
        assert [one async for one in await ai.models.list()]


async def test_a_key_that_chats_may_do_nothing_else(app: FastAPI, client: httpx2.AsyncClient) -> None:
    key = (await make_key(client))["key"]
    live = {"/v1/chat/completions", "/v1/models", "/v1/models/{model}", "/v1/session"}
    tried = 0
    async with client_of(app, key) as chatting:
        for path, operations in app.openapi()["paths"].items():
            if path in live or path.startswith("/health"):
                continue
            for method in operations:
                answer = await chatting.request(method, path.replace("{", "").replace("}", ""))
                assert answer.status_code == 403, (method, path, answer.text)
                tried += 1
    assert tried > 30


async def test_a_session_is_held_to_the_limits_of_its_key(
    app: FastAPI, client: httpx2.AsyncClient, model: str, servers: FakeServers
) -> None:
    made = await make_key(client, requests_per_minute=1)
    body = {"model": model, "messages": HELLO}
    own = {"Origin": "http://testserver"}
    async with client_of(app, key=None) as browser, client_of(app, made["key"]) as direct:
        assert (await browser.post("/v1/session", json={"key": made["key"]})).status_code == 204
        assert (await browser.post("/v1/chat/completions", json=body, headers=own)).status_code == 200
        assert (await browser.post("/v1/chat/completions", json=body, headers=own)).status_code == 429
        assert (await direct.post("/v1/chat/completions", json=body)).status_code == 429
        foreign = await browser.post("/v1/chat/completions", json=body, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert foreign.json()["error"]["code"] == "origin_refused"
        assert (await browser.get("/v1/jobs")).status_code == 403

        assert (await browser.delete("/v1/session", headers=own)).status_code == 204
        assert (await browser.post("/v1/chat/completions", json=body, headers=own)).status_code == 401


@pytest.mark.parametrize("header", [None, "Bearer mf_wrong", "Basic bWY6eA=="])
async def test_without_a_valid_key_the_error_has_the_shape_of_openai(
    app: FastAPI, url: str, header: str | None
) -> None:
    async with client_of(app, key=None) as client:
        headers = {} if header is None else {"Authorization": header}
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/x")):
            answer = await client.request(method, path, headers=headers, content=b"{")
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        await speaker(url, "mf_wrong").models.list()


async def test_other_errors_before_the_routes_have_that_shape_too(app: FastAPI, client: httpx2.AsyncClient) -> None:
    wrong_method = await client.get("/v1/chat/completions")
    too_large = await client.post("/v1/chat/completions", content=b" " * (8 << 20) + b"{}")
    for answer, status in ((wrong_method, 405), (too_large, 413)):
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert wrong_method.headers["allow"] == "POST"


async def test_a_revoked_key_stops_at_once_here_and_soon_elsewhere(
    client: httpx2.AsyncClient,
    url: str,
    model: str,
    settings: Settings,
    servers: FakeServers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await make_key(client)
    async with two_processes(url, settings, made["key"]) as (here, there, _):
        await ask(here, model)
        await ask(there, model)
        assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            await ask(here, model)
        await ask(there, model)  # still remembered there
        monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 0.0)
        with pytest.raises(openai.AuthenticationError):
            await ask(there, model)


def test_keys_are_remembered_for_five_seconds_at_most() -> None:
    assert keys.REMEMBERED_SECONDS <= 5.0


async def test_the_mode_without_keys_counts_nothing(postgres_url: str, tmp_path: Path, servers: FakeServers) -> None:
    settings = api_settings(postgres_url, tmp_path, authentication="loopback", live_open_requests=1)
    async with running_app(settings) as app, listening(app) as url:
        state = state_of(app)
        await deploy(state, "open")
        async with speaker(url, "whatever") as ai:
            raw = await ask(ai, "open")
            assert not [name for name in raw.headers if name.startswith("x-ratelimit")]
            assert state.gateway.meter.unwritten() == {}
            servers.hold = asyncio.Event()
            waiting = asyncio.create_task(ask(ai, "open"))
            await eventually(lambda: len(servers.calls) == 2)
            with pytest.raises(openai.InternalServerError):
                await ask(ai, "open")
            servers.hold.set()
            await waiting
