"""Our own server on transformers: TGI's routes, `/score`, and a repetition penalty on its chat route."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from shared.chat_template.conversation import Message
from shared.llm.servers.chat_answers import chat_pieces, read_chat_reply
from shared.llm.servers.errors import GenerationFailed
from shared.llm.servers.generations import (
    chat_parameters,
    generate_parameters,
    generation_pieces,
    prompt_tokens_of,
    read_generation,
)
from shared.llm.servers.http import HttpServer
from shared.llm.servers.openai_answers import not_an_answer
from shared.llm.servers.parameters import settled
from shared.llm.servers.protocol import Generated, GenerationParameters, Piece, ServerAddress, ServerInfo
from shared.llm.servers.tgi_facts import BASE_MODEL, read_info

_encode = msgspec.json.Encoder().encode


class _Scores(msgspec.Struct):
    scores: list[float]


_decode_scores = msgspec.json.Decoder(_Scores).decode


class CpuServer:
    """`ModelServer` over our own server's routes."""

    def __init__(self, address: ServerAddress, http: HttpServer) -> None:
        self._address = address
        self._http = http

    @property
    def address(self) -> ServerAddress:
        return self._address

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters)
        reply = await self._http.post("/generate", self._generate_body(prompt, wanted))
        return read_generation(reply.body, self._http.name, wanted, prompt_tokens_of(reply.headers, prompt))

    async def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, stream=True)
        body = self._generate_body(prompt, wanted)
        async with aclosing(generation_pieces(self._http, "/generate_stream", body, wanted)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters, chat=True)
        reply = await self._http.post("/v1/chat/completions", self._chat_body(messages, wanted, stream=False))
        characters = sum(len(message["content"]) for message in messages)
        return read_chat_reply(reply.body, self._http.name, wanted.stop, characters)

    async def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, chat=True, stream=True)
        body = self._chat_body(messages, wanted, stream=True)
        async with aclosing(chat_pieces(self._http, "/v1/chat/completions", body, wanted.stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        reply = await self._http.post("/score", _encode({"conversations": conversations}))
        try:
            scores = _decode_scores(reply.body).scores
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise not_an_answer(reply.body, self._http.name) from error
        if len(scores) != len(conversations):
            raise GenerationFailed(
                f"{self._http.name} gave {len(scores)} scores for {len(conversations)} conversations"
            )
        return scores

    async def info(self) -> ServerInfo:
        return read_info(await self._http.get("/info"), self._http.name)

    async def health(self) -> None:
        await self._http.get("/health")

    async def close(self) -> None:
        """Nothing to end: the connections are the process's."""

    def _generate_body(self, prompt: str, wanted: GenerationParameters) -> bytes:
        adapter = self._address.model if self._address.is_adapter else None
        return _encode({"inputs": prompt, "parameters": generate_parameters(wanted, adapter)})

    def _chat_body(self, messages: Sequence[Message], wanted: GenerationParameters, *, stream: bool) -> bytes:
        fields: dict[str, Any] = {
            "model": self._address.model if self._address.is_adapter else BASE_MODEL,
            "messages": messages,
            **chat_parameters(wanted, self._http.name),
            "repetition_penalty": wanted.repetition_penalty,
        }
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return _encode({name: value for name, value in fields.items() if value is not None})
