"""A real HTTP server with scripted answers, and models bound to it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web

from shared.domain.jobs import ModelChoice
from shared.llm.models import BoundModel, LanguageModels
from shared.llm.protocol import CompletionRequest
from shared.llm.providers import Providers
from shared.llm.step_calls import StepCalls
from shared.metadata.engine import connection_string
from shared.settings import Settings

Responder = Callable[[int, dict[str, Any]], Awaitable[web.StreamResponse] | web.StreamResponse]


def chat_body(text: str = "fine", finish_reason: str | None = "stop", refusal: str | None = None) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m-2026",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish_reason,
                "message": {"role": "assistant", "content": None if refusal else text, "refusal": refusal},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def answer(text: str = "fine", finish_reason: str | None = "stop", refusal: str | None = None) -> web.Response:
    return web.json_response(chat_body(text, finish_reason, refusal))


def too_many(retry_after: str | None = "0", code: str = "rate_limit_exceeded") -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.json_response({"error": {"message": "slow down", "code": code}}, status=429, headers=headers)


class ScriptedServer:
    """Answers with `respond(number of the call, body)`; keeps what it was sent."""

    def __init__(self) -> None:
        self.respond: Responder = lambda number, body: answer()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.open = 0
        self.most_open = 0
        self.url = ""

    @property
    def calls(self) -> int:
        return len(self.bodies)

    def script(self, *answers: Callable[[], web.StreamResponse]) -> None:
        """The n-th call gets the n-th answer, later ones the last."""
        self.respond = lambda number, body: answers[min(number, len(answers) - 1)]()

    def times_sent(self) -> Counter[str]:
        return Counter(json.dumps(body, sort_keys=True) for body in self.bodies)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        number = len(self.bodies)
        self.bodies.append(json.loads(await request.read()))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            result = self.respond(number, self.bodies[-1])
            return await result if isinstance(result, Awaitable) else result
        finally:
            self.open -= 1


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    runner = web.ServerRunner(web.Server(scripted.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


class Bench:
    """Makes workers (LanguageModels) over the scripted server, and asks the database."""

    def __init__(self, server: ScriptedServer, database_url: str, redis_url: str) -> None:
        self.server = server
        self.database_url = database_url
        self.redis_url = redis_url
        self.project = f"project_{uuid4().hex[:8]}"
        self.job = f"job_{uuid4().hex[:8]}"

    def settings(self, **changes: Any) -> Settings:
        values = {"maximum_in_flight": 16, "llm_call_deadline_seconds": 30.0, "llm_request_timeout_seconds": 5.0}
        return Settings(database_url=self.database_url, redis_url=self.redis_url, **(values | changes))

    def providers(self, **provider: Any) -> Providers:
        entry = {
            "base_url": self.server.url,
            "models": {"m": {"prompt_price": 1.0, "completion_price": 3.0}, "unpriced": None},
        }
        return Providers.model_validate({"providers": {"fake": entry | provider}})

    @asynccontextmanager
    async def worker(
        self, provider: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[LanguageModels, BoundModel]]:
        models = LanguageModels(self.settings(**settings), self.providers(**(provider or {})))
        await models.start()
        try:
            yield models, self.bind(models)
        finally:
            await models.close()

    def bind(
        self, models: LanguageModels, budget: int | None = None, model: str = "m", calls: StepCalls | None = None
    ) -> BoundModel:
        return models.bind(
            ModelChoice(provider="fake", model=model),
            project_id=self.project,
            job_id=self.job,
            stage="respond",
            budget_micro_usd=budget,
            calls=calls,
        )

    async def fetch(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(
            connection_string(self.database_url), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as connection:
            cursor = await connection.execute(query.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def stored(self) -> int:
        rows = await self.fetch("SELECT count(*) AS n FROM cached_completion WHERE project_id = %s", self.project)
        return int(rows[0]["n"])

    async def usage(self) -> dict[str, Any]:
        rows = await self.fetch("SELECT * FROM usage WHERE job_id = %s", self.job)
        assert len(rows) == 1
        return rows[0]

    async def add_job(self, **columns: Any) -> None:
        await self.fetch("INSERT INTO project (id) VALUES (%s) ON CONFLICT DO NOTHING", self.project)
        await self.fetch(
            "INSERT INTO job (id, project_id, name, spec, taxonomy, teacher_is_simulator, state, max_reject_rate, run_no) "
            "VALUES (%s, %s, 'n', %s, %s, false, %s, 0.5, 1)",
            self.job,
            self.project,
            psycopg.types.json.Jsonb(columns.get("spec", {})),
            psycopg.types.json.Jsonb(columns.get("taxonomy", {})),
            columns.get("state", "running"),
        )


@pytest.fixture
def bench(server: ScriptedServer, postgres_url: str, redis_url: str) -> Bench:
    return Bench(server, postgres_url, redis_url)


def ask(text: str = "hello", **changes: Any) -> CompletionRequest:
    values: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "request_class": "respond"}
    return CompletionRequest(**(values | changes))


async def sleep_then(seconds: float, response: web.StreamResponse) -> web.StreamResponse:
    await asyncio.sleep(seconds)
    return response
