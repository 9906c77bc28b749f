"""The whole layer against a real HTTP server, PostgreSQL and Redis."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from aiohttp import web
from pydantic import BaseModel
from redis.asyncio import Redis

from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.jobs import ModelChoice
from shared.domain.live_calls import live_account_of
from shared.llm import breaker, models, transport
from shared.llm.protocol import (
    ContentRefused,
    OutputInvalid,
    OutputTruncated,
    RequestRejected,
    RetriesExhausted,
)
from shared.llm.step_calls import StepCalls
from tests.shared.llm.conftest import Bench, ScriptedServer, answer, ask, chat_body, sleep_then, too_many


class Verdict(BaseModel):
    feedback: str
    score: Literal[1, 2, 3, 4, 5]


GOOD = '{"feedback": "kept", "score": 4}'


def _error(status: int, code: str = "some_code") -> web.Response:
    return web.json_response({"error": {"message": "told why", "code": code}}, status=status)


async def test_an_answer_is_paid_once_and_replayed_for_nothing(bench: Bench, server: ScriptedServer) -> None:
    async with bench.worker() as (_, model):
        first = await model.complete(ask("hello", temperature=0.5))
        second = await model.complete(ask("hello", temperature=0.5))
    assert (first.text, first.cached, first.cost_micro_usd) == ("fine", False, 130)
    assert (second.text, second.cached, second.cost_micro_usd) == ("fine", True, 0)
    async with bench.worker() as (_, model):  # another process, later
        third = await model.complete(ask("hello", temperature=0.5))
    assert third.cached
    assert server.calls == 1
    usage = await bench.usage()
    assert (usage["calls"], usage["cached_calls"], usage["cost_micro_usd"]) == (1, 2, 130)
    assert (usage["prompt_characters"], usage["completion_characters"]) == (5, 4)


async def test_the_request_class_and_schema_name_are_sent(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: answer(GOOD)
    async with bench.worker() as (_, model):
        await model.complete_structured(ask(request_class="judge"), Verdict)
    assert server.headers[0]["x-multifacet-request-class"] == "judge"
    assert server.bodies[0]["response_format"]["json_schema"]["name"] == "verdict"
    assert server.bodies[0]["response_format"]["json_schema"]["strict"] is True


async def test_another_sample_project_or_body_is_another_call(bench: Bench, server: ScriptedServer) -> None:
    async with bench.worker() as (worker, model):
        await model.complete(ask())
        await model.complete(ask(sample_index="1"))
        await model.complete(ask(max_tokens=5))
        bench.project += "other"
        await bench.bind(worker).complete(ask())
    assert server.calls == 4


async def test_equal_calls_in_flight_are_joined(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(0.1, answer())
    async with bench.worker() as (_, model):
        found = await asyncio.gather(*(model.complete(ask()) for _ in range(20)))
    assert server.calls == 1
    assert sorted(completion.cached for completion in found) == [False] + [True] * 19
    assert sum(completion.cost_micro_usd or 0 for completion in found) == 130


async def test_a_cancelled_leader_leaves_the_others_their_answer(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(0.2, answer())
    async with bench.worker() as (_, model):
        leader = asyncio.create_task(model.complete(ask()))
        await asyncio.sleep(0.1)
        follower = asyncio.create_task(model.complete(ask()))
        await asyncio.sleep(0.05)
        leader.cancel()
        assert (await follower).text == "fine"
        with pytest.raises(asyncio.CancelledError):
            await leader
    assert server.calls == 2


async def test_cancelled_calls_give_their_slots_back(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(0.0 if body["messages"][0]["content"] == "last" else 30, answer())
    async with bench.worker(maximum_in_flight=3) as (_, model):
        calls = [asyncio.create_task(model.complete(ask(str(number)))) for number in range(9)]
        while server.calls < 3:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await model.complete(ask("last"))).text == "fine"


async def test_never_more_calls_are_open_than_allowed(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(0.1, answer())
    async with bench.worker(provider={"limits": {"maximum_in_flight": 5}}) as (_, model):
        await asyncio.gather(*(model.complete(ask(str(number))) for number in range(60)))
    assert 2 <= server.most_open <= 5


@pytest.mark.parametrize(
    "broken",
    [
        lambda: too_many("0"),
        lambda: too_many(None),
        lambda: too_many("Thu, 01 Jan 2026 00:00:00 GMT"),
        lambda: _error(500),
        lambda: _error(503),
        lambda: _error(408),
        lambda: web.Response(status=502, text="<html><body>Bad gateway</body></html>", content_type="text/html"),
        lambda: web.Response(text=json.dumps(chat_body())[:-40], content_type="application/json"),
        lambda: web.Response(text="<html>not JSON at all", content_type="text/html"),
        lambda: web.json_response({"error": {"message": "overloaded", "code": "overloaded"}}),
        lambda: answer("cut", finish_reason=None),
    ],
)
async def test_a_passing_fault_is_tried_again(bench: Bench, server: ScriptedServer, broken: Any) -> None:
    server.script(broken, broken, answer)
    async with bench.worker() as (_, model):
        assert (await model.complete(ask())).text == "fine"
    assert server.calls == 3
    assert await bench.stored() == 1
    usage = await bench.usage()
    assert (usage["calls"], usage["retries"], usage["cost_micro_usd"]) == (1, 2, 130)
    assert usage["rate_limited"] == (2 if broken().status == 429 else 0)


async def test_a_hang_is_tried_again(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(30, answer()) if number == 0 else answer()
    async with bench.worker(llm_request_timeout_seconds=0.3) as (_, model):
        assert (await model.complete(ask())).text == "fine"
    assert server.calls == 2


async def test_a_reset_and_a_body_that_ends_too_soon_are_tried_again(bench: Bench) -> None:
    complete = json.dumps(chat_body()).encode()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if number == 1:
            writer.transport.abort()
            return
        sent = complete[:50] if number == 2 else complete
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(complete) + sent
        )
        await writer.drain()
        writer.close()

    raw_server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{raw_server.sockets[0].getsockname()[1]}/v1"
    async with bench.worker(provider={"base_url": address}) as (_, model):
        assert (await model.complete(ask())).text == "fine"
    raw_server.close()
    assert connections == 3
    assert (await bench.usage())["retries"] == 2


async def test_a_call_that_waits_for_retry_after_holds_no_slot(bench: Bench, server: ScriptedServer) -> None:
    order: list[str] = []

    def respond(number: int, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][0]["content"]
        order.append(text)
        return too_many("3") if number == 0 else answer()

    server.respond = respond
    async with bench.worker(maximum_in_flight=1) as (_, model):
        slow = asyncio.create_task(model.complete(ask("slow")))
        while not order:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(model.complete(ask(str(number))) for number in range(5)))
        assert not slow.done()
        await slow
    assert order[0] == order[-1] == "slow"


async def test_a_call_that_fails_on_and_on_is_given_up_alone(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: _error(500) if body["messages"][0]["content"] == "bad" else answer()
    async with bench.worker(llm_call_deadline_seconds=1.0) as (_, model):
        bad, good = await asyncio.gather(
            model.complete(ask("bad")), model.complete(ask("good")), return_exceptions=True
        )
    assert isinstance(bad, RetriesExhausted)
    assert not isinstance(good, BaseException)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_request_refused_for_good_is_not_repeated(bench: Bench, server: ScriptedServer, status: int) -> None:
    server.script(lambda: _error(status))
    async with bench.worker() as (_, model):
        with pytest.raises(RequestRejected, match="told why"):
            await model.complete(ask())
    assert server.calls == 1
    assert await bench.stored() == 0


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (lambda: _error(401), "authentication_failed"),
        (lambda: _error(403), "authentication_failed"),
        (lambda: too_many("1", "insufficient_quota"), "quota_exhausted"),
    ],
)
async def test_what_no_row_can_pass_fails_the_step(bench: Bench, server: ScriptedServer, reply: Any, code: str) -> None:
    server.script(reply)
    async with bench.worker() as (_, model):
        with pytest.raises(StepFailed) as failed:
            await model.complete(ask())
    assert failed.value.code == code
    assert server.calls == 1


async def test_an_error_that_repeats_key_and_prompt_is_told_without_them(
    bench: Bench, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-a-key-of-our-own")
    prompt = "please tell nobody that I asked how to fold a letter"

    def echo(status: int) -> web.Response:
        error = {"message": f"bad {server.headers[-1]['authorization']}: {server.bodies[-1]['messages'][0]['content']}"}
        return web.json_response({"error": error}, status=status)

    async with bench.worker({"api_key_env": "FAKE_API_KEY"}) as (opened, _):
        for status, error in ((400, RequestRejected), (402, StepFailed), (401, StepFailed)):
            server.script(lambda status=status: echo(status))
            with pytest.raises(error) as raised:
                await bench.bind(opened).complete(ask(f"{prompt} {status}"))
            assert "sk-a-key" not in str(raised.value)
            assert "fold a letter" not in str(raised.value)
            assert str(status) in str(raised.value)


async def test_an_answer_without_end_is_given_up_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_REPLY_BYTES", 1 << 20)
    sent = 0

    async def pour(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    runner = web.ServerRunner(web.Server(pour, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    poster = transport.Transport(4)
    await poster.start()
    with pytest.raises(transport.TransportFailed, match="does not end within 1 MiB"):
        await poster.post(f"http://127.0.0.1:{runner.addresses[0][1]}/", b"{}", {}, 600)
    await poster.close()
    await runner.cleanup()
    assert sent < 64 << 20


async def test_a_redirect_is_not_followed(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: web.Response(status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"}))
    async with bench.worker() as (_, model):
        with pytest.raises(RequestRejected):
            await model.complete(ask())


async def test_a_retry_after_beyond_the_deadline_defers_the_step(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: too_many("3600"))
    async with bench.worker() as (_, model):
        with pytest.raises(StepDeferred) as deferred:
            await model.complete(ask())
    assert deferred.value.seconds == 3600


async def test_an_outage_of_the_provider_defers_the_step(
    bench: Bench, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "STREAK_SECONDS", 0.05)
    monkeypatch.setattr(models, "MOST_FAILURES", 1000)
    server.script(lambda: _error(502))
    async with bench.worker() as (_, model):
        found = await asyncio.gather(*(model.complete(ask(str(n))) for n in range(10)), return_exceptions=True)
        calls = server.calls
        with pytest.raises(StepDeferred, match="fake/m"):
            await model.complete(ask("another"))
    assert all(isinstance(result, StepDeferred) for result in found)
    assert server.calls == calls


async def _as_rows_of_a_shard(model: models.BoundModel, rows: int) -> int:
    """So many calls side by side, an error of one cancelling the others; returns how many were answered."""
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(model.complete(ask(str(row)))) for row in range(rows)]
    return len([call.result() for call in calls])


async def test_the_calls_of_a_step_go_on_when_the_outage_is_over(
    bench: Bench, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that is refused must not take the probe along."""
    monkeypatch.setattr(breaker, "STREAK_SECONDS", 0.05)
    monkeypatch.setattr(models, "MOST_FAILURES", 1000)
    down = True
    server.respond = lambda number, body: _error(502) if down else sleep_then(0.05, answer("fine"))

    async with bench.worker(llm_circuit_open_seconds=0.2) as (opened, _):
        with pytest.raises(ExceptionGroup):
            await _as_rows_of_a_shard(bench.bind(opened), 8)
        await asyncio.sleep(0.25)
        with pytest.raises(ExceptionGroup):  # the probe meets the outage too
            await _as_rows_of_a_shard(bench.bind(opened), 8)
        down = False
        await asyncio.sleep(0.25)
        assert await _as_rows_of_a_shard(bench.bind(opened), 8) == 8


