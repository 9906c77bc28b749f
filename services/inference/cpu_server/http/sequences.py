"""Sequences under way: permits, the engine's errors as answers, times for headers and metrics."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from services.inference.cpu_server.engine.protocol import (
    Engine,
    EngineEnd,
    EngineFailed,
    EngineOverloaded,
    EngineRequest,
    EngineSequence,
    EngineToken,
    GrammarRefused,
)
from services.inference.cpu_server.http.bodies import GenerateParameters
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.limits import Limits
from services.inference.cpu_server.http.metrics import Metrics
from services.inference.cpu_server.http.texts import Texts
from services.inference.cpu_server.http.validation import check_parameters, engine_request

log = structlog.get_logger(__name__)

PLACEHOLDER_MODELS = frozenset({"", "tgi", "dummy"})
"""What clients of TGI send as `model` where they mean whatever is served (`dummy` is huggingface_hub's)."""

Result = TypeVar("Result")


@dataclass
class Service:
    """One served model, as the routes see it."""

    engine: Engine
    texts: Texts
    limits: Limits
    name: str
    """What it is called in answers, `/info` and `/v1/models`."""
    metrics: Metrics
    permits: int = field(init=False)
    """Sequences that may still be begun."""
    closing: bool = False

    def __post_init__(self) -> None:
        self.permits = self.limits.max_concurrent_requests

    def require_language_model(self) -> None:
        if self.engine.facts.is_reward_model:
            raise Refusal.invalid(
                f"{self.name} is a reward model, which does not write; send conversations to /score, or serve a language model"
            )

    def require_reward_model(self) -> None:
        if not self.engine.facts.is_reward_model:
            raise Refusal.invalid(
                f"{self.name} is a language model, which gives no scores; serve a reward model, or send the request to /generate"
            )

    def adapter(self, name: str | None) -> str | None:
        """The adapter of that name (`adapter_id`); None for none. Raises Refusal for a name that is not served."""
        if name is None or name in self.engine.facts.adapters:
            return name
        adapters = ", ".join(self.engine.facts.adapters) or "none"
        raise Refusal.invalid(f"`adapter_id` is {name[:80]!r}; adapters served here: {adapters}")

    def adapter_of_model(self, model: str | None) -> str | None:
        """The adapter that OpenAI's field `model` names; None for the model itself.

        As with TGI, a server without adapters answers to any name. One with adapters does not: the model would answer in
        place of an adapter whose name was mistyped. Raises Refusal.
        """
        facts = self.engine.facts
        if model in facts.adapters:
            return model
        if model is None or not facts.adapters or model in PLACEHOLDER_MODELS | {self.name, facts.model_id}:
            return None
        raise Refusal.invalid(
            f"`model` is {model[:80]!r}; served here: {self.name} and its adapters {', '.join(facts.adapters)}"
        )

    def shown_model(self, model: str | None) -> str:
        """The `model` of an answer: what was asked for, as TGI has it."""
        return self.name if model is None or model in PLACEHOLDER_MODELS else model

    async def begin(
        self,
        parameters: GenerateParameters,
        prompt: Callable[[], Awaitable[list[int]]],
        adapter: str | None,
        *,
        streaming: bool,
        since: float,
    ) -> "Running":
        """Check a request, tokenise its prompt and hand it to the engine. `since`: when the request came (monotonic).

        Raises Refusal: 422, and 429 where `max_concurrent_requests` sequences are under way.
        """
        permit = self.permit()
        try:
            check_parameters(parameters, self.limits, streaming=streaming)
            request = engine_request(parameters, await prompt(), self.limits, adapter)
            queued = time.monotonic()
            sequence = await self._submit(request)
        except BaseException:
            permit.release()
            raise
        self.metrics.input_length.observe(len(request.prompt_ids))
        self.metrics.max_new_tokens.observe(request.max_new_tokens)
        return Running(self, sequence, request, permit, since, queued)

    def permit(self) -> "Permit":
        """The right to one sequence. Raises Refusal (429) where there is none left."""
        if self.permits <= 0:
            raise Refusal.overloaded(
                f"{self.limits.max_concurrent_requests} sequences are under way, as many as are taken; try again later"
            )
        return Permit(self)

    async def _submit(self, request: EngineRequest) -> EngineSequence:
        try:
            return await self.engine.submit(request)
        except EngineOverloaded as error:
            raise Refusal.overloaded(str(error) or "its queue is full; try again later") from error
        except GrammarRefused as error:
            raise Refusal.invalid(f"the grammar cannot be used: {error}") from error
        except EngineFailed as error:
            raise self.failed(error) from error

    def failed(self, error: EngineFailed) -> Refusal:
        """What a client is told of a sequence that the engine gave up."""
        if self.closing:
            return Refusal.incomplete("the server is shutting down")
        log.warning("generation_failed", error=type(error).__name__)
        return Refusal.generation(str(error))


class Permit:
    """Counts as one sequence under way until it is released."""

    def __init__(self, service: Service) -> None:
        self._service: Service | None = service
        service.permits -= 1

    def release(self) -> None:
        """Twice is the same as once."""
        if self._service is not None:
            self._service.permits += 1
            self._service = None


@dataclass(frozen=True)
class Times:
    """Seconds of a sequence that ended."""

    total: float
    validation: float
    queue: float
    inference: float
    per_token: float


class Running:
    """A sequence under way: iterate it for its tokens and its end, and close it whatever happens.

    Iterating raises Refusal: 424 where the engine fails, 500 where the sequence ends without an end.
    """

    def __init__(
        self,
        service: Service,
        sequence: EngineSequence,
        request: EngineRequest,
        permit: Permit,
        since: float,
        queued: float,
    ) -> None:
        self._service = service
        self._sequence = sequence
        self._permit = permit
        self._since = since
        self._queued = queued
        self._first: float | None = None
        self.input_length = len(request.prompt_ids)
        self.times: Times | None = None
        """Known when it has ended."""

    @property
    def prompt_tokens(self) -> Sequence[EngineToken]:
        return self._sequence.prompt_tokens

    async def __aiter__(self) -> AsyncIterator[EngineToken | EngineEnd]:
        try:
            async for item in self._sequence:
                if self._first is None:
                    self._first = time.monotonic()
                if isinstance(item, EngineEnd):
                    self._ended(item)
                    yield item
                    return
                yield item
        except EngineFailed as error:
            raise self._service.failed(error) from error
        raise Refusal.incomplete("the sequence stopped before its end")

    async def close(self) -> None:
        """End the sequence where it has not ended, and give its place to another."""
        self._permit.release()
        await self._sequence.aclose()

    def _ended(self, end: EngineEnd) -> None:
        now = time.monotonic()
        started = self._sequence.started_at or self._first or now
        self.times = Times(
            total=now - self._since,
            validation=self._queued - self._since,
            queue=started - self._queued,
            inference=now - started,
            per_token=(now - started) / max(end.generated_tokens, 1),
        )
        metrics = self._service.metrics
        metrics.successes += 1
        metrics.request_duration.observe(self.times.total)
        metrics.validation_duration.observe(self.times.validation)
        metrics.queue_duration.observe(self.times.queue)
        metrics.inference_duration.observe(self.times.inference)
        metrics.mean_time_per_token_duration.observe(self.times.per_token)
        metrics.generated_tokens.observe(end.generated_tokens)


@dataclass(frozen=True)
class Whole:
    """A sequence that came to its end."""

    tokens: list[EngineToken]
    prompt_tokens: Sequence[EngineToken]
    end: EngineEnd
    input_length: int
    times: Times

    @property
    def mean_log_probability(self) -> float:
        """Per token: by which the best of several is chosen, as TGI does."""
        values = [token.log_probability for token in self.tokens if token.log_probability is not None]
        return sum(values) / len(values) if values else float("-inf")


async def whole(running: Running) -> Whole:
    """Wait for a sequence to end; it is closed in any case. Raises Refusal."""
    tokens: list[EngineToken] = []
    try:
        async for item in running:
            if isinstance(item, EngineToken):
                tokens.append(item)
            elif running.times is not None:
                return Whole(tokens, running.prompt_tokens, item, running.input_length, running.times)
    finally:
        await running.close()
    raise Refusal.incomplete("the sequence stopped before its end")


async def all_of(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in order; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
