"""Bodies of requests, as TGI reads them: fields that are not listed are passed over, wrong types are refused.

Ranges are checked by `validation`, where a message can say what to set.
"""

from typing import Annotated, Any, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class GrammarBody(msgspec.Struct):
    """`grammar` and `response_format`. OpenAI's own spelling, `{"type": "json_schema", "json_schema": {…}}`, is read too."""

    type: Literal["json", "json_object", "regex", "json_schema"]
    value: Any = None
    json_schema: Any = None


class GenerateParameters(msgspec.Struct):
    best_of: Count | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: Count | None = None
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: Count | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: Count | None = None
    top_n_tokens: Count | None = None
    grammar: GrammarBody | None = None
    adapter_id: str | None = None


def _without_parameters() -> GenerateParameters:
    # TGI samples where a request has no `parameters` at all, and does not where they are empty.
    return GenerateParameters(do_sample=True)


class GenerateBody(msgspec.Struct):
    inputs: str
    parameters: GenerateParameters = msgspec.field(default_factory=_without_parameters)
    stream: bool = False
    """Of `/` alone."""


class PartBody(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None


class MessageBody(msgspec.Struct):
    role: str
    content: str | list[PartBody] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatBody(msgspec.Struct):
    messages: list[MessageBody]
    model: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    """Ours; TGI has it on the other routes alone."""
    logit_bias: Any = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    seed: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    response_format: GrammarBody | None = None
    stream_options: StreamOptions | None = None


class CompletionBody(msgspec.Struct):
    prompt: str | list[str]
    model: str | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    seed: Count | None = None
    suffix: str | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None


class ScoreBody(msgspec.Struct):
    """Ours: the last message of each conversation is the assistant's, and is what is scored."""

    conversations: list[list[MessageBody]]
