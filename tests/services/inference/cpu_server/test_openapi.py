"""Every answer of every route against TGI's own description of its API."""

import json
from typing import Any

import jsonschema
import pytest

from tests.services.inference.cpu_server.events import events_of
from tests.support.model_server import RunningServer
from tests.support.reference import TGI_DESCRIPTION

pytestmark = pytest.mark.skipif(
    not TGI_DESCRIPTION.is_file(), reason="set MULTIFACET_REFERENCE_DATA to the folder with tgi/openapi.json"
)

MESSAGES = [{"role": "user", "content": "Hello"}]
DETAILS = {"details": True, "top_n_tokens": 2, "max_new_tokens": 4}
GOOD: dict[str, list[dict[str, Any]]] = {
    "/": [
        {"inputs": "Hello"},
        {"inputs": "Hello", "parameters": {**DETAILS, "decoder_input_details": True}},
        {"inputs": "Hello", "parameters": {**DETAILS, "best_of": 2, "do_sample": True}},
        {"inputs": "Hello", "parameters": DETAILS, "stream": True},
    ],
    "/generate": [{"inputs": "Hello"}, {"inputs": "Hello", "parameters": {**DETAILS, "decoder_input_details": True}}],
    "/generate_stream": [{"inputs": "Hello"}, {"inputs": "Hello", "parameters": {**DETAILS, "do_sample": True}}],
    "/v1/chat/completions": [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2},
        {"messages": MESSAGES, "logprobs": True, "stream": True, "stream_options": {"include_usage": True}},
    ],
    "/v1/completions": [{"prompt": "Hello"}, {"prompt": ["a", "b"]}, {"prompt": ["a", "b"], "stream": True}],
    "/invocations": [
        {"inputs": "Hello", "stream": True},
        {"messages": MESSAGES},
        {"messages": MESSAGES, "stream": True},
        {"prompt": "Hello"},
        {"prompt": "Hello", "stream": True},
    ],
    "/tokenize": [{"inputs": "Hello </s> été"}],
    "/chat_tokenize": [{"messages": MESSAGES}],
}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(TGI_DESCRIPTION.read_text())
    return described


def _json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has a type more."""
    if isinstance(node, list):
        return [_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {
        name: _json_schema(value) for name, value in node.items() if name not in ("nullable", "example", "default")
    }
    return {"anyOf": [schema, {"type": "null"}]} if node.get("nullable") is True else schema


def _check(description: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    whole = {**_json_schema(schema), "components": _json_schema(description["components"])}
    jsonschema.Draft202012Validator(whole).validate(value)


def _check_response(description: dict[str, Any], method: str, path: str, response: Any) -> None:
    described = description["paths"][path][method]["responses"]
    assert str(response.status_code) in described, f"{path} is not described to answer {response.status_code}"
    content = described[str(response.status_code)].get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]
    if not content:
        return
    schema = content[kind]["schema"]
    if kind != "text/event-stream":
        _check(description, schema, response.json() if kind == "application/json" else response.text)
        return
    # The last event of a completion's stream has the usage too, which the description of `/v1/completions` leaves out.
    for event in events_of(response):
        if event != "[DONE]":
            _check(description, schema, event)


@pytest.mark.parametrize(("path", "body"), [(path, body) for path, bodies in GOOD.items() for body in bodies])
def test_answers_are_as_described(
    server: RunningServer, description: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    response = server.post(path, body)
    assert response.status_code == 200
    _check_response(description, "post", path, response)


@pytest.mark.parametrize("path", [path for path in GOOD if path not in ("/tokenize", "/chat_tokenize")])
@pytest.mark.parametrize("fault", ["validation", "overloaded", "generation", "incomplete"])
def test_errors_are_as_described(server: RunningServer, description: dict[str, Any], path: str, fault: str) -> None:
    body = dict(GOOD[path][0])
    body.pop("stream", None)
    if fault == "validation":
        body |= {"inputs": "", "messages": [], "prompt": [""]} if path != "/invocations" else {"inputs": ""}
    if fault == "overloaded":
        server.engine.full = True
    if fault == "generation":
        server.engine.fail_after = 1
    if fault == "incomplete":
        server.engine.vanish_after = 1
    response = server.post(path, body)
    expected = {"validation": 422, "overloaded": 429, "generation": 424, "incomplete": 500}[fault]
    if path == "/generate_stream" and expected in (424, 500):
        error = events_of(response)[-1]  # it began well
        _check(description, {"$ref": "#/components/schemas/ErrorResponse"}, error)
        return
    assert response.status_code == expected
    _check_response(description, "post", path, response)


def test_every_described_path_is_served(server: RunningServer, description: dict[str, Any]) -> None:
    for path, methods in description["paths"].items():
        for method in methods:
            response = server.get(path) if method == "get" else server.post(path, GOOD[path][0])
            assert response.status_code == 200, path


@pytest.mark.parametrize("path", ["/health", "/info", "/metrics"])
def test_facts_are_as_described(server: RunningServer, description: dict[str, Any], path: str) -> None:
    _check_response(description, "get", path, server.get(path))


def test_each_model_is_as_described(server: RunningServer, description: dict[str, Any]) -> None:
    """The description says one model; TGI sends OpenAI's list of them."""
    models = server.get("/v1/models").json()["data"]
    assert models
    for model in models:
        _check(description, {"$ref": "#/components/schemas/ModelInfo"}, model)
