"""What becomes of a step whose attempt ended without success: pure, so that every case can be tested.

Two budgets: `failures` counts tries that failed by the step's own fault (the user budget), `losses` tries that ended with
their worker or child process (the infrastructure budget). The same crash three times in a row poisons the step.
"""

from enum import StrEnum

import msgspec

from shared.domain.states import AttemptState, StepState

MAXIMUM_FAILURES = 3
MAXIMUM_LOSSES = 20
POISON_REPEATS = 3
MAXIMUM_BACKOFF_SECONDS = 300.0
MAXIMUM_DEFERRAL_SECONDS = 900.0
"""Whoever asks to wait longer is asked again after so long: a server may name years, or have erred."""
BACKOFF_SHARE = 1 / 30
"""The first delay of a retry, as a share of the lease: 2 s with the default of 60 s."""


class EndKind(StrEnum):
    """How an attempt ended."""

    REFUSED = "refused"
    """The input or the job cannot be used: final."""
    FAILED = "failed"
    """An exception: tried again within the user budget."""
    CRASHED = "crashed"
    """The child process died: tried again within the infrastructure budget."""
    UNREACHABLE = "unreachable"
    """A server that the step needs did not answer, or a disk was full: tried again within the infrastructure budget."""
    LOST = "lost"
    """The lease ran out: tried again within the infrastructure budget."""
    DEFERRED = "deferred"
    """Not now: tried again after `seconds` (MAXIMUM_DEFERRAL_SECONDS at most), uses up nothing."""
    PREEMPTED = "preempted"
    """The worker was told to leave: tried again at once, uses up nothing."""
    CANCELLED = "cancelled"
    """The job stopped."""


class AttemptEnd(msgspec.Struct, frozen=True):
    """An attempt's end. `signature` names a crash or exception so that repeats are recognised; `message` is for people and
    holds no prompt text."""

    kind: EndKind
    code: str
    message: str
    signature: str | None = None
    seconds: float = 0.0
    pointer: str | None = None


class Counters(msgspec.Struct, frozen=True):
    """What a step remembers of its earlier attempts."""

    failures: int = 0
    losses: int = 0
    last_crash: str | None = None
    crash_repeats: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """The step's next state; `delay_seconds` until it may run again; `code` says why a failed step failed."""

    attempt_state: AttemptState
    step_state: StepState
    counters: Counters
    delay_seconds: float = 0.0
    code: str | None = None


_ATTEMPT_STATES = {
    EndKind.REFUSED: AttemptState.FAILED,
    EndKind.FAILED: AttemptState.FAILED,
    EndKind.CRASHED: AttemptState.FAILED,
    EndKind.UNREACHABLE: AttemptState.FAILED,
    EndKind.LOST: AttemptState.LOST,
    EndKind.DEFERRED: AttemptState.PREEMPTED,
    EndKind.PREEMPTED: AttemptState.PREEMPTED,
    EndKind.CANCELLED: AttemptState.CANCELLED,
}


def judge(end: AttemptEnd, counters: Counters, *, job_active: bool, backoff_seconds: float) -> Verdict:
    """Decide about a running step. `job_active`: the job is queued or running, so unfinished steps shall run again.

    The delay doubles with every failure (every loss after the first), from `backoff_seconds` to five minutes.
    """
    attempt_state = _ATTEMPT_STATES[end.kind]
    counters = _count(end, counters)

    def verdict(state: StepState, delay: float = 0.0, code: str | None = None) -> Verdict:
        return Verdict(attempt_state, state, counters, delay, code)

    if end.kind is EndKind.REFUSED:
        return verdict(StepState.FAILED, code=end.code)
    if not job_active:
        return verdict(StepState.CANCELLED)
    if end.kind in {EndKind.PREEMPTED, EndKind.CANCELLED}:
        return verdict(StepState.READY)
    if end.kind is EndKind.DEFERRED:
        return verdict(StepState.READY, min(max(0.0, end.seconds), MAXIMUM_DEFERRAL_SECONDS))
    if counters.crash_repeats >= POISON_REPEATS:
        return verdict(StepState.FAILED, code="poisoned")
    if counters.failures >= MAXIMUM_FAILURES:
        return verdict(StepState.FAILED, code="retries_exhausted")
    if counters.losses >= MAXIMUM_LOSSES:
        return verdict(StepState.FAILED, code="lost_too_often")
    doublings = counters.failures - 1 if end.kind is EndKind.FAILED else counters.losses - 2
    delay = 0.0 if doublings < 0 else min(MAXIMUM_BACKOFF_SECONDS, backoff_seconds * 2**doublings)
    return verdict(StepState.READY, delay)


def _count(end: AttemptEnd, counters: Counters) -> Counters:
    failures = counters.failures + (end.kind is EndKind.FAILED)
    losses = counters.losses + (end.kind in {EndKind.CRASHED, EndKind.UNREACHABLE, EndKind.LOST})
    last, repeats = counters.last_crash, counters.crash_repeats
    if end.kind in {EndKind.FAILED, EndKind.CRASHED} and end.signature is not None:
        repeats = repeats + 1 if end.signature == last else 1
        last = end.signature
    return Counters(failures, losses, last, repeats)
