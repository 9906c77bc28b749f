"""What a request asks, for all that may come."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.gateway.asking import ChatCall, _Asked, read_call
from services.api.gateway.errors import LiveError, param_of
from shared.llm.servers.protocol import Grammar

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70).map(float) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KNOWN = [field.name for field in msgspec.structs.fields(_Asked)]


def read(**fields: Any) -> ChatCall:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]} | fields
    return read_call(orjson.dumps(body), most_characters=1_000, most_answer_tokens=100)


@given(st.dictionaries(st.sampled_from(_KNOWN), _JSON, max_size=4))
def test_whatever_a_field_holds_it_is_taken_or_refused_with_400(fields: dict[str, Any]) -> None:
    refused = None
    try:
        read(**fields)
    except LiveError as error:
        refused = error
    assert refused is None or (refused.status == 400 and refused.message)


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reading(body: bytes) -> None:
    with pytest.raises(LiveError) as refused:
        read_call(body, most_characters=1_000, most_answer_tokens=100)
    assert refused.value.status == 400


@given(st.dictionaries(st.text(min_size=1, max_size=8).map("x_".__add__), _JSON, max_size=5))
def test_unknown_fields_change_nothing(fields: dict[str, Any]) -> None:
    assert read(**fields) == read()


@given(st.text(max_size=50), st.text(max_size=50))
def test_texts_are_kept_as_they_are(first: str, second: str) -> None:
    call = read(messages=[{"role": "user", "content": first}, {"role": "assistant", "content": second}])
    assert [message["content"] for message in call.messages] == [first, second]
    assert call.characters == len(first) + len(second)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_seed_is_one_that_servers_take(seed: int) -> None:
    taken = read(seed=seed).parameters.seed
    assert taken is not None
    assert 0 <= taken < 2**63
    assert seed < 0 or taken == seed


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0, "top_p": 0.5, "top_k": 5}, {"top_p": 0}])
def test_no_temperature_is_greedy(fields: dict[str, Any]) -> None:
    parameters = read(**fields).parameters
    assert (parameters.temperature, parameters.top_p, parameters.top_k) == (None, None, None)


def test_a_temperature_that_is_not_given_is_that_of_openai() -> None:
    assert read().parameters.temperature == 1.0
    assert read(top_p=0.9).parameters.temperature == 1.0
    assert read(top_p=1).parameters.top_p is None


def test_response_formats_become_grammars() -> None:
    assert read().parameters.grammar is None
    assert read(response_format={"type": "json_object"}).parameters.grammar == Grammar("json", {"type": "object"})


def test_a_later_system_message_stays_where_it_is() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "developer", "content": "c"},
    ]
    assert [message["role"] for message in read(messages=messages).messages] == ["user", "system", "system"]


def test_usage_is_asked_for_in_streams_alone() -> None:
    options = {"stream_options": {"include_usage": True}}
    assert read(stream=True, **options).include_usage
    assert not read(**options).include_usage


@pytest.mark.parametrize(
    ("pointer", "param"),
    [("", ""), ("/preferences/3/seed", "preferences[3].seed"), ("/a~1b/0", "a/b[0]"), ("/profile", "profile")],
)
def test_a_json_pointer_as_openai_writes_places(pointer: str, param: str) -> None:
    assert param_of(pointer) == param
