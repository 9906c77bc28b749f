"""Request bytes, cache keys and complete answers."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.protocol import CompletionRequest
from shared.llm.wire import IncompleteAnswer, cache_key, decode_answer, encode_request, error_summary


def test_the_body_holds_what_was_asked_and_nothing_else() -> None:
    request = CompletionRequest(
        messages=[{"role": "user", "content": "hé"}],
        request_class="compose",
        sample_index="7",
        temperature=0.5,
        max_tokens=9,
        schema_name="verdict",
        schema={"type": "object"},
    )
    assert json.loads(encode_request("m", request, "max_completion_tokens")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hé"}],
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": {"type": "object"}},
        },
    }


@given(st.tuples(*[st.text(max_size=5)] * 3, st.binary(max_size=5), st.text(max_size=5)))
def test_equal_parts_give_equal_keys_and_any_change_another(parts: tuple[str, str, str, bytes, str]) -> None:
    project, provider, model, body, sample = parts
    key = cache_key(*parts)
    assert cache_key(*parts) == key
    assert len(key) == 32
    for other in (
        (project + "x", provider, model, body, sample),
        (project, provider + "x", model, body, sample),
        (project, provider, model + "x", body, sample),
        (project, provider, model, body + b"x", sample),
        (project, provider, model, body, sample + "x"),
    ):
        assert cache_key(*other) != key


def test_parts_cannot_run_together() -> None:
    assert cache_key("ab", "c", "m", b"", "0") != cache_key("a", "bc", "m", b"", "0")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>bad gateway</html>",
        b'{"choices": [{"message": {"content": "cut',
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}',
        b'{"error": {"message": "overloaded"}, "choices": []}',
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}',
        b"\xff\xfe",
    ],
)
def test_an_incomplete_answer_is_refused(body: bytes) -> None:
    with pytest.raises(IncompleteAnswer):
        decode_answer(body)


@given(st.binary(max_size=200))
def test_no_bytes_get_past_as_anything_but_an_answer_or_incomplete(body: bytes) -> None:
    with pytest.raises(IncompleteAnswer):
        decode_answer(body)
    assert len(error_summary(body)) <= 300


def test_what_an_error_repeats_of_the_request_or_the_key_is_not_kept() -> None:
    prompt = 'Write a poem about the "second"\nsea, and let nobody know that I asked for it.'
    sent = orjson.dumps({"messages": [{"role": "user", "content": prompt}]})
    message = f"invalid value for sk-secret: {' '.join(prompt.split())} (at most 3 words)"
    body = orjson.dumps({"error": {"message": message, "code": "too_long"}})
    assert error_summary(body, sent, "sk-secret") == "too_long invalid value for …: … (at most 3 words)"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "an empty body"),
        (b" <html><p>Bad gateway</p>", "an HTML page"),
        (b'{"detail": "the prompt was: hello"}', "35 bytes that are no error object"),
    ],
)
def test_a_body_that_is_no_error_object_is_named_and_not_quoted(body: bytes, told: str) -> None:
    assert error_summary(body) == told


def test_a_server_without_usage_figures_is_known_as_such() -> None:
    found = decode_answer(b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "error": null}')
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("x", None, None)
