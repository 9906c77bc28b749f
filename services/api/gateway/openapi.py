"""OpenAI's routes in the description of the api, to which FastAPI adds only its own."""

from typing import Any

from pydantic.json_schema import models_json_schema

from services.api.gateway.errors import CHAT_PATH, MODELS_PATH
from services.api.gateway.schemas import (
    ChatCompletion,
    ChatCompletionRequest,
    OpenAIError,
    OpenAIModel,
    OpenAIModelList,
)

_REFERENCE = "#/components/schemas/"
_ERRORS = {
    400: "The request is malformed, or asks for what cannot be had; `param` names the field.",
    401: "No valid key was sent.",
    403: "The key lacks the scope, or the request comes from another site.",
    404: "No model of this name serves.",
    413: "The body is too large.",
    429: "The key is at its limits; Retry-After says for how long.",
    500: "The server failed.",
    502: "The model's server failed, or broke off.",
    503: "The model does not answer now; Retry-After says when to try again.",
    504: "The model's server did not answer in time.",
}
_EVERY = (400, 401, 403, 500)


def describe(schema: dict[str, Any]) -> None:
    """Add the routes and their models to an OpenAPI schema."""
    models = (ChatCompletionRequest, ChatCompletion, OpenAIModel, OpenAIModelList, OpenAIError)
    _, made = models_json_schema(
        [(model, "validation") for model in models], by_alias=True, ref_template=_REFERENCE + "{model}"
    )
    schema["components"]["schemas"].update(made["$defs"])
    schema["paths"][CHAT_PATH] = {"post": _chat()}
    schema["paths"][MODELS_PATH] = {
        "get": _operation("list_serving_models", "Models that answer", {"200": _answer(OpenAIModelList)})
    }
    one = _operation("read_serving_model", "One model that answers", {"200": _answer(OpenAIModel)}, 404)
    one["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]
    schema["paths"][MODELS_PATH + "/{model}"] = {"get": one}


def _chat() -> dict[str, Any]:
    answers = _answer(ChatCompletion)
    answers["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    operation = _operation(
        "create_chat_completion", "Answer a conversation", {"200": answers}, 404, 413, 429, 502, 503, 504
    )
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REFERENCE + ChatCompletionRequest.__name__}}},
    }
    return operation


def _operation(name: str, summary: str, answers: dict[str, Any], *errors: int) -> dict[str, Any]:
    refused = {
        str(status): {**_answer(OpenAIError), "description": _ERRORS[status]} for status in sorted({*_EVERY, *errors})
    }
    return {
        "tags": ["openai"],
        "summary": summary,
        "operationId": name,
        "security": [{"api key": []}],
        "responses": answers | refused,
    }


def _answer(model: type[Any]) -> dict[str, Any]:
    return {
        "description": "Successful Response",
        "content": {"application/json": {"schema": {"$ref": _REFERENCE + model.__name__}}},
    }
