"""What OpenAI's routes take and answer, for the description of the api alone: they are read and written without pydantic."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.api.gateway.asking import MOST_STOPS, MOST_TOP_LOGPROBS
from shared.domain.profiles import MAXIMUM_PREFERENCES, StatedPreference


class _Taken(BaseModel):
    model_config = ConfigDict(extra="allow")


class TextPart(_Taken):
    type: Literal["text"]
    text: str


class ChatMessage(_Taken):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = Field(description="parts are put together, one a line")


class JsonSchemaFormat(_Taken):
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Taken):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(_Taken):
    include_usage: bool | None = None


class ChatCompletionRequest(_Taken):
    """OpenAI's request. Fields that are not listed are ignored, but for those that would change the answer and cannot be had:
    `n` above 1, tools and functions, `logit_bias`, `presence_penalty`, audio, images."""

    model: str = Field(description="name of a deployment")
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, description="stands before max_tokens")
    temperature: float | None = Field(default=None, ge=0, le=2, description="1 where it is not given; 0: greedy")
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, description="extension; 0: all tokens")
    seed: int | None = None
    stop: str | list[str] | None = Field(default=None, max_length=MOST_STOPS)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="extension; 1 changes nothing")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_TOP_LOGPROBS, description="needs logprobs")
    response_format: ResponseFormat | None = None
    preferences: list[StatedPreference] | None = Field(
        default=None,
        max_length=MAXIMUM_PREFERENCES,
        description="extension: what the person prefers; the system message is made of it",
    )
    profile: str | None = Field(
        default=None, min_length=1, description="extension: name of a stored profile, in place of preferences"
    )


class Provenance(BaseModel):
    """Extension: who answered, and to what system message."""

    system: str | None = Field(description="the system message, where preferences or a profile made it")
    profile: dict[str, Any] | None = Field(description="{name, version} of the stored profile")
    answered_by: str = Field(description="id of the registered model, or provider/model")
    deployment: str
    revision: int


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class AnswerChoice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class AnswerUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """OpenAI's answer. A stream has `chat.completion.chunk` objects as server-sent events, then `[DONE]`; an error in its
    middle is an event `{"error": …}` that ends it."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: AnswerUsage
    multifacet: Provenance


class ModelFacts(BaseModel):
    """Extension: what is behind the name."""

    state: str
    method: str | None = Field(description="of a registered model: sft, dpo, orpo, rm")
    chats: bool = Field(description="false: a reward model")
    answered_by: str
    deployment: str
    revision: int
    maximum_input_tokens: int | None
    maximum_total_tokens: int | None


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    multifacet: ModelFacts


class OpenAIModelList(BaseModel):
    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="the field of the request")
    code: str | None = Field(description="stable, for programs")


class OpenAIError(BaseModel):
    """Every error of OpenAI's routes."""

    error: OpenAIErrorDetail
