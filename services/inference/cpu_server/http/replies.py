"""Bodies of answers, field by field as TGI writes them. Made once per token of a stream, so they are plain structs."""

import msgspec
from msgspec import UNSET, UnsetType

encode = msgspec.json.Encoder().encode


class Token(msgspec.Struct):
    id: int
    text: str
    logprob: float | None
    special: bool


class PrefillToken(msgspec.Struct):
    id: int
    text: str
    logprob: float | None


class BestOfSequence(msgspec.Struct):
    generated_text: str
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | UnsetType = UNSET


class Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    best_of_sequences: list[BestOfSequence] | UnsetType = UNSET
    top_tokens: list[list[Token]] | UnsetType = UNSET


class Generated(msgspec.Struct):
    generated_text: str
    details: Details | UnsetType = UNSET


class StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int


class StreamedToken(msgspec.Struct):
    """One event of `/generate_stream`."""

    index: int
    token: Token
    top_tokens: list[Token] | UnsetType = UNSET
    generated_text: str | None = None
    details: StreamDetails | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float | None


class Logprob(msgspec.Struct):
    token: str
    logprob: float | None
    top_logprobs: list[TopLogprob]


class Logprobs(msgspec.Struct):
    content: list[Logprob]


class ChatMessage(msgspec.Struct):
    role: str
    content: str


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(msgspec.Struct, tag_field="object", tag="chat.completion"):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(msgspec.Struct):
    index: int
    delta: ChatMessage
    logprobs: Logprobs | None
    finish_reason: str | None


class ChatChunk(msgspec.Struct, tag_field="object", tag="chat.completion.chunk"):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatDelta]
    usage: Usage | None


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    logprobs: None
    finish_reason: str


class Completion(msgspec.Struct, tag_field="object", tag="text_completion"):
    """Whole, and the last event of each prompt of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class CompletionChunk(msgspec.Struct, tag_field="object", tag="text_completion"):
    id: str
    created: int
    choices: list[CompletionChoice]
    model: str
    system_fingerprint: str


class PlacedToken(msgspec.Struct):
    """A token of a text; `start` and `stop` count the text's bytes in UTF-8, as TGI has them."""

    id: int
    text: str
    start: int
    stop: int


class ChatTokens(msgspec.Struct):
    tokenize_response: list[PlacedToken]
    templated_text: str


class Info(msgspec.Struct):
    """TGI's fields, then ours: what is served, on what, and how many sequences at once."""

    model_id: str
    model_sha: str | None
    model_pipeline_tag: str | None
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int
    max_client_batch_size: int
    router: str
    version: str
    sha: str | None
    docker_label: str | None
    model_dtype: str
    model_device_type: str
    is_reward_model: bool
    slots: int
    adapters: list[str]


class ModelInfo(msgspec.Struct):
    id: str
    object: str
    created: int
    owned_by: str


class ModelsInfo(msgspec.Struct):
    object: str
    data: list[ModelInfo]


class Scores(msgspec.Struct):
    scores: list[float]


class StreamedErrorDetail(msgspec.Struct):
    message: str
    http_status_code: int


class StreamedError(msgspec.Struct):
    """How TGI tells an error in the middle of a stream of OpenAI's routes, with our `error_type` beside it; OpenAI's clients
    raise at the key `error`."""

    error: StreamedErrorDetail
    error_type: str
