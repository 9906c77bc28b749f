"""What one may ask of a model server, whatever it is: generate, chat, both as streams, score, info, health.

A server is one process that serves one model. Parameters that a kind of server does not know are refused by its adapter
(`InvalidRequest`), never dropped: an answer is what was asked for.
"""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from shared.chat_template.conversation import Message


class ServerKind(StrEnum):
    """How a server is spoken to."""

    TGI = "tgi"
    """Text Generation Inference, through `huggingface_hub`'s async client."""
    OPENAI = "openai"
    """Any server with OpenAI's routes: vLLM, SGLang, hosted ones."""
    CPU = "cpu"
    """Our own server on transformers: TGI's routes, and `/score`."""


class ServerAddress(msgspec.Struct, frozen=True):
    """Where a server is and how it is spoken to. Made from an operator's settings or a deployment, never from a request."""

    kind: ServerKind
    base_url: str
    """TGI and CPU server: `http://host:port`; OpenAI: up to and including `/v1`, as providers have it. No slash at the end."""
    model: str
    """What the server calls the model: sent as `model`, and of an adapter as `adapter_id`."""
    api_key: str | None = None
    is_adapter: bool = False
    """The model is an adapter beside the base that the server holds."""
    output_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """OpenAI: what its chat route calls the limit of an answer."""
    structured_output: bool = True
    """OpenAI: it takes JSON schemas."""

    def __repr__(self) -> str:
        return f"ServerAddress({self.kind.value}, {self.base_url}, {self.model})"


class Grammar(msgspec.Struct, frozen=True):
    """What the whole text must be: `json` (a JSON schema) or `regex`."""

    kind: Literal["json", "regex"]
    value: dict[str, Any] | str


class GenerationParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How a text is decoded. Names and ranges as TGI has them; None leaves it to the server.

    Without `temperature` and without any of `top_p`, `top_k`, `typical_p` the most likely token is taken (greedy).
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    """Above 0."""
    top_p: float | None = None
    """In (0, 1); 1 is the same as None."""
    top_k: int | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    """Above 0; 1 changes nothing (Keskar et al. 2019, arXiv 1909.05858)."""
    frequency_penalty: float | None = None
    """-2 to 2, as OpenAI has it."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    log_probabilities: bool = False
    """Tell each generated token with its log-probability."""
    top_tokens: int = 0
    """With `log_probabilities`: so many of the most likely tokens at each place, 0 to 5."""
    prompt_log_probabilities: bool = False
    """`generate` only, not in a stream: the prompt's tokens with theirs."""


class TokenLogProbability(msgspec.Struct, frozen=True):
    """One token. `log_probability` is natural, None for the first token of a prompt; `id` is -1 where the server does not
    tell it."""

    id: int
    text: str
    log_probability: float | None
    special: bool = False
    top: tuple["TokenLogProbability", ...] = ()


class TokenUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
"""`stop`: the model ended, or a stop text came; `length`: the limit of tokens was reached."""


class Generated(msgspec.Struct, frozen=True):
    """A whole answer. A stop text that ended it is not part of `text`."""

    text: str
    finish_reason: FinishReason
    usage: TokenUsage
    tokens: tuple[TokenLogProbability, ...] = ()
    prompt_tokens: tuple[TokenLogProbability, ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """Part of a streamed answer. The last piece has `finish_reason` and `usage` (None where the server does not tell)."""

    text: str
    tokens: tuple[TokenLogProbability, ...] = ()
    finish_reason: FinishReason | None = None
    usage: TokenUsage | None = None


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server says of itself; None for what its kind does not tell."""

    model: str
    version: str | None = None
    maximum_input_tokens: int | None = None
    maximum_total_tokens: int | None = None


class ModelServer(Protocol):
    """One server. Every method raises the errors of `shared.llm.servers.errors` and no other.

    A stream raises in the middle too: `GenerationIncomplete` where the connection ends before the last piece. Closing the
    iterator (or cancelling the task) closes the connection, upon which servers stop generating.
    """

    @property
    def address(self) -> ServerAddress: ...

    async def generate(self, prompt: str, parameters: GenerationParameters) -> Generated:
        """Continue a text as it stands: no chat template."""
        ...

    def generate_stream(self, prompt: str, parameters: GenerationParameters) -> AsyncIterator[Piece]: ...

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        """The reply to a conversation; the server renders its model's chat template."""
        ...

    def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncIterator[Piece]: ...

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """What the reward model that the server holds gives each conversation (the last message is the assistant's)."""
        ...

    async def info(self) -> ServerInfo: ...

    async def health(self) -> None:
        """Returns when the server can answer; raises ServerUnavailable."""
        ...

    async def close(self) -> None: ...
