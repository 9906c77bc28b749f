"""OpenAI's completions of plain texts as JSON: replies and streamed chunks, with the log-probabilities of that route."""

from collections.abc import AsyncGenerator, Mapping

import msgspec

from shared.llm.servers.chat_answers import (
    END_OF_STREAM,
    estimated_tokens,
    finish_reason_of,
    not_an_answer,
    raise_if_error,
)
from shared.llm.servers.errors import GenerationIncomplete
from shared.llm.servers.http import HttpServer
from shared.llm.servers.protocol import FinishReason, Generated, Piece, TokenLogProbability, TokenUsage


class _LogProbabilities(msgspec.Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Completion).decode


def read_completion(body: bytes, server: str, prompt_characters: int) -> Generated:
    """The answer in a 200's body. Raises GenerationIncomplete for a body that holds no whole answer."""
    try:
        reply = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    if not reply.choices or not (said := reply.choices[0].finish_reason):
        raise GenerationIncomplete(f"{server} sent an answer without its end (no finish_reason)")
    choice = reply.choices[0]
    usage = (
        TokenUsage(reply.usage.prompt_tokens, reply.usage.completion_tokens)
        if reply.usage is not None
        else TokenUsage(estimated_tokens(prompt_characters), estimated_tokens(len(choice.text)))
    )
    return Generated(choice.text, finish_reason_of(said), usage, _tokens(choice.logprobs))


async def completion_pieces(http: HttpServer, path: str, body: bytes) -> AsyncGenerator[Piece]:
    """The pieces of a streamed completion. Raises as `chat_pieces` does."""
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
                    chunk = _decode(data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise not_an_answer(data, http.name) from error
                if chunk.usage is not None:
                    usage = TokenUsage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if not chunk.choices:
                    raise_if_error(data, http.name)
                    continue
                choice = chunk.choices[0]
                if choice.finish_reason:
                    finish = finish_reason_of(choice.finish_reason)
                tokens = _tokens(choice.logprobs) if choice.logprobs is not None else ()
                if choice.text or tokens:
                    yield Piece(choice.text, tokens)
        if finish is None:
            raise GenerationIncomplete(f"{http.name} ended its stream before the answer's end (no finish_reason)")
        yield Piece("", (), finish, usage)
        await stream.drain()


def _tokens(found: _LogProbabilities | None) -> tuple[TokenLogProbability, ...]:
    if found is None:
        return ()
    likely = found.top_logprobs or []
    return tuple(
        TokenLogProbability(-1, text, log_probability, top=_top(likely[place] if place < len(likely) else None))
        for place, (text, log_probability) in enumerate(zip(found.tokens, found.token_logprobs, strict=False))
    )


def _top(likely: Mapping[str, float | None] | None) -> tuple[TokenLogProbability, ...]:
    return tuple(TokenLogProbability(-1, text, log_probability) for text, log_probability in (likely or {}).items())
