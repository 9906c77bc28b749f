"""The learned send rate: how fast a provider takes calls, found out from its 429 answers alone.

A token bucket that rejects a call was empty at that moment. Between two rejected calls it therefore let through exactly
what it was refilled with, so `accepted / time` between the first and the last rejection *is* the server's rate. The
controller ramps up, waits for rejections that cluster, brakes for about one round trip to measure, settles just under the
measured rate, holds it, and probes again much later. Rejections that do not depend on load stay under the detector's
threshold, or, where they do not, are recognised because slowing down did not make them rarer.
"""

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

START_RATE = 160.0
"""Calls per second before anything is known (less for a small in-flight limit)."""
REJECTED_SHARE = 0.15
"""Share of 429 above which the provider counts as overloaded."""
_EVIDENCE_PER_REJECTION = 2.0
_EVIDENCE_TO_BRAKE = 10.0
_SHORTEST_MEASUREMENT = 0.2
_SETTLE = 0.97
_CORRECT = 0.98
_BURST_SECONDS = 0.05
_FIRST_HOLD = 10.0
_LONGEST_HOLD = 60.0
_PROBE_GROWTH = 0.02
_SLOWEST = 0.2
_PRIOR_ANSWERS = 30.0
_FORGETTING = 0.995
_MOST_TOLERATED = 0.5
_LOG_LENGTH = 4096


class Phase(StrEnum):
    RAMP = "ramp"
    BRAKE = "brake"
    HOLD = "hold"
    PROBE = "probe"


