"""Text Generation Inference, through `huggingface_hub`'s async client; `/info` and `/health` by ourselves, which it cannot."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
from huggingface_hub.errors import (
    GenerationError,
    HfHubHTTPError,
    IncompleteGenerationError,
    InferenceTimeoutError,
    OverloadedError,
    TextGenerationError,
    ValidationError,
)

from shared.chat_template.conversation import Message
from shared.llm.servers.errors import GenerationIncomplete, InvalidRequest
from shared.llm.servers.failures import error_of_event
from shared.llm.servers.generations import chat_parameters, generate_parameters, prompt_tokens_of
from shared.llm.servers.http import HttpServer
from shared.llm.servers.hub_client import REPLY_HEADERS, HubClient, HubTransport, broken
from shared.llm.servers.openai_answers import estimated_tokens, finish_reason_of
from shared.llm.servers.parameters import settled
from shared.llm.servers.protocol import (
    Generated,
    GenerationParameters,
    Piece,
    ServerAddress,
    ServerInfo,
    TokenLogProbability,
    TokenUsage,
)
from shared.llm.servers.stop_texts import StopHold, without_stop
from shared.llm.servers.tgi_facts import BASE_MODEL, read_info

_PENALTY_OFFSET = 2.0
"""TGI's chat route makes the repetition penalty of OpenAI's presence penalty by adding this (router/src/lib.rs of 3.3.7,
ChatRequest::try_into_generate)."""

_ERROR_TYPES: dict[type[TextGenerationError], str] = {
    GenerationError: "generation",
    IncompleteGenerationError: "incomplete_generation",
    OverloadedError: "overloaded",
    ValidationError: "validation",
}


class TgiServer:
    """`ModelServer` over TGI. Generate goes to `/`, which picks the stream or not by the body, chat to OpenAI's route."""

    def __init__(self, address: ServerAddress, http: HttpServer, transport: HubTransport) -> None:
        self._address = address
        self._http = http
        self._hub_http = httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None)

    @property
    def address(self) -> ServerAddress:
        return self._address

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters)
        headers: dict[str, str] = {}
        asked = REPLY_HEADERS.set(headers)
        try:
            with self._told_as_ours():
                async with self._client() as client:
                    answer = await client.text_generation(prompt, **self._generate_parameters(wanted))
                details = answer.details
                return Generated(
                    without_stop(answer.generated_text, wanted.stop)
                    if details.finish_reason == "stop_sequence"
                    else answer.generated_text,
                    finish_reason_of(details.finish_reason),
                    TokenUsage(prompt_tokens_of(headers, prompt), details.generated_tokens),
                    _tokens(details.tokens, details.top_tokens) if wanted.log_probabilities else (),
                    _tokens(details.prefill or (), None),
                )
        finally:
            REPLY_HEADERS.reset(asked)

    async def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, stream=True)
        hold = StopHold(wanted.stop)
        with self._told_as_ours():
            async with self._client() as client:
                events = await client.text_generation(prompt, stream=True, **self._generate_parameters(wanted))
                async for event in events:
                    token, details = event.token, event.details
                    text = "" if token.special else hold.push(token.text)
                    tokens = _tokens([token], [event.top_tokens]) if wanted.log_probabilities else ()
                    if details is not None:
                        text += hold.end(by_stop=details.finish_reason == "stop_sequence")
                        usage = TokenUsage(details.input_length, details.generated_tokens)
                        yield Piece(text, tokens, finish_reason_of(details.finish_reason), usage)
                        # What is left is the end of the body; read, the connection can be used again.
                        async for _ in events:
                            pass
                        return
                    if text or tokens:
                        yield Piece(text, tokens)
        raise GenerationIncomplete(f"{self._http.name} ended its stream before the answer's end (no details)")

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        wanted = settled(parameters, chat=True)
        with self._told_as_ours():
            async with self._client() as client:
                answer = await client.chat_completion(list(messages), **self._chat_parameters(wanted))
            choice = answer.choices[0]
            said, text = choice.finish_reason, choice.message.content or ""
            if not said:
                raise GenerationIncomplete(f"{self._http.name} sent an answer without its end (no finish_reason)")
            if said == "stop_sequence":
                text = without_stop(text, wanted.stop)
            characters = sum(len(message["content"]) for message in messages)
            usage = (
                TokenUsage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
                if answer.usage is not None
                else TokenUsage(estimated_tokens(characters), estimated_tokens(len(text)))
            )
            return Generated(text, finish_reason_of(said), usage, _chat_tokens(choice.logprobs))

    async def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncGenerator[Piece]:
        wanted = settled(parameters, chat=True, stream=True)
        hold = StopHold(wanted.stop)
        finish, usage = None, None
        with self._told_as_ours():
            async with self._client() as client:
                chunks = await client.chat_completion(
                    list(messages), stream=True, stream_options={"include_usage": True}, **self._chat_parameters(wanted)
                )
                async for chunk in chunks:
                    if chunk.usage is not None:
                        usage = TokenUsage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    text = hold.push(choice.delta.content) if choice.delta.content else ""
                    if choice.finish_reason:
                        finish = finish_reason_of(choice.finish_reason)
                        text += hold.end(by_stop=choice.finish_reason == "stop_sequence")
                    tokens = _chat_tokens(choice.logprobs)
                    if text or tokens:
                        yield Piece(text, tokens)
                if finish is None:
                    raise GenerationIncomplete(
                        f"{self._http.name} ended its stream before the answer's end (no finish_reason)"
                    )
                yield Piece("", (), finish, usage)

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:  # noqa: ARG002 - none is scored
        raise InvalidRequest(
            f"{self._http.name} was asked to score, which TGI cannot; deploy the reward model on a cpu server"
        )

    async def info(self) -> ServerInfo:
        return read_info(await self._http.get("/info"), self._http.name)

    async def health(self) -> None:
        await self._http.get("/health")

    async def close(self) -> None:
        """The pool goes on for other servers."""
        await self._hub_http.aclose()

    def _client(self) -> HubClient:
        return HubClient(self._address.base_url, self._hub_http)

    def _generate_parameters(self, wanted: GenerationParameters) -> dict[str, Any]:
        fields = generate_parameters(wanted, self._address.model if self._address.is_adapter else None)
        if "grammar" in fields:
            fields["grammar"] = _with_nulls_kept(fields["grammar"])
        return fields

    def _chat_parameters(self, wanted: GenerationParameters) -> dict[str, Any]:
        fields = chat_parameters(wanted, self._http.name)
        if fields["response_format"] is not None:
            fields["response_format"] = _with_nulls_kept(fields["response_format"])
        if wanted.repetition_penalty is not None:
            fields["presence_penalty"] = wanted.repetition_penalty - _PENALTY_OFFSET
        fields["model"] = self._address.model if self._address.is_adapter else BASE_MODEL
        return fields

    @contextmanager
    def _told_as_ours(self) -> Iterator[None]:
        """The client's errors, and what it raises for answers that are none, as ours."""
        name = self._http.name
        try:
            yield
        except TextGenerationError as error:
            # In a stream: a text with one of TGI's types, or on the chat route an object.
            said = error.args[0] if error.args else ""
            raise error_of_event({"error": said, "error_type": _ERROR_TYPES.get(type(error), "")}, name) from error
        except (httpx2.HTTPError, HfHubHTTPError, InferenceTimeoutError) as error:
            raise broken(name, error) from error
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise GenerationIncomplete(
                f"{name} answers 200 with what is no answer of TGI's ({type(error).__name__})"
            ) from error


