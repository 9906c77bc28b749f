"""Values made for a JSON schema, or made to fit one, are valid under an independent validator."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.chance import generator_of
from services.simulator.structured import fit_value, make_value

WORDS = ["balcony", "tomatoes", "summer"]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 12, "maxLength": 20},
    {"type": "integer", "minimum": 3, "maximum": 5},
    {"type": "integer", "exclusiveMinimum": 7},
    {"type": "number", "exclusiveMaximum": -2},
    {"type": ["string", "null"]},
    {"enum": ["a", "b", 3]},
    {"const": "fixed"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 4, "maxItems": 6},
    {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"]}]},
    {
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/node"}},
        "required": ["node"],
        "additionalProperties": False,
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "child": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "child"],
                "additionalProperties": False,
            }
        },
    },
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["node", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def faults_of(value: Any, schema: dict[str, Any]) -> list[str]:
    """What the schema has against the value."""
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_made_values_are_valid(schema: dict[str, Any]) -> None:
    for seed in range(50):
        assert faults_of(make_value(schema, WORDS, generator_of(seed)), schema) == []


@given(st.sampled_from(SCHEMAS), JSON, st.integers(0, 1000))
def test_fitted_values_are_valid(schema: dict[str, Any], value: Any, seed: int) -> None:
    assert faults_of(fit_value(value, schema, WORDS, generator_of(seed)), schema) == []


def test_what_fits_is_kept_and_what_is_not_allowed_is_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {"system": {"type": "string"}, "notes": {"type": "array", "items": {"type": "string"}}},
        "required": ["system", "notes"],
        "additionalProperties": False,
    }
    fitted = fit_value({"system": "You are calm.", "extra": 1}, schema, WORDS, generator_of(0))
    assert fitted["system"] == "You are calm."
    assert "extra" not in fitted
    assert faults_of(fitted, schema) == []
