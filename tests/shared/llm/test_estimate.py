"""Estimates before a job, learned from what jobs really took."""

import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec, ModelChoice, Source
from shared.domain.plan import StageKind
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from shared.llm.estimate import Estimate, estimate_job
from shared.llm.providers import Providers
from tests.shared.llm.conftest import Bench, ScriptedServer, ask, chat_body

TAXONOMY: Taxonomy = default_taxonomy()


def _spec(**changes: object) -> JobSpec:
    return JobSpec.model_validate(
        {"sources": [Source(bundled="demo")], "teacher": ModelChoice(provider="fake", model="m")} | changes
    )


LEARNED_SPEC = _spec(stop_after=StageKind.RESPOND, respond={"no_system_share": 0})
ROWS = 40


async def _estimate(bench: Bench, spec: JobSpec, rows: int, providers: Providers | None = None) -> Estimate:
    engine = create_async_engine(bench.database_url)
    async with AsyncSession(engine) as session:
        found = await estimate_job(session, spec, TAXONOMY, rows, 120.0, bench.project, providers or bench.providers())
    await engine.dispose()
    return found


async def test_before_any_job_every_calling_stage_has_figures(bench: Bench) -> None:
    found = await _estimate(bench, _spec(), 100)
    assert [(stage.stage, stage.calls) for stage in found.stages] == [
        ("augment", 100),
        ("compose", 300),
        # A third of the training instructions give an example without a system message, so that a tenth of all examples has none.
        ("respond", 330),
    ]
    assert found.calls == 730
    assert found.cost_micro_usd == sum(stage.cost_micro_usd or 0 for stage in found.stages) > 0
    assert found.characters_per_token == 4.0
    assert not any(stage.learned for stage in found.stages)


async def test_more_rows_cost_more_and_a_front_part_less(bench: Bench) -> None:
    whole, double = await _estimate(bench, _spec(), 100), await _estimate(bench, _spec(), 200)
    front = await _estimate(bench, _spec(stop_after=StageKind.AUGMENT), 100)
    assert double.cost_micro_usd == pytest.approx(2 * (whole.cost_micro_usd or 0), abs=5)
    assert [stage.stage for stage in front.stages] == ["augment"]


async def test_sets_that_do_not_fit_into_one_answer_take_more_calls(bench: Bench) -> None:
    """An answer holds 18 preferences: nine sets of 3.8 take two, nine of one take one, three of six take one, four take two."""

    async def calls(**augment: object) -> list[tuple[str, int]]:
        return [(stage.stage, stage.calls) for stage in (await _estimate(bench, _spec(augment=augment), 10)).stages]

    assert await calls(sets_per_instruction=9) == [("augment", 20), ("compose", 90), ("respond", 99)]
    assert (await calls(sets_per_instruction=9, set_sizes={1: 1}))[0] == ("augment", 10)
    assert (await calls(sets_per_instruction=3, set_sizes={6: 1}))[0] == ("augment", 10)
    assert (await calls(sets_per_instruction=4, set_sizes={6: 1}))[0] == ("augment", 20)


async def test_a_judge_is_counted_and_an_unknown_price_is_an_unknown_cost(bench: Bench) -> None:
    judge = ModelChoice(provider="fake", model="unpriced")
    found = await _estimate(bench, _spec(judge=judge), 10)
    assert [(stage.request_class, stage.calls) for stage in found.stages[-2:]] == [("respond", 40), ("judge", 54)]
    reviews = [(stage.stage, stage.calls) for stage in found.stages[:-1] if stage.request_class == "judge"]
    # Two reviews per row in augment and one in compose, and one more of every fourth.
    assert reviews == [("augment", 22), ("compose", 12)]
    assert found.stages[-1].cost_micro_usd is None
    assert found.cost_micro_usd is None


async def test_the_share_without_system_messages_and_the_test_split_say_how_many_neutral_answers_there_are(
    bench: Bench,
) -> None:
    for respond, test_share, calls in (({"no_system_share": 0}, 0.1, 300), ({"no_system_share": 0.25}, 0.5, 350)):
        spec = _spec(stop_after="respond", respond=respond, splits={"test_share": test_share})
        assert (await _estimate(bench, spec, 100)).stages[-1].calls == calls


async def test_an_unknown_model_is_refused(bench: Bench) -> None:
    with pytest.raises(InputRefused) as refused:
        await _estimate(bench, _spec(teacher=ModelChoice(provider="fake", model="none")), 10)
    assert refused.value.pointer == "/teacher/model"


async def _after_a_job(bench: Bench, server: ScriptedServer, *, calls: int) -> None:
    """A succeeded job of ROWS rows whose stage `respond` made so many calls, three times as dear as the default model says."""
    body = chat_body("answer " * 900)
    body["usage"] = {"prompt_tokens": 2000, "completion_tokens": 1800}
    server.respond = lambda number, sent: web.json_response(body)
    await bench.add_job(
        state="succeeded", spec=LEARNED_SPEC.model_dump(mode="json"), taxonomy=TAXONOMY.model_dump(mode="json")
    )
    await bench.fetch("UPDATE job SET estimate = '{\"average_instruction_characters\": 120}' WHERE id = %s", bench.job)
    await bench.fetch(
        "INSERT INTO stage (id, job_id, ordinal, name, kind, service, needs, barrier, parameters, state, partitioned, "
        "steps_total, steps_succeeded, ledger, rows_expected) VALUES (%s, %s, 3, 'respond', 'respond', 'generation', "
        "'{}', false, '{}', 'succeeded', true, 1, 1, '{}', %s)",
        f"stage_{bench.job}",
        bench.job,
        ROWS,
    )
    async with bench.worker() as (_, model):
        for number in range(calls):
            await model.complete(ask("p" * 8000, sample_index=str(number)))


async def test_once_learned_the_estimate_is_what_the_like_job_costs(bench: Bench, server: ScriptedServer) -> None:
    """A quarter of the calls was made twice, for quality."""
    await _after_a_job(bench, server, calls=ROWS * 3 + ROWS * 3 // 4)
    usage = await bench.usage()
    found = await _estimate(bench, LEARNED_SPEC, ROWS)
    respond = next(stage for stage in found.stages if stage.stage == "respond")
    assert respond.learned
    assert respond.calls == usage["calls"] == 150
    assert respond.cost_micro_usd == pytest.approx(usage["cost_micro_usd"], rel=0.2)
    assert found.characters_per_token != 4.0


async def test_calls_that_a_step_repeated_after_a_loss_are_not_expected_again(
    bench: Bench, server: ScriptedServer
) -> None:
    await _after_a_job(bench, server, calls=ROWS * 3 + ROWS)
    await bench.fetch(
        "INSERT INTO step (id, job_id, stage_id, shard, queue, state, priority, dispatch_no, failures, losses, "
        "crash_repeats) VALUES ('step_lost', %s, %s, 0, 'generation', 'succeeded', 3, 2, 0, 1, 0)",
        bench.job,
        f"stage_{bench.job}",
    )
    for state in ("lost", "succeeded"):
        await bench.fetch("INSERT INTO attempt (step_id, worker_id, state) VALUES ('step_lost', 'w', %s)", state)
    respond = (await _estimate(bench, LEARNED_SPEC, ROWS)).stages[-1]
    assert respond.learned
    assert respond.calls == ROWS * 3
