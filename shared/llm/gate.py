"""The gate that every try of a call passes: in-flight limits, the learned pace, and leased permits, older steps first."""

import asyncio
import heapq
import itertools
import time
from collections import deque

from shared.llm.limits import Permits
from shared.llm.pacing import SendRate


class Slots:
    """How many calls may be open, and how many are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> bool:
        return self.used < self.limit


class Admission:
    """All gates of a worker process, under one in-flight limit."""

    def __init__(self, maximum_in_flight: int) -> None:
        self.slots = Slots(maximum_in_flight)
        self._gates: deque[Gate] = deque()

    def add(self, gate: "Gate") -> None:
        self._gates.append(gate)

    @property
    def queue_seconds(self) -> float:
        """How long the calls that wait now keep the busiest gate busy; 0 where none waits."""
        return max((gate.queue_seconds for gate in self._gates), default=0.0)

    def let_in(self) -> None:
        """Let waiting calls go, of all gates in turn."""
        if len(self._gates) > 1:
            self._gates.rotate(-1)
        for gate in self._gates:
            gate.let_in()


class Gate:
    """The gate of one provider and model. Retries pass before new calls; of each, those of the lowest turn do, in order of
    arrival. With the steps' age as turn, steps end one after the other instead of all at once, so that the last calls of
    one are in flight together with the first ones of the next."""

    def __init__(self, admission: Admission, provider_slots: Slots, pace: SendRate) -> None:
        self._admission = admission
        self._provider_slots = provider_slots
        self._pace = pace
        self._queue: list[tuple[bool, int, int, int, asyncio.Future[None]]] = []
        """A heap of (is new, turn, arrival, tokens, passed)."""
        self._arrivals = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.permits: Permits | None = None
        admission.add(self)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def queue_seconds(self) -> float:
        """How long the calls that wait now keep the gate busy."""
        return self.waiting / self._pace.expected_rate

    async def enter(self, tokens: int, is_retry: bool, turn: int = 0) -> None:
        """Wait for this call's turn; it then holds a slot until `leave`. `tokens` is what a token limit is charged."""
        passed = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (not is_retry, turn, next(self._arrivals), tokens, passed))
        self.let_in()
        if passed.done():
            return
        try:
            await passed
        except asyncio.CancelledError:
            if passed.done() and not passed.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the slot back."""
        self._admission.slots.used -= 1
        self._provider_slots.used -= 1
        self._admission.let_in()

    def let_in(self) -> None:
        """Let as many waiting calls go as may."""
        slots, provider_slots, queue = self._admission.slots, self._provider_slots, self._queue
        while True:
            while queue and queue[0][-1].done():
                heapq.heappop(queue)  # cancelled while it waited
            if not queue:
                return
            if not slots.free or not provider_slots.free:
                return
            now = time.monotonic()
            seconds = self._pace.delay(now)
            if seconds > 0.0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.001), self._timer_fired)
                return
            *_, tokens, passed = queue[0]
            if self.permits is not None and not self.permits.take(tokens):
                return
            heapq.heappop(queue)
            self._pace.sent(now)
            slots.used += 1
            provider_slots.used += 1
            passed.set_result(None)

    def _timer_fired(self) -> None:
        self._timer = None
        self.let_in()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
