"""TGI's own answers as JSON (`/generate`, `/generate_stream`), and the request body; for our own server, which speaks them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec

from shared.llm.servers.errors import GenerationIncomplete
from shared.llm.servers.http import HttpServer
from shared.llm.servers.openai_answers import estimated_tokens, finish_reason_of, not_an_answer, raise_if_error
from shared.llm.servers.parameters import pattern_of, refuse, samples, schema_of
from shared.llm.servers.protocol import (
    Generated,
    GenerationParameters,
    Grammar,
    Piece,
    TokenLogProbability,
    TokenUsage,
)
from shared.llm.servers.stop_texts import StopHold, without_stop


class _Token(msgspec.Struct):
    id: int
    text: str
    logprob: float | None = None
    special: bool = False


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    input_length: int | None = None


class _Event(msgspec.Struct):
    token: _Token | None = None
    top_tokens: list[_Token] | None = None
    details: _StreamDetails | None = None


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    prefill: list[_Token] = []
    tokens: list[_Token] = []
    top_tokens: list[list[_Token]] | None = None


class _Generation(msgspec.Struct):
    generated_text: str
    details: _Details


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_generation = msgspec.json.Decoder(_Generation).decode


def generate_parameters(parameters: GenerationParameters, adapter_id: str | None) -> dict[str, Any]:
    """TGI's `parameters` object of settled parameters; what is None is left out."""
    fields: dict[str, Any] = {
        "adapter_id": adapter_id,
        "decoder_input_details": parameters.prompt_log_probabilities or None,
        "details": True,
        # TGI samples where any of the cuts is given; without them and without a temperature this decides.
        "do_sample": samples(parameters),
        "frequency_penalty": parameters.frequency_penalty,
        "grammar": None if parameters.grammar is None else grammar_of(parameters.grammar),
        "max_new_tokens": parameters.max_new_tokens,
        "repetition_penalty": parameters.repetition_penalty,
        "seed": parameters.seed,
        "stop": list(parameters.stop) or None,
        "temperature": parameters.temperature,
        "top_k": parameters.top_k,
        "top_n_tokens": parameters.top_tokens or None,
        "top_p": parameters.top_p,
        "typical_p": parameters.typical_p,
    }
    return {name: value for name, value in fields.items() if value is not None}


def chat_parameters(wanted: GenerationParameters, server: str) -> dict[str, Any]:
    """TGI's chat parameters but for the repetition penalty. Raises InvalidRequest for what that route does not have."""
    for name, value in (("top_k", wanted.top_k), ("typical_p", wanted.typical_p)):
        if value is not None:
            refuse(name, server, "whose chat route does not have it", "leave it out or use generate")
    grammar = None
    if wanted.grammar is not None:
        grammar = grammar_of(wanted.grammar)
        if grammar["type"] == "json":
            grammar["type"] = "json_object"
    return {
        "frequency_penalty": wanted.frequency_penalty,
        "logprobs": True if wanted.log_probabilities else None,
        "max_tokens": wanted.max_new_tokens,
        "response_format": grammar,
        "seed": wanted.seed,
        "stop": list(wanted.stop) or None,
        # This route samples at temperature 1 unless it is told 0.
        "temperature": wanted.temperature if samples(wanted) else 0,
        "top_logprobs": wanted.top_tokens or None,
        "top_p": wanted.top_p,
    }


def grammar_of(grammar: Grammar) -> dict[str, Any]:
    """TGI's `grammar`. Raises InvalidRequest for a value that is no schema or pattern."""
    if grammar.kind == "regex":
        return {"type": "regex", "value": pattern_of(grammar)}
    return {"type": "json", "value": schema_of(grammar)}


def prompt_tokens_of(headers: Mapping[str, str], prompt: str) -> int:
    """The prompt's tokens, which TGI tells in a header; where a proxy took it away, about as many as the text has room for."""
    said = headers.get("x-prompt-tokens", "")
    return int(said) if said.isdecimal() else estimated_tokens(len(prompt))


def read_generation(body: bytes, server: str, parameters: GenerationParameters, prompt_tokens: int) -> Generated:
    """The answer in a 200's body.

    Raises GenerationIncomplete for a body that holds no whole answer.
    """
    try:
        answer = _decode_generation(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    details = answer.details
    text = answer.generated_text
    if details.finish_reason == "stop_sequence":
        text = without_stop(text, parameters.stop)
    return Generated(
        text,
        finish_reason_of(details.finish_reason),
        TokenUsage(prompt_tokens, details.generated_tokens),
        _all_tokens(details) if parameters.log_probabilities else (),
        tuple(TokenLogProbability(token.id, token.text, token.logprob) for token in details.prefill),
    )


async def generation_pieces(
    http: HttpServer, path: str, body: bytes, parameters: GenerationParameters
) -> AsyncGenerator[Piece]:
    """The pieces of TGI's own stream. Texts of special tokens are not shown, as in TGI's whole answer.

    Raises what the request raises, GenerationIncomplete for a stream without its last event, and the error that a server
    sends in the middle.
    """
    hold = StopHold(parameters.stop)
    tell_tokens = parameters.log_probabilities
    async with http.stream(path, body) as stream:
        while events := await stream.read():
            for data in events:
                try:
                    event = _decode_event(data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise not_an_answer(data, http.name) from error
                token = event.token
                if token is None:
                    raise_if_error(data, http.name)
                    continue
                text = "" if token.special else hold.push(token.text)
                tokens = (_token(token, event.top_tokens),) if tell_tokens else ()
                details = event.details
                if details is not None:
                    text += hold.end(by_stop=details.finish_reason == "stop_sequence")
                    usage = (
                        TokenUsage(details.input_length, details.generated_tokens)
                        if details.input_length is not None
                        else None
                    )
                    yield Piece(text, tokens, finish_reason_of(details.finish_reason), usage)
                    await stream.drain()
                    return
                if text or tokens:
                    yield Piece(text, tokens)
    raise GenerationIncomplete(f"{http.name} ended its stream before the answer's end (no details)")


def _token(token: _Token, likely: Sequence[_Token] | None) -> TokenLogProbability:
    top = tuple(TokenLogProbability(one.id, one.text, one.logprob, one.special) for one in likely or ())
    return TokenLogProbability(token.id, token.text, token.logprob, token.special, top)


def _all_tokens(details: _Details) -> tuple[TokenLogProbability, ...]:
    likely = details.top_tokens or []
    return tuple(
        _token(token, likely[place] if place < len(likely) else None) for place, token in enumerate(details.tokens)
    )
