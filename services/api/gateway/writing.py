"""Answers as OpenAI writes them: whole, or as chunks of a stream made from a template per request."""

from collections.abc import Sequence
from typing import Any

import orjson

from shared.llm.servers.protocol import Generated, Piece, TokenLogProbability, TokenUsage

END = b"data: [DONE]\n\n"
_UNLIKELY = -9999.0
"""What OpenAI writes for a log-probability that is not known."""


class ChunkWriter:
    """Chunks of one answer. What they have in common is encoded once.

    `extra` stands as `multifacet` in the last chunk: the one with the usage where that was asked for, else the one with the
    finish reason.
    """

    def __init__(
        self, identifier: str, created: int, model: str, extra: dict[str, Any], *, logprobs: bool, include_usage: bool
    ) -> None:
        common = {"id": identifier, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + orjson.dumps(common)[:-1]
        self._choice = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._no_logprobs = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._extra = b',"multifacet":' + orjson.dumps(extra) + b"}\n\n"
        self._logprobs = logprobs
        self._include_usage = include_usage

    def start(self) -> bytes:
        """The chunk that names the role."""
        delta = b',"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,'
        return self._head + delta + b'"finish_reason":null}]' + self._tail

    def piece(self, piece: Piece) -> bytes:
        """A piece's text, with its tokens where they were asked for; nothing for a piece without either."""
        if not piece.text and not (self._logprobs and piece.tokens):
            return b""
        if not self._logprobs:
            return self._choice + text_json(piece.text) + self._no_logprobs
        told = orjson.dumps(logprobs_of(piece.tokens))
        choice = text_json(piece.text) + b'},"logprobs":' + told + b',"finish_reason":null}]'
        return self._choice + choice + self._tail

    def end(self, reason: str, usage: TokenUsage) -> bytes:
        """The chunk with the finish reason, the usage where it was asked for, and the end of the stream."""
        finish = b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":' + orjson.dumps(reason) + b"}]"
        if not self._include_usage:
            return self._head + finish + self._extra + END
        told = b',"choices":[],"usage":' + orjson.dumps(usage_of(usage))
        return self._head + finish + self._tail + self._head + told + self._extra + END


def error_event(body: bytes) -> bytes:
    """An error in the middle of a stream, as OpenAI sends it: its clients raise APIError for it."""
    return b"data: " + body + b"\n\n"


def whole(
    identifier: str, created: int, model: str, extra: dict[str, Any], generated: Generated, *, logprobs: bool
) -> bytes:
    """An answer in one piece."""
    head = orjson.dumps({"id": identifier, "object": "chat.completion", "created": created, "model": model})[:-1]
    told = orjson.dumps(logprobs_of(generated.tokens)) if logprobs else b"null"
    reason = orjson.dumps(generated.finish_reason)
    usage = orjson.dumps({"usage": usage_of(generated.usage), "multifacet": extra})[1:]
    message = b'{"role":"assistant","content":' + text_json(generated.text) + b',"refusal":null}'
    choice = b'{"index":0,"message":' + message + b',"logprobs":' + told + b',"finish_reason":' + reason + b"}"
    return head + b',"choices":[' + choice + b"]," + usage


def usage_of(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def logprobs_of(tokens: Sequence[TokenLogProbability]) -> dict[str, Any]:
    """OpenAI's `logprobs`: the tokens of the text; special ones, such as the end of the turn, are not part of it."""
    return {
        "content": [
            {**_token(token), "top_logprobs": [_token(other) for other in token.top]}
            for token in tokens
            if not token.special
        ],
        "refusal": None,
    }


def text_json(text: str) -> bytes:
    """A text as JSON; lone surrogates, which UTF-8 cannot hold, are replaced."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-8", "replace").decode())


def _token(token: TokenLogProbability) -> dict[str, Any]:
    encoded = token.text.encode("utf-8", "replace")
    value = token.log_probability
    return {
        "token": encoded.decode(),
        "logprob": _UNLIKELY if value is None else value,
        "bytes": list(encoded),
    }
