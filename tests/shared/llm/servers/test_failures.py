"""What error bodies say, and how much of it is repeated."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.servers.errors import InvalidRequest, ModelServerError, PromptTooLong
from shared.llm.servers.failures import error_of_event, error_of_reply, quoted, read_complaint


@pytest.mark.parametrize(
    ("message", "by_tokens"),
    [
        ("Input validation error: `inputs` must have less than 1023 tokens. Given: 1100", 77),
        (
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2040 `inputs` tokens and 9 "
            "`max_new_tokens`",
            1,
        ),
        ("This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (568 in the messages, 6048 in "
         "the completion). Please reduce the length of the messages or completion.", 568),
        ("This model's maximum context length is 4097 tokens. However, your messages resulted in 6164 tokens.", 2067),
        ("This model's maximum context length is 8 tokens. However, your request has 9 input tokens. Please reduce", 1),
        ("this model's maximum context length is 8 tokens, but the prompt contains 10 input tokens", 2),
        ("'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 tokens and "
         "your request has 5000 input tokens (4096 > 8192 - 5000).", 904),
        ("The input (691793 tokens) is longer than the model's context length (540000 tokens).", 151793),
        ("Requested token count exceeds the model's maximum context length of 100 tokens. You requested a total of 150 tokens: "
         "50 tokens from the input messages and 100 tokens for the completion.", 50),
        ("Input validation error: the prompt has 300 tokens, which is 44 tokens too many: at most 256 are taken here", 44),
        # Newer vLLM stops counting at the first token too many.
        ("You passed 147421 input tokens and requested 16384 output tokens. However, the model's context length is only 163804 "
         "tokens, resulting in a maximum input length of 147420 tokens.", None),
        ("This model's maximum context length is 32768 tokens. However, you requested 40000 output tokens and your prompt "
         "contains at least 5 input tokens, for a total of at least 40005 tokens.", None),
        ("This model's maximum context length is 16385 tokens", None),
    ],
)  # fmt: skip
def test_a_prompt_too_long_is_known_in_the_words_of_every_server(message: str, by_tokens: int | None) -> None:
    for body in ({"error": message, "error_type": "validation"}, {"error": {"message": message}}, {"message": message}):
        error = error_of_reply(400, {}, json.dumps(body).encode(), "the server")
        assert isinstance(error, PromptTooLong)
        assert error.by_tokens == by_tokens
        assert isinstance(error_of_event(body, "the server"), PromptTooLong)


def test_openai_s_code_tells_a_prompt_too_long_without_words() -> None:
    body = json.dumps({"error": {"message": "Too long.", "code": "context_length_exceeded"}}).encode()
    assert isinstance(error_of_reply(400, {}, body, "s"), PromptTooLong)


def test_other_numbers_are_no_prompt_too_long() -> None:
    body = b'{"error": "Input validation error: `stop` supports up to 4 stop sequences. Given: 9", "error_type": "validation"}'
    error = error_of_reply(422, {}, body, "s")
    assert type(error) is InvalidRequest
    assert "4 stop sequences" in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "error_type", "message", "type", "code", "detail", "title", "status", "loc", "msg"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.integers(100, 599))
def test_every_body_and_status_give_one_of_our_errors(value: Any, status: int) -> None:
    error = error_of_reply(status, {}, json.dumps(value).encode(), "the server")
    assert isinstance(error, ModelServerError)
    assert len(str(error)) < 600
    assert isinstance(error_of_event(value, "the server"), ModelServerError)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_bytes_that_are_no_json_are_not_repeated(body: bytes, status: int) -> None:
    error = error_of_reply(status, {}, b"\x00prompt-of-somebody" + body, "the server")
    assert "prompt-of-somebody" not in str(error)


def test_a_message_is_repeated_without_what_was_sent() -> None:
    assert quoted("[{'type': 'x', 'msg': 'bad', 'input': 'my prompt'}]") == "[{'type': 'x', 'msg': 'bad', …"
    assert quoted("Value error [type=x, input_value='my prompt']") == "Value error [type=x, …"
    assert quoted('cannot parse "' + "p" * 200 + '" here') == "cannot parse … here"
    assert quoted('cut "' + "p" * 200) == "cut …"
    assert len(quoted("word " * 200)) <= 300


def test_only_errors_that_pass_say_when_to_come_again() -> None:
    assert error_of_reply(503, {"Retry-After": "3"}, b"", "s").retry_after == 3.0
    assert error_of_reply(422, {"Retry-After": "3"}, b"", "s").retry_after is None


def test_fastapi_s_places_are_told_and_its_inputs_are_not() -> None:
    body = {"detail": [{"loc": ["body", "n"], "msg": "too big", "input": "secret"}, {"loc": 3}, "x"]}
    said = read_complaint(json.dumps(body).encode()).message
    assert said.startswith("body.n: too big")
    assert "secret" not in said
