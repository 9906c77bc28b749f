"""Configured limits (requests and tokens per minute), shared by all workers through Redis.

Permits are leased in blocks of about 100 ms by one Lua script, so that a call itself costs no round trip. The bucket in
Redis is empty after a wipe: a FLUSHALL can slow calls down, never let too many through. While Redis is away each worker
grants itself the limit divided by the workers last seen.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.llm.database import DurableConnection
from shared.metadata.patience import PATIENCE_SECONDS
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

BLOCK_SECONDS = 0.1
_RETRY_REDIS_SECONDS = 1.0
_WORKER_SECONDS = 10.0

# KEYS: bucket, workers. ARGV: requests per second, tokens per second, requests wanted, tokens wanted, worker, seconds
# after which a silent worker no longer counts. A rate of 0 means no limit. Returns requests granted, tokens granted and
# live workers.
_LEASE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local requests = tonumber(bucket[1]) or 0
local tokens = tonumber(bucket[2]) or 0
local elapsed = math.max(0, now - (tonumber(bucket[3]) or now))
local wanted = {tonumber(ARGV[3]), tonumber(ARGV[4])}
local function lease(level, rate, ask)
  if rate == 0 then return ask, 0 end
  level = math.min(math.max(rate, ask), level + elapsed * rate)
  local granted = math.max(0, math.min(ask, math.floor(level)))
  return granted, level - granted
end
local granted_requests, granted_tokens
granted_requests, requests = lease(requests, tonumber(ARGV[1]), wanted[1])
granted_tokens, tokens = lease(tokens, tonumber(ARGV[2]), wanted[2])
redis.call('HSET', KEYS[1], 'requests', tostring(requests), 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], 300)
redis.call('ZADD', KEYS[2], now, ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[6]))
redis.call('EXPIRE', KEYS[2], 300)
return {granted_requests, granted_tokens, redis.call('ZCARD', KEYS[2])}
"""


class Permits:
    """Permits of one provider's account in one process. `refilled` is called when new ones have come; `count_workers` is asked
    while Redis is away.

    `take` never waits: it says no and fetches more in the background.
    """

    def __init__(
        self,
        redis: Redis,
        name: str,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        refilled: Callable[[], None],
        count_workers: Callable[[], Awaitable[int]],
    ) -> None:
        self._redis = redis
        self._script = redis.register_script(_LEASE)
        self._name = name
        self._request_rate = (requests_per_minute or 0) / 60.0
        self._token_rate = (tokens_per_minute or 0) / 60.0
        self._most_tokens = tokens_per_minute or 0
        self._refilled = refilled
        self._count_workers = count_workers
        self._live_workers = 1
        self._worker = uuid4().hex
        self._requests = 0.0
        self._tokens = 0.0
        self._wanted_tokens = 0.0
        self._task: asyncio.Task[None] | None = None
        self._redis_retry_at = 0.0
        self._granted_alone_at: float | None = None

    @property
    def live_workers(self) -> int:
        """Workers that leased permits of this provider lately, as last seen."""
        return self._live_workers

    def take(self, tokens: int) -> bool:
        """One request and `tokens` tokens, or False (more are then on their way). A call larger than the limit of a
        whole minute counts as that: it could never go otherwise."""
        needed = min(tokens, self._most_tokens)
        if (self._requests >= 1.0 or not self._request_rate) and (self._tokens >= needed or not self._token_rate):
            self._requests -= 1.0
            self._tokens -= needed
            return True
        self._wanted_tokens = float(needed)
        if self._task is None or self._task.done():
            # For all steps: not with the ids of the one whose call comes first.
            self._task = asyncio.create_task(self._fetch(), context=Context())
        return False

    def settle(self, reserved_tokens: int, used_tokens: int) -> None:
        """The call is over: what it used other than reserved is given back, or owed (the pool may go below zero)."""
        self._tokens += min(reserved_tokens, self._most_tokens) - min(used_tokens, self._most_tokens)
        block = self._token_rate * BLOCK_SECONDS
        self._tokens = min(self._tokens, max(block, self._wanted_tokens, float(reserved_tokens)))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fetch(self) -> None:
        """Lease blocks until the call that waits can go."""
        while True:
            requests = max(1, round(self._request_rate * BLOCK_SECONDS)) if self._requests < 1.0 else 0
            missing = self._wanted_tokens - self._tokens
            tokens = max(round(self._token_rate * BLOCK_SECONDS), int(missing) + 1) if missing > 0 else 0
            granted_requests, granted_tokens = await self._lease(requests, tokens)
            self._requests += granted_requests
            self._tokens += granted_tokens
            if (self._requests >= 1.0 or not self._request_rate) and (
                self._tokens >= self._wanted_tokens or not self._token_rate
            ):
                asyncio.get_running_loop().call_soon(self._refilled)
                return
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Seconds until the missing permits can be there, between 10 ms and one second."""
        pause = 0.0
        if self._request_rate and self._requests < 1.0:
            pause = 1.0 / self._request_rate
        if self._token_rate and self._tokens < self._wanted_tokens:
            pause = max(pause, (self._wanted_tokens - self._tokens) / self._token_rate)
        return min(1.0, max(0.01, min(BLOCK_SECONDS, pause) if pause < BLOCK_SECONDS else pause))

    async def _lease(self, requests: int, tokens: int) -> tuple[float, float]:
        if time.monotonic() >= self._redis_retry_at:
            try:
                granted_requests, granted_tokens, live = await self._script(
                    keys=[f"multifacet:permits:{self._name}", f"multifacet:permit-users:{self._name}"],
                    args=[self._request_rate, self._token_rate, requests, tokens, self._worker, _WORKER_SECONDS],
                )
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("limits_without_redis", error=error_place(error), live_workers=self._live_workers)
                self._redis_retry_at = time.monotonic() + _RETRY_REDIS_SECONDS
                # Counted anew: a worker that started during the outage never heard of the others from Redis.
                self._live_workers = max(self._live_workers, await self._count_workers())
            else:
                self._granted_alone_at = None
                self._live_workers = max(1, int(live))
                return float(granted_requests), float(granted_tokens)
        return self._grant_alone(requests, tokens)

    def _grant_alone(self, requests: int, tokens: int) -> tuple[float, float]:
        """The limit divided by the workers last seen, since the last such grant (at most a second's worth)."""
        now = time.monotonic()
        elapsed = min(1.0, now - self._granted_alone_at) if self._granted_alone_at is not None else 0.0
        self._granted_alone_at = now
        share = elapsed / self._live_workers
        return (
            min(float(requests), self._request_rate * share) if self._request_rate else float(requests),
            self._token_rate * share if self._token_rate else float(tokens),
        )


async def count_workers(database_url: str, patience: float = PATIENCE_SECONDS) -> int:
    """Worker processes that the database knows to live; at least one."""
    connection = DurableConnection(database_url, "limits", patience)

    async def work(opened: psycopg.AsyncConnection[Any]) -> int:
        row = await (await opened.execute("SELECT count(*) FROM worker")).fetchone()
        return max(1, int(row[0])) if row else 1

    try:
        return await connection.run(work)
    finally:
        await connection.close()
