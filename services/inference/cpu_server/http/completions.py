"""`/v1/completions`, as TGI answers it: one text or several, continued as they stand."""

import time
from collections.abc import AsyncIterator
from functools import partial

from starlette.responses import Response

from services.inference.cpu_server.engine.protocol import EngineEnd, EngineToken
from services.inference.cpu_server.http.bodies import CompletionBody
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.json_bodies import json_response
from services.inference.cpu_server.http.openai_form import (
    FINGERPRINT,
    finish_reason,
    now,
    parameters_of,
    streamed_error,
    usage,
)
from services.inference.cpu_server.http.replies import Completion, CompletionChoice, CompletionChunk
from services.inference.cpu_server.http.sequences import Running, Service, all_of, whole
from services.inference.cpu_server.http.streams import DONE, EventStream, event, merged
from services.inference.cpu_server.http.timing import compute_headers, stream_headers


async def completions(service: Service, body: CompletionBody) -> Response:
    service.require_language_model()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    _check(body, prompts, service.limits.max_client_batch_size)
    runnings = await _begin(service, body, prompts)
    characters = sum(len(prompt) for prompt in prompts)
    if body.stream:
        streams = [_events(service, running, index) for index, running in enumerate(runnings)]
        return EventStream(
            _to_the_end(streams), partial(_close, runnings), stream_headers(service.engine.facts.device, characters)
        )
    try:
        results = await all_of([whole(running) for running in runnings])
    finally:
        await _close(runnings)
    completion = Completion(
        "",
        now(),
        service.name,
        FINGERPRINT,
        [
            CompletionChoice(index, result.end.text, None, finish_reason(result.end.reason))
            for index, result in enumerate(results)
        ],
        usage(sum(result.input_length for result in results), sum(result.end.generated_tokens for result in results)),
    )
    return json_response(completion, headers=compute_headers(service.engine.facts.device, characters, results))


def _check(body: CompletionBody, prompts: list[str], maximum: int) -> None:
    if body.suffix is not None:
        raise Refusal.invalid(
            "`suffix` is not done here; put it into the prompt in your model's own way",
            error_type="suffix not supported",
        )
    if len(prompts) > maximum:
        raise Refusal.invalid(
            f"`prompt` has {len(prompts)} texts; at most {maximum} are taken at once", error_type="batch size exceeded"
        )
    if not prompts or "" in prompts:
        raise Refusal.invalid("`prompt` is empty or has an empty text; send a text")


async def _begin(service: Service, body: CompletionBody, prompts: list[str]) -> list[Running]:
    """All sequences, or none of them."""
    since = time.monotonic()
    adapter = service.adapter_of_model(body.model)
    runnings: list[Running] = []
    try:
        for prompt in prompts:
            runnings.append(
                await service.begin(
                    parameters_of(body),
                    partial(service.texts.raw, prompt),
                    adapter,
                    streaming=body.stream,
                    since=since,
                )
            )
    except BaseException:
        await _close(runnings)
        raise
    return runnings


async def _close(runnings: list[Running]) -> None:
    for running in runnings:
        await running.close()


async def _to_the_end(streams: list[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    async for data in merged(streams):
        yield data
    yield DONE


async def _events(service: Service, running: Running, index: int) -> AsyncIterator[bytes]:
    """One event per token; the last has the usage. TGI leaves the reason in its own words here (`eos_token`)."""
    last = ""
    try:
        async for item in running:
            if isinstance(item, EngineToken):
                # A control token has a name, but adds nothing to the text.
                text = "" if item.special else item.text
                if item.last:
                    last = text
                else:
                    choice = CompletionChoice(index, text, None, "")
                    yield event(CompletionChunk("", now(), [choice], service.name, FINGERPRINT))
            else:
                yield event(_final(service, running, item, CompletionChoice(index, last, None, item.reason)))
    except Refusal as refusal:
        service.metrics.failures[refusal.failure] += 1
        yield event(streamed_error(refusal))


def _final(service: Service, running: Running, end: EngineEnd, choice: CompletionChoice) -> Completion:
    counts = usage(running.input_length, end.generated_tokens)
    return Completion("", now(), service.name, FINGERPRINT, [choice], counts)
