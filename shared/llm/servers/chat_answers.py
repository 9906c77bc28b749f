"""OpenAI's chat completions as JSON: replies and streamed chunks, of hosted servers, vLLM, SGLang and our own server."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from shared.llm.servers.errors import GenerationIncomplete
from shared.llm.servers.failures import error_of_event
from shared.llm.servers.http import HttpServer
from shared.llm.servers.protocol import FinishReason, Generated, Piece, TokenLogProbability, TokenUsage
from shared.llm.servers.stop_texts import StopHold, without_stop
from shared.llm.wire import CHARACTERS_PER_TOKEN

END_OF_STREAM = b"[DONE]"
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
"""OpenAI's, and TGI's own ones."""


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


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_NO_MESSAGE = _Message()


class _ChunkChoice(msgspec.Struct):
    delta: _Message = _NO_MESSAGE
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: _Usage | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def finish_reason_of(said: str) -> FinishReason:
    """Our word for how an answer ended; one we do not know is an ordinary end."""
    return _FINISH_REASONS.get(said, "stop")


def estimated_tokens(characters: int) -> int:
    """For servers that do not count tokens."""
    return round(characters / CHARACTERS_PER_TOKEN)


def read_chat_reply(body: bytes, server: str, stops: Sequence[str], prompt_characters: int) -> Generated:
    """The answer in a 200's body. `stops`: of a server that sends the stop text along; empty for one that cuts it off.

    Raises GenerationIncomplete for a body that holds no whole answer.
    """
    try:
        reply = _decode_reply(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    if not reply.choices or (said := reply.choices[0].finish_reason) is None:
        raise GenerationIncomplete(f"{server} sent an answer without its end (no finish_reason)")
    choice = reply.choices[0]
    text = choice.message.content or ""
    reason = finish_reason_of(said)
    if reason == "stop":
        text = without_stop(text, stops)
    usage = (
        TokenUsage(reply.usage.prompt_tokens, reply.usage.completion_tokens)
        if reply.usage is not None
        else TokenUsage(estimated_tokens(prompt_characters), estimated_tokens(len(text)))
    )
    return Generated(text, reason, usage, _tokens(choice.logprobs))


async def chat_pieces(http: HttpServer, path: str, body: bytes, stops: Sequence[str] = ()) -> AsyncGenerator[Piece]:
    """The pieces of a streamed chat completion. The chunk with the finish reason is kept until the usage has come, or the end.

    Raises what the request raises, GenerationIncomplete for a stream without finish reason, and the error that a server
    sends in the middle.
    """
    hold = StopHold(stops)
    finish: FinishReason | None = None
    usage: TokenUsage | None = None
    async with http.stream(path, body) as stream:
        over = False
        while not over and (events := await stream.read()):
            for data in events:
                if data == END_OF_STREAM:
                    over = True
                    break
                try:
                    chunk = _decode_chunk(data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise not_an_answer(data, http.name) from error
                if chunk.usage is not None:
                    usage = TokenUsage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if not chunk.choices:
                    raise_if_error(data, http.name)
                    continue
                choice = chunk.choices[0]
                text = hold.push(choice.delta.content) if choice.delta.content else ""
                tokens = _tokens(choice.logprobs) if choice.logprobs is not None else ()
                if choice.finish_reason:
                    finish = finish_reason_of(choice.finish_reason)
                    text += hold.end(by_stop=finish == "stop")
                if text or tokens:
                    yield Piece(text, tokens)
        if finish is None:
            raise GenerationIncomplete(f"{http.name} ended its stream before the answer's end (no finish_reason)")
        yield Piece("", (), finish, usage)
        await stream.drain()


def not_an_answer(body: bytes, server: str) -> GenerationIncomplete:
    """The error of a 200 that holds something else."""
    return GenerationIncomplete(f"{server} answers 200 with {len(body)} bytes that are no answer")


def raise_if_error(data: bytes, server: str) -> None:
    """Raises the error that an event without a choice tells of, where it tells of one."""
    payload: Any = msgspec.json.decode(data)
    if isinstance(payload, dict) and (payload.get("error") or payload.get("object") == "error"):
        raise error_of_event(payload, server)


def _tokens(found: _LogProbabilities | None) -> tuple[TokenLogProbability, ...]:
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
