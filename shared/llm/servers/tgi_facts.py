"""What TGI and our own server have in common beside their answers: the name of the base model, and `/info`."""

import msgspec

from shared.llm.servers.openai_answers import not_an_answer
from shared.llm.servers.protocol import ServerInfo

BASE_MODEL = "tgi"
"""The one name on the chat route that means no adapter (router/src/lib.rs, ChatRequest::try_into_generate)."""


class _Info(msgspec.Struct):
    model_id: str
    version: str | None = None
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None


_decode = msgspec.json.Decoder(_Info).decode


def read_info(body: bytes, server: str) -> ServerInfo:
    """`/info`. Raises GenerationIncomplete for a body that is none."""
    try:
        info = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_an_answer(body, server) from error
    return ServerInfo(info.model_id, info.version, info.max_input_tokens, info.max_total_tokens)
