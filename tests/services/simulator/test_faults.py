"""Faults: each one as a client meets it, chosen by seed, body and attempt alone."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.faults import Fault, FaultInjector, FaultPlan, FaultPlanRefused, parse_fault_plan
from services.simulator.requests import RequestClass
from services.simulator.server import Simulator
from tests.services.simulator.support import ask, block_body, body_of, plan_of, post, running, settled

CHAT = RequestClass.CHAT
SCHEMA = {"type": "json_schema", "json_schema": {"name": "checklist", "schema": {"type": "object"}}}
JUDGE_BLOCK = {
    "instruction": "x",
    "answer": "brisk prose",
    "reference": None,
    "items": [{"item": 0, "wish": "brisk prose"}],
}


async def answer_under(
    fault: str, body: dict[str, Any], request_class: str, **more: Any
) -> tuple[int, dict[str, str], bytes]:
    simulator = Simulator(plan=plan_of(shares={fault: 1}, **more))
    async with running(simulator) as url, aiohttp.ClientSession() as session:
        result = await post(session, url, body, request_class)
    assert simulator.statistics.as_builtins()["faults"] == {request_class: {fault: 1}}
    return result


async def test_429_with_and_without_retry_after() -> None:
    status, headers, data = await answer_under("rate_limited", body_of(), "chat", retry_after_seconds=2)
    assert (status, headers["retry-after"]) == (429, "2")
    assert orjson.loads(data)["error"]["code"] == "rate_limit_exceeded"
    status, headers, _ = await answer_under("rate_limited", body_of(), "chat")
    assert status == 429
    assert "retry-after" not in headers


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("server_error", 503, "application/json"),
        ("html_502", 502, "text/html"),
        ("unauthorized", 401, "application/json"),
    ],
)
async def test_http_errors(fault: str, status: int, kind: str) -> None:
    seen, headers, _ = await answer_under(fault, body_of(), "respond", server_error_status=503)
    assert seen == status
    assert headers["content-type"].startswith(kind)
    assert headers["x-multifacet-simulator"] == "1"


async def test_truncated_body_is_seen_as_incomplete() -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer_under("truncated_body", body_of(), "respond")


async def test_truncated_stream_lacks_its_end() -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer_under("truncated_body", body_of(stream=True), "respond")


async def test_connection_reset_gives_no_answer() -> None:
    simulator = Simulator(plan=plan_of(shares={"connection_reset": 1}))
    async with running(simulator) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(session, url, body_of(), "respond")
        await settled()
    assert simulator.statistics.as_builtins()["calls"]["respond"] == {"reset": 1}


async def test_hang_sends_nothing_and_ends_when_the_client_leaves() -> None:
    simulator = Simulator(plan=plan_of(shares={"hang": 1}, hang_seconds=300))
    async with running(simulator) as url, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(post(session, url, body_of(), "respond"), 0.2)
        await settled(0.2)
    assert simulator.statistics.in_flight == 0
    assert simulator.statistics.as_builtins()["calls"]["respond"] == {"hang": 1}


async def test_malformed_body_is_complete_but_not_json() -> None:
    status, headers, data = await answer_under("malformed_body", body_of(), "respond")
    assert status == 200
    assert int(headers["content-length"]) == len(data)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(data)


def content(data: bytes) -> Any:
    return orjson.loads(data)["choices"][0]["message"]["content"]


async def test_faults_of_the_answer_itself() -> None:
    body = block_body(JUDGE_BLOCK, response_format=SCHEMA)
    _, _, malformed = await answer_under("malformed_answer", body, "judge")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(content(malformed))
    _, _, invalid = await answer_under("invalid_answer", body, "judge")
    assert "items" not in orjson.loads(content(invalid))
    _, _, cut = await answer_under("truncated_answer", body_of(), "respond")
    assert orjson.loads(cut)["choices"][0]["finish_reason"] == "length"
    _, _, refused = await answer_under("refusal_field", body_of(), "respond")
    message = orjson.loads(refused)["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"]
    _, _, phrase = await answer_under("refusal_phrase", body_of(), "respond")
    message = orjson.loads(phrase)["choices"][0]["message"]
    assert message["refusal"] is None
    assert "an't" in message["content"] or "unable" in message["content"] or "cannot" in message["content"]
    _, _, empty = await answer_under("empty_answer", body_of(), "respond")
    assert content(empty) == ""


async def test_retry_of_the_same_body_can_succeed_and_the_whole_run_repeats() -> None:
    async def run() -> list[int]:
        async with (
            running(Simulator(plan=plan_of(shares={"server_error": 0.5}))) as url,
            aiohttp.ClientSession() as session,
        ):
            return [(await post(session, url, body_of(), "respond"))[0] for _ in range(12)]

    first = await run()
    assert set(first) == {200, 500}
    assert await run() == first


async def test_fault_does_not_change_the_later_answer() -> None:
    async with running(Simulator()) as url:
        sound = await ask(url, body_of(), "respond")
    async with (
        running(Simulator(plan=plan_of(shares={"server_error": 0.5}))) as url,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(30):
            status, _, data = await post(session, url, body_of(), "respond")
            if status == 200:
                break
    assert content(data) == sound


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 2**32))
def test_shares_are_met_in_the_long_run(first: float, second: float, seed: int) -> None:
    shares = {"server_error": first, "hang": second}
    injector = FaultInjector(FaultPlan.model_validate({"seed": seed, "default": {"shares": shares}}))
    calls = 1500
    seen = [injector.decide(CHAT, index.to_bytes(16, "big"), 0.0).fault for index in range(calls)]
    # Six standard deviations of a share of one half.
    assert abs(seen.count(Fault.SERVER_ERROR) / calls - first) < 0.08
    assert abs(seen.count(Fault.HANG) / calls - second) < 0.08


@given(st.integers(0, 2**32), st.binary(min_size=16, max_size=16), st.integers(1, 6))
def test_decisions_depend_on_seed_body_and_attempt_alone(seed: int, digest: bytes, attempts: int) -> None:
    plan = FaultPlan.model_validate({"seed": seed, "default": {"jitter_ms": 50, "shares": {"server_error": 0.5}}})
    crowded, alone = FaultInjector(plan), FaultInjector(plan)
    for _ in range(attempts):
        crowded.decide(CHAT, b"another body....", 9.0)
        assert crowded.decide(CHAT, digest, 1.0) == alone.decide(CHAT, digest, 5.0)


def test_latency_has_an_exponential_tail_of_the_given_mean() -> None:
    injector = FaultInjector(plan_of(latency_ms=200, jitter_ms=300))
    delays = [injector.decide(CHAT, index.to_bytes(16, "big"), 0.0).delay for index in range(20_000)]
    assert min(delays) >= 0.2
    assert sum(delays) / len(delays) == pytest.approx(0.5, abs=0.015)


def test_rate_limit_lets_the_burst_and_then_the_rate_through() -> None:
    injector = FaultInjector(plan_of(rate_limit={"calls_per_second": 100, "burst": 64, "retry_after_seconds": 1}))
    at_once = [injector.decide(CHAT, bytes(16), 10.0) for _ in range(100)]
    assert sum(decision.fault is None for decision in at_once) == 64
    assert {decision.retry_after for decision in at_once if decision.fault} == {1.0}
    second = [injector.decide(CHAT, bytes(16), 10.0 + step / 1000).fault for step in range(1, 1001)]
    assert second.count(None) == pytest.approx(100, abs=1)


def test_shared_rate_limit_counts_all_classes() -> None:
    injector = FaultInjector(FaultPlan.model_validate({"rate_limit": {"calls_per_second": 1, "burst": 2}}))
    faults = [injector.decide(one, bytes(16), 0.0).fault for one in RequestClass]
    assert faults.count(None) == 2


def test_named_class_is_described_there_alone() -> None:
    plan = FaultPlan.model_validate({"default": {"latency_ms": 5}, "classes": {"judge": {"jitter_ms": 1}}})
    assert plan.of(RequestClass.JUDGE).latency_ms == 0
    assert plan.of(RequestClass.RESPOND).latency_ms == 5


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("{", "plan"),
        ('{"latency_ms": 5}', "latency_ms"),
        ('{"default": {"shares": {"hang": 2}}}', "default/shares/hang"),
        ('{"default": {"shares": {"hang": 0.6, "html_502": 0.6}}}', "add up to 1.2"),
        ('{"classes": {"dream": {}}}', "dream"),
        ('{"default": {"server_error_status": 404}}', "server_error_status"),
        (
            '{"classes": {"respond": {"shares": {"wrong_pole": 0.1}}}}',
            "would do nothing: only requests of class augment",
        ),
        ('{"classes": {"augment": {"shares": {"held_out_paraphrase": 0.1}}}}', "held_out_texts"),
        ('{"judge": "severe"}', "no judge is named 'severe'; known are faithful, injectable"),
        ('{"judge": {"confusion": [[1, 0, 0], [0, 1, 0], [0, 0.5, 0.6]]}}', "'violated' is"),
        ('{"judge": {"confusion": [[1, 0, 0], [0, 1, 0]]}}', "judge/confusion"),
    ],
)
def test_wrong_plan_is_refused_with_its_path(text: str, seen: str) -> None:
    with pytest.raises(FaultPlanRefused, match=seen):
        parse_fault_plan(text)