@pytest.mark.parametrize("end", [lambda: too_many("3600"), lambda: _error(401)])
async def test_what_ends_a_step_lets_its_open_calls_be_answered_and_starts_no_other(
    bench: Bench, server: ScriptedServer, end: Callable[[], web.Response]
) -> None:
    server.respond = lambda number, body: sleep_then(0.1, end()) if number == 4 else sleep_then(0.6, answer("fine"))
    async with bench.worker(maximum_in_flight=8) as (opened, _):
        with pytest.raises(ExceptionGroup):
            await _as_rows_of_a_shard(bench.bind(opened), 30)
        await opened.flush()
        calls = server.calls
        await asyncio.sleep(0.2)
    assert server.calls == calls < 30
    assert await bench.stored() == calls - 1


async def test_a_step_that_shall_stop_makes_no_new_call(bench: Bench, server: ScriptedServer) -> None:
    server.respond = lambda number, body: sleep_then(0.3, answer("fine"))
    stopping = False
    async with bench.worker(maximum_in_flight=4) as (opened, _):
        model = bench.bind(opened, calls=StepCalls(lambda: stopping))
        waiting = asyncio.gather(*(model.complete(ask(str(n))) for n in range(12)), return_exceptions=True)
        while server.calls < 4:
            await asyncio.sleep(0.01)
        stopping = True
        outcomes = await waiting
    assert server.calls == 4
    assert sum(isinstance(outcome, StepDeferred) for outcome in outcomes) == 8


