"""Permits leased from a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.llm.limits import Permits, count_workers
from tests.shared.llm.conftest import Bench


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


def _permits(
    redis: "Redis", name: str, requests: int | None, tokens: int | None = None
) -> tuple[Permits, asyncio.Event]:
    refilled = asyncio.Event()
    permits = Permits(
        redis,
        name,
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        refilled=refilled.set,
        count_workers=_two_workers,
    )
    return permits, refilled


async def _two_workers() -> int:
    return 2


async def _take(permits: Permits, refilled: asyncio.Event, tokens: int = 1) -> None:
    while not permits.take(tokens):
        refilled.clear()
        await refilled.wait()


async def test_two_workers_together_keep_the_limit(redis: "Redis") -> None:
    name, started = uuid4().hex, time.monotonic()
    workers = [_permits(redis, name, 6000) for _ in range(2)]
    for _ in range(75):
        await asyncio.gather(*(_take(*worker) for worker in workers))
    rate, elapsed = 100.0, time.monotonic() - started
    assert rate * elapsed + rate >= 150  # at most a second's worth of saved permits above the rate
    assert workers[0][0].live_workers == 2
    for permits, _ in workers:
        await permits.close()


async def test_a_wipe_of_redis_leaves_the_bucket_empty_and_work_goes_on(redis: "Redis") -> None:
    permits, refilled = _permits(redis, uuid4().hex, 6000)
    await _take(permits, refilled)
    await redis.flushall()
    await redis.script_flush()
    started, taken = time.monotonic(), 0
    while taken < 60:
        await _take(permits, refilled)
        taken += 1
    assert taken <= 100 * (time.monotonic() - started) + 20  # what was leased before, never a full bucket
    await permits.close()


async def test_tokens_are_limited_and_settled(redis: "Redis") -> None:
    permits, refilled = _permits(redis, uuid4().hex, None, tokens=60_000)
    started = time.monotonic()
    for _ in range(4):
        await _take(permits, refilled, 300)
    assert 1000 * (time.monotonic() - started) + 1000 >= 1200
    permits.settle(300, 5000)
    assert not permits.take(300)
    await permits.close()


async def test_a_call_larger_than_a_minutes_tokens_can_still_go(redis: "Redis") -> None:
    permits, refilled = _permits(redis, uuid4().hex, None, tokens=600)
    task = asyncio.create_task(_take(permits, refilled, 1))
    await task
    assert permits.take(10**9) is False
    await permits.close()


async def test_without_redis_each_worker_grants_itself_its_share() -> None:
    nowhere: Redis = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    permits, refilled = _permits(nowhere, "x", 6000)
    started = time.monotonic()
    for _ in range(30):
        await _take(permits, refilled)
    assert 50 * (time.monotonic() - started) + 5 >= 30
    await permits.close()
    await nowhere.aclose()


async def test_the_database_tells_how_many_workers_live(bench: Bench) -> None:
    assert await count_workers(bench.database_url) == 1
    for number in range(3):
        await bench.fetch(
            "INSERT INTO worker (id, host, process_id, roles, slots, busy, draining) VALUES (%s, 'h', 1, '{}', 1, 0, false)",
            f"worker_{number}",
        )
    assert await count_workers(bench.database_url) == 3
