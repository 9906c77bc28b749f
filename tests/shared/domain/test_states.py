"""The transition table: closed, complete, and the only door."""

from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.domain.states import (
    ATTEMPT_TRANSITIONS,
    JOB_END_STATES,
    JOB_TRANSITIONS,
    STEP_END_STATES,
    STEP_TRANSITIONS,
    AttemptState,
    InvalidTransition,
    JobState,
    StepState,
    require_transition,
    sources_of,
)

TABLES = [(JobState, JOB_TRANSITIONS), (StepState, STEP_TRANSITIONS), (AttemptState, ATTEMPT_TRANSITIONS)]
Table = dict[StrEnum, frozenset[StrEnum]]


@st.composite
def table_and_pair(draw: st.DrawFn) -> tuple[Table, StrEnum, StrEnum]:
    states, table = draw(st.sampled_from(TABLES))
    members = list(states)
    return table, draw(st.sampled_from(members)), draw(st.sampled_from(members))  # type: ignore[return-value]


@pytest.mark.parametrize(("states", "table"), TABLES)
def test_every_state_has_a_row_and_leads_to_states_of_its_kind_only(states: type[StrEnum], table: Table) -> None:
    assert set(table) == set(states)
    assert all(isinstance(target, states) for targets in table.values() for target in targets)


@given(table_and_pair())
def test_a_transition_passes_exactly_when_the_table_has_it(case: tuple[Table, StrEnum, StrEnum]) -> None:
    table, old, new = case
    if new in table[old]:
        require_transition(table, old, new)
    else:
        with pytest.raises(InvalidTransition, match=f"{old} cannot become {new}"):
            require_transition(table, old, new)


@given(table_and_pair())
def test_sources_are_the_inverse_of_targets(case: tuple[Table, StrEnum, StrEnum]) -> None:
    table, old, new = case
    assert (old in sources_of(table, new)) == (new in table[old])
    assert list(sources_of(table, new)) == sorted(sources_of(table, new))


@given(table_and_pair())
def test_no_state_becomes_itself(case: tuple[Table, StrEnum, StrEnum]) -> None:
    table, old, _ = case
    assert old not in table[old]


def _reachable(table: Table, start: StrEnum) -> set[StrEnum]:
    seen, todo = {start}, [start]
    while todo:
        for target in table[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


@pytest.mark.parametrize(
    ("table", "start", "ends"),
    [
        (JOB_TRANSITIONS, JobState.QUEUED, JOB_END_STATES),
        (STEP_TRANSITIONS, StepState.BLOCKED, STEP_END_STATES),
        (ATTEMPT_TRANSITIONS, AttemptState.RUNNING, frozenset(AttemptState) - {AttemptState.RUNNING}),
    ],
)
def test_every_state_is_reachable_and_can_reach_an_end(table: Table, start: StrEnum, ends: frozenset[StrEnum]) -> None:
    assert _reachable(table, start) == set(table)
    assert all(_reachable(table, state) & ends for state in table)


def test_success_is_final_and_only_a_retry_leaves_another_end() -> None:
    assert not JOB_TRANSITIONS[JobState.SUCCEEDED]
    assert not STEP_TRANSITIONS[StepState.SUCCEEDED]
    assert all(not ATTEMPT_TRANSITIONS[state] for state in AttemptState if state is not AttemptState.RUNNING)
    assert {target for end in JOB_END_STATES for target in JOB_TRANSITIONS[end]} == {JobState.QUEUED}
    assert {target for end in STEP_END_STATES for target in STEP_TRANSITIONS[end]} == {
        StepState.BLOCKED,
        StepState.READY,
    }


def test_a_cancelled_job_cannot_succeed_and_only_a_running_step_can() -> None:
    assert JOB_TRANSITIONS[JobState.CANCELLING] == {JobState.CANCELLED}
    assert sources_of(JOB_TRANSITIONS, JobState.SUCCEEDED) == (JobState.RUNNING,)
    assert sources_of(STEP_TRANSITIONS, StepState.SUCCEEDED) == (StepState.RUNNING,)


class TwoWriters(RuleBasedStateMachine):
    """Two writers with views of any age change one step by compare-and-set: success happens once and is never left."""

    def __init__(self) -> None:
        super().__init__()
        self.state = StepState.BLOCKED
        self.views = [StepState.BLOCKED, StepState.BLOCKED]
        self.successes = 0

    @rule(writer=st.integers(0, 1))
    def look(self, writer: int) -> None:
        self.views[writer] = self.state

    @rule(writer=st.integers(0, 1), new=st.sampled_from(StepState))
    def write(self, writer: int, new: StepState) -> None:
        old = self.views[writer]
        try:
            require_transition(STEP_TRANSITIONS, old, new)
        except InvalidTransition:
            return
        if self.state == old:
            self.state = new
            self.successes += new is StepState.SUCCEEDED

    @invariant()
    def success_is_once_and_for_good(self) -> None:
        assert self.successes == (self.state is StepState.SUCCEEDED)


TwoWriters.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestTwoWriters = TwoWriters.TestCase