async def test_teacher_and_judge_of_one_provider_share_its_limits(bench: Bench, server: ScriptedServer) -> None:
    limits = {"limits": {"requests_per_minute": 120}}
    async with bench.worker(limits) as (opened, _):
        both = [bench.bind(opened), bench.bind(opened, model="unpriced")]
        calls = [asyncio.create_task(model.complete(ask(str(n)))) for n in range(20) for model in both]
        await asyncio.sleep(4)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    assert 6 <= server.calls <= 11


async def test_refusal_and_truncation_are_told_apart(bench: Bench, server: ScriptedServer) -> None:
    server.script(
        lambda: answer("", refusal="I cannot help with that."),
        lambda: answer("", finish_reason="content_filter"),
        lambda: answer('{"feedback": "cut', finish_reason="length"),
    )
    async with bench.worker() as (_, model):
        for number, error in enumerate((ContentRefused, ContentRefused, OutputTruncated)):
            with pytest.raises(error):
                await model.complete_structured(ask(str(number)), Verdict)
        plain = await model.complete(ask("0", schema=None))
    assert server.calls == 4
    assert plain.finish_reason == "length"


async def test_a_refusal_is_an_answer_of_a_plain_call(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: answer("", refusal="No."))
    async with bench.worker() as (_, model):
        assert (await model.complete(ask())).refusal == "No."


