"""What both OpenAI routes share: how their parameters read, and the fields of every answer."""

import time

from services.inference.cpu_server.engine.protocol import EndReason
from services.inference.cpu_server.http.bodies import ChatBody, CompletionBody, GenerateParameters
from services.inference.cpu_server.http.errors import Refusal
from services.inference.cpu_server.http.replies import StreamedError, StreamedErrorDetail, Usage

FINGERPRINT = "multifacet-cpu"


def now() -> int:
    """Seconds since 1970, for `created`."""
    return int(time.time())


def finish_reason(reason: EndReason) -> str:
    """As TGI names them here: OpenAI's words, but for a stop text, which keeps its own."""
    return "stop" if reason == "eos_token" else reason


def usage(prompt: int, completion: int) -> Usage:
    """Counts of tokens."""
    return Usage(prompt, completion, prompt + completion)


def streamed_error(refusal: Refusal) -> StreamedError:
    return StreamedError(StreamedErrorDetail(refusal.message, refusal.status), refusal.error_type)


def parameters_of(body: ChatBody | CompletionBody) -> GenerateParameters:
    """As TGI reads them: tokens are drawn, unless the temperature is 0."""
    greedy = body.temperature == 0
    return GenerateParameters(
        do_sample=not greedy,
        temperature=None if greedy else body.temperature,
        top_p=body.top_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        max_new_tokens=body.max_tokens,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        seed=body.seed,
        details=True,
    )
