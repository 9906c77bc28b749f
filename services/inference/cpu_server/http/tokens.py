"""`/tokenize` and `/chat_tokenize`: how the served model reads a text, and a conversation."""

from starlette.responses import Response

from services.inference.cpu_server.http.bodies import ChatBody, GenerateBody
from services.inference.cpu_server.http.json_bodies import json_response
from services.inference.cpu_server.http.sequences import Service


async def tokenize(service: Service, body: GenerateBody) -> Response:
    """The tokens of `inputs`; parameters change nothing, as in TGI."""
    return json_response(await service.texts.placed(body.inputs))


async def chat_tokenize(service: Service, body: ChatBody) -> Response:
    """The tokens of the prompt that `/v1/chat/completions` would continue, and its text."""
    return json_response(await service.texts.placed_prompt(body.messages))