async def test_an_invalid_answer_is_repaired_once(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: answer('{"feedback": "x", "score": 9}'), lambda: answer(f"```json\n{GOOD}\n```"))
    async with bench.worker() as (_, model):
        verdict, completion = await model.complete_structured(ask("judge this"), Verdict)
        again, replay = await model.complete_structured(ask("judge this"), Verdict)
    assert verdict == again == Verdict(feedback="kept", score=4)
    assert (completion.cost_micro_usd, completion.prompt_tokens) == (260, 200)
    assert (replay.cost_micro_usd, replay.cached) == (0, True)
    assert server.calls == 2
    repair = server.bodies[1]["messages"]
    assert [message["role"] for message in repair] == ["user", "assistant", "user"]
    assert "score" in repair[2]["content"]


async def test_an_answer_that_stays_invalid_is_given_up(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: answer("no JSON here"))
    async with bench.worker() as (_, model):
        with pytest.raises(OutputInvalid):
            await model.complete_structured(ask(), Verdict)
    assert server.calls == 2


async def test_a_server_without_json_schema_gets_the_schema_in_the_prompt(bench: Bench, server: ScriptedServer) -> None:
    server.script(lambda: answer(GOOD))
    async with bench.worker(provider={"structured_output": "prompt"}) as (_, model):
        await model.complete_structured(ask("judge"), Verdict)
    assert "response_format" not in server.bodies[0]
    assert '"additionalProperties": false' in server.bodies[0]["messages"][-1]["content"]


async def test_a_budget_ends_the_job_with_at_most_the_calls_in_flight_above_it(
    bench: Bench, server: ScriptedServer
) -> None:
    await bench.add_job()
    server.respond = lambda number, body: sleep_then(0.01, answer())
    async with bench.worker() as (worker, _):
        model = bench.bind(worker, budget=1300)
        found = await asyncio.gather(*(model.complete(ask(str(n))) for n in range(100)), return_exceptions=True)
        failed = [result for result in found if isinstance(result, StepFailed)]
        assert {failure.code for failure in failed} == {"budget_exhausted"}
        assert 10 <= server.calls == 100 - len(failed) <= 10 + 16
        assert (await model.complete(ask("0"))).cached if not isinstance(found[0], StepFailed) else True
        raised = bench.bind(worker, budget=10**6)
        await asyncio.gather(*(raised.complete(ask(str(n))) for n in range(100)))
    assert server.calls == 100
    assert (await bench.fetch("SELECT cost_micro_usd FROM job WHERE id = %s", bench.job))[0]["cost_micro_usd"] == 13_000


async def test_an_unknown_price_is_an_unknown_cost_and_refuses_a_budget(bench: Bench) -> None:
    await bench.add_job()
    async with bench.worker() as (worker, _):
        completion = await bench.bind(worker, model="unpriced").complete(ask())
        with pytest.raises(StepFailed, match="completion_price") as failed:
            bench.bind(worker, budget=10, model="unpriced")
        with pytest.raises(InputRefused):
            bench.bind(worker, model="unknown")
    assert failed.value.code == "model_unpriced"
    assert completion.cost_micro_usd is None
    assert (await bench.usage())["unpriced_calls"] == 1
    assert (await bench.fetch("SELECT unpriced_calls FROM job WHERE id = %s", bench.job))[0]["unpriced_calls"] == 1


async def test_a_server_without_usage_figures_is_billed_by_characters(bench: Bench, server: ScriptedServer) -> None:
    body = chat_body("x" * 40)
    del body["usage"]
    server.script(lambda: web.json_response(body))
    async with bench.worker() as (_, model):
        completion = await model.complete(ask("y" * 41))
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cost_micro_usd) == (11, 10, 41)


