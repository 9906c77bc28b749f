"""TGI's own routes: `/`, `/generate`, `/generate_stream`."""

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from msgspec import UNSET
from starlette.responses import Response

from services.inference.cpu_server.engine.protocol import EngineEnd, EngineToken
from services.inference.cpu_server.http.bodies import GenerateBody
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.json_bodies import json_response
from services.inference.cpu_server.http.replies import (
    BestOfSequence,
    Details,
    Generated,
    PrefillToken,
    StreamDetails,
    StreamedToken,
    Token,
)
from services.inference.cpu_server.http.sequences import Running, Service, Whole, all_of, whole
from services.inference.cpu_server.http.streams import EventStream, event
from services.inference.cpu_server.http.timing import compute_headers, stream_headers
from services.inference.cpu_server.http.validation import check_parameters


async def compatible(service: Service, body: GenerateBody) -> Response:
    """`/`: as `/generate` in a list of one, or as `/generate_stream` where `stream` is true.

    The prompt stands before the answer unless `return_full_text` is false: TGI does so for a model from a folder.
    """
    if body.parameters.return_full_text is None:
        body.parameters.return_full_text = True
    if body.stream:
        return await generate_stream(service, body)
    generated, results = await _generated(service, body)
    return json_response([generated], headers=compute_headers(service.engine.facts.device, len(body.inputs), results))


async def generate(service: Service, body: GenerateBody) -> Response:
    generated, results = await _generated(service, body)
    return json_response(generated, headers=compute_headers(service.engine.facts.device, len(body.inputs), results))


async def generate_stream(service: Service, body: GenerateBody) -> Response:
    running = await _begin(service, body, streaming=True)
    events = _events(service, running, body)
    return EventStream(events, running.close, stream_headers(service.engine.facts.device, len(body.inputs)))


async def _begin(service: Service, body: GenerateBody, *, streaming: bool) -> Running:
    since = time.monotonic()
    service.require_language_model()
    if not body.inputs:
        raise Refusal.invalid("`inputs` is empty; send a text")
    adapter = service.adapter(body.parameters.adapter_id)
    return await service.begin(
        body.parameters, partial(service.texts.raw, body.inputs), adapter, streaming=streaming, since=since
    )


async def _generated(service: Service, body: GenerateBody) -> tuple[Generated, list[Whole]]:
    # Before there is one sequence for each: `best_of` may be any number until it is checked.
    check_parameters(body.parameters, service.limits, streaming=False)

    async def one() -> Whole:
        return await whole(await _begin(service, body, streaming=False))

    results = await all_of([one() for _ in range(body.parameters.best_of or 1)])
    best = max(results, key=lambda result: result.mean_log_probability)
    others = [result for result in results if result is not best]
    generated = Generated(_shown_text(body, best.end))
    if body.parameters.details or body.parameters.decoder_input_details:
        generated.details = Details(
            best.end.reason,
            best.end.generated_tokens,
            best.end.seed,
            _prefill(best.prompt_tokens),
            tokens(best.tokens),
            [_other(body, result) for result in others] if others else UNSET,
            [tokens(token.top) for token in best.tokens] if body.parameters.top_n_tokens else UNSET,
        )
    return generated, [best]


def _other(body: GenerateBody, result: Whole) -> BestOfSequence:
    return BestOfSequence(
        _shown_text(body, result.end),
        result.end.reason,
        result.end.generated_tokens,
        result.end.seed,
        _prefill(result.prompt_tokens),
        tokens(result.tokens),
        [tokens(token.top) for token in result.tokens] if body.parameters.top_n_tokens else UNSET,
    )


async def _events(service: Service, running: Running, body: GenerateBody) -> AsyncIterator[bytes]:
    """One event per token; that of the last token tells the whole text too."""
    index = 0
    streamed: StreamedToken | None = None
    try:
        async for item in running:
            if isinstance(item, EngineToken):
                index += 1
                streamed = StreamedToken(index, _token(item), tokens(item.top) if item.top else UNSET)
                if not item.last:
                    yield event(streamed)
            elif streamed is not None:
                streamed.generated_text = _shown_text(body, item)
                if body.parameters.details:
                    streamed.details = StreamDetails(
                        item.reason, item.generated_tokens, item.seed, running.input_length
                    )
                yield event(streamed)
    except Refusal as refusal:
        service.metrics.failures[refusal.failure] += 1
        yield event(refusal.body)


def _shown_text(body: GenerateBody, end: EngineEnd) -> str:
    return body.inputs + end.text if body.parameters.return_full_text else end.text


def _token(token: EngineToken) -> Token:
    return Token(token.id, token.text, token.log_probability, token.special)


def tokens(many: Sequence[EngineToken]) -> list[Token]:
    return [_token(token) for token in many]


def _prefill(many: Sequence[EngineToken]) -> list[PrefillToken]:
    return [PrefillToken(token.id, token.text, token.log_probability) for token in many]
