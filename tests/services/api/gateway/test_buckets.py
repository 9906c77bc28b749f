"""Buckets of a minute's allowance, in Redis and without it."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.gateway.buckets import RateLimiter, duration_text
from shared.metadata.repositories.api_keys import KeyLimits

AWAY = "redis://127.0.0.1:9/0"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["redis", "alone"])
def limiter_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else AWAY


async def test_a_minutes_allowance_may_be_taken_at_once_and_no_more(limiter_url: str) -> None:
    limiter, key = RateLimiter(limiter_url), uuid4().hex
    limits = KeyLimits(requests_per_minute=2)
    granted = [(await limiter.take(key, limits, 10**9)).granted for _ in range(3)]
    other = await limiter.take(uuid4().hex, limits, 1)
    await limiter.close()
    assert granted == [True, True, False]
    assert other.granted


async def test_a_refused_request_takes_nothing(limiter_url: str) -> None:
    limiter, key = RateLimiter(limiter_url), uuid4().hex
    limits = KeyLimits(requests_per_minute=10, tokens_per_minute=100)
    assert (await limiter.take(key, limits, 60)).granted
    refused = await limiter.take(key, limits, 60)
    small = await limiter.take(key, limits, 30)
    await limiter.close()
    assert not refused.granted
    assert 11 < refused.retry_after <= 12  # 20 tokens are missing, 100 come a minute
    assert small.granted
    assert 8 <= small.requests < 8.1


async def test_a_request_larger_than_a_minute_counts_as_a_minute(limiter_url: str) -> None:
    limiter, key = RateLimiter(limiter_url), uuid4().hex
    limits = KeyLimits(tokens_per_minute=100)
    assert (await limiter.take(key, limits, 5_000)).granted
    assert not (await limiter.take(key, limits, 5_000)).granted
    await limiter.close()


async def test_what_was_not_used_is_given_back_and_what_was_used_more_is_owed(limiter_url: str) -> None:
    limiter, key = RateLimiter(limiter_url), uuid4().hex
    limits = KeyLimits(tokens_per_minute=100)
    await limiter.take(key, limits, 90)
    limiter.settle(key, limits, reserved=90, used=10)
    again = await limiter.take(key, limits, 80)
    limiter.settle(key, limits, reserved=80, used=10_000)
    owing = await limiter.take(key, limits, 0)
    await limiter.close()
    assert again.granted
    assert 10 <= again.tokens < 11
    # No debt is larger than a minute's allowance.
    assert -11 < owing.tokens < -9
    assert not owing.granted


async def test_without_redis_what_it_said_last_goes_on(redis_url: str) -> None:
    clock = Clock()
    limiter, key = RateLimiter(redis_url, clock), uuid4().hex
    limits = KeyLimits(requests_per_minute=60)
    for _ in range(58):
        await limiter.take(key, limits, 1)
    await limiter.close()
    limiter._redis_url, limiter._script = AWAY, None
    granted = [(await limiter.take(key, limits, 1)).granted for _ in range(4)]
    clock.now += 2.0
    later = [(await limiter.take(key, limits, 1)).granted for _ in range(3)]
    assert granted == [True, True, False, False]
    assert later == [True, True, False]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=60), st.integers(1, 40))
async def test_alone_never_more_than_the_bucket_and_what_flowed_in(
    steps: list[tuple[float, int]], per_minute: int
) -> None:
    clock = Clock()
    limiter = RateLimiter(AWAY, clock)
    limiter._alone_until = float("inf")
    limits = KeyLimits(requests_per_minute=per_minute)
    granted = 0
    for pause, tokens in steps:
        clock.now += pause
        granted += (await limiter.take("key", limits, tokens)).granted
    assert granted <= per_minute * (1 + (clock.now - 1_000.0) / 60) + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0ms"), (0, "0ms"), (0.12, "120ms"), (1, "1s"), (8.52, "8.5s"), (59.99, "1m0s"), (360, "6m0s")],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
