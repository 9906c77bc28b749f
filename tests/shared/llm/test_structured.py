"""Strict schemas, and reading what models really send."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from shared.llm.structured import NotValid, parse_output, schema_name, strict_schema


class Inner(BaseModel):
    pole: Literal["brief", "long"]
    weight: float = 0.5


class Answer(BaseModel):
    name: str = Field(min_length=2, description="a name")
    inner: Inner = Field(description="the inner part")
    items: list[Inner] = []
    note: str | None = None


class Mapping(BaseModel):
    anything: dict[str, int]


def _objects(node: object) -> list[dict[str, object]]:
    found = []
    if isinstance(node, dict):
        if node.get("type") == "object":
            found.append(node)
        for value in node.values():
            found += _objects(value)
    elif isinstance(node, list):
        for value in node:
            found += _objects(value)
    return found


def test_every_object_is_closed_and_requires_all_of_its_properties() -> None:
    objects = _objects(strict_schema(Answer))
    assert len(objects) >= 2
    for part in objects:
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])  # type: ignore[call-overload]


def test_a_reference_has_no_neighbours_and_no_unsupported_keyword_is_left() -> None:
    text = str(strict_schema(Answer))
    assert "default" not in text
    assert "minLength" not in text

    def references(node: object) -> list[dict[str, object]]:
        if isinstance(node, dict):
            return ([node] if "$ref" in node else []) + [r for value in node.values() for r in references(value)]
        return [r for value in node for r in references(value)] if isinstance(node, list) else []

    assert all(list(reference) == ["$ref"] for reference in references(strict_schema(Answer)))
    assert strict_schema(Answer)["properties"]["inner"]["description"] == "the inner part"


def test_a_mapping_with_free_keys_cannot_be_expressed() -> None:
    with pytest.raises(ValueError, match="free keys"):
        strict_schema(Mapping)


def test_the_name_is_the_class_name_in_snake_case() -> None:
    class PreferenceSets(BaseModel):
        pass

    assert schema_name(PreferenceSets) == "preference_sets"


GOOD = '{"name": "ab", "inner": {"pole": "brief", "weight": 1}, "items": [], "note": null}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        f"Here you are:\n\n```json\n{GOOD}\n```\nAnything else?",
        f"Sure! {GOOD} Hope that {{helps}}.",
        f"A brace {{ first, then {GOOD}",
    ],
)
def test_fences_and_talk_around_the_object_are_tolerated(text: str) -> None:
    assert parse_output(text, Answer).name == "ab"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "JSON"),
        ("I would rather not.", "JSON"),
        (GOOD[:-10], "JSON"),
        (GOOD.replace("brief", "medium"), "inner/pole"),
        (GOOD.replace('"ab"', '"a"'), "name"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(NotValid, match=told):
        parse_output(text, Answer)
