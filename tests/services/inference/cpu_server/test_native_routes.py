"""`/`, `/generate` and `/generate_stream`."""

from typing import Any

import pytest

from tests.services.inference.cpu_server.events import events_of
from tests.support.model_server import RunningServer
from tests.support.scripted_engine import ANSWER


def test_generate_answers_with_the_text_alone_where_no_details_are_asked_for(server: RunningServer) -> None:
    response = server.post("/generate", {"inputs": "Hello", "parameters": {}})
    assert (response.status_code, response.json()) == (200, {"generated_text": ANSWER})


def test_the_root_answers_with_a_list_of_one_and_the_prompt_before_the_answer(server: RunningServer) -> None:
    assert server.post("/", {"inputs": "Hello", "parameters": {}}).json() == [{"generated_text": f"Hello{ANSWER}"}]
    without = server.post("/", {"inputs": "Hello", "parameters": {"return_full_text": False}})
    assert without.json() == [{"generated_text": ANSWER}]


def test_a_request_without_parameters_is_drawn_and_one_with_empty_parameters_is_not(server: RunningServer) -> None:
    server.post("/generate", {"inputs": "Hello"})
    server.post("/generate", {"inputs": "Hello", "parameters": {}})
    assert [request.sample for request in server.engine.requests] == [True, False]


def test_details_tell_tokens_prompt_tokens_top_tokens_and_why_it_ended(server: RunningServer) -> None:
    parameters = {"details": True, "decoder_input_details": True, "top_n_tokens": 2, "max_new_tokens": 2}
    details = server.post("/generate", {"inputs": "Hello", "parameters": parameters}).json()["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("length", 2, None)
    assert [token["text"] for token in details["tokens"]] == [" one", " two"]
    assert [token["logprob"] for token in details["tokens"]] == [-0.5, -0.625]
    assert details["prefill"][0] == {"id": 1, "text": "<s>", "logprob": None}
    assert "".join(token["text"] for token in details["prefill"][1:]) == "Hello"
    assert [len(top) for top in details["top_tokens"]] == [2, 2]
    assert "best_of_sequences" not in details


def test_the_token_that_ends_an_answer_is_told_as_special(server: RunningServer) -> None:
    details = server.post("/generate", {"inputs": "Hello", "parameters": {"details": True}}).json()["details"]
    assert details["finish_reason"] == "eos_token"
    assert (details["tokens"][-1]["special"], details["tokens"][0]["special"]) == (True, False)


def test_a_stop_text_ends_the_answer_and_stays_in_it(server: RunningServer) -> None:
    parameters = {"stop": ["three"], "details": True}
    answer = server.post("/generate", {"inputs": "Hello", "parameters": parameters}).json()
    assert answer["generated_text"] == " one two three"
    assert answer["details"]["finish_reason"] == "stop_sequence"


def test_a_seed_is_used_and_told(server: RunningServer) -> None:
    parameters = {"do_sample": True, "seed": 2**64 - 1, "details": True}
    answer = server.post("/generate", {"inputs": "Hello", "parameters": parameters}).json()
    assert answer["details"]["seed"] == 2**64 - 1
    assert answer["generated_text"].startswith(f" {2**64 - 1} one")


def test_seeds_drawn_here_can_be_sent_again(server: RunningServer) -> None:
    parameters: dict[str, Any] = {"do_sample": True, "details": True}
    first = server.post("/generate", {"inputs": "Hello", "parameters": parameters}).json()
    seed = first["details"]["seed"]
    assert 0 <= seed < 2**53
    again = server.post("/generate", {"inputs": "Hello", "parameters": {**parameters, "seed": seed}}).json()
    assert again == first


def test_the_best_of_two_is_the_likelier_and_the_other_is_told_in_details(server: RunningServer) -> None:
    parameters = {"best_of": 2, "do_sample": True, "details": True}
    details = server.post("/generate", {"inputs": "Hello", "parameters": parameters}).json()["details"]
    [other] = details["best_of_sequences"]
    assert other["seed"] != details["seed"]

    def mean(tokens: list[dict[str, Any]]) -> float:
        return sum(token["logprob"] for token in tokens) / len(tokens)

    assert mean(details["tokens"]) >= mean(other["tokens"])
    assert len(server.engine.requests) == 2


def test_truncate_keeps_the_end_of_the_prompt(server: RunningServer) -> None:
    server.post("/generate", {"inputs": "a b c d e f", "parameters": {"truncate": 2}})
    server.post("/generate", {"inputs": "a b c d e f", "parameters": {}})
    short, whole = (request.prompt_ids for request in server.engine.requests)
    assert list(short) == list(whole)[-2:]


def test_without_a_number_of_tokens_an_answer_may_fill_the_room_there_is(server: RunningServer) -> None:
    server.post("/generate", {"inputs": "Hello", "parameters": {}})
    [request] = server.engine.requests
    assert request.max_new_tokens == 256 - len(request.prompt_ids)


def test_control_words_in_a_plain_prompt_are_control_tokens_as_in_tgi(server: RunningServer) -> None:
    server.post("/generate", {"inputs": "a</s>", "parameters": {}})
    assert list(server.engine.requests[0].prompt_ids)[-1] == server.engine.tokenizer.eos_token_id


def test_a_stream_tells_each_token_and_with_the_last_the_whole(server: RunningServer) -> None:
    parameters = {"max_new_tokens": 3, "details": True}
    response = server.post("/generate_stream", {"inputs": "Hello", "parameters": parameters})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response)
    assert [event["index"] for event in events] == [1, 2, 3]
    assert "".join(event["token"]["text"] for event in events) == " one two three"
    assert [event["generated_text"] for event in events] == [None, None, " one two three"]
    assert events[0]["details"] is None
    assert events[2]["details"] == {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 4}


