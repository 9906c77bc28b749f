"""Parameters are checked once, for all kinds of server."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.servers.errors import InvalidRequest
from shared.llm.servers.parameters import pattern_of, samples, schema_of, settled
from shared.llm.servers.protocol import GenerationParameters, Grammar


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"top_k": 0}, "top_k"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"seed": -1}, "seed"),
        ({"stop": ("a", "")}, "stop"),
        ({"top_tokens": 6, "log_probabilities": True}, "top_tokens"),
        ({"top_tokens": 1}, "log_probabilities"),
        ({"temperature": 0.0, "typical_p": 0.5}, "typical_p"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        settled(GenerationParameters(**wrong))


shares = st.none() | st.floats(0.01, 1.0)


@given(st.none() | st.floats(0, 2), shares, st.none() | st.integers(1, 100))
def test_settling_again_changes_nothing_and_keeps_whether_tokens_are_drawn(
    temperature: float | None, top_p: float | None, top_k: int | None
) -> None:
    asked = GenerationParameters(temperature=temperature, top_p=top_p, top_k=top_k)
    once = settled(asked)
    assert settled(once) == once
    draws = temperature != 0 and (temperature is not None or top_p not in {None, 1} or top_k is not None)
    assert samples(once) is draws


def test_a_schema_is_an_object_or_its_text() -> None:
    assert schema_of(Grammar("json", {"a": 1})) == schema_of(Grammar("json", '{"a": 1}')) == {"a": 1}
    for wrong in ("{", "[]", "3"):
        with pytest.raises(InvalidRequest, match="schema"):
            schema_of(Grammar("json", wrong))
    with pytest.raises(InvalidRequest, match="regex"):
        pattern_of(Grammar("regex", {"a": 1}))
