"""Why an answer does not count: short codes that are counted."""

import re

from shared.llm.protocol import Completion, LanguageModelError, RequestRejected

_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context window"  # OpenAI, vLLM
    r"|tokens too many"  # our CPU server
    r"|inputs` tokens \+ `max_new_tokens` must be|inputs` must have less than",  # TGI 3.3.7, router/src/validation.rs
    re.IGNORECASE,
)


def answer_fault(completion: Completion) -> str:
    """`content_refused` by the provider, `empty`, or nothing. An answer that the token limit cut has no fault."""
    if completion.refusal is not None or completion.finish_reason == "content_filter":
        return "content_refused"
    return "" if completion.text.strip() else "empty"


def error_fault(error: LanguageModelError) -> str:
    """The error's code; `prompt_too_long` where the server refused the request for its length."""
    if isinstance(error, RequestRejected) and _TOO_LONG.search(str(error)):
        return "prompt_too_long"
    return error.code