async def test_configured_limits_survive_a_wipe_of_redis(bench: Bench, server: ScriptedServer) -> None:
    limits = {"limits": {"requests_per_minute": 12_000, "tokens_per_minute": 100_000_000}}
    client: Redis = Redis.from_url(bench.redis_url)
    async with bench.worker(provider=limits) as (_, model):
        calls = [asyncio.create_task(model.complete(ask(str(number)))) for number in range(80)]
        while server.calls < 30:
            await asyncio.sleep(0.01)
        await client.flushall()
        await asyncio.gather(*calls)
    await client.aclose()
    assert server.calls == 80


async def test_configured_limits_work_without_redis(bench: Bench, server: ScriptedServer) -> None:
    bench.redis_url = "redis://127.0.0.1:1/0"
    async with bench.worker(provider={"limits": {"requests_per_minute": 6000}}) as (_, model):
        await asyncio.gather(*(model.complete(ask(str(number))) for number in range(20)))
    assert server.calls == 20


async def test_a_key_is_sent_and_never_stored(
    bench: Bench, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    async with bench.worker(provider={"api_key_env": "SOME_KEY"}) as (_, model):
        await model.complete(ask())
    assert server.headers[0]["authorization"] == "Bearer sk-secret"


async def test_a_bound_model_tells_what_it_is(bench: Bench) -> None:
    async with bench.worker() as (worker, model):
        assert (model.provider, model.model, model.simulator) == ("fake", "m", False)
        assert worker.send_rates()["fake/m"] > 0
        with pytest.raises(InputRefused):
            worker.bind(
                ModelChoice(provider="x", model="m"),
                project_id="p",
                job_id="j",
                stage="s",
                budget_micro_usd=None,
            )


_KILLED_WORKER = """
import asyncio, sys
from shared.domain.jobs import ModelChoice
from shared.llm.models import LanguageModels
from shared.llm.protocol import CompletionRequest
from shared.llm.providers import Providers
from shared.settings import Settings

async def main(database_url, url, project):
    providers = Providers.model_validate({"providers": {"fake": {"base_url": url, "models": {"m": None}}}})
    models = LanguageModels(Settings(database_url=database_url, maximum_in_flight=8), providers)
    await models.start()
    model = models.bind(
        ModelChoice(provider="fake", model="m"), project_id=project, job_id=project, stage="s", budget_micro_usd=None
    )
    numbers = iter(range(200))
    async def rows():
        for number in numbers:
            await model.complete(
                CompletionRequest(messages=[{"role": "user", "content": str(number)}], request_class="respond")
            )
    await asyncio.gather(*(rows() for _ in range(16)))
    await models.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_worker_pays_again_only_for_what_was_in_flight_or_just_answered(
    bench: Bench, server: ScriptedServer
) -> None:
    answered: list[float] = []

    async def respond(number: int, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        answered.append(time.monotonic())
        return answer()

    server.respond = respond

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", _KILLED_WORKER, bench.database_url, server.url, bench.project
        )

    worker = await start()
    while len(answered) < 100:
        await asyncio.sleep(0.005)
    killed_at = time.monotonic()
    os.kill(worker.pid, signal.SIGKILL)
    in_flight = server.open
    await worker.wait()
    # The promise is 100 ms; the rest is room for a loaded test machine.
    just_answered = sum(1 for at in answered if at > killed_at - 0.3)
    assert await (await start()).wait() == 0
    paid_twice = server.calls - 200
    assert len(server.times_sent()) == 200
    assert 0 <= paid_twice <= in_flight + just_answered
    assert just_answered < 100


async def test_live_calls_are_counted_under_the_project_and_the_day(bench: Bench) -> None:
    async with bench.worker() as (models, _):
        live = models.bind_live(
            ModelChoice(provider="fake", model="m"), project_id=bench.project, purpose="profile", pointer="/teacher"
        )
        await live.complete(ask("live"))
        await models.flush()
    (row,) = await bench.fetch("SELECT * FROM usage WHERE project_id = %s", bench.project)
    assert row["job_id"] == live_account_of(bench.project, datetime.now(UTC))
    assert (row["stage"], row["calls"]) == ("profile", 1)


async def test_a_live_call_names_where_an_unknown_model_stands(bench: Bench) -> None:
    async with bench.worker() as (models, _):
        with pytest.raises(InputRefused) as refused:
            models.bind_live(
                ModelChoice(provider="nobody", model="m"), project_id=bench.project, purpose="p", pointer="/judge"
            )
    assert refused.value.pointer == "/judge/provider"
