"""The plan: an order that can be run, and shards of the promised size."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.jobs import JobSpec
from shared.domain.plan import COLLECTION_PLAN, ROW_STAGES, StageKind, StagePlan, plan_of, plan_until, shard_size

COLLECTION = {"sources": [{"bundled": "demo"}], "teacher": {"provider": "simulator", "model": "simulator-large"}}


def test_every_stage_needs_only_stages_before_it() -> None:
    names = [stage.name for stage in COLLECTION_PLAN]
    assert len(set(names)) == len(names)
    for position, stage in enumerate(COLLECTION_PLAN):
        assert set(stage.needs) <= set(names[:position])


def test_row_stages_after_row_stages_are_pipelined_and_whole_steps_wait() -> None:
    kinds = {stage.name: stage.kind for stage in COLLECTION_PLAN}
    for stage in COLLECTION_PLAN:
        feeds_row_by_row = stage.is_row_stage and all(kinds[need] in ROW_STAGES for need in stage.needs)
        assert stage.barrier is not feeds_row_by_row


@pytest.mark.parametrize("last", [stage.kind for stage in COLLECTION_PLAN])
def test_a_plan_until_a_stage_ends_with_it(last: StageKind) -> None:
    plan = plan_until(last)
    assert plan[-1].kind is last
    assert plan == COLLECTION_PLAN[: len(plan)]


def test_no_last_stage_is_the_whole_plan() -> None:
    assert plan_until(None) == COLLECTION_PLAN


def training(name: str, base: str | None = None, job: str | None = None) -> dict[str, Any]:
    place = {"random": "tiny-mistral"} if base is None else {"stage": base}
    return {"name": name, "method": "sft", "base": place, "data": {"job": job}}


def needs_of(*trainings: dict[str, Any], **more: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(stage.name, stage.needs) for stage in plan_of(JobSpec.model_validate({"train": trainings} | more))]


def test_a_job_without_trainings_has_the_plan_of_its_collection() -> None:
    assert plan_of(JobSpec.model_validate(COLLECTION)) == COLLECTION_PLAN
    short = JobSpec.model_validate(COLLECTION | {"stop_after": "compose"})
    assert plan_of(short) == plan_until(StageKind.COMPOSE)


def test_trainings_come_after_the_collection_and_the_report_waits_for_them() -> None:
    assert needs_of(training("sft"), training("dpo", base="sft"), **COLLECTION)[4:] == [
        ("assemble", ("respond",)),
        ("sft", ("assemble",)),
        ("dpo", ("assemble", "sft")),
        ("report", ("curate", "assemble", "sft", "dpo")),
    ]


def test_a_training_waits_only_for_what_it_reads() -> None:
    found = dict(needs_of(training("here"), training("elsewhere", job="job_1"), **COLLECTION))
    assert (found["here"], found["elsewhere"]) == (("assemble",), ())


def test_trainings_alone_are_trainings_and_a_report() -> None:
    assert needs_of(training("one", job="job_1"), training("two", base="one", job="job_1")) == [
        ("one", ()),
        ("two", ("one",)),
        ("report", ("one", "two")),
    ]


def test_a_collection_that_stops_early_trains_without_a_report() -> None:
    assert needs_of(training("sft"), stop_after="assemble", **COLLECTION)[-1] == ("sft", ("assemble",))
    assert needs_of(training("sft", job="job_1"), stop_after="curate", **COLLECTION) == [("curate", ()), ("sft", ())]


def test_a_training_is_a_whole_stage_of_the_training_service() -> None:
    plan = plan_of(JobSpec.model_validate({"train": [training("sft", job="job_1")]}))
    assert plan[0] == StagePlan("sft", StageKind.TRAIN, "training", needs=(), barrier=True)
    assert not plan[0].is_row_stage


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-1, 7)), min_size=1, max_size=8),
    st.sampled_from([None, "assemble", "report"]),
)
def test_every_stage_of_every_job_needs_only_stages_before_it_and_names_are_unique(
    drawn: list[tuple[bool, int]], stop_after: str | None
) -> None:
    trainings = [
        training(f"t{number}", f"t{base}" if 0 <= base < number else None, None if own else "job_1")
        for number, (own, base) in enumerate(drawn)
    ]
    plan = plan_of(JobSpec.model_validate(COLLECTION | {"train": trainings, "stop_after": stop_after}))
    names = [stage.name for stage in plan]
    assert len(set(names)) == len(names)
    for position, stage in enumerate(plan):
        assert set(stage.needs) <= set(names[:position])
    if plan[-1].kind is StageKind.REPORT:
        assert {name for name in names if name.startswith("t")} <= set(plan[-1].needs)


@given(st.integers(0, 5_000_000))
def test_shards_hold_16_to_500_rows_and_at_most_16_shards_below_8000_rows(rows: int) -> None:
    size = shard_size(rows)
    assert 16 <= size <= 500
    if rows <= 8000:
        assert -(-rows // size) <= 16


@pytest.mark.parametrize(("rows", "size"), [(0, 16), (256, 16), (257, 17), (8000, 500), (200_000, 500)])
def test_shard_sizes(rows: int, size: int) -> None:
    assert shard_size(rows) == size
