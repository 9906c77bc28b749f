"""One rubric per preference, five levels each, or the facet goes no further."""

from typing import Any

import pytest

from services.evaluation.rubrics.writing import write_rubrics
from shared.domain.rows import Facet, InstructionRow, Rubric
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import CompletionRequest
from tests.services.evaluation.conftest import LEVELS, facet, instruction, preference
from tests.support.fake_models import Answer, ScriptedModel, block_of, context_of


def bare(index: int, *wishes: str) -> Facet:
    return Facet(index, preferences=[preference(wish) for wish in wishes], system="s", response="r")


async def written(row: InstructionRow, script: Any) -> ScriptedModel:
    model = ScriptedModel(script)
    await write_rubrics(row, context_of(model, default_taxonomy(), stage="rubric", bench={}))
    return model


def sound(request: CompletionRequest) -> Answer:
    return {
        "rubrics": [
            {"number": one["number"], "criterion": f"Is it so: {one['wish']}", "levels": LEVELS}
            for one in block_of(request)["rubrics_for"]
        ]
    }


async def test_every_preference_gets_its_rubric_in_one_call_per_person() -> None:
    row = instruction(bare(0, "jokes", "brevity"), bare(1, "gravity"))
    model = await written(row, sound)
    assert len(model.requests) == 2
    assert [[rubric.criterion for rubric in one.rubrics] for one in row.facets] == [
        ["Is it so: Wants jokes.", "Is it so: Wants brevity."],
        ["Is it so: Wants gravity."],
    ]
    assert row.facets[0].rubrics[0].levels == LEVELS
    assert row.facets[0].provenance[-1].stage == "rubric"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"levels": LEVELS[:4]}, "rubric_levels"),
        ({"levels": [*LEVELS[:4], " "]}, "rubric_level_empty"),
        ({"levels": [*LEVELS[:4], LEVELS[0]]}, "rubric_levels_alike"),
        ({"criterion": ""}, "rubric_criterion"),
        ({"number": 3}, "rubric_incomplete"),
        ({"criterion": "Is it short?"}, "rubric_off_wish"),
    ],
)
async def test_a_bad_rubric_is_asked_for_again_and_then_rejected(change: dict[str, Any], reason: str) -> None:
    row = instruction(bare(0, "jokes"))
    one = {"number": 0, "criterion": "Is it?", "levels": LEVELS, **change}
    model = await written(row, lambda _: {"rubrics": [one]})
    assert len(set(model.sample_indices)) == 3
    rejection = row.facets[0].rejection
    assert rejection is not None
    assert (rejection.stage, rejection.reason) == ("rubric", reason)


async def test_rubrics_of_two_wishes_in_each_others_place_are_asked_for_again() -> None:
    row = instruction(bare(0, "jokes", "brevity"))

    def swapped_at_first(request: CompletionRequest) -> Answer:
        answer = sound(request)
        assert isinstance(answer, dict)
        if request.sample_index.endswith(":0"):
            first, second = answer["rubrics"]
            first["criterion"], second["criterion"] = "Only brevity?", "Only jokes?"
        return answer

    model = await written(row, swapped_at_first)
    assert model.sample_indices == ["rubrics:0:0", "rubrics:0:1"]
    assert [rubric.criterion for rubric in row.facets[0].rubrics] == [
        "Is it so: Wants jokes.",
        "Is it so: Wants brevity.",
    ]


async def test_rubrics_that_were_brought_along_are_kept_and_nothing_is_written_for_nobody() -> None:
    brought, nobody = facet(0, ("jokes",), None), Facet(1, system="s")
    wishless = Facet(2, system="s", rubrics=[Rubric("Is it right?", LEVELS)])
    model = await written(instruction(brought, nobody, wishless), sound)
    assert not model.requests
    assert brought.rubrics[0].criterion == "How much jokes?"
    assert wishless.alive
    assert nobody.rejection is not None
    assert nobody.rejection.reason == "no_preferences"
