"""MT-Bench's ratings: each turn by itself, with all that was said before, and references where there are right answers."""

from typing import Any

from services.evaluation.judging.rating import rate
from shared.domain.rows import Answer, Facet, InstructionRow
from tests.services.evaluation.conftest import context_for
from tests.support.fake_models import ScriptedModel, block_of


def talk(category: str, later: list[str], **more: Any) -> InstructionRow:
    facet = Facet(
        0, response="4", later_references=["8"], answers=[Answer("Four.", "stop", 1, 1, best=True, later=later)]
    )
    return InstructionRow(
        "row1", "2 + 2?", "src", "src", 0, category=category, turns=["Twice that?"], facets=[facet], **more
    )


async def rated(row: InstructionRow, said: Any, **conversation: Any) -> ScriptedModel:
    model = ScriptedModel(lambda _: said)
    await rate(row, context_for(model, "rate-a", {"conversation": conversation}))
    return model


async def test_each_turn_is_rated_with_the_conversation_up_to_it() -> None:
    row = talk("math", ["Eight."])
    model = await rated(row, {"feedback": "right", "score": 9})
    assert [(one.rubric, one.score) for one in row.facets[0].judgments] == [(0, 9.0), (1, 9.0)]
    first, second = (block_of(request) for request in model.requests)
    assert first == {"conversation": [{"user": "2 + 2?", "assistant": "Four."}], "references": ["4"]}
    assert second["conversation"][1] == {"user": "Twice that?", "assistant": "Eight."}
    assert second["references"] == ["4", "8"]


async def test_references_are_shown_in_categories_with_right_answers_alone() -> None:
    model = await rated(talk("writing", ["Eight."]), {"feedback": "fine", "score": 7})
    assert all(block_of(request)["references"] is None for request in model.requests)


async def test_a_turn_without_an_answer_is_lost_and_halves_count_in_prose() -> None:
    row = talk("writing", [])
    await rated(row, "Rating: [[6.5]]", form="tagged")
    assert [(one.rubric, one.score, one.fault) for one in row.facets[0].judgments] == [
        (0, 6.5, ""),
        (1, None, "no_answer"),
    ]
