"""What is refused, with which status, and in words that say what to set."""

import asyncio
import threading
import time
from typing import Any

import httpx2
import pytest

from tests.services.inference.cpu_server.events import events_of
from tests.support.model_server import RunningServer, serving
from tests.support.scripted_engine import ScriptedEngine

SAMPLED = {"do_sample": True}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"best_of": 3, **SAMPLED}, "1 to 2"),
        ({"best_of": 0}, "1 to 2"),
        ({"best_of": 2**60, **SAMPLED}, "1 to 2"),
        ({"best_of": 2}, "do_sample"),
        ({"best_of": 2, "seed": 1, **SAMPLED}, "seed"),
        ({"temperature": 0}, "above 0"),
        ({"temperature": -0.1}, "above 0"),
        ({"top_p": 0}, "below 1"),
        ({"top_p": 1.0}, "below 1"),
        ({"typical_p": 1.0}, "below 1"),
        ({"typical_p": -1}, "above 0"),
        ({"top_k": 0}, "1 or more"),
        ({"top_k": -3}, "1 or more"),
        ({"repetition_penalty": 0}, "above 0"),
        ({"frequency_penalty": 2.1}, "-2 to 2"),
        ({"frequency_penalty": -2.1}, "-2 to 2"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4"),
        ({"stop": [""]}, "empty"),
        ({"top_n_tokens": 6}, "0 to 5"),
        ({"max_new_tokens": 0}, "1 or more"),
        ({"truncate": 0}, "1 to 200"),
        ({"truncate": 201}, "1 to 200"),
        ({"watermark": True}, "watermark"),
        ({"seed": 2**64}, "2^64"),
        ({"adapter_id": "kind"}, "adapters served here: none"),
        ({"grammar": {"type": "regex", "value": {}}}, "expression"),
        ({"grammar": {"type": "regex", "value": "("}}, "does not end"),
        ({"grammar": {"type": "json", "value": "{"}}, "not JSON"),
        ({"grammar": {"type": "json", "value": [1]}}, "JSON schema"),
        ({"grammar": {"type": "json_schema", "value": {"name": "x"}}}, "schema"),
    ],
)
def test_parameters_outside_their_range_are_refused_with_what_to_set(
    server: RunningServer, parameters: dict[str, Any], said: str
) -> None:
    for path in ("/generate", "/"):
        response = server.post(path, {"inputs": "Hello", "parameters": parameters})
        assert (response.status_code, response.json()["error_type"]) == (422, "validation")
        assert said in response.json()["error"]
    assert server.engine.requests == []


@pytest.mark.parametrize(
    "parameters", [{"temperature": 1.0}, {"top_p": 0.99}, {"top_k": 1}, {"typical_p": 0.5}, {"frequency_penalty": -2}]
)
def test_parameters_at_their_limits_are_taken(server: RunningServer, parameters: dict[str, Any]) -> None:
    assert server.post("/generate", {"inputs": "Hello", "parameters": parameters}).status_code == 200


@pytest.mark.parametrize("parameters", [{"best_of": 2, **SAMPLED}, {"decoder_input_details": True}])
def test_a_stream_is_one_answer_without_prompt_tokens(server: RunningServer, parameters: dict[str, Any]) -> None:
    response = server.post("/generate_stream", {"inputs": "Hello", "parameters": parameters})
    assert response.status_code == 422
    [event] = events_of(response)
    assert event["error_type"] == "validation"


def test_a_prompt_that_is_too_long_is_refused_with_by_how_much(server: RunningServer) -> None:
    prompt = "</s>" * 220  # one token each, after `<s>`
    alone = server.post("/generate", {"inputs": prompt, "parameters": {}}).json()["error"]
    assert "221 tokens" in alone
    assert "21 tokens too many" in alone
    together = server.post("/generate", {"inputs": "</s>" * 190, "parameters": {"max_new_tokens": 80}}).json()["error"]
    assert "191 tokens" in together
    assert "15 tokens too many" in together
    fitting = server.post("/generate", {"inputs": "</s>" * 190, "parameters": {"max_new_tokens": 65}})
    assert fitting.status_code == 200


