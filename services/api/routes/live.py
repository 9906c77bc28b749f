"""OpenAI's routes: POST /v1/chat/completions, GET /v1/models and /v1/models/{model}.

They are routes of Starlette: FastAPI's dependencies and models cost more time per request than all that is done here. What
they take and answer is described in `services.api.gateway.openapi`.
"""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.api.authentication import Caller
from services.api.gateway.chat import Asker
from services.api.gateway.errors import CHAT_PATH, MODELS_PATH
from services.api.problems import Problem
from services.api.state import ApiState
from shared.domain.deployments import ServingModel
from shared.metadata.repositories.api_keys import KeyLimits

_NO_LIMITS = KeyLimits()


def mount(app: FastAPI) -> None:
    """Add the routes; before all others, they are found first."""
    app.router.routes += [
        Route(CHAT_PATH, _Chat(), methods=["POST"]),
        Route(MODELS_PATH, _list_models, methods=["GET"]),
        Route(MODELS_PATH + "/{model:path}", _read_model, methods=["GET"]),
    ]


class _Chat:
    """An ASGI application, so that Starlette calls it as it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        if not caller.may("chat"):
            raise _forbidden("this needs the scope 'chat'", caller)
        body = await _body(receive)
        if body is None:
            return
        state: ApiState = scope["app"].state.api
        live = caller.live
        asker = Asker(
            caller.project_id,
            None if live is None else live.counted_as,
            _NO_LIMITS if live is None else live.limits,
        )
        await state.gateway.chat.answer(asker, body, receive, send)


async def _list_models(request: Request) -> Response:
    """What answers in the caller's project, oldest first."""
    models = [_model(model) for model in await _models(request)]
    return _json({"object": "list", "data": models})


async def _read_model(request: Request) -> Response:
    name = request.path_params["model"]
    for model in await _models(request):
        if model.name == name:
            return _json(_model(model))
    raise Problem(404, "model_not_found", f"The model {name[:200]!r} does not exist, or does not serve now.")


async def _models(request: Request) -> list[ServingModel]:
    caller: Caller = request.state.caller
    if not (caller.may("read") or caller.may("chat")):
        raise _forbidden("this needs the scope 'read' or 'chat'", caller)
    state: ApiState = request.app.state.api
    return (await state.gateway.directory.current()).of_project(caller.project_id)


def _model(model: ServingModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0 if model.created_at is None else int(model.created_at.timestamp()),
        "owned_by": model.project_id,
        "multifacet": {
            "state": model.state,
            "method": model.method,
            "chats": not model.is_reward_model,
            "answered_by": model.answered_by,
            "deployment": model.deployment_id,
            "revision": model.revision,
            "maximum_input_tokens": model.maximum_input_tokens,
            "maximum_total_tokens": model.maximum_total_tokens,
        },
    }


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the client went away before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _forbidden(needed: str, caller: Caller) -> Problem:
    return Problem(403, "forbidden", f"{needed}; the key has {', '.join(caller.scopes) or 'none'}")


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
