"""The job spec: frozen, closed, and refused where it means nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.jobs import JobSpec, Source
from shared.domain.plan import StageKind

TEACHER = {"provider": "simulator", "model": "simulator-large"}
SMALLEST: dict[str, Any] = {"sources": [{"bundled": "demo"}], "teacher": TEACHER}


def test_the_smallest_spec_fills_every_default_and_survives_a_round_trip() -> None:
    spec = JobSpec.model_validate(SMALLEST)
    assert spec.augment.sets_per_instruction == 3
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "location", "kind"),
    [
        ({"sets": 3}, ("sets",), "extra_forbidden"),
        ({"augment": {"sets_per_instruction": 0}}, ("augment", "sets_per_instruction"), "greater_than_equal"),
        ({"augment": {"sampling": {"temprature": 1}}}, ("augment", "sampling", "temprature"), "extra_forbidden"),
        ({"sources": []}, ("sources",), "too_short"),
        ({"sources": [{}]}, ("sources", 0), "value_error"),
        ({"sources": [{"bundled": "demo", "hub": "a/b"}]}, ("sources", 0), "value_error"),
        ({"sources": [{"file": "f", "limit": 0}]}, ("sources", 0, "limit"), "greater_than_equal"),
        ({"teacher": {**TEACHER, "base_url": "http://localhost"}}, ("teacher", "base_url"), "extra_forbidden"),
        ({"budget_usd": 0}, ("budget_usd",), "greater_than"),
        ({"max_reject_rate": 1.5}, ("max_reject_rate",), "less_than_equal"),
        ({"stop_after": "train"}, ("stop_after",), "enum"),
        ({"respond": {"minimum_followed": 1.5}}, ("respond", "minimum_followed"), "less_than_equal"),
        ({"assemble": {"pairing": "all"}}, ("assemble", "pairing"), "literal_error"),
    ],
)
def test_what_means_nothing_is_refused_at_its_place(
    change: dict[str, Any], location: tuple[Any, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(SMALLEST | change)
    first = caught.value.errors()[0]
    assert (first["loc"], first["type"]) == (location, kind)


def test_a_spec_is_frozen() -> None:
    spec = JobSpec.model_validate(SMALLEST)
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]


def test_the_refusal_of_two_places_names_them() -> None:
    with pytest.raises(ValidationError, match=r"seen: \['file', 'hub'\]"):
        Source(file="a", hub="b")


@pytest.mark.parametrize("kind", list(StageKind))
def test_parameters_of_a_stage_are_plain_json(kind: StageKind) -> None:
    parameters = JobSpec.model_validate(SMALLEST).parameters_of(kind)
    assert isinstance(parameters, dict)
    assert bool(parameters) is (kind is not StageKind.REPORT)
