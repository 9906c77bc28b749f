"""What a spec may say of evaluations, and the stages that follow from it."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.evaluations import subject_of
from shared.domain.jobs import JobSpec
from shared.domain.plan import plan_of

MODEL = {"provider": "simulator", "model": "simulator-large"}
ASKED = {"questions": {"bench": "bench_1"}, "judge": MODEL}
ONE = {"name": "a", "candidate": {"deployment": "d"}}
TWO = {"name": "b", "candidate": {"file": "file_1"}}


def spec(**values: Any) -> JobSpec:
    return JobSpec.model_validate(values)


def test_each_candidate_is_judged_behind_its_answers_and_compared_with_the_baseline() -> None:
    evaluated = spec(
        **ASKED,
        answer=[ONE, TWO],
        evaluate={"absolute": {}, "pairwise": {"baseline": "a"}, "measure": {"fluency": {"folder": "gpt2"}}},
    )
    plan = {stage.name: stage for stage in plan_of(evaluated)}
    assert list(plan) == [
        "select", "a", "take-b", "b", "measure-a", "judge-a", "measure-b", "judge-b", "compare-b", "evaluate", "report",
    ]  # fmt: skip
    assert plan["b"].needs == ("take-b",)
    assert plan["judge-a"].needs == ("a",)
    assert plan["compare-b"].needs == ("b", "a")
    assert not plan["judge-a"].barrier
    assert set(plan["evaluate"].needs) == {"a", "b", "measure-a", "judge-a", "measure-b", "judge-b", "compare-b"}
    assert evaluated.parameters_of("judge-b")["runs"] == 3
    assert evaluated.parameters_of("compare-b")["baseline"] == "a"
    assert subject_of("compare-b") == "b"


def test_a_bench_is_made_of_what_is_asked_before_anybody_answers() -> None:
    made = spec(
        sources=[{"bundled": "demo"}], teacher=MODEL, judge=MODEL, bench={}, answer=[ONE], evaluate={"absolute": {}}
    )
    plan = {stage.name: stage for stage in plan_of(made)}
    assert plan["rubric"].needs == ("select",)
    assert plan["bench"].needs == ("rubric",)
    assert plan["a"].needs == ("bench",)
    assert made.parameters_of("rubric") == made.parameters_of("bench")


@pytest.mark.parametrize(
    ("values", "place", "told"),
    [
        ({"evaluate": {}}, "evaluate", "nobody answers"),
        ({"answer": [ONE], "questions": {"job": "job_1"}, "evaluate": {"absolute": {}}}, "evaluate", "has none"),
        ({**ASKED, "answer": [ONE], "evaluate": {"pairwise": {"baseline": "c"}}}, "evaluate", "no answer stage"),
        ({**ASKED, "answer": [ONE], "evaluate": {"pairwise": {"baseline": "a"}}}, "evaluate", "the only one"),
        ({**ASKED, "judge": None, "answer": [ONE], "evaluate": {"absolute": {}}}, "judge", "set judge"),
        ({**ASKED, "answer": [ONE], "evaluate": {}}, "judge", "neither sources nor anything"),
        ({"bench": {}, "teacher": MODEL}, "sources", "bench would be made"),
        ({"bench": {}, "questions": {"suite": "facts"}}, "teacher", "a bench needs a teacher"),
        ({"questions": {"suite": "facts"}, "answer": [{**ONE, "name": "judge-a"}]}, "answer", "kept for stages"),
        ({"questions": {"suite": "facts"}, "answer": [{**ONE, "name": "evaluate"}]}, "answer", "kept for stages"),
        ({"questions": {"suite": "facts", "layout": "mt_bench"}, "answer": [ONE]}, "questions", "of a file or a Hub"),
        ({"questions": {"suite": "facts", "bench": "b"}, "answer": [ONE]}, "questions", "bench and suite"),
        ({"answer": [ONE], "evaluate": {"measure": {}}}, "evaluate.measure", "nothing to measure"),
        ({"answer": [ONE], "evaluate": {"measure": {"toxicity": {}}}}, "evaluate.measure.toxicity", "exactly one"),
        ({"answer": [ONE], "evaluate": {"measure": {"fluency": {}}}}, "evaluate.measure.fluency", "exactly one"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_at_the_option_in_fault(
    values: dict[str, Any], place: str, told: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        spec(**values)
    errors = {".".join(str(part) for part in error["loc"]): error["msg"] for error in refused.value.errors()}
    assert place in errors
    assert told in errors[place]
