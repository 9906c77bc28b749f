"""What the row stages share around one facet: rejecting it, trying it again, comparing it with its siblings, and
writing down who made it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.rows import Facet, Provenance, Rejection
from shared.llm.protocol import (
    Completion,
    LanguageModel,
    LanguageModelError,
    RequestRejected,
    RetriesExhausted,
)

MAXIMUM_DETAIL_CHARACTERS = 300

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True):
    """Why one try at a facet was not good enough. `final`: another sample would meet the same fault."""

    reason: str
    detail: str = ""
    final: bool = False


class Usage(msgspec.Struct):
    """Calls and tokens that one facet took in one stage, quality retries included. Mutable: calls are added as they end."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, completion: Completion) -> None:
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens


def share_usage(prompt_tokens: int, completion_tokens: int, usages: Sequence[Usage]) -> None:
    """Spread the tokens of one call over all that it was about, so that their sum is what was used."""
    for place, usage in enumerate(usages):
        usage.prompt_tokens += (prompt_tokens + place) // len(usages)
        usage.completion_tokens += (completion_tokens + place) // len(usages)


def fault_of(error: LanguageModelError) -> Fault:
    """The fault of a call that ended in an error of the model.

    A request that the provider refuses for good, and one that was retried until its deadline, are final: a fresh sample
    would only pay for the same end once more.
    """
    return Fault(error.code, str(error), final=isinstance(error, RequestRejected | RetriesExhausted))


def reject(facet: Facet, stage: str, fault: Fault) -> None:
    """End the facet at `stage` with the fault's reason; the detail is cut to 300 characters."""
    facet.rejection = Rejection(stage=stage, reason=fault.reason, detail=fault.detail[:MAXIMUM_DETAIL_CHARACTERS])


class Sampled(Protocol):
    """How an answer was decoded, as every stage's parameters say it."""

    @property
    def temperature(self) -> float: ...

    @property
    def top_p(self) -> float: ...

    @property
    def max_tokens(self) -> int: ...


def provenance_of(
    stage: str, model: LanguageModel, prompt_version: str, seed: int, sampling: Sampled, usage: Usage
) -> Provenance:
    """Who made a facet's value at `stage`. `seed` is the one of the call whose answer was kept (or of the last one)."""
    return Provenance(
        stage=stage,
        provider=model.provider,
        model=model.model,
        prompt_version=prompt_version,
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        attempts=usage.attempts,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


async def concurrently(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. The first error cancels the others, waits for them to end, and is raised as it is (no
    exception group); StepFailed goes before StepDeferred goes before anything else. Cancellation passes through."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        leaves = errors.exceptions
        ranked = (StepFailed, StepDeferred)
        raise next((leaf for kind in ranked for leaf in leaves if isinstance(leaf, kind)), leaves[0]) from None
    return [task.result() for task in tasks]


class _Outcome(msgspec.Struct, Generic[T]):
    """Where one facet stands: the value of its latest good try, or the fault of its last one."""

    value: T | Fault
    next_try: int


async def _try_until_good(
    make: Callable[[int], Awaitable[T | Fault]], first_try: int, quality_retries: int
) -> _Outcome[T]:
    """Tries `first_try`, `first_try` + 1, … up to and including `quality_retries`, until one is good or a fault is final."""
    attempt = first_try
    while True:
        value: T | Fault
        try:
            value = await make(attempt)
        except LanguageModelError as error:
            value = fault_of(error)
        attempt += 1
        if not isinstance(value, Fault) or value.final or attempt > quality_retries:
            return _Outcome(value, attempt)


async def settle_facets(
    indices: Sequence[int],
    make: Callable[[int, int], Awaitable[T | Fault]],
    compare: Callable[[T, Sequence[T]], Fault | None],
    quality_retries: int,
    judge: Callable[[Mapping[int, T]], Awaitable[Mapping[int, Fault]]] | None = None,
) -> Mapping[int, T | Fault]:
    """A value or a fault for each facet of one row.

    `make(index, attempt)` makes one try at a facet; attempt counts from 0 to `quality_retries` and belongs in the sample index of
    its calls, so that a rejected answer is never served again. All facets run at once. Then each value is held against
    those of the siblings before it by `compare(value, accepted)`: the first of two that are too alike stays, the later is
    tried again while it has tries left. Once none is, `judge` looks at all values that stand, by index, and names the faults
    of those that cannot stand beside the others; they are tried again likewise, and it is asked anew until it finds none.
    Errors of the model become faults; StepFailed, StepDeferred and cancellation pass through.
    """

    async def run(index: int, first_try: int) -> _Outcome[T]:
        return await _try_until_good(lambda attempt: make(index, attempt), first_try, quality_retries)

    if not indices:
        return {}
    outcomes = dict(zip(indices, await concurrently([run(index, 0) for index in indices]), strict=True))
    while True:
        accepted: dict[int, T] = {}
        faults: dict[int, Fault] = {}
        for index in indices:
            value = outcomes[index].value
            if isinstance(value, Fault):
                continue
            fault = compare(value, list(accepted.values())) if accepted else None
            if fault is None:
                accepted[index] = value
            else:
                faults[index] = fault
        if judge is not None and accepted and not faults:
            faults.update(await judge(accepted))
        if not faults:
            return {index: outcomes[index].value for index in indices}
        again: list[int] = []
        for index, fault in faults.items():
            if fault.final or outcomes[index].next_try > quality_retries:
                outcomes[index].value = fault
            else:
                again.append(index)
        retried = await concurrently([run(index, outcomes[index].next_try) for index in again])
        outcomes.update(zip(again, retried, strict=True))
