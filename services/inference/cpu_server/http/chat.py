"""`/v1/chat/completions`, as TGI answers it."""

import time
from collections.abc import AsyncIterator
from functools import partial

from starlette.responses import Response

from services.inference.cpu_server.engine.protocol import EngineEnd, EngineToken
from services.inference.cpu_server.http.bodies import ChatBody, GenerateParameters
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
from services.inference.cpu_server.http.replies import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    Logprob,
    Logprobs,
    TopLogprob,
    Usage,
)
from services.inference.cpu_server.http.sequences import Running, Service, whole
from services.inference.cpu_server.http.streams import DONE, EventStream, event
from services.inference.cpu_server.http.timing import compute_headers, stream_headers

_PRESENCE_OFFSET = 2.0
"""TGI has no presence penalty: it takes the value plus 2 as its repetition penalty, and so does this server."""


async def chat(service: Service, body: ChatBody) -> Response:
    since = time.monotonic()
    service.require_language_model()
    parameters = _parameters(body)
    adapter = service.adapter_of_model(body.model)
    running = await service.begin(
        parameters, partial(service.texts.prompt, body.messages), adapter, streaming=body.stream, since=since
    )
    characters = sum(len(message.content) for message in body.messages if isinstance(message.content, str))
    if body.stream:
        return EventStream(
            _events(service, running, body), running.close, stream_headers(service.engine.facts.device, characters)
        )
    result = await whole(running)
    message = ChatMessage("assistant", result.end.text)
    told = Logprobs([_logprob(token) for token in result.tokens]) if body.logprobs else None
    completion = ChatCompletion(
        "",
        now(),
        service.shown_model(body.model),
        FINGERPRINT,
        [ChatChoice(0, message, told, finish_reason(result.end.reason))],
        usage(result.input_length, result.end.generated_tokens),
    )
    return json_response(completion, headers=compute_headers(service.engine.facts.device, characters, [result]))


def _parameters(body: ChatBody) -> GenerateParameters:
    if body.tools and body.tool_choice != "none":
        raise Refusal.tools(
            "models here are not trained to call tools; leave out `tools`, or ask for a form with `response_format`"
        )
    if body.logit_bias:
        raise Refusal.invalid("`logit_bias` is not done here; leave it out")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise Refusal.invalid("`max_tokens` and `max_completion_tokens` are one thing; send one of them")
    if body.presence_penalty is not None and body.repetition_penalty is not None:
        raise Refusal.invalid(
            "`presence_penalty` and `repetition_penalty` both set the repetition penalty; send one of them"
        )
    parameters = parameters_of(body)
    if body.max_tokens is None:
        parameters.max_new_tokens = body.max_completion_tokens
    if body.presence_penalty is not None:
        parameters.repetition_penalty = body.presence_penalty + _PRESENCE_OFFSET
    parameters.top_n_tokens = body.top_logprobs
    parameters.grammar = body.response_format
    return parameters


async def _events(service: Service, running: Running, body: ChatBody) -> AsyncIterator[bytes]:
    """One event per token, the last with its reason; then the usage where it was asked for."""
    model = service.shown_model(body.model)

    def chunk(choices: list[ChatDelta], counts: Usage | None = None) -> bytes:
        return event(ChatChunk("", now(), model, FINGERPRINT, choices, counts))

    def delta(token: EngineToken, end: EngineEnd | None = None) -> ChatDelta:
        told = Logprobs([_logprob(token)]) if body.logprobs else None
        content = "" if token.special else token.text
        return ChatDelta(0, ChatMessage("assistant", content), told, finish_reason(end.reason) if end else None)

    last: EngineToken | None = None
    try:
        async for item in running:
            if isinstance(item, EngineEnd):
                if last is not None:
                    yield chunk([delta(last, item)])
                if body.stream_options is not None and body.stream_options.include_usage:
                    yield chunk([], usage(running.input_length, item.generated_tokens))
            elif item.last:
                last = item
            else:
                yield chunk([delta(item)])
    except Refusal as refusal:
        service.metrics.failures[refusal.failure] += 1
        yield event(streamed_error(refusal))
    yield DONE


def _logprob(token: EngineToken) -> Logprob:
    return Logprob(token.text, token.log_probability, [TopLogprob(one.text, one.log_probability) for one in token.top])
