"""How many calls a bench and an evaluation will make."""

from typing import Any

from shared.domain.jobs import JobSpec
from shared.llm.estimate_evaluation import evaluation_calls

MODEL = {"provider": "simulator", "model": "simulator-large"}


def calls(people: float, turns: float = 1.0, **values: Any) -> dict[str, float]:
    spec = JobSpec.model_validate({"questions": {"bench": "bench_1"}, **values})
    return {one.stage: one.calls for one in evaluation_calls(spec, 921, people, turns, 900.0)}


ONE = {"name": "a", "candidate": {"deployment": "d"}}
TWO = {"name": "b", "candidate": {"deployment": "e"}}


def test_the_papers_bench_takes_four_rubrics_three_times_for_each_item() -> None:
    found = calls(3.0, judge=MODEL, answer=[ONE], evaluate={"absolute": {"cross": False}})
    assert found == {"judge-a": 921 * 4 * 3}


def test_other_peoples_rubrics_multiply_the_calls() -> None:
    found = calls(3.0, judge=MODEL, answer=[ONE], evaluate={"absolute": {"runs": 1}})
    assert found == {"judge-a": 921 * 4 * 3}


def test_both_orders_and_both_turns_are_counted_and_the_baseline_is_compared_with_nobody() -> None:
    evaluate = {"pairwise": {"baseline": "a", "runs": 2}, "conversation": {}}
    found = calls(1.0, 2.0, judge=MODEL, answer=[ONE, TWO], evaluate=evaluate)
    assert found == {"rate-a": 921 * 2, "rate-b": 921 * 2, "compare-b": 921 * 4}


def test_rubrics_are_one_call_per_person_and_all_answers_count_where_nothing_ranks_them() -> None:
    several = {**ONE, "samples": 4, "keep_all": True}
    found = calls(1.0, judge=MODEL, teacher=MODEL, bench={}, answer=[several], evaluate={"absolute": {"runs": 1}})
    assert found == {"rubric": 921, "judge-a": 921 * 4 * 4}
