"""Limits per minute of keys: two buckets each, shared by all api processes through Redis.

A bucket holds a minute's allowance and fills evenly, so that a key which was idle may take that much at once. The tokens of
a request are reserved by what it may take and corrected when it has ended: the bucket can then owe, at most a minute's
allowance. While Redis is away every process holds keys to their limits by itself, going on from what it last saw.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.metadata.repositories.api_keys import KeyLimits

log = structlog.get_logger(__name__)

_REDIS_SECONDS = 0.5
"""Redis that takes longer is as good as away: requests wait for it."""
_ALONE_SECONDS = 1.0
_CORRECT_SECONDS = 1.0
_MOST_KEYS = 10_000

# KEYS: bucket. ARGV: requests per minute, tokens per minute (0: no limit), requests wanted, tokens wanted, tokens owed since the
# last time. Returns whether it was granted (1 or 0), then what is left of requests and of tokens, as text.
_TAKE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local elapsed = math.max(0, now - (tonumber(bucket[3]) or now))
local function filled(level, most)
  return math.min(most, (tonumber(level) or most) + elapsed * most / 60)
end
local most_requests, most_tokens = tonumber(ARGV[1]), tonumber(ARGV[2])
local requests = filled(bucket[1], most_requests)
local tokens = math.max(-most_tokens, math.min(most_tokens, filled(bucket[2], most_tokens) - tonumber(ARGV[5])))
local wanted_requests, wanted_tokens = tonumber(ARGV[3]), math.min(tonumber(ARGV[4]), most_tokens)
local granted = 0
if (most_requests == 0 or requests >= wanted_requests) and (most_tokens == 0 or tokens >= wanted_tokens) then
  granted = 1
  requests = requests - wanted_requests
  tokens = tokens - wanted_tokens
end
redis.call('HSET', KEYS[1], 'requests', tostring(requests), 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], 180)
return {granted, tostring(requests), tostring(tokens)}
"""


class Standing(msgspec.Struct, frozen=True):
    """What is left to a key after a request was granted or refused."""

    granted: bool
    limits: KeyLimits
    requests: float
    tokens: float
    retry_after: float
    """Seconds until the same request can be granted; 0 where it was."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's rate limit headers."""
        told: list[tuple[bytes, bytes]] = []
        for name, most, left in (
            (b"requests", self.limits.requests_per_minute, self.requests),
            (b"tokens", self.limits.tokens_per_minute, self.tokens),
        ):
            if most is not None:
                told += [
                    (b"x-ratelimit-limit-" + name, b"%d" % most),
                    (b"x-ratelimit-remaining-" + name, b"%d" % max(0, int(left))),
                    (b"x-ratelimit-reset-" + name, duration_text((most - left) * 60 / most).encode()),
                ]
        return told


class _Alone(msgspec.Struct):
    """The buckets of one key as this process sees them."""

    requests: float
    tokens: float
    at: float


class RateLimiter:
    """Limits per minute. Start `correct_forever` as a task; `close` at the end."""

    def __init__(self, redis_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis_url = redis_url
        self._redis: Redis | None = None
        self._script: Callable[..., Awaitable[Any]] | None = None
        self._clock = clock
        self._alone_until = 0.0
        self._seen: dict[str, _Alone] = {}
        self._owed: dict[str, tuple[KeyLimits, float]] = {}

    async def take(self, key_id: str, limits: KeyLimits, tokens: int) -> Standing:
        """Ask for one request with so many tokens."""
        return await self._take(key_id, limits, 1, tokens)

    def settle(self, key_id: str, limits: KeyLimits, reserved: int, used: int) -> None:
        """The request has ended: what it used other than reserved is owed, or given back. Told to Redis with the next request
        of the key, within a second at the latest."""
        if limits.tokens_per_minute is not None:
            owed = min(used, limits.tokens_per_minute) - min(reserved, limits.tokens_per_minute)
            self._owed[key_id] = (limits, self._owed.get(key_id, (limits, 0.0))[1] + owed)

    async def correct_forever(self) -> None:
        while True:
            await asyncio.sleep(_CORRECT_SECONDS)
            for key_id, (limits, _) in list(self._owed.items()):
                await self._take(key_id, limits, 0, 0)

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _take(self, key_id: str, limits: KeyLimits, requests: int, tokens: int) -> Standing:
        most_requests, most_tokens = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
        owed = self._owed.pop(key_id, (limits, 0.0))[1]
        tokens = min(tokens, most_tokens)
        if self._clock() >= self._alone_until:
            try:
                answer = await self._ask_redis(key_id, most_requests, most_tokens, requests, tokens, owed)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("key_limits_without_redis", error=type(error).__name__)
                self._alone_until = self._clock() + _ALONE_SECONDS
            else:
                left_requests, left_tokens = float(answer[1]), float(answer[2])
                self._remember(key_id, _Alone(left_requests, left_tokens, self._clock()))
                return _standing(bool(answer[0]), limits, requests, tokens, left_requests, left_tokens)
        seen = self._filled(key_id, most_requests, most_tokens)
        seen.tokens = max(-most_tokens, min(most_tokens, seen.tokens - owed))
        granted = (not most_requests or seen.requests >= requests) and (not most_tokens or seen.tokens >= tokens)
        if granted:
            seen.requests -= requests
            seen.tokens -= tokens
        self._remember(key_id, seen)
        return _standing(granted, limits, requests, tokens, seen.requests, seen.tokens)

    async def _ask_redis(self, key_id: str, *arguments: float) -> Any:
        if self._script is None:
            self._redis = Redis.from_url(
                self._redis_url,
                socket_timeout=_REDIS_SECONDS,
                socket_connect_timeout=_REDIS_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            self._script = self._redis.register_script(_TAKE)
        return await self._script(keys=[f"multifacet:key-limits:{key_id}"], args=list(arguments))

    def _filled(self, key_id: str, most_requests: int, most_tokens: int) -> _Alone:
        now = self._clock()
        seen = self._seen.get(key_id)
        if seen is None:
            return _Alone(most_requests, most_tokens, now)
        minutes = (now - seen.at) / 60
        return _Alone(
            min(most_requests, seen.requests + minutes * most_requests),
            min(most_tokens, seen.tokens + minutes * most_tokens),
            now,
        )

    def _remember(self, key_id: str, seen: _Alone) -> None:
        self._seen.pop(key_id, None)
        if len(self._seen) >= _MOST_KEYS:
            del self._seen[next(iter(self._seen))]
        self._seen[key_id] = seen


def duration_text(seconds: float) -> str:
    """As OpenAI writes the time until a limit is whole again: `120ms`, `8.5s`, `6m0s`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    shown = f"{rest:.1f}".removesuffix(".0")
    return f"{minutes:.0f}m{shown}s" if minutes else f"{shown}s"


def _standing(
    granted: bool, limits: KeyLimits, requests: int, tokens: int, left_requests: float, left_tokens: float
) -> Standing:
    wait = 0.0
    if not granted:
        if limits.requests_per_minute:
            wait = max(wait, (requests - left_requests) * 60 / limits.requests_per_minute)
        if limits.tokens_per_minute:
            wait = max(wait, (tokens - left_tokens) * 60 / limits.tokens_per_minute)
    return Standing(granted, limits, left_requests, left_tokens, wait)
