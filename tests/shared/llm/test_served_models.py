"""Deployments as language models and reward models: cached by their weights, found again, and never the cause of a lost row."""

import json
from typing import Any

import pytest
from aiohttp import web

from shared.domain.deployments import DeploymentTarget, ServingModel
from shared.domain.errors import StepDeferred, StepFailed
from shared.llm.models import MOST_BROKEN_CALLS, BoundModel, LanguageModels
from shared.llm.protocol import RequestRejected, RetriesExhausted
from shared.llm.providers import ResolvedModel
from shared.llm.servers.resolved import resolved_deployment
from tests.shared.llm.conftest import Bench, ScriptedServer, answer, ask

CONVERSATIONS = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in ("a", "b")]


def serving(bench: Bench, **changes: Any) -> ServingModel:
    values: dict[str, Any] = {
        "name": "janus",
        "project_id": bench.project,
        "deployment_id": f"dep_{bench.project}",
        "revision": 1,
        "state": "ready",
        "target": DeploymentTarget(registry="model_1"),
        "server_kind": "cpu",
        "server_address": bench.server.url.removesuffix("/v1"),
        "method": "sft",
    }
    return ServingModel(**(values | changes))


def resolved(bench: Bench, **changes: Any) -> ResolvedModel:
    return resolved_deployment(serving(bench, **changes), bench.providers())


def bind(bench: Bench, models: LanguageModels, model: ResolvedModel, find: Any = None) -> BoundModel:
    return models.bind_resolved(
        model, project_id=bench.project, job_id=bench.job, stage="janus", budget_micro_usd=10, find=find
    )


async def test_what_a_server_of_ours_answers_costs_nothing_and_is_paid_from_no_budget(bench: Bench) -> None:
    async with bench.worker() as (models, _):
        completion = await bind(bench, models, resolved(bench)).complete(ask(max_tokens=50_000))
        assert (completion.cost_micro_usd, completion.text) == (0, "fine")
    used = await bench.usage()
    assert (used["provider"], used["model"], used["cost_micro_usd"], used["unpriced_calls"]) == (
        "deployment",
        "model_1",
        0,
        0,
    )


@pytest.mark.parametrize(
    ("changes", "model", "penalty"),
    [
        ({}, "janus", {"repetition_penalty": 1.03}),
        ({"server_kind": "tgi"}, "tgi", {"presence_penalty": -0.97}),
        ({"server_kind": "tgi", "is_adapter": True}, "janus", {"presence_penalty": -0.97}),
    ],
)
async def test_each_kind_of_server_is_told_in_its_own_words(
    bench: Bench, changes: dict[str, Any], model: str, penalty: dict[str, float]
) -> None:
    async with bench.worker() as (models, _):
        await bind(bench, models, resolved(bench, **changes)).complete(ask(repetition_penalty=1.03))
    (body,) = bench.server.bodies
    assert body["model"] == model
    assert {name: body[name] for name in body if name.endswith("_penalty")} == penalty


async def test_equal_weights_share_answers_under_any_name_and_other_weights_none(bench: Bench) -> None:
    async with bench.worker() as (models, _):
        await bind(bench, models, resolved(bench)).complete(ask())
        again = await bind(bench, models, resolved(bench, name="other", deployment_id="dep_2")).complete(ask())
        assert again.cached
        target = DeploymentTarget(registry="model_2")
        fresh = await bind(bench, models, resolved(bench, target=target, revision=2)).complete(ask())
        assert not fresh.cached
        kind = await bind(bench, models, resolved(bench, server_kind="tgi", deployment_id="dep_3")).complete(ask())
        assert not kind.cached
    assert bench.server.calls == 3


async def test_a_penalty_is_never_dropped_for_a_provider_that_takes_none(bench: Bench) -> None:
    async with bench.worker() as (_, model):
        with pytest.raises(StepFailed, match=r"set decoding\.repetition_penalty to null"):
            await model.complete(ask(repetition_penalty=1.03))
    async with bench.worker({"repetition_penalty": "repetition_penalty"}) as (_, model):
        await model.complete(ask(repetition_penalty=1.03))
    assert [body["repetition_penalty"] for body in bench.server.bodies] == [1.03]