def _with_nulls_kept(grammar: dict[str, Any]) -> dict[str, Any]:
    """The client leaves nulls out of what it sends, also within a schema, where `{"const": null}` means something; TGI reads a
    schema from a text as well."""
    if grammar["type"] == "regex" or not _has_null(grammar["value"]):
        return grammar
    return grammar | {"value": json.dumps(grammar["value"])}


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(part is None or _has_null(part) for part in value.values())
    return isinstance(value, list) and any(_has_null(part) for part in value)


def _tokens(tokens: Sequence[Any], likely: Sequence[Any] | None) -> tuple[TokenLogProbability, ...]:
    """Tokens of TGI's own routes. They are read as mappings: the client leaves those in lists of lists as plain dictionaries."""
    return tuple(
        _token(token, (likely[place] if likely and place < len(likely) else None) or ())
        for place, token in enumerate(tokens)
    )


def _token(token: Mapping[str, Any], likely: Sequence[Any]) -> TokenLogProbability:
    # Tokens of a prompt do not say whether they are special.
    special = bool(token.get("special"))
    return TokenLogProbability(
        token["id"], token["text"], token["logprob"], special, tuple(_token(one, ()) for one in likely)
    )


def _chat_tokens(found: Any) -> tuple[TokenLogProbability, ...]:
    if found is None or not found.content:
        return ()
    return tuple(
        TokenLogProbability(
            -1,
            token.token,
            token.logprob,
            top=tuple(TokenLogProbability(-1, one.token, one.logprob) for one in token.top_logprobs or ()),
        )
        for token in found.content
    )
