"""The answer cache on a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.cache import MAXIMUM_UNFLUSHED, CompletionCache, pack, purge_expired, purge_project, unpack
from tests.shared.llm.conftest import Bench


@pytest.fixture
async def cache(postgres_url: str) -> AsyncIterator[CompletionCache]:
    opened = CompletionCache(postgres_url, 3600)
    await opened.start()
    yield opened
    await opened.close()


def _key() -> bytes:
    return uuid4().bytes * 2


@given(st.text(max_size=6000))
def test_packing_loses_nothing(text: str) -> None:
    raw = json.dumps({"text": text}).encode()
    assert unpack(pack(raw)) == raw


async def test_an_answer_is_found_before_and_after_it_is_durable(cache: CompletionCache, bench: Bench) -> None:
    key, answer = _key(), b'{"a": "' + b"x" * 5000 + b'"}'
    assert await cache.get(key) is None
    cache.put(key, bench.project, "p", "m", answer)
    assert await cache.get(key) == answer
    await cache.flush()
    assert cache.unflushed == 0
    assert await bench.stored() == 1
    assert await cache.get(key) == answer


async def test_answers_become_durable_without_being_asked(cache: CompletionCache, bench: Bench) -> None:
    cache.put(_key(), bench.project, "p", "m", b"{}")
    while cache.unflushed:
        await asyncio.sleep(0.01)
    assert await bench.stored() == 1


async def test_many_lookups_at_once_each_get_their_own_answer(cache: CompletionCache, bench: Bench) -> None:
    keys = [_key() for _ in range(1500)]
    for number, key in enumerate(keys[:1000]):
        cache.put(key, bench.project, "p", "m", b"%d" % number)
    await cache.flush()
    found = await asyncio.gather(*(cache.get(key) for key in keys))
    assert found == [b"%d" % number for number in range(1000)] + [None] * 500


async def test_two_workers_may_store_the_same_answer(cache: CompletionCache, bench: Bench, postgres_url: str) -> None:
    other = CompletionCache(postgres_url, 3600)
    await other.start()
    shared, own = _key(), _key()
    cache.put(shared, bench.project, "p", "m", b"first")
    await cache.flush()
    other.put(shared, bench.project, "p", "m", b"second")
    other.put(own, bench.project, "p", "m", b"own")
    await other.close()
    assert await cache.get(shared) == b"first"
    assert await cache.get(own) == b"own"


async def test_an_expired_answer_is_not_served_and_is_replaced(bench: Bench, postgres_url: str) -> None:
    cache = CompletionCache(postgres_url, 3600)
    await cache.start()
    key = _key()
    cache.put(key, bench.project, "p", "m", b"old")
    await cache.flush()
    await bench.fetch("UPDATE cached_completion SET created_at = now() - interval '2 hours' WHERE key = %s", key)
    assert await cache.get(key) is None
    cache.put(key, bench.project, "p", "m", b"new")
    await cache.flush()
    assert await cache.get(key) == b"new"
    await cache.close()


async def test_purges_count_what_they_remove(cache: CompletionCache, bench: Bench, postgres_url: str) -> None:
    old, young = _key(), _key()
    cache.put(old, bench.project, "p", "m", b"1")
    cache.put(young, bench.project, "p", "m", b"2")
    await cache.flush()
    await bench.fetch("UPDATE cached_completion SET created_at = now() - interval '9 days' WHERE key = %s", old)
    assert await purge_expired(postgres_url, 8 * 86_400) == 1
    assert await purge_project(postgres_url, bench.project) == 1
    assert await bench.stored() == 0


async def test_an_outage_holds_lookups_back_and_keeps_answers(cache: CompletionCache, bench: Bench) -> None:
    name = (await bench.fetch("SELECT current_database() AS n"))[0]["n"]
    other = bench.database_url.replace(name, "postgres")
    admin = Bench(bench.server, other, bench.redis_url)
    await cache.get(_key())
    await admin.fetch(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        keys = [_key() for _ in range(MAXIMUM_UNFLUSHED + 1)]
        for key in keys:
            cache.put(key, bench.project, "p", "m", b"paid")
        lookup = asyncio.create_task(cache.get(_key()))
        room = asyncio.create_task(cache.room())
        done, _ = await asyncio.wait({lookup, room}, timeout=0.5)
        assert not done
        assert cache.unflushed == len(keys)
    finally:
        await admin.fetch(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert await lookup is None
    await room
    await cache.flush()
    assert await bench.stored() == len(keys)


async def test_a_fault_that_no_reconnecting_cures_reaches_every_caller(bench: Bench, postgres_url: str) -> None:
    cache = CompletionCache(postgres_url, 3600)
    await cache.start()
    await bench.fetch("ALTER TABLE cached_completion RENAME TO hidden")
    try:
        with pytest.raises(Exception, match="cached_completion"):
            await cache.get(_key())
        with pytest.raises(RuntimeError, match="store of LLM answers"):
            await cache.get(_key())
    finally:
        await bench.fetch("ALTER TABLE hidden RENAME TO cached_completion")
        await cache.close()