def test_the_root_streams_where_it_is_asked_to(server: RunningServer) -> None:
    response = server.post("/", {"inputs": "Hello", "stream": True, "parameters": {"max_new_tokens": 2}})
    events = events_of(response)
    assert [event["token"]["text"] for event in events] == [" one", " two"]
    assert (events[-1]["generated_text"], events[-1]["details"]) == ("Hello one two", None)


@pytest.mark.parametrize("fault", ["fail_after", "vanish_after"])
def test_an_error_in_the_middle_of_a_stream_is_its_last_event(server: RunningServer, fault: str) -> None:
    setattr(server.engine, fault, 2)
    response = server.post("/generate_stream", {"inputs": "Hello", "parameters": {}})
    *tokens, error = events_of(response)
    assert [event["token"]["text"] for event in tokens] == [" one", " two"]
    expected = "generation" if fault == "fail_after" else "incomplete_generation"
    assert error["error_type"] == expected
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "kind"), [("fail_after", 424, "generation"), ("vanish_after", 500, "incomplete_generation")]
)
def test_an_answer_that_fails_has_its_own_status(server: RunningServer, fault: str, status: int, kind: str) -> None:
    setattr(server.engine, fault, 2)
    response = server.post("/generate", {"inputs": "Hello", "parameters": {}})
    assert (response.status_code, response.json()["error_type"]) == (status, kind)


def test_headers_tell_what_an_answer_took(server: RunningServer) -> None:
    headers = server.post("/generate", {"inputs": "Hello", "parameters": {"max_new_tokens": 3}}).headers
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("4", "3")
    assert headers["x-compute-characters"] == "5"
    assert float(headers["x-compute-time"]) > 0
    for name in ("x-total-time", "x-validation-time", "x-queue-time", "x-inference-time", "x-time-per-token"):
        assert int(headers[name]) >= 0


def test_an_adapter_answers_where_it_is_named(adapter_server: RunningServer) -> None:
    adapter_server.engine.requests.clear()
    for parameters in ({"adapter_id": "kind"}, {}):
        adapter_server.post("/generate", {"inputs": "Hello", "parameters": parameters})
    assert [request.adapter for request in adapter_server.engine.requests] == ["kind", None]
    refused = adapter_server.post("/generate", {"inputs": "Hello", "parameters": {"adapter_id": "kin"}})
    assert refused.status_code == 422
    assert "frank, kind" in refused.json()["error"]