async def test_scores_are_asked_for_once_and_in_their_order(bench: Bench) -> None:
    bench.server.respond = lambda number, body: web.json_response({"scores": [1.5, -2.0]})
    async with bench.worker() as (models, _):
        scorer = bind(bench, models, resolved(bench, method="rm"))
        assert await scorer.score(CONVERSATIONS) == [1.5, -2.0]
        await models.flush()
    async with bench.worker() as (models, _):
        assert await bind(bench, models, resolved(bench, method="rm")).score(CONVERSATIONS) == [1.5, -2.0]
    assert bench.server.bodies == [{"conversations": CONVERSATIONS}]


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], [1.0, None], None])
async def test_broken_scores_are_asked_for_again_and_never_kept(bench: Bench, scores: Any) -> None:
    bench.server.respond = lambda number, body: web.json_response({"scores": scores if number == 0 else [1.0, 2.0]})
    async with bench.worker() as (models, _):
        assert await bind(bench, models, resolved(bench, method="rm")).score(CONVERSATIONS) == [1.0, 2.0]
    assert bench.server.calls == 2


async def test_a_refused_score_names_the_refusal(bench: Bench) -> None:
    refusal = {"error": "no reward model here", "error_type": "validation"}
    bench.server.respond = lambda number, body: web.json_response(refusal, status=422)
    async with bench.worker() as (models, _):
        with pytest.raises(RequestRejected, match="no reward model"):
            await bind(bench, models, resolved(bench)).score(CONVERSATIONS)


async def test_a_server_that_moved_is_found_by_the_call_that_missed_it(bench: Bench) -> None:
    here = resolved(bench)

    async def find() -> ResolvedModel:
        return here

    async with bench.worker() as (models, _):
        gone = resolved(bench, server_address="http://127.0.0.1:9")
        model = bind(bench, models, gone, find)
        assert (await model.complete(ask())).text == "fine"


async def test_calls_do_not_go_on_to_other_weights_under_the_same_name(bench: Bench) -> None:
    async def find() -> ResolvedModel:
        return resolved(bench, target=DeploymentTarget(registry="model_2"))

    async with bench.worker() as (models, _):
        model = bind(bench, models, resolved(bench, server_address="http://127.0.0.1:9"), find)
        with pytest.raises(StepDeferred, match="has model_2 now instead of model_1"):
            await model.complete(ask())
    assert bench.server.calls == 0


async def test_a_dead_server_puts_the_step_off_where_a_provider_would_lose_the_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.llm.models.backoff_seconds", lambda *_: 0.0)
    async with bench.worker({"base_url": "http://127.0.0.1:9/v1"}) as (models, provider):
        with pytest.raises(RetriesExhausted):
            await provider.complete(ask())
        own = resolved(bench, server_address="http://127.0.0.1:9")
        with pytest.raises(StepDeferred, match="does not answer"):
            await bind(bench, models, own).complete(ask())


async def test_a_call_that_breaks_the_server_again_and_again_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.llm.models.backoff_seconds", lambda *_: 0.0)

    def respond(number: int, body: dict[str, Any]) -> web.StreamResponse:
        if "poison" in json.dumps(body):
            return web.Response(status=503)
        return answer()

    bench.server.respond = respond
    async with bench.worker() as (models, _):
        for round_ in range(MOST_BROKEN_CALLS - 1):
            with pytest.raises(StepDeferred):
                await bind(bench, models, resolved(bench)).complete(ask("poison"))
            await bind(bench, models, resolved(bench)).complete(ask(f"sound {round_}"))
        with pytest.raises(RetriesExhausted):
            await bind(bench, models, resolved(bench)).complete(ask("poison"))


async def test_a_servers_own_failure_is_the_calls(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.llm.models.backoff_seconds", lambda *_: 0.0)
    bench.server.respond = lambda number, body: web.json_response({"error": "it broke"}, status=500)
    async with bench.worker() as (models, _):
        with pytest.raises(RetriesExhausted):
            await bind(bench, models, resolved(bench)).complete(ask())


async def test_a_deployed_models_provider_is_that_provider(bench: Bench, server: ScriptedServer) -> None:
    target = DeploymentTarget(provider="fake", model="m")
    found = resolved(bench, target=target, server_kind=None, server_address=None)
    assert (found.provider_name, found.model, found.prompt_price, found.deployment) == ("fake", "m", 1.0, "")
