"""Usage over HTTP: every group sums up to the total."""

from datetime import UTC, datetime

import httpx2
import pytest

from services.api.schemas import StageView, remaining_seconds, stage_progress
from services.api.state import ApiState
from shared.metadata.tables import Stage, Usage
from tests.services.api.support import assert_problem, submit_directly

FIGURES = ("calls", "cached_calls", "prompt_tokens", "completion_tokens", "cost_micro_usd")


async def fill(state: ApiState) -> list[str]:
    jobs = [await submit_directly(state), await submit_directly(state), await submit_directly(state, "other")]
    async with state.transaction() as session:
        for number, job in enumerate(jobs):
            for stage, model in (("augment", "simulator-large"), ("respond", "simulator-large"), ("respond", "small")):
                session.add(
                    Usage(
                        job_id=job.id,
                        stage=stage,
                        provider="simulator",
                        model=model,
                        request_class=stage,
                        project_id=job.project_id,
                        calls=10 + number,
                        cached_calls=1,
                        prompt_tokens=1000,
                        completion_tokens=50,
                        cost_micro_usd=2**40,
                    )
                )
    return [job.id for job in jobs]


async def test_groups_sum_up_to_the_total(client: httpx2.AsyncClient, state: ApiState) -> None:
    jobs = await fill(state)

    for by, keys in (
        ("day", {datetime.now(UTC).strftime("%Y-%m-%d")}),
        ("model", {"simulator/simulator-large", "simulator/small"}),
        ("job", set(jobs[:2])),
    ):
        report = (await client.get("/v1/usage", params={"by": by})).json()
        assert {group["key"] for group in report["groups"]} == keys
        for figure in FIGURES:
            assert report["total"][figure] == sum(group[figure] for group in report["groups"]) > 0
    assert report["total"]["calls"] == 3 * 10 + 3 * 11
    one = (await client.get("/v1/usage", params={"by": "model", "job": jobs[0]})).json()
    assert one["total"]["calls"] == 30
    none = (await client.get("/v1/usage", params={"job": jobs[2]})).json()
    assert (none["total"]["calls"], none["groups"]) == (0, [])
    assert_problem(await client.get("/v1/usage", params={"by": "colour"}), 422, pointers=["/by"])


def stage(**values: object) -> Stage:
    return Stage(
        id="s", job_id="j", ordinal=0, name="augment", kind="augment", service="augmentation", needs=[], barrier=True,
        parameters={}, **{"state": "running", "ledger": {}, **values},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"state": "pending"}, 0.0),
        ({"state": "succeeded"}, 1.0),
        ({"rows_expected": 200, "ledger": {"rows_out": 40, "rows_rejected": 10}}, 0.25),
        ({"rows_expected": 10, "ledger": {"rows_out": 15}}, 1.0),
        ({"steps_total": 4, "steps_succeeded": 1}, 0.25),
    ],
)
def test_progress_of_a_stage(values: dict[str, object], expected: float) -> None:
    assert stage_progress(stage(**values)) == expected


def test_the_slowest_running_stage_tells_the_end() -> None:
    start, now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC), datetime(2026, 1, 1, 12, 1, tzinfo=UTC)
    half = StageView.of(stage(started_at=start, rows_expected=100, ledger={"rows_out": 50}))
    quarter = StageView.of(stage(started_at=start, rows_expected=100, ledger={"rows_out": 25}))
    unknown = StageView.of(stage(started_at=start, rows_expected=100, ledger={"rows_out": 1}))

    assert remaining_seconds([half, quarter, unknown], now) == 180.0
    assert remaining_seconds([unknown], now) is None
