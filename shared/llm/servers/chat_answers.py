"""OpenAI's chat completions as JSON: replies and streamed chunks, of hosted servers, vLLM, SGLang and our own server."""

from collections.abc import AsyncGenerator, Sequence

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
from shared.llm.servers.stop_texts import without_stop


class _Likely(msgspec.Struct):
    token: str
    logprob: float | None = None


class _LogProbability(msgspec.Struct):
    token: str
    logprob: float | None = None
    top_logprobs: list[_Likely] | None = None


class _LogProbabilities(msgspec.Struct):
    content: list[_LogProbability] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: Usage | None = None


_NO_MESSAGE = _Message()


class _ChunkChoice(msgspec.Struct):
    delta: _Message = _NO_MESSAGE
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: Usage | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def read_chat_reply(body: bytes, server: str, stops: Sequence[str], prompt_characters: int) -> Generated:
    """The answer in a 200's body. `stops`: of a server that sends the stop text along; empty for one that cuts it off.

    Raises GenerationIncomplete for a body that holds no whole answer.
    """
    try:
        reply = _decode_reply(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    if not reply.choices or not (said := reply.choices[0].finish_reason):
        raise no_end(server)
    choice = reply.choices[0]
    text = choice.message.content or ""
    reason = finish_reason_of(said)
    if reason == "stop":
        text = without_stop(text, stops)
    return Generated(text, reason, usage_of(reply.usage, prompt_characters, text), _tokens(choice.logprobs))


def chat_pieces(http: HttpServer, path: str, body: bytes, stops: Sequence[str] = ()) -> AsyncGenerator[Piece]:
    """The pieces of a streamed chat completion, as `openai_pieces` gives them."""
    return openai_pieces(http, path, body, _decode_chunk, _said_by, stops)


def _said_by(choice: _ChunkChoice) -> tuple[str, Tokens]:
    return choice.delta.content or "", _tokens(choice.logprobs)


def _tokens(found: _LogProbabilities | None) -> Tokens:
    if found is None or not found.content:
        return ()
    return tuple(
        TokenLogProbability(
            -1,
            token.token,
            token.logprob,
            top=tuple(TokenLogProbability(-1, likely.token, likely.logprob) for likely in token.top_logprobs or ()),
        )
        for token in found.content
    )
