"""What the simulator says of rubrics, single answers, turns and pairs."""

from typing import Any

import orjson
import pytest

from services.evaluation.comparing.comparing import compare
from services.evaluation.judging.grading import judge
from services.evaluation.judging.rating import rate
from services.evaluation.rubrics.writing import fault_of_rubrics, write_rubrics
from services.simulator.answers import body_digest, sound_content
from services.simulator.judge_profile import JudgeProfile
from services.simulator.requests import RequestClass, parse_request
from shared.domain.checks import canonical_sentence
from shared.domain.rows import Check, InstructionRow, Preference
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import CompletionRequest
from tests.services.evaluation.conftest import context_for, facet, instruction
from tests.support.fake_models import ScriptedModel, context_of


def simulated(profile: JudgeProfile | None = None) -> ScriptedModel:
    """The simulator's answers without its server."""

    def answer(request: CompletionRequest) -> str:
        body: dict[str, Any] = {
            "model": "simulator-large",
            "messages": list(request.messages),
            "seed": request.seed,
            "user": request.sample_index,
        }
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": request.schema_name, "schema": request.schema},
            }
        data = orjson.dumps(body)
        return sound_content(parse_request(data), RequestClass.JUDGE, 1, body_digest(data), profile or JudgeProfile())

    return ScriptedModel(answer)


async def test_rubrics_are_whole_and_differ_from_wish_to_wish() -> None:
    row = instruction(facet(0, ("jokes", "brevity"), None))
    row.facets[0].rubrics = []
    await write_rubrics(row, context_of(simulated(), default_taxonomy(), stage="rubric", bench={}))
    assert row.facets[0].alive
    assert fault_of_rubrics(row.facets[0].rubrics, 2) is None


async def test_an_answer_that_follows_a_wish_is_graded_above_one_that_does_not() -> None:
    wish = canonical_sentence(Check("maximum_words", {"words": 5}))
    scores = []
    for text in ("Hello there, friend.", "Hello there, dear friend, how are you on this fine day of spring?"):
        row = instruction(facet(0, ("x",), text))
        row.facets[0].preferences = [Preference("style", "length", "short", wish, "short")]
        row.facets[0].rubrics = []
        await write_rubrics(row, context_of(simulated(), default_taxonomy(), stage="rubric", bench={}))
        await judge(row, context_for(simulated(), "judge-a", {"absolute": {"cross": False}}))
        scores.append([one.score for one in row.facets[0].judgments])
    assert min(filter(None, scores[0])) > max(filter(None, scores[1]))


@pytest.mark.parametrize("form", ["structured", "tagged"])
@pytest.mark.parametrize("protocol", ["person", "alpaca_eval", "arena_hard"])
async def test_every_protocol_gets_verdicts_that_can_be_read(form: str, protocol: str) -> None:
    row = instruction(facet(0, ("jokes",), "Hello jokes!"))
    other = {"row1": instruction(facet(0, ("jokes",), "Goodbye."))}
    evaluate = {"pairwise": {"baseline": "a", "protocol": protocol, "form": form}, "conversation": {"form": form}}
    await compare(row, context_for(simulated(), "compare-b", evaluate, a=other))
    assert not any(one.fault for one in row.facets[0].comparisons)
    await rate(row, context_for(simulated(), "rate-a", evaluate))
    assert all(one.score is not None for one in row.facets[0].judgments)


async def test_the_same_request_gets_the_same_verdict() -> None:
    def fresh() -> InstructionRow:
        return instruction(facet(0, ("jokes",), "Hello jokes!"))

    first, second = fresh(), fresh()
    for row in (first, second):
        await judge(row, context_for(simulated(), "judge-a", {"absolute": {}}))
    assert first.facets[0].judgments == second.facets[0].judgments


async def test_a_judge_of_position_takes_what_stands_first_and_one_of_prose_is_read_too() -> None:
    row = instruction(facet(0, ("jokes",), "Hello."))
    other = {"row1": instruction(facet(0, ("jokes",), "Goodbye."))}
    biased = simulated(JudgeProfile(position_bias=1.0, prose_verdicts=1.0))
    await compare(row, context_for(biased, "compare-b", {"pairwise": {"baseline": "a"}}, a=other))
    assert [one.verdict for one in row.facets[0].comparisons] == ["win", "lose"]
    assert len(biased.requests) == 2
