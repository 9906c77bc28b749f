"""Jobs that ask a robustness suite, over HTTP: what is estimated, and that nothing but the package is read."""

from typing import Any

import httpx2
import pytest

from services.api.state import ApiState
from shared.domain.evaluations import RobustnessSuite
from shared.domain.jobs import JobSpec
from shared.metadata.repositories.steps import Claim
from shared.robustness.suites import suite_rows
from shared.stages.answer_inputs import question_inputs
from tests.services.api.benches import uploaded
from tests.services.api.support import assert_problem

SIMULATED: dict[str, Any] = {
    "name": "janus",
    "candidate": {"provider": "simulator", "model": "simulator-large"},
    "decoding": {"repetition_penalty": None},
}


def claim_of(job_id: str) -> Claim:
    return Claim(1, "step_1", 0, None, "default", job_id, "select", "select", 0, (), {}, None)


def spec_of(suite: RobustnessSuite, **questions: Any) -> dict[str, Any]:
    return {"questions": {"suite": suite.value, **questions}, "answer": [SIMULATED], "evaluate": {}}


@pytest.mark.parametrize("suite", RobustnessSuite)
async def test_a_suite_is_asked_without_inputs_and_every_turn_is_counted(
    client: httpx2.AsyncClient, state: ApiState, suite: RobustnessSuite
) -> None:
    spec = spec_of(suite)
    estimate = (await client.post("/v1/jobs/estimate", json=spec)).json()
    (calls,) = [stage["calls"] for stage in estimate["stages"] if stage["stage"] == "janus"]
    assert calls == sum(len(row.facets) * (1 + len(row.turns)) for row in suite_rows(suite))
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    assert [stage["name"] for stage in answer.json()["stages"]] == ["select", "janus", "evaluate", "report"]
    async with state.transaction() as session:
        assert await question_inputs(session, claim_of(answer.json()["id"]), JobSpec.model_validate(spec)) == []


async def test_a_drawn_part_of_a_suite_is_estimated_as_such(client: httpx2.AsyncClient) -> None:
    estimate = (await client.post("/v1/jobs/estimate", json=spec_of(RobustnessSuite.FACTS, maximum_rows=5))).json()
    assert [stage["calls"] for stage in estimate["stages"] if stage["stage"] == "janus"] == [5 * 3]


async def test_a_suite_is_not_simulated_and_has_no_splits(client: httpx2.AsyncClient) -> None:
    file = await uploaded(client, [{"prompt": "What is 17 times 6?", "output": "102"}])
    theirs = {"name": "theirs", "candidate": {"file": file}}
    answer = await client.post("/v1/jobs", json={**spec_of(RobustnessSuite.FACTS), "answer": [theirs]})
    assert answer.status_code == 202, answer.text
    assert not answer.json()["teacher_is_simulator"]
    split = await client.post("/v1/jobs", json=spec_of(RobustnessSuite.FACTS, split="train"))
    assert_problem(split, 422, pointers=["/questions/split"])
