"""What OpenAI's two routes of answers share, chat and plain completions: how they end, what they count, how they stream."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol

import msgspec

from shared.llm.servers.errors import GenerationIncomplete
from shared.llm.servers.failures import error_of_event
from shared.llm.servers.http import HttpServer
from shared.llm.servers.protocol import FinishReason, Piece, TokenLogProbability, TokenUsage
from shared.llm.servers.stop_texts import StopHold
from shared.llm.wire import CHARACTERS_PER_TOKEN

_END_OF_STREAM = b"[DONE]"
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

Tokens = tuple[TokenLogProbability, ...]


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0


class Chunk(Protocol):
    """An event of a stream; each of its `choices` has a `finish_reason`."""

    @property
    def choices(self) -> Sequence[Any]: ...

    @property
    def usage(self) -> Usage | None: ...


def finish_reason_of(said: str) -> FinishReason:
    """Our word for how an answer ended; one we do not know is an ordinary end."""
    return _FINISH_REASONS.get(said, "stop")


def estimated_tokens(characters: int) -> int:
    """For servers that do not count tokens."""
    return round(characters / CHARACTERS_PER_TOKEN)


def usage_of(told: Usage | None, prompt_characters: int, text: str) -> TokenUsage:
    """What a whole answer took, estimated where the server does not tell."""
    if told is None:
        return TokenUsage(estimated_tokens(prompt_characters), estimated_tokens(len(text)))
    return TokenUsage(told.prompt_tokens, told.completion_tokens)


async def openai_pieces(
    http: HttpServer,
    path: str,
    body: bytes,
    decode: Callable[[bytes], Chunk],
    said_by: Callable[[Any], tuple[str, Tokens]],
    stops: Sequence[str] = (),
) -> AsyncGenerator[Piece]:
    """The pieces of a streamed answer. The chunk with the finish reason is kept until the usage has come, or the end.

    `decode` reads an event, `said_by` a choice's text and tokens; `stops`: of a server that sends the stop text along.

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
                if data == _END_OF_STREAM:
                    over = True
                    break
                try:
                    chunk = decode(data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise not_an_answer(data, http.name) from error
                if chunk.usage is not None:
                    usage = TokenUsage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if not chunk.choices:
                    raise_if_error(data, http.name)
                    continue
                choice = chunk.choices[0]
                said, tokens = said_by(choice)
                text = hold.push(said) if said else ""
                if choice.finish_reason:
                    finish = finish_reason_of(choice.finish_reason)
                    text += hold.end(by_stop=finish == "stop")
                if text or tokens:
                    yield Piece(text, tokens)
        if finish is None:
            raise no_end(http.name)
        yield Piece("", (), finish, usage)
        await stream.drain()


def no_end(server: str) -> GenerationIncomplete:
    """The error of an answer that stops without saying why."""
    return GenerationIncomplete(f"{server} ended its answer before the end (no finish_reason)")


def not_an_answer(body: bytes, server: str) -> GenerationIncomplete:
    """The error of a 200 that holds something else."""
    return GenerationIncomplete(f"{server} answers 200 with {len(body)} bytes that are no answer")


def raise_if_error(data: bytes, server: str) -> None:
    """Raises the error that an event without a choice tells of, where it tells of one."""
    payload: Any = msgspec.json.decode(data)
    if isinstance(payload, dict) and (payload.get("error") or payload.get("object") == "error"):
        raise error_of_event(payload, server)
