"""What a stage sees of a language model: one small interface, typed requests, typed errors."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypedDict, TypeVar

import msgspec
from pydantic import BaseModel

from shared.domain.errors import MultifacetError

REQUEST_CLASS_HEADER = "x-multifacet-request-class"
"""Sent with every call; the simulator tells request classes by it, never by phrases in prompts."""

Output = TypeVar("Output", bound=BaseModel)


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class CompletionRequest(msgspec.Struct, frozen=True):
    """One call. `sample_index` separates calls with an equal body (facet, judge run, quality retry): it is part of the
    cache key, so an answer that was rejected is never served again."""

    messages: Sequence[Message]
    request_class: str
    """augment | compose | respond | judge | chat"""
    sample_index: str = "0"
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    """Above 0; 1 changes nothing. For servers that know it: see `Provider.repetition_penalty`."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema_name: str | None = None
    schema: dict[str, Any] | None = None


class Completion(msgspec.Struct, frozen=True):
    """A complete answer. `finish_reason`: stop | length | content_filter | tool_calls. `refusal` is the model's own
    refusal field, None for an ordinary answer."""

    text: str
    finish_reason: str
    refusal: str | None
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int | None
    """None: no price is known for this model. Zero for a replay from the cache."""
    cached: bool


class LanguageModel(Protocol):
    """A provider's model, bound to a project, a job and a stage: calls are cached, limited, costed and counted there."""

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def complete(self, request: CompletionRequest) -> Completion:
        """One answer. Raises the errors below; rate limits, 5xx and broken answers were retried before that."""
        ...

    async def complete_structured(self, request: CompletionRequest, output: type[Output]) -> tuple[Output, Completion]:
        """An answer validated as `output`, with one repair round. Raises OutputInvalid after that, ContentRefused for a
        refusal, OutputTruncated when the token limit cut it."""
        ...


class NobodyToAsk:
    """The language model of a stage that asks none."""

    provider, model = "none", "none"

    async def complete(self, request: CompletionRequest) -> Completion:
        raise RuntimeError(
            f"this stage asks no model, and was about to send a request of class {request.request_class}"
        )

    async def complete_structured(self, request: CompletionRequest, output: type[Output]) -> tuple[Output, Completion]:
        raise RuntimeError(
            f"this stage asks no model, and was about to ask for {output.__name__} ({request.request_class})"
        )


class Scorer(Protocol):
    """A reward model, bound to a project, a job and a stage: calls are cached, paced and counted as those of language models."""

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """The score of each conversation, whose last message is the assistant's. Raises as `LanguageModel.complete` does."""
        ...


class LanguageModelError(MultifacetError):
    code = "language_model_error"


class RequestRejected(LanguageModelError):
    """The provider refuses this one request for good (400, 404, 413, 422): the facet is rejected, others go on."""

    code = "request_rejected"


class OutputInvalid(LanguageModelError):
    code = "output_invalid"


class OutputTruncated(LanguageModelError):
    code = "output_truncated"


class ContentRefused(LanguageModelError):
    code = "content_refused"


class RetriesExhausted(LanguageModelError):
    """This call failed again and again until its deadline; others may still work: the facet is rejected."""

    code = "retries_exhausted"
