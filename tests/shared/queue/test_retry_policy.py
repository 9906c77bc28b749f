"""What becomes of a step after an attempt without success, for all histories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.states import (
    ATTEMPT_TRANSITIONS,
    STEP_TRANSITIONS,
    AttemptState,
    StepState,
    require_transition,
)
from shared.queue.retry_policy import (
    MAXIMUM_BACKOFF_SECONDS,
    MAXIMUM_DEFERRAL_SECONDS,
    MAXIMUM_FAILURES,
    MAXIMUM_LOSSES,
    AttemptEnd,
    Counters,
    EndKind,
    judge,
)

ends = st.builds(
    AttemptEnd,
    kind=st.sampled_from(EndKind),
    code=st.just("code"),
    message=st.just("message"),
    signature=st.sampled_from([None, "signal 9", "ValueError"]),
    seconds=st.floats(0, 1000),
)


@given(st.lists(ends, max_size=60), st.booleans(), st.floats(0.01, 100))
def test_every_history_follows_the_transition_tables_and_ends(
    history: list[AttemptEnd], job_active: bool, backoff: float
) -> None:
    counters = Counters()
    for end in history:
        verdict = judge(end, counters, job_active=job_active, backoff_seconds=backoff)
        require_transition(STEP_TRANSITIONS, StepState.RUNNING, verdict.step_state)
        require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, verdict.attempt_state)
        assert 0 <= verdict.delay_seconds <= max(MAXIMUM_BACKOFF_SECONDS, end.seconds)
        assert (verdict.code is not None) == (verdict.step_state is StepState.FAILED)
        if not job_active:
            assert verdict.step_state in {StepState.CANCELLED, StepState.FAILED}
        counters = verdict.counters
        if verdict.step_state is not StepState.READY:
            return
    assert counters.failures < MAXIMUM_FAILURES
    assert counters.losses < MAXIMUM_LOSSES


@given(st.lists(st.sampled_from([EndKind.DEFERRED, EndKind.PREEMPTED, EndKind.CANCELLED]), max_size=50))
def test_waiting_and_leaving_use_up_nothing(kinds: list[EndKind]) -> None:
    counters = Counters()
    for kind in kinds:
        verdict = judge(AttemptEnd(kind, "c", "m", seconds=3), counters, job_active=True, backoff_seconds=1)
        assert verdict.step_state is StepState.READY
        assert verdict.counters == Counters()


@pytest.mark.parametrize(("asked", "waits"), [(3.0, 3.0), (-1.0, 0.0), (1e300, MAXIMUM_DEFERRAL_SECONDS)])
def test_whoever_asks_to_wait_for_years_is_asked_again_sooner(asked: float, waits: float) -> None:
    verdict = judge(
        AttemptEnd(EndKind.DEFERRED, "c", "m", seconds=asked), Counters(), job_active=True, backoff_seconds=1
    )
    assert verdict.delay_seconds == waits


def outcomes(*ends_: AttemptEnd) -> list[tuple[StepState, str | None]]:
    counters, seen = Counters(), []
    for end in ends_:
        verdict = judge(end, counters, job_active=True, backoff_seconds=1)
        counters = verdict.counters
        seen.append((verdict.step_state, verdict.code))
    return seen


def crash(signature: str | None = "signal 9") -> AttemptEnd:
    return AttemptEnd(EndKind.CRASHED, "child_crashed", "m", signature=signature)


def test_the_same_crash_three_times_in_a_row_poisons() -> None:
    assert outcomes(crash(), crash(), crash())[-1] == (StepState.FAILED, "poisoned")


def test_other_crashes_in_between_start_the_count_over() -> None:
    assert outcomes(crash(), crash(), crash("exit status 1"), crash(), crash())[-1] == (StepState.READY, None)


def test_lost_workers_neither_poison_nor_use_up_the_users_budget() -> None:
    lost = AttemptEnd(EndKind.LOST, "lease_expired", "m")
    failed = AttemptEnd(EndKind.FAILED, "step_error", "m", signature="A")
    assert outcomes(*[lost] * 10, failed, *[lost] * 5)[-1] == (StepState.READY, None)
    assert outcomes(*[lost] * MAXIMUM_LOSSES)[-1] == (StepState.FAILED, "lost_too_often")


def test_three_different_failures_use_up_the_users_budget() -> None:
    different = [AttemptEnd(EndKind.FAILED, "step_error", "m", signature=name) for name in "ABC"]
    assert outcomes(*different) == [(StepState.READY, None)] * 2 + [(StepState.FAILED, "retries_exhausted")]


def test_delays_double() -> None:
    counters, delays = Counters(), []
    for name in "AB":
        verdict = judge(
            AttemptEnd(EndKind.FAILED, "c", "m", signature=name), counters, job_active=True, backoff_seconds=2
        )
        counters = verdict.counters
        delays.append(verdict.delay_seconds)
    assert delays == [2, 4]
    lost = AttemptEnd(EndKind.LOST, "c", "m")
    assert judge(lost, Counters(), job_active=True, backoff_seconds=2).delay_seconds == 0
    assert judge(lost, Counters(losses=2), job_active=True, backoff_seconds=2).delay_seconds == 4
