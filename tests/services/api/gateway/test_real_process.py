"""The api in a process of its own, in front of a model server over HTTP: what is logged, and what happens when one goes away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from shared.settings import Settings
from tests.services.api.gateway.support import deploy, eventually
from tests.services.api.support import ADMIN_KEY, api_settings, running_app, state_of
from tests.support.servers import free_port

SECRET = "a-prompt-that-nobody-may-log"
ANSWER = "an-answer-that-nobody-may-log"
TAXONOMY_WISH = "Wants a-wish-that-nobody-may-log."


class SlowServer:
    """OpenAI's chat route: the answer's first half at once, the second when `finish` is set. `cut` ends every connection."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self.left = 0
        """Connections that the client closed before the answer's end."""
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(_event({"content": ANSWER[:10]}))
            gone = asyncio.ensure_future(reader.read(1))
            finish = asyncio.ensure_future(self.finish.wait())
            await asyncio.wait((gone, finish), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                finish.cancel()
                self.left += 1
                return
            gone.cancel()
            writer.write(
                _event({"content": ANSWER[10:]}) + _event({}, "stop") + _chunk(b"data: [DONE]\n\n") + _chunk(b"")
            )
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6} if reason else None
    event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return _chunk(b"data: " + json.dumps(event | {"usage": usage}).encode() + b"\n\n")


@contextmanager
def api_process(settings: Settings, log: Path) -> Iterator[str]:
    """The api with everything logged to a file; its base URL."""
    port = free_port()
    values = {
        "MULTIFACET_DATABASE_URL": settings.database_url,
        "MULTIFACET_ARTIFACT_DIRECTORY": str(settings.artifact_directory),
        "MULTIFACET_WORK_FOLDER": str(settings.work_folder),
        "MULTIFACET_API_PORT": str(port),
        "MULTIFACET_LOG_LEVEL": "DEBUG",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.api"], env={**os.environ, **values}, stdout=output, stderr=output
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
async def server() -> AsyncIterator[SlowServer]:
    made = SlowServer()
    yield made
    await made.close()


async def test_a_real_process_streams_ends_calls_tells_errors_and_logs_no_text(
    postgres_url: str, tmp_path: Path, server: SlowServer
) -> None:
    settings = api_settings(postgres_url, tmp_path)
    address = await server.start()
    async with running_app(settings) as app:
        await deploy(state_of(app), "real", address=address, kind="openai")
    log = tmp_path / "api.log"
    asked: dict[str, Any] = {
        "model": "real",
        "messages": [{"role": "user", "content": SECRET}],
        "extra_body": {"preferences": [{"description": TAXONOMY_WISH}]},
    }
    with api_process(settings, log) as url:
        await _listens(url)
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as ai:
            stream = await ai.chat.completions.create(**asked, stream=True)
            first = (await anext(stream)).choices[0].delta.content or (await anext(stream)).choices[0].delta.content
            assert first == ANSWER[:10]  # while the server still holds the rest back
            server.finish.set()
            rest = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert first + "".join(rest) == ANSWER

            server.finish.clear()
            left = await ai.chat.completions.create(**asked, stream=True)
            await anext(left)
            await left.close()
            await eventually(lambda: server.left == 1)

            broken = await ai.chat.completions.create(**asked, stream=True)
            await anext(broken)
            server.cut()
            with pytest.raises(openai.APIError) as failed:
                async for _ in broken:
                    pass
            assert failed.value.code == "generation_incomplete"

            await server.close()
            with pytest.raises(openai.InternalServerError) as gone:
                await ai.chat.completions.create(**asked)
            assert gone.value.code == "server_unavailable"
            with pytest.raises(openai.BadRequestError):
                await ai.chat.completions.create(**asked, n=2)
            with pytest.raises(openai.BadRequestError):
                await ai.post("/chat/completions", body={"model": "real", "messages": SECRET}, cast_to=object)
    text = log.read_text()
    assert "live_call_failed" in text
    for secret in (SECRET, ANSWER[:10], "nobody-may-log", ADMIN_KEY):
        assert secret not in text


async def _listens(url: str) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(90):
        while True:
            try:
                (await client.get(f"{url}/health/live")).raise_for_status()
                return
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