def test_an_empty_prompt_is_refused(server: RunningServer) -> None:
    assert server.post("/generate", {"inputs": "", "parameters": {}}).status_code == 422
    assert server.post("/v1/completions", {"prompt": ["a", ""]}).status_code == 422
    assert server.post("/v1/chat/completions", {"messages": []}).status_code == 422


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"inputs": "a"', "application/json", 400),
        (b'{"inputs": "\xff"}', "application/json", 400),
        (b'{"inputs": 3}', "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"inputs": "a"}', "text/plain", 415),
        (b'{"inputs": "' + b"a" * 20_000 + b'"}', "application/json", 413),
        (b'{"inputs": "a", "x": ' + b"[" * 10_000, "application/json", 400),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(
    server: RunningServer, content: bytes, content_type: str, status: int
) -> None:
    response = httpx2.post(f"{server.url}/generate", content=content, headers={"content-type": content_type})
    assert (response.status_code, response.json()["error_type"]) == (status, "validation")


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: RunningServer) -> None:
    def pieces() -> Any:
        for _ in range(40):
            yield b" " * 1000

    response = httpx2.post(f"{server.url}/generate", content=pieces(), headers={"content-type": "application/json"})
    assert response.status_code == 413


def test_errors_never_quote_the_prompt(server: RunningServer) -> None:
    secret = "squeamish-ossifrage"
    for path, body in (
        ("/generate", {"inputs": secret * 200, "parameters": {}}),
        ("/generate", {"inputs": [secret]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": {"text": secret}}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"\U0010fffd{secret}"}]}),
        ("/v1/completions", {"prompt": {"text": secret}}),
        ("/score", {"conversations": [[{"role": "user", "content": secret}]]}),
    ):
        response = server.post(path, body)
        assert response.status_code == 422
        assert secret not in response.text


def test_more_sequences_than_are_taken_are_answered_429_and_give_their_place_back(server: RunningServer) -> None:
    server.engine.hang_after = 0
    with httpx2.Client(timeout=20) as client:
        streams = []
        for _ in range(8):
            request = client.build_request(
                "POST", f"{server.url}/generate_stream", json={"inputs": "Hello", "parameters": {}}
            )
            streams.append(client.send(request, stream=True))
        response = server.post("/generate", {"inputs": "Hello", "parameters": {}})
        assert (response.status_code, response.json()["error_type"]) == (429, "overloaded")
        assert response.headers["retry-after"]
        server.engine.hang_after = None
        for stream in streams:
            stream.close()
    for _ in range(200):
        if server.post("/generate", {"inputs": "Hello", "parameters": {}}).status_code == 200:
            break
    else:
        pytest.fail("the places of clients that left were not given back")


def test_an_engine_whose_queue_is_full_is_answered_429(server: RunningServer) -> None:
    server.engine.full = True
    for path, body in (
        ("/generate", {"inputs": "Hello"}),
        ("/", {"inputs": "Hello", "stream": True}),
        ("/v1/completions", {"prompt": ["a", "b"], "stream": True}),
    ):
        response = server.post(path, body)
        assert (response.status_code, response.json()["error_type"]) == (429, "overloaded")
    server.engine.full = False
    assert server.service.permits == 8


def test_unknown_paths_and_methods_are_told_in_the_same_form(server: RunningServer) -> None:
    assert (server.get("/nothing").status_code, server.get("/nothing").json()["error_type"]) == (404, "not_found")
    assert server.get("/generate").json()["error_type"] == "method_not_allowed"


def test_requests_get_503_while_the_model_is_loaded(tokenizer: Any) -> None:
    loaded = threading.Event()

    async def load() -> None:
        while not loaded.is_set():
            await asyncio.sleep(0.01)

    with serving(ScriptedEngine(tokenizer), load=load) as server:
        for path in ("/health", "/ping", "/", "/info", "/metrics", "/v1/models"):
            response = server.get(path)
            assert (response.status_code, response.json()["error_type"]) == (503, "healthcheck")
        assert server.post("/generate", {"inputs": "Hello"}).status_code == 503
        loaded.set()
        for _ in range(500):
            if server.get("/health").status_code == 200:
                break
            time.sleep(0.01)
        assert server.post("/generate", {"inputs": "Hello"}).status_code == 200
