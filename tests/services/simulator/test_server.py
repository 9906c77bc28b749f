"""The server as clients see it: OpenAI's shapes, determinism, stamps, streaming, statistics, refused input."""

import aiohttp
import openai
import orjson
import pytest
from pydantic import BaseModel

from services.simulator.server import Simulator
from tests.services.simulator.support import INSTRUCTION, MODEL, ask, block_body, body_of, plan_of, post, running


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=10)


async def test_official_client_gets_a_stamped_completion() -> None:
    async with running(Simulator()) as url, client_of(url) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": INSTRUCTION}]
        )
        completion = raw.parse()
    assert completion.model == MODEL
    assert completion.system_fingerprint == "multifacet-simulator"
    assert raw.headers["x-multifacet-simulator"] == "1"
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert "tomatoes" in choice.message.content or "balcony" in choice.message.content
    assert completion.usage is not None
    assert completion.usage.completion_tokens == -(-len(choice.message.content) // 4)
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_stream_of_the_official_client_adds_up_to_the_plain_answer() -> None:
    async with running(Simulator()) as url, client_of(url) as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": INSTRUCTION}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-multifacet-request-class": "respond"},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == -(-len(text) // 4)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


class Recipe(BaseModel):
    title: str
    minutes: int
    vegetarian: bool
    steps: list[str]
    note: str | None


async def test_structured_output_of_the_official_client_fits_a_schema_of_the_caller() -> None:
    async with running(Simulator()) as url, client_of(url) as client:
        completion = await client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": INSTRUCTION}], response_format=Recipe
        )
    parsed = completion.choices[0].message.parsed
    assert isinstance(parsed, Recipe)
    assert parsed.title


async def test_official_client_raises_its_own_errors() -> None:
    async with running(Simulator(plan=plan_of(shares={"rate_limited": 1}))) as url, client_of(url) as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello there"}])
        with pytest.raises(openai.NotFoundError, match="simulator-large"):
            await client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "Hello"}])
        models = [model.id async for model in client.models.list()]
    assert models == ["simulator-large", "simulator-small"]


async def test_same_body_and_seed_give_the_same_bytes_and_another_seed_does_not() -> None:
    bodies = {}
    for seed in (1, 1, 2):
        async with running(Simulator(seed=seed)) as url, aiohttp.ClientSession() as session:
            status, _, data = await post(session, url, body_of(system="You are terse."), "respond")
        assert status == 200
        bodies.setdefault(seed, set()).add(data)
    assert len(bodies[1]) == 1
    assert bodies[1] != bodies[2]


async def test_class_comes_from_the_header_then_from_the_schema_name_then_is_chat() -> None:
    simulator = Simulator()
    verdict = {"type": "json_schema", "json_schema": {"name": "checklist", "schema": {"type": "object"}}}
    block = {"instruction": "x", "answer": "z", "reference": None, "items": [{"item": 0, "wish": "brisk prose"}]}
    async with running(simulator) as url:
        await ask(url, block_body(block, response_format=verdict))
        await ask(url, block_body(block, response_format=verdict), "chat")
        await ask(url, body_of())
        await ask(url, body_of(), "respond")
    assert simulator.statistics.as_builtins()["calls"] == {
        "chat": {"200": 2},
        "judge": {"200": 1},
        "respond": {"200": 1},
    }


