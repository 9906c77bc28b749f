"""Servers and request bodies that several test modules use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from services.simulator.faults import FaultPlan
from services.simulator.server import Simulator

MODEL = "simulator-small"
INSTRUCTION = "How do I keep tomatoes alive on a windy balcony through a dry summer?"


@asynccontextmanager
async def running(simulator: Simulator) -> AsyncIterator[str]:
    """The simulator on a free port, in this process's loop; gives the base URL that OpenAI clients take."""
    runner = web.AppRunner(simulator.application(), handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def plan_of(**faults: Any) -> FaultPlan:
    """A plan whose default class has these settings."""
    return FaultPlan.model_validate({"default": faults})


def body_of(user: str = INSTRUCTION, system: str | None = None, **more: Any) -> dict[str, Any]:
    messages = [] if system is None else [{"role": "system", "content": system}]
    return {"model": MODEL, "messages": [*messages, {"role": "user", "content": user}], **more}


def block_body(block: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = orjson.dumps(block, option=orjson.OPT_INDENT_2).decode()
    return body_of(f"Here is the material.\n\n```json\n{text}\n```\n\nAnswer with JSON.", **more)


async def post(
    session: aiohttp.ClientSession, url: str, body: object, request_class: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-cased) and body of one chat completion call."""
    headers = {"content-type": "application/json"}
    if request_class:
        headers["x-multifacet-request-class"] = request_class
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with session.post(f"{url}/chat/completions", data=data, headers=headers) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


async def ask(url: str, body: object, request_class: str | None = None) -> str:
    """The content of a sound completion."""
    async with aiohttp.ClientSession() as session:
        status, _, data = await post(session, url, body, request_class)
    assert status == 200, data
    content = orjson.loads(data)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


async def settled(seconds: float = 0.05) -> None:
    """Let the server's handlers finish after the client has its answer."""
    await asyncio.sleep(seconds)
