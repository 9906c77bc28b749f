"""An in-process LanguageModel whose answers a test writes: no server, no cache, every request kept."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from shared.domain.jobs import JobSpec
from shared.domain.taxonomy import Taxonomy
from shared.llm.protocol import Completion, CompletionRequest, ContentRefused, OutputInvalid, OutputTruncated
from shared.stages.protocol import RowContext

Output = TypeVar("Output", bound=BaseModel)
Answer = str | dict[str, Any] | Completion | BaseException
_BLOCK = re.compile(r"^```json\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def completion_of(
    text: str,
    *,
    finish_reason: str = "stop",
    refusal: str | None = None,
    prompt_tokens: int = 10,
    completion_tokens: int = 5,
) -> Completion:
    return Completion(
        text=text,
        finish_reason=finish_reason,
        refusal=refusal,
        model="scripted",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_micro_usd=0,
        cached=False,
    )


def block_of(request: CompletionRequest) -> dict[str, Any]:
    """The fenced JSON block of the request's last user message."""
    content = next(message["content"] for message in reversed(request.messages) if message["role"] == "user")
    found: dict[str, Any] = orjson.loads(_BLOCK.findall(content)[-1])
    return found


class ScriptedModel:
    """Answers every request by `script(request)`: text, a dict (sent as JSON), a completion, or an error to raise."""

    provider = "scripted-provider"
    model = "scripted-model"

    def __init__(self, script: Callable[[CompletionRequest], Answer | Awaitable[Answer]]) -> None:
        self._script = script
        self.requests: list[CompletionRequest] = []

    @property
    def sample_indices(self) -> list[str]:
        return [request.sample_index for request in self.requests]

    async def complete(self, request: CompletionRequest) -> Completion:
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self._script(request)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, dict):
            answer = orjson.dumps(answer).decode()
        return completion_of(answer) if isinstance(answer, str) else answer

    async def complete_structured(self, request: CompletionRequest, output: type[Output]) -> tuple[Output, Completion]:
        completion = await self.complete(request)
        if completion.refusal is not None:
            raise ContentRefused("the model declined")
        if completion.finish_reason == "length":
            raise OutputTruncated("cut off")
        try:
            return output.model_validate_json(completion.text), completion
        except ValidationError as error:
            raise OutputInvalid(str(error)) from error


def context_of(
    teacher: ScriptedModel, taxonomy: Taxonomy, *, stage: str, judge: ScriptedModel | None = None, **spec: Any
) -> RowContext:
    """A RowContext over scripted models; `spec` overrides parts of a small job spec."""
    body: dict[str, Any] = {
        "sources": [{"bundled": "demo"}],
        "teacher": {"provider": "scripted-provider", "model": "scripted-model"},
        "seed": 7,
    }
    if judge is not None:
        body["judge"] = {"provider": "scripted-provider", "model": "scripted-model"}
    return RowContext(
        job_id="job_test",
        stage=stage,
        spec=JobSpec.model_validate({**body, **spec}),
        taxonomy=taxonomy,
        teacher=teacher,
        judge=judge,
    )