@pytest.mark.parametrize(
    ("body", "request_class", "seen"),
    [
        (b"{nope", None, "not JSON"),
        (b"[]", None, "send an object"),
        ({"messages": [{"role": "user", "content": "x"}]}, None, "model is missing"),
        ({"model": MODEL, "messages": []}, None, "messages is missing or empty"),
        ({"model": MODEL, "messages": [{"role": "bard", "content": "x"}]}, None, "role"),
        (body_of(tools=[{"type": "function"}]), None, "tools is not simulated"),
        (body_of(max_tokens=0), None, "max_tokens is 0"),
        (body_of(n=99), None, "n is 99"),
        (body_of(response_format={"type": "yaml"}), None, "'yaml'"),
        (body_of(), "augment", "no user message carries a fenced json block"),
        (body_of(), "dance", "'dance'"),
        (block_body({"instruction": "x", "slots": []}), "augment", "not empty"),
        (block_body({"descriptions": "x"}), "compose", "list of strings"),
        (block_body({"answer": "x", "items": [{"item": "0"}]}), "judge", "items/0"),
        (block_body({"answer": 1, "items": []}), "judge", "`answer`"),
        (block_body({"wishes": [{"wish": 0}]}), "judge", "wishes/0"),
        (block_body({"descriptions": ["x"], "role": 7}), "compose", "`role`"),
        (block_body({"instruction": "x", "slots": [{"dimension": "y", "slot": "0"}]}), "augment", "slots/0/slot"),
    ],
)
async def test_bad_request_says_what_was_seen(body: object, request_class: str | None, seen: str) -> None:
    async with running(Simulator()) as url, aiohttp.ClientSession() as session:
        status, headers, data = await post(session, url, body, request_class)
    assert status == 400
    assert headers["x-multifacet-simulator"] == "1"
    assert seen in orjson.loads(data)["error"]["message"]


async def test_token_limit_and_stop_cut_the_answer() -> None:
    async with running(Simulator()) as url, aiohttp.ClientSession() as session:
        _, _, long = await post(session, url, body_of(max_tokens=5), "respond")
        whole = await ask(url, body_of(stop=["\n", "zz"]), "respond")
    choice = orjson.loads(long)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 20
    assert "\n" not in whole


async def test_several_choices_differ() -> None:
    async with running(Simulator()) as url, aiohttp.ClientSession() as session:
        _, _, data = await post(session, url, body_of(n=3), "respond")
    assert len({choice["message"]["content"] for choice in orjson.loads(data)["choices"]}) == 3


async def test_content_parts_are_read_as_text() -> None:
    parts = [{"type": "text", "text": "Explain how"}, {"type": "text", "text": "volcanoes erupt"}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]}
    async with running(Simulator()) as url:
        assert "volcanoes" in await ask(url, body)


async def test_plan_can_be_read_and_replaced_and_a_wrong_one_is_refused() -> None:
    async with running(Simulator()) as url, aiohttp.ClientSession() as session:
        base = f"{url}/simulator/faults"
        async with session.get(base) as response:
            assert (await response.json())["default"]["latency_ms"] == 0
        async with session.put(base, json={"classes": {"respond": {"shares": {"server_error": 1}}}}) as response:
            assert response.status == 200
        respond, _, _ = await post(session, url, body_of(), "respond")
        chat, _, _ = await post(session, url, body_of(), "chat")
        async with session.put(base, json={"classes": {"respond": {"latency": 1}}}) as response:
            refused = response.status, (await response.json())["error"]["message"]
    assert (respond, chat) == (500, 200)
    assert refused[0] == 422
    assert "classes/respond/latency" in refused[1]


async def test_health_and_statistics() -> None:
    async with running(Simulator(seed=5)) as url, aiohttp.ClientSession() as session:
        async with session.get(url.removesuffix("/v1") + "/health") as response:
            assert await response.json() == {"status": "ok", "simulator": True, "seed": 5}
        await post(session, url, body_of())
        await post(session, url, body_of(), "compose")
        async with session.get(f"{url}/simulator/statistics") as response:
            counts = await response.json()
        async with session.delete(f"{url}/simulator/statistics") as response:
            assert response.status == 204
        async with session.get(f"{url}/simulator/statistics") as response:
            assert (await response.json())["total"] == 0
    assert counts["calls"] == {"chat": {"200": 1}, "compose": {"400": 1}}
    assert counts["total"] == 2
    assert counts["in_flight"] == 0
    assert counts["prompt_tokens"] > 0
