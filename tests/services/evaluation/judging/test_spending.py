"""Judging through the real LLM layer, by the simulator: verdicts cost money once, and a spent budget ends the stage."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from services.evaluation.judging.grading import judge
from services.simulator.faults import FaultPlan
from services.simulator.server import Simulator
from shared.domain.errors import StepFailed
from shared.domain.jobs import ModelChoice
from shared.domain.rows import InstructionRow
from shared.llm.models import LanguageModels
from shared.llm.providers import Providers
from shared.metadata.engine import connection_string
from shared.settings import Settings
from tests.services.evaluation.conftest import context_for, facet, instruction
from tests.services.simulator.support import running
from tests.support.fake_models import ScriptedModel

PEOPLE, RUBRICS, RUNS = 3, ("jokes", "brevity"), 5
VERDICTS = PEOPLE * len(RUBRICS) * RUNS
IN_FLIGHT = 4
PRICES = {"prompt_price": 1.0, "completion_price": 3.0}


class Judging:
    """A job whose answers the simulator judges, in worker processes that come and go."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.settings = Settings(database_url=database_url, redis_url=redis_url, maximum_in_flight=IN_FLIGHT)
        self.simulator = Simulator(plan=FaultPlan.model_validate({"judge": {"prose_verdicts": 0.3}}))
        self.url = ""
        """Of the simulator, once it runs."""
        self.job = f"job_{uuid4().hex[:8]}"

    @property
    def calls(self) -> int:
        return self.simulator.statistics.calls["judge", "200"]

    def query(self, text: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(
            connection_string(self.settings.database_url), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as connection:
            cursor = connection.execute(text.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def add_job(self) -> None:
        self.query("INSERT INTO project (id) VALUES (%s) ON CONFLICT DO NOTHING", self.job)
        self.query(
            "INSERT INTO job (id, project_id, name, spec, taxonomy, teacher_is_simulator, state, max_reject_rate, run_no) "
            "VALUES (%s, %s, 'n', '{}', '{}', true, 'running', 0.5, 1)",
            self.job,
            self.job,
        )

    async def judge(self, row: InstructionRow, budget_micro_usd: int | None) -> None:
        providers = {
            "simulator": {"base_url": self.url, "simulator": True, "models": {"simulator-small": PRICES}},
        }
        models = LanguageModels(self.settings, Providers.model_validate({"providers": providers}))
        await models.start()
        try:
            model = models.bind(
                ModelChoice(provider="simulator", model="simulator-small"),
                project_id=self.job,
                job_id=self.job,
                stage="judge-a",
                budget_micro_usd=budget_micro_usd,
            )
            evaluate = {"absolute": {"runs": RUNS, "cross": False}}
            context = context_for(ScriptedModel(lambda _: "never"), "judge-a", evaluate)
            await judge(row, msgspec.structs.replace(context, teacher=model, judge=model))
        finally:
            await models.close()


@pytest.fixture
async def judging(postgres_url: str, redis_url: str) -> AsyncIterator[Judging]:
    found = Judging(postgres_url, redis_url)
    async with running(found.simulator) as url:
        found.url = url
        found.add_job()
        yield found


def answered() -> InstructionRow:
    return instruction(
        *(facet(index, RUBRICS, f"Answer {index} with jokes and with brevity.") for index in range(PEOPLE))
    )


async def test_verdicts_are_paid_once_counted_by_stage_and_replayed_to_another_worker(judging: Judging) -> None:
    first, second = answered(), answered()
    await judging.judge(first, None)
    verdicts = [one for judged in first.facets for one in judged.judgments]
    assert len(verdicts) == judging.calls == VERDICTS
    assert all(one.score is not None for one in verdicts), "prose with a tag is a verdict too"
    assert 0 < sum("[RESULT]" in one.feedback for one in verdicts) < VERDICTS
    (usage,) = judging.query("SELECT stage, request_class, calls FROM usage WHERE job_id = %s", judging.job)
    assert (usage["stage"], usage["request_class"], usage["calls"]) == ("judge-a", "judge", VERDICTS)
    await judging.judge(second, None)
    assert judging.calls == VERDICTS
    assert [judged.judgments for judged in second.facets] == [judged.judgments for judged in first.facets]


async def test_a_spent_budget_ends_judging_and_what_was_paid_is_not_paid_again(judging: Judging) -> None:
    with pytest.raises(StepFailed) as failed:
        await judging.judge(answered(), 3000)
    assert failed.value.code == "budget_exhausted"
    assert 0 < judging.calls < VERDICTS
    (job,) = judging.query("SELECT cost_micro_usd FROM job WHERE id = %s", judging.job)
    assert 0 < job["cost_micro_usd"] <= 3000 + IN_FLIGHT * 1000
    row = answered()
    await judging.judge(row, 10**9)
    assert judging.calls == VERDICTS
    assert all(one.score is not None for judged in row.facets for one in judged.judgments)
