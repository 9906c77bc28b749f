"""The one transition table: what a job, a step and an attempt may become.

Pure data and pure functions. Every writer of a state asks `require_transition` first and then changes the row with a
compare-and-set on the old state, so that two writers can never both win.
"""

from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)


class JobState(StrEnum):
    """Where a job stands; `cancelling` is visible so that a person sees that the cancel was heard."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step stands. A stage shows the roll-up of its steps with the same words."""

    BLOCKED = "blocked"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class AttemptState(StrEnum):
    """How one try at a step, by one worker, went."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"


class StageState(StrEnum):
    """Roll-up of a stage's steps, what a progress bar shows."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLING}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    # A retry takes a failed or cancelled job up again where it stopped.
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}

STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    StepState.BLOCKED: frozenset({StepState.READY, StepState.CANCELLED, StepState.SKIPPED}),
    StepState.READY: frozenset({StepState.DISPATCHED, StepState.RUNNING, StepState.CANCELLED, StepState.SKIPPED}),
    StepState.DISPATCHED: frozenset({StepState.RUNNING, StepState.READY, StepState.CANCELLED, StepState.SKIPPED}),
    StepState.RUNNING: frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.READY, StepState.CANCELLED}),
    StepState.SUCCEEDED: frozenset(),
    # Only a retry of the whole job brings these back.
    StepState.FAILED: frozenset({StepState.BLOCKED, StepState.READY}),
    StepState.CANCELLED: frozenset({StepState.BLOCKED, StepState.READY}),
    StepState.SKIPPED: frozenset({StepState.BLOCKED, StepState.READY}),
}

ATTEMPT_TRANSITIONS: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.RUNNING: frozenset(
        {
            AttemptState.SUCCEEDED,
            AttemptState.FAILED,
            AttemptState.LOST,
            AttemptState.CANCELLED,
            AttemptState.PREEMPTED,
        }
    ),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.LOST: frozenset(),
    AttemptState.CANCELLED: frozenset(),
    AttemptState.PREEMPTED: frozenset(),
}

JOB_END_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
STEP_END_STATES = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED})


class InvalidTransition(ValueError):
    """A state change that the table does not allow: a programming error, never a user's."""


def require_transition(table: dict[S, frozenset[S]], old: S, new: S) -> None:
    """Raise InvalidTransition unless `table` lets `old` become `new`."""
    if new not in table[old]:
        allowed = ", ".join(sorted(table[old])) or "nothing: it is an end state"
        raise InvalidTransition(f"{type(old).__name__} {old} cannot become {new}; allowed from here: {allowed}")


def sources_of(table: dict[S, frozenset[S]], new: S) -> tuple[S, ...]:
    """All states that may become `new`, sorted: the right-hand side of a compare-and-set."""
    return tuple(sorted(old for old, targets in table.items() if new in targets))