class SendRate:
    """The pace of one provider and model in one process. Not thread-safe. Times are seconds of `clock`.

    Usage: `delay(now)` is 0 when a call may go (`sent(now)` then takes it) and else the seconds to wait; `accepted` and
    `rejected` report what came of a call, with the time at which it was sent.
    """

    def __init__(self, maximum_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        now = clock()
        self._maximum_in_flight = maximum_in_flight
        self._rate = min(START_RATE, 2.0 * maximum_in_flight)
        self._phase = Phase.RAMP
        self._allowance = 1.0
        self._advanced_at = now
        self._paced = False  # a call had to wait for the pace since the last advance
        self._latency = 0.0  # of accepted calls; 0 = none seen
        self._rejection_latency = 0.0
        self._sent: deque[float] = deque(maxlen=_LOG_LENGTH)
        self._rejections: deque[float] = deque(maxlen=_LOG_LENGTH)  # times at which rejected calls were sent
        self._evidence = 0.0
        self._evidence_since = 0.0
        self._tolerated = REJECTED_SHARE
        self._phase_until = 0.0
        self._phase_since = now
        self._measure_from = 0.0
        self._rate_before = 0.0
        self._lowest = 0.1  # one cut's largest step
        # Answers to calls sent at a held rate, old ones forgotten; what was rejected of them did not depend on load.
        self._held_answers = _PRIOR_ANSWERS
        self._held_rejections = 1.0
        self._settled = 0.0
        self._hold_seconds = _FIRST_HOLD
        self._corrected_at = now

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self._rate

    @property
    def expected_rate(self) -> float:
        """Calls per second that the pace and the in-flight limit together allow."""
        return self._rate if self._latency == 0.0 else min(self._rate, self._maximum_in_flight / self._latency)

    @property
    def phase(self) -> Phase:
        return self._phase

    def delay(self, now: float) -> float:
        """Seconds until the next call may go; 0: now."""
        self._advance(now)
        if self._allowance >= 1.0:
            return 0.0
        self._paced = True
        return (1.0 - self._allowance) / self._rate

    def sent(self, now: float) -> None:
        self._allowance -= 1.0
        self._sent.append(now)
        if self._evidence > 0.0:
            # Counted as accepted until a rejection says otherwise: rejections are often answered sooner than the rest.
            self._evidence = max(0.0, self._evidence - self._acceptance_weight())

    def accepted(self, sent_at: float, now: float) -> None:
        """A call sent at `sent_at` was answered with anything but a 429."""
        latency = now - sent_at
        self._latency = latency if self._latency == 0.0 else self._latency + 0.1 * (latency - self._latency)
        if self._phase is Phase.HOLD and sent_at >= self._phase_since:
            self._learn_background(0.0)

    def rejected(self, sent_at: float, now: float) -> None:
        """A call sent at `sent_at` was answered 429."""
        latency = now - sent_at
        self._rejection_latency = max(latency, 0.8 * self._rejection_latency)
        self._rejections.append(sent_at)
        if self._phase is Phase.BRAKE or (self._phase is Phase.HOLD and sent_at < self._phase_since):
            return  # sent before the rate was cut: known already
        if self._phase is Phase.HOLD:
            self._learn_background(1.0)
        if self._evidence == 0.0:
            self._evidence_since = sent_at
        self._evidence += _EVIDENCE_PER_REJECTION + self._acceptance_weight()
        if self._evidence >= _EVIDENCE_TO_BRAKE and now - self._evidence_since >= _SHORTEST_MEASUREMENT:
            self._brake(now)

    def _acceptance_weight(self) -> float:
        """So chosen that the evidence neither grows nor shrinks while exactly the tolerated share is rejected."""
        return _EVIDENCE_PER_REJECTION * self._tolerated / (1.0 - self._tolerated)

    def _advance(self, now: float) -> None:
        elapsed = now - self._advanced_at
        if elapsed <= 0.0:
            return
        self._advanced_at = now
        if self._phase is Phase.RAMP:
            if self._paced and self._latency > 0.0:
                # Linear, so that what is sent too much within one round trip stays small: the rate that the in-flight
                # limit allows is reached after one second or eleven round trips.
                possible = self._maximum_in_flight / self._latency
                self._rate += elapsed * possible / max(1.0, 11.0 * self._latency)
        elif self._phase is Phase.BRAKE:
            if now >= self._phase_until:
                self._settle(now)
        elif self._phase is Phase.HOLD:
            if now >= self._phase_until:
                self._enter(Phase.PROBE, now)
            elif now - self._corrected_at >= 1.0:
                self._correct(now)
        elif self._paced:
            age = now - self._phase_since
            self._rate *= 1.0 + elapsed * min(0.5, _PROBE_GROWTH * 2.0 ** (age / 2.0))
        self._paced = False
        self._allowance = min(max(1.0, self._rate * _BURST_SECONDS), self._allowance + elapsed * self._rate)

    def _learn_background(self, rejection: float) -> None:
        """At a rate that was measured to be under the limit, rejections should cease. Those that go on come whatever we
        do: twice their share is tolerated, lest every cut be followed by the next."""
        self._held_answers = _FORGETTING * self._held_answers + 1.0
        self._held_rejections = _FORGETTING * self._held_rejections + rejection
        background = self._held_rejections / self._held_answers
        self._tolerated = min(_MOST_TOLERATED, max(REJECTED_SHARE, 2.0 * background))

    def _enter(self, phase: Phase, now: float, seconds: float = 0.0) -> None:
        self._phase = phase
        self._phase_since = now
        self._phase_until = now + seconds
        self._corrected_at = now
        self._evidence = 0.0

    def _brake(self, now: float) -> None:
        self._lowest = 0.1 if self._phase is Phase.RAMP else 0.5
        self._rate_before = self._actual_rate(now)
        self._measure_from = self._evidence_since
        self._rate = max(_SLOWEST, 0.5 * min(self._rate, self._rate_before))
        self._enter(Phase.BRAKE, now, min(5.0, max(0.25, 1.25 * self._rejection_latency)))

    def _settle(self, now: float) -> None:
        measured = self._measured_rate(self._measure_from, now)
        ceiling = 0.95 * self._rate_before
        if measured is None:
            measured = 0.5 * self._rate_before
        self._rate = max(_SLOWEST, self._lowest * self._rate_before, min(_SETTLE * measured, ceiling))
        again = self._settled > 0.0 and abs(self._rate - self._settled) <= 0.15 * self._settled
        self._hold_seconds = min(_LONGEST_HOLD, 2.0 * self._hold_seconds) if again else _FIRST_HOLD
        self._settled = self._rate
        self._allowance = min(self._allowance, 0.0)
        self._enter(Phase.HOLD, now, self._hold_seconds)

    def _correct(self, now: float) -> None:
        """The measurement was a little too high when a few calls of the held rate are rejected: measure over longer."""
        self._corrected_at = now
        recent = sum(1 for sent_at in self._rejections if sent_at > max(self._phase_since, now - 1.25))
        if recent < 3 or recent < 0.02 * self._rate:
            return
        measured = self._measured_rate(self._phase_since, now)
        if measured is not None:
            self._rate = max(0.85 * self._settled, min(self._rate, _CORRECT * measured))

    def _measured_rate(self, since: float, now: float) -> float | None:
        """Accepted calls per second between the first and the last rejected call sent at or after `since`."""
        until = now - 1.1 * self._rejection_latency
        times = sorted(sent_at for sent_at in self._rejections if since <= sent_at <= until)
        if len(times) < 3 or times[-1] - times[0] < 0.05:
            return None
        first, last = times[0], times[-1]
        sent = sum(1 for sent_at in self._sent if first < sent_at <= last)
        return max(0.0, sent - (len(times) - 1)) / (last - first)

    def _actual_rate(self, now: float) -> float:
        """Calls per second really sent over the last half second (at least 8 calls)."""
        counted = 0
        for sent_at in reversed(self._sent):
            if sent_at < now - 0.5 and counted >= 8:
                return max(_SLOWEST, counted / (now - sent_at))
            counted += 1
        if counted and now > self._sent[0]:
            return max(_SLOWEST, counted / max(0.05, now - self._sent[0]))
        return self._rate
