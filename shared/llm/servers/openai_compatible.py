"""Servers with OpenAI's routes: vLLM, SGLang, hosted ones.

`top_k` and `repetition_penalty` are no parameters of OpenAI's. vLLM and SGLang take them and many servers pass over what they
do not know, so they are sent only where `/v1/models` names one of the two as the owner of its models.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from shared.chat_template.conversation import Message
from shared.llm.servers.chat_answers import chat_pieces, read_chat_reply
from shared.llm.servers.completions import completion_pieces, read_completion
from shared.llm.servers.errors import InvalidRequest
from shared.llm.servers.http import HttpServer
from shared.llm.servers.openai_answers import not_an_answer
from shared.llm.servers.parameters import refuse, samples, schema_of, settled
from shared.llm.servers.protocol import Generated, GenerationParameters, Piece, ServerAddress, ServerInfo

_ENGINES_WITH_EXTENSIONS = frozenset({"vllm", "sglang"})
_encode = msgspec.json.Encoder().encode


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    """vLLM and SGLang: prompt and answer together."""


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_models = msgspec.json.Decoder(_Models).decode


class OpenAICompatibleServer:
    """`ModelServer` over OpenAI's routes. Chat goes to `/chat/completions`, generate to `/completions`."""

    def __init__(self, address: ServerAddress, http: HttpServer) -> None:
        self._address = address
        self._http = http
        self._engine: str | None = None
        """Who owns its models, by its own word; None: not asked yet."""

    @property
    def address(self) -> ServerAddress:
        return self._address

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters)
        body = await self._completion_body(prompt, wanted, stream=False)
        reply = await self._http.post("/completions", body)
        return read_completion(reply.body, self._http.name, len(prompt))

    async def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, stream=True)
        body = await self._completion_body(prompt, wanted, stream=True)
        async with aclosing(completion_pieces(self._http, "/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters, chat=True)
        body = await self._chat_body(messages, wanted, stream=False)
        reply = await self._http.post("/chat/completions", body)
        return read_chat_reply(reply.body, self._http.name, (), sum(len(message["content"]) for message in messages))

    async def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, chat=True, stream=True)
        body = await self._chat_body(messages, wanted, stream=True)
        async with aclosing(chat_pieces(self._http, "/chat/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:  # noqa: ARG002 - none is scored
        raise InvalidRequest(
            f"{self._http.name} was asked to score, which OpenAI's routes do not have; deploy the reward model on a cpu server"
        )

    async def info(self) -> ServerInfo:
        models = await self._models()
        model = next((model for model in models if model.id == self._address.model), None)
        if model is None:
            names = ", ".join(sorted(model.id for model in models)[:10]) or "none"
            raise InvalidRequest(f"{self._http.name} has no model {self._address.model}; it has: {names}")
        return ServerInfo(model.id, maximum_total_tokens=model.max_model_len)

    async def health(self) -> None:
        await self._models()
        if self._engine in _ENGINES_WITH_EXTENSIONS:
            # Their list of models is answered even where the engine behind it has died.
            await self._http.get("/health", of_root=True)

    async def close(self) -> None:
        """Nothing to end: the connections are the process's."""

    async def _models(self) -> list[_Model]:
        body = await self._http.get("/models")
        try:
            models = _decode_models(body).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise not_an_answer(body, self._http.name) from error
        self._engine = next((model.owned_by for model in models if model.owned_by), "")
        return models

    async def _chat_body(self, messages: Sequence[Message], wanted: GenerationParameters, *, stream: bool) -> bytes:
        fields = await self._common_fields(wanted, stream=stream)
        fields["messages"] = list(messages)
        if wanted.grammar is not None:
            if wanted.grammar.kind == "regex":
                refuse(
                    "a regex grammar", self._http.name, "whose routes have JSON schemas alone", "give a json grammar"
                )
            if not self._address.structured_output:
                refuse(
                    "a grammar",
                    self._http.name,
                    "which is configured without json_schema",
                    "write the schema into the prompt",
                )
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema_of(wanted.grammar)},
            }
        if wanted.max_new_tokens is not None:
            fields[self._address.output_limit_parameter] = wanted.max_new_tokens
        if wanted.log_probabilities:
            fields["logprobs"] = True
            if wanted.top_tokens:
                fields["top_logprobs"] = wanted.top_tokens
        return _encode(fields)

    async def _completion_body(self, prompt: str, wanted: GenerationParameters, *, stream: bool) -> bytes:
        fields = await self._common_fields(wanted, stream=stream)
        fields["prompt"] = prompt
        if wanted.grammar is not None:
            refuse("a grammar", self._http.name, "whose route for plain texts has none", "use chat for it")
        if wanted.max_new_tokens is not None:
            fields["max_tokens"] = wanted.max_new_tokens
        if wanted.log_probabilities:
            fields["logprobs"] = wanted.top_tokens
        return _encode(fields)

    async def _common_fields(self, wanted: GenerationParameters, *, stream: bool) -> dict[str, Any]:
        if wanted.typical_p is not None:
            refuse(
                "typical_p", self._http.name, "whose routes do not have it", "leave it out or use a tgi or cpu server"
            )
        if wanted.prompt_log_probabilities:
            refuse(
                "prompt_log_probabilities", self._http.name, "whose routes do not tell them", "use a tgi or cpu server"
            )
        fields: dict[str, Any] = {
            "model": self._address.model,
            # Their default is to sample at temperature 1.
            "temperature": wanted.temperature if samples(wanted) else 0,
            "top_p": wanted.top_p,
            "frequency_penalty": wanted.frequency_penalty,
            "seed": wanted.seed,
            "stop": list(wanted.stop) or None,
        }
        extensions = {"top_k": wanted.top_k, "repetition_penalty": wanted.repetition_penalty}
        for name, value in extensions.items():
            if value is not None:
                await self._require_extensions(name)
                fields[name] = value
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return {name: value for name, value in fields.items() if value is not None}

    async def _require_extensions(self, parameter: str) -> None:
        if self._engine is None:
            await self._models()
        if self._engine not in _ENGINES_WITH_EXTENSIONS:
            refuse(
                parameter,
                self._http.name,
                "which does not say (in /v1/models, owned_by) that it is vLLM or SGLang; OpenAI's routes do not have it",
                "leave it out or use another server",
            )
