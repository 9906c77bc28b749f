"""The plan: an order that can be run, and shards of the promised size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.plan import COLLECTION_PLAN, ROW_STAGES, StageKind, plan_until, shard_size


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


@pytest.mark.parametrize("last", list(StageKind))
def test_a_plan_until_a_stage_ends_with_it(last: StageKind) -> None:
    plan = plan_until(last)
    assert plan[-1].kind is last
    assert plan == COLLECTION_PLAN[: len(plan)]


def test_no_last_stage_is_the_whole_plan() -> None:
    assert plan_until(None) == COLLECTION_PLAN


@given(st.integers(0, 5_000_000))
def test_shards_hold_16_to_500_rows_and_at_most_16_shards_below_8000_rows(rows: int) -> None:
    size = shard_size(rows)
    assert 16 <= size <= 500
    if rows <= 8000:
        assert -(-rows // size) <= 16


@pytest.mark.parametrize(("rows", "size"), [(0, 16), (256, 16), (257, 17), (8000, 500), (200_000, 500)])
def test_shard_sizes(rows: int, size: int) -> None:
    assert shard_size(rows) == size
