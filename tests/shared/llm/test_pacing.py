"""The learned send rate against servers in simulated time."""

import heapq
import random
from collections import deque
from collections.abc import Callable

import pytest

from shared.llm.pacing import Phase, SendRate

Reject = Callable[[float], bool]


class Simulation:
    """`rows` calls, at most 64 open, Retry-After 1, against `reject(now)`; rejections are answered after
    `rejection_latency`. Runs on its own clock: no waiting, the same on every machine."""

    def __init__(
        self, reject: Reject, latency: float = 0.2, rejection_latency: float = 0.0, in_flight: int = 64
    ) -> None:
        self.now = 0.0
        self.pace = SendRate(in_flight, lambda: self.now)
        self.reject, self.latency, self.rejection_latency, self.in_flight = (
            reject,
            latency,
            rejection_latency,
            in_flight,
        )
        self.rejected = self.calls = 0
        self.slowest_after_ramp = float("inf")

    def run(self, rows: int) -> float:
        """Rows per second."""
        started = self.now
        waiting = deque([0.0] * rows)
        events: list[tuple[float, int, str, float]] = []
        done = used = number = 0
        timer_set = False
        while done < rows:
            while waiting and used < self.in_flight:
                pause = self.pace.delay(self.now)
                if pause > 0:
                    if timer_set:
                        break
                    timer_set = True
                    number += 1
                    heapq.heappush(events, (self.now + max(pause, 0.001), number, "wake", 0.0))
                    break
                waiting.popleft()
                self.pace.sent(self.now)
                used += 1
                self.calls += 1
                rejected = self.reject(self.now)
                delay = self.rejection_latency if rejected else self.latency
                number += 1
                heapq.heappush(
                    events, (self.now + delay + 0.001, number, "rejected" if rejected else "answered", self.now)
                )
            self.now, _, kind, sent_at = heapq.heappop(events)
            if kind == "wake":
                timer_set = False
            elif kind == "answered":
                self.pace.accepted(sent_at, self.now)
                used -= 1
                done += 1
            elif kind == "rejected":
                self.pace.rejected(sent_at, self.now)
                self.rejected += 1
                used -= 1
                number += 1
                heapq.heappush(events, (self.now + 1.0 + random.uniform(0, 0.1), number, "again", 0.0))
            elif kind == "again":
                waiting.appendleft(0.0)
            if self.now - started > 5:
                self.slowest_after_ramp = min(self.slowest_after_ramp, self.pace.rate)
        return rows / (self.now - started)


def bucket(rate: float, burst: float) -> Reject:
    level, at = burst, 0.0

    def reject(now: float) -> bool:
        nonlocal level, at
        level, at = min(burst, level + (now - at) * rate), now
        if level < 1:
            return True
        level -= 1
        return False

    return reject


def at_random(share: float) -> Reject:
    generator = random.Random(3)
    return lambda now: generator.random() < share


def test_without_limits_the_in_flight_cap_is_reached() -> None:
    simulation = Simulation(lambda now: False)
    assert simulation.run(4000) > 300
    assert simulation.pace.phase is Phase.RAMP


def test_a_fast_server_is_used_fast() -> None:
    assert Simulation(lambda now: False, latency=0.02).run(4000) > 1600


@pytest.mark.parametrize("rejection_latency", [0.0, 0.2])
@pytest.mark.parametrize("rate", [40, 100, 200])
def test_an_unknown_limit_is_found_with_few_rejections(rate: float, rejection_latency: float) -> None:
    simulation = Simulation(bucket(rate, 64), rejection_latency=rejection_latency)
    achieved = simulation.run(10 * rate)
    assert achieved >= 0.93 * rate
    assert simulation.rejected <= max(50, 0.05 * 10 * rate)


def test_a_limit_is_kept_over_a_long_run() -> None:
    simulation = Simulation(bucket(100, 64), rejection_latency=0.2)
    assert simulation.run(12_000) >= 93
    assert simulation.rejected <= 0.05 * 12_000


@pytest.mark.parametrize("share", [0.02, 0.05, 0.08])
def test_rejections_at_random_do_not_slow_the_rate_down(share: float) -> None:
    simulation = Simulation(at_random(share))
    assert simulation.run(4000) > 240
    assert simulation.slowest_after_ramp > 150


def test_many_rejections_at_random_are_told_from_overload() -> None:
    """A quarter of all calls, whatever the rate: every cut is useless, and the rate must not sink to nothing."""
    simulation = Simulation(at_random(0.25))
    assert simulation.run(8000) > 100


def test_a_lower_limit_is_followed_down_and_a_higher_one_up() -> None:
    limit = bucket(200, 20)
    slow = bucket(50, 20)
    simulation = Simulation(limit, rejection_latency=0.2)
    simulation.run(2000)
    slow(simulation.now)
    simulation.reject = slow
    assert simulation.run(1500) >= 40
    assert simulation.pace.rate < 70
    simulation.reject = lambda now: False
    simulation.run(12_000)
    assert simulation.pace.rate > 150


def test_a_server_that_rejects_everything_for_a_while_does_not_stop_the_rate_for_good() -> None:
    simulation = Simulation(lambda now: 2.0 < now < 12.0, rejection_latency=0.05)
    assert simulation.run(6000) > 60
