"""OpenAI's completions of plain texts as JSON: replies and streamed chunks, with the log-probabilities of that route."""

from collections.abc import AsyncGenerator, Mapping

import msgspec

from shared.llm.servers.http import HttpServer
from shared.llm.servers.openai_answers import (
    Tokens,
    Usage,
    finish_reason_of,
    no_end,
    not_an_answer,
    openai_pieces,
    usage_of,
)
from shared.llm.servers.protocol import Generated, Piece, TokenLogProbability


class _LogProbabilities(msgspec.Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None


_decode = msgspec.json.Decoder(_Completion).decode


def read_completion(body: bytes, server: str, prompt_characters: int) -> Generated:
    """The answer in a 200's body. Raises GenerationIncomplete for a body that holds no whole answer."""
    try:
        reply = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    if not reply.choices or not (said := reply.choices[0].finish_reason):
        raise no_end(server)
    choice = reply.choices[0]
    usage = usage_of(reply.usage, prompt_characters, choice.text)
    return Generated(choice.text, finish_reason_of(said), usage, _tokens(choice.logprobs))


def completion_pieces(http: HttpServer, path: str, body: bytes) -> AsyncGenerator[Piece]:
    """The pieces of a streamed completion, as `openai_pieces` gives them."""
    return openai_pieces(http, path, body, _decode, _said_by)


def _said_by(choice: _Choice) -> tuple[str, Tokens]:
    return choice.text, _tokens(choice.logprobs)


def _tokens(found: _LogProbabilities | None) -> Tokens:
    if found is None:
        return ()
    likely = found.top_logprobs or []
    return tuple(
        TokenLogProbability(-1, text, log_probability, top=_top(likely[place] if place < len(likely) else None))
        for place, (text, log_probability) in enumerate(zip(found.tokens, found.token_logprobs, strict=False))
    )


def _top(likely: Mapping[str, float | None] | None) -> tuple[TokenLogProbability, ...]:
    return tuple(TokenLogProbability(-1, text, log_probability) for text, log_probability in (likely or {}).items())
