"""`/v1/completions` and `/invocations`."""

from typing import Any

import pytest

from tests.services.inference.cpu_server.events import events_of
from tests.support.model_server import RunningServer
from tests.support.scripted_engine import ANSWER

GREEDY = {"prompt": "Hello", "temperature": 0}


def test_a_text_is_continued_as_it_stands(server: RunningServer) -> None:
    answer = server.post("/v1/completions", GREEDY).json()
    assert answer["choices"] == [{"index": 0, "text": ANSWER, "logprobs": None, "finish_reason": "stop"}]
    [request] = server.engine.requests
    assert list(request.prompt_ids) == server.engine.tokenizer("Hello")["input_ids"]
    assert answer["usage"]["prompt_tokens"] == len(request.prompt_ids)


def test_several_texts_get_a_choice_each_in_their_order_and_one_sum_of_tokens(server: RunningServer) -> None:
    answer = server.post("/v1/completions", {**GREEDY, "prompt": ["a", "b b b"], "max_tokens": 2}).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    lengths = [len(request.prompt_ids) for request in server.engine.requests]
    assert answer["usage"] == {"prompt_tokens": sum(lengths), "completion_tokens": 4, "total_tokens": sum(lengths) + 4}


def test_a_stream_of_several_texts_tells_the_choice_of_each_event_and_ends_once(server: RunningServer) -> None:
    body = {**GREEDY, "prompt": ["a", "b", "c"], "stream": True}
    *events, done = events_of(server.post("/v1/completions", body))
    texts = ["", "", ""]
    reasons: dict[int, str] = {}
    for event in events:
        [choice] = event["choices"]
        texts[choice["index"]] += choice["text"]
        if choice["finish_reason"]:
            reasons[choice["index"]] = choice["finish_reason"]
            assert event["usage"]["completion_tokens"] > 0
    assert texts == [ANSWER] * 3
    assert reasons == {0: "eos_token", 1: "eos_token", 2: "eos_token"}
    assert done == "[DONE]"


def test_one_text_that_cannot_be_continued_refuses_all_and_leaves_none_running(server: RunningServer) -> None:
    for stream in (False, True):
        body = {**GREEDY, "prompt": ["a", "</s>" * 220], "stream": stream}
        assert server.post("/v1/completions", body).status_code == 422
    assert server.service.permits == 8
    assert server.engine.counters.running == 0


def test_an_error_in_one_text_of_a_stream_is_an_event(server: RunningServer) -> None:
    server.engine.fail_after = 1
    *_, error, done = events_of(server.post("/v1/completions", {**GREEDY, "stream": True}))
    assert (error["error"]["http_status_code"], done) == (424, "[DONE]")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"suffix": "x"}, "suffix not supported"),
        ({"prompt": ["a"] * 4}, "batch size exceeded"),
        ({"prompt": []}, "validation"),
    ],
)
def test_completions_that_cannot_be_made_are_refused(server: RunningServer, change: dict[str, Any], kind: str) -> None:
    response = server.post("/v1/completions", {**GREEDY, **change})
    assert (response.status_code, response.json()["error_type"]) == (422, kind)


def test_invocations_answers_by_the_form_of_the_body(server: RunningServer) -> None:
    generated = server.post("/invocations", {"inputs": "Hello", "parameters": {}}).json()
    assert generated == [{"generated_text": f"Hello{ANSWER}"}]
    messages = [{"role": "user", "content": "Hello"}]
    assert server.post("/invocations", {"messages": messages}).json()["object"] == "chat.completion"
    assert server.post("/invocations", GREEDY).json()["object"] == "text_completion"
    assert events_of(server.post("/invocations", {**GREEDY, "stream": True}))[-1] == "[DONE]"
    assert server.post("/invocations", {"text": "Hello"}).status_code == 422
