"""What answer stages may be, what they are refused for, and the plan that follows from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.answers import MAXIMUM_SAMPLES, AnswerParameters, all_deployments, deployment_name
from shared.domain.deployments import NAME_PATTERN
from shared.domain.identifiers import new_id
from shared.domain.idle_options import idle_options
from shared.domain.jobs import JobSpec
from shared.domain.plan import StageKind, plan_of

COLLECTION: dict[str, Any] = {
    "sources": [{"bundled": "demo"}],
    "teacher": {"provider": "simulator", "model": "simulator-large"},
}
ELSEWHERE: dict[str, Any] = {"questions": {"job": "job_1"}}
SFT: dict[str, Any] = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}, "data": {"job": "job_1"}}
RM: dict[str, Any] = SFT | {"name": "rm", "method": "rm"}


def answer(name: str = "janus", **values: Any) -> dict[str, Any]:
    return {"name": name, "candidate": {"registry": "model_1"}, **values}


def spec_of(*answers: dict[str, Any], **more: Any) -> JobSpec:
    return JobSpec.model_validate({"answer": answers, **more})


def needs_of(spec: JobSpec) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.needs for stage in plan_of(spec)}


def test_decoding_is_the_papers_where_nothing_is_said() -> None:
    decoding = AnswerParameters.model_validate(answer()).decoding
    assert (decoding.temperature, decoding.top_p, decoding.max_tokens, decoding.repetition_penalty) == (
        1.0,
        0.9,
        1024,
        1.03,
    )


def test_a_collection_its_trainings_and_their_answers_are_one_job() -> None:
    own = {"data": {}}
    spec = spec_of(
        answer("a", candidate={"stage": "sft"}, samples=4, reward={"stage": "rm"}),
        answer("b", candidate={"provider": "p", "model": "m"}),
        train=[SFT | own, RM | own],
        **COLLECTION,
    )
    needs = needs_of(spec)
    assert list(needs)[5:] == ["sft", "rm", "select", "deploy-sft", "deploy-rm", "a", "b", "report"]
    assert needs["select"] == ("respond", "assemble")
    assert needs["deploy-rm"] == ("select", "rm")
    assert needs["a"] == ("select", "deploy-sft", "deploy-rm")
    assert needs["b"] == ("select",)
    assert needs["report"] == ("curate", "assemble", "sft", "rm", "select", "a", "b")


def test_answers_alone_need_neither_sources_nor_teacher_and_survive_a_round_trip() -> None:
    spec = spec_of(answer(), **ELSEWHERE, seed=3, budget_usd=2, max_reject_rate=0.9)
    assert list(needs_of(spec)) == ["select", "deploy-model_1", "janus", "report"]
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("stop_after", "asked"),
    [
        ("curate", ("curate",)),
        ("compose", ("compose",)),
        ("respond", ("respond",)),
        ("assemble", ("respond", "assemble")),
    ],
)
def test_a_shorter_collection_is_asked_what_it_has(stop_after: str, asked: tuple[str, ...]) -> None:
    needs = needs_of(spec_of(answer(), **COLLECTION, stop_after=stop_after))
    assert needs["select"] == asked
    assert "report" not in needs


def test_a_model_that_several_stages_use_is_deployed_once_and_reward_models_never_on_tgi() -> None:
    spec = spec_of(
        answer("one", candidate={"stage": "sft"}, server="tgi"),
        answer("many", candidate={"stage": "sft"}, samples=4, reward={"stage": "rm"}, server="tgi"),
        train=[SFT, RM],
        **ELSEWHERE,
    )
    assert [(one.name, one.server) for one in all_deployments(spec.answer)] == [
        ("deploy-tgi-sft", "tgi"),
        ("deploy-rm", "cpu"),
    ]
    assert spec.parameters_of("deploy-tgi-sft") == {"stage": "sft", "registry": None, "server": "tgi"}
    assert spec.parameters_of("many")["samples"] == 4
    assert spec.parameters_of("select")["job"] == "job_1"


@given(st.from_regex(r"\A[a-z][a-z0-9-]{0,39}\Z"), st.sampled_from(["cpu", "tgi"]))
def test_a_jobs_deployments_have_names_that_deployments_may_have(stage: str, server: str) -> None:
    import re

    own = AnswerParameters.model_validate(answer(candidate={"stage": stage}, server=server))
    (deployment,) = all_deployments([own])
    assert re.fullmatch(NAME_PATTERN, deployment_name(new_id("job"), deployment.name))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"candidate": {}}, "exactly one of"),
        ({"candidate": {"stage": "a", "registry": "b"}}, "seen: stage, registry"),
        ({"candidate": {"provider": "p"}}, "provider and model together"),
        ({"samples": 2}, "nothing ranks them"),
        ({"samples": MAXIMUM_SAMPLES + 1, "keep_all": True}, "less than or equal to 64"),
        ({"samples": 2, "keep_all": True, "decoding": {"temperature": 0}}, "the same answer"),
        ({"keep_all": True}, "for several samples"),
        ({"samples": 2, "keep_all": True, "reward": {"registry": "m"}}, "kept anyway"),
        ({"samples": 2, "reward": {"registry": "model_1"}}, "name the same model"),
        ({"decoding": {"stop": [""]}}, "empty"),
        ({"decoding": {"stop": list("abcde")}}, "at most 4"),
        ({"temperature": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_answered_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AnswerParameters.model_validate(answer(**values))


@pytest.mark.parametrize(
    ("values", "location", "said"),
    [
        ({"answer": [answer("curate")]}, "answer", "kept for stages"),
        ({"answer": [answer("deploy-x")]}, "answer", "kept for stages"),
        ({"answer": [answer("sft")], "train": [SFT]}, "answer", "a training of this job"),
        ({"answer": [answer(), answer()]}, "answer", "another answer stage"),
        ({"answer": [answer(candidate={"stage": "dpo"})], "train": [SFT]}, "answer", "its trainings: sft"),
        ({"answer": [answer(candidate={"stage": "rm"})], "train": [RM]}, "answer", "gives scores and no text"),
        ({"answer": [answer(reward={"stage": "sft"})], "train": [SFT]}, "answer", "name a training of method rm"),
        ({"answer": [answer(candidate={"stage": "sft"})], "train": [SFT | {"dry_run": True}]}, "answer", "a dry run"),
        (
            {
                "answer": [answer(candidate={"stage": "sft"})],
                "train": [SFT | {"tuning": "lora", "lora": {"merge": False}}],
            },
            "answer",
            "random weights that nobody keeps",
        ),
        ({"answer": [answer()], "questions": {}}, "sources", "has none without sources"),
        ({"answer": [answer()], "questions": {"job": "j", "file": "f"}}, "questions", "job and file"),
        ({"answer": [answer()], "curate": {"limit": 3}}, "curate", "option of a collection"),
        ({"questions": {"job": "j"}, "answer": []}, "questions", "nobody answers"),
        (
            {"answer": [answer()], **COLLECTION, "questions": None, "stop_after": "augment"},
            "stop_after",
            "no system messages",
        ),
        (
            {"answer": [answer()], **COLLECTION, "stop_after": "answer"},
            "stop_after",
            "answers and evaluations come after it",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused_at_the_option_in_fault(
    values: dict[str, Any], location: str, said: str
) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        JobSpec.model_validate(ELSEWHERE | values)
    assert caught.value.errors()[0]["loc"][0] == location


def test_a_training_may_not_be_called_as_a_stage_of_answers_is() -> None:
    for name in ("select", "deploy-sft"):
        with pytest.raises(ValidationError, match=r"kept|name of a stage"):
            JobSpec.model_validate({"train": [SFT | {"name": name}]})


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"questions": {"file": "f", "split": "train"}}, "/questions/split"),
        ({"questions": {"suite": "drift", "split": "train"}}, "/questions/split"),
        ({"answer": [answer(candidate={"deployment": "d"}, server="tgi")]}, "/answer/0/server"),
        ({"answer": [answer(decoding={"temperature": 0, "top_p": 0.5})]}, "/answer/0/decoding/top_p"),
        ({**COLLECTION, "questions": None, "splits": {"test_share": 0}}, "/splits/test_share"),
    ],
)
def test_options_that_would_do_nothing_are_named(values: dict[str, Any], pointer: str) -> None:
    spec = JobSpec.model_validate({"answer": [answer()], **ELSEWHERE} | values)
    assert [option.pointer for option in idle_options(spec)] == [pointer]


def test_answers_run_as_rows_by_the_inference_service() -> None:
    (stage,) = [stage for stage in plan_of(spec_of(answer(), **ELSEWHERE)) if stage.name == "janus"]
    assert (stage.kind, stage.service, stage.is_row_stage, stage.needs[0]) == (
        StageKind.ANSWER,
        "inference",
        True,
        "select",
    )
