"""Retries, sibling comparison, cancellation and rejection around one facet."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.jobs import SamplingParameters
from shared.domain.rows import Facet
from shared.llm.protocol import ContentRefused, OutputInvalid, RequestRejected, RetriesExhausted
from shared.stages.facets import Fault, Usage, concurrently, fault_of, provenance_of, reject, settle_facets
from tests.support.fake_models import ScriptedModel, completion_of


def _no_twins(value: str, accepted: Sequence[str]) -> Fault | None:
    return Fault("twin") if value in accepted else None


async def test_a_good_first_try_is_kept() -> None:
    async def make(index: int, attempt: int) -> str:
        return f"{index}:{attempt}"

    assert await settle_facets([0, 2], make, _no_twins, 3) == {0: "0:0", 2: "2:0"}


async def test_faults_are_tried_again_up_to_the_limit() -> None:
    tried: list[int] = []

    async def make(index: int, attempt: int) -> str | Fault:
        tried.append(attempt)
        return Fault("bad", f"try {attempt}")

    assert await settle_facets([0], make, _no_twins, 2) == {0: Fault("bad", "try 2")}
    assert tried == [0, 1, 2]


async def test_final_faults_are_not_tried_again() -> None:
    tried: list[int] = []

    async def make(index: int, attempt: int) -> str:
        tried.append(attempt)
        raise RequestRejected("too long")

    outcome = (await settle_facets([0], make, _no_twins, 5))[0]
    assert outcome == Fault("request_rejected", "too long", final=True)
    assert tried == [0]


async def test_the_later_of_two_twins_is_tried_again_with_a_new_attempt() -> None:
    async def make(index: int, attempt: int) -> str:
        return "same" if attempt < 2 else f"own {index}"

    assert await settle_facets([0, 1], make, _no_twins, 2) == {0: "same", 1: "own 1"}


async def test_a_twin_without_tries_left_is_a_fault() -> None:
    async def make(index: int, attempt: int) -> str:
        return "same"

    assert await settle_facets([0, 1, 2], make, _no_twins, 1) == {0: "same", 1: Fault("twin"), 2: Fault("twin")}


async def test_no_facets_make_no_calls() -> None:
    async def make(index: int, attempt: int) -> str:
        raise AssertionError("called")

    assert await settle_facets([], make, _no_twins, 1) == {}


@pytest.mark.parametrize("error", [StepFailed("budget_exhausted", "no money"), StepDeferred("later", 5.0)])
async def test_step_errors_pass_through_and_cancel_the_siblings(error: Exception) -> None:
    ended: list[str] = []

    async def make(index: int, attempt: int) -> str:
        if index == 0:
            await asyncio.sleep(0)
            raise error
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return "never"

    with pytest.raises(type(error)) as caught:
        await settle_facets([0, 1], make, _no_twins, 3)
    assert caught.value is error
    assert ended == ["cancelled"]


async def test_step_failed_goes_before_other_errors() -> None:
    barrier = asyncio.Barrier(3)

    async def fail(error: Exception) -> None:
        await barrier.wait()
        raise error

    failed = StepFailed("budget_exhausted", "no money")
    with pytest.raises(StepFailed) as caught:
        await concurrently([fail(ValueError("bug")), fail(StepDeferred("later", 1.0)), fail(failed)])
    assert caught.value is failed


async def test_cancellation_passes_through() -> None:
    started = asyncio.Event()

    async def make(index: int, attempt: int) -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    task = asyncio.create_task(settle_facets([0, 1], make, _no_twins, 3))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (OutputInvalid("x"), "output_invalid", False),
        (ContentRefused("x"), "content_refused", False),
        (RequestRejected("x"), "request_rejected", True),
        (RetriesExhausted("x"), "retries_exhausted", True),
    ],
)
def test_errors_of_the_model_become_faults(error: OutputInvalid, reason: str, final: bool) -> None:
    assert fault_of(error) == Fault(reason, "x", final)


def test_reject_keeps_a_short_detail() -> None:
    facet = Facet(index=0)
    reject(facet, "compose", Fault("bad", "x" * 5000))
    assert facet.rejection is not None
    assert (facet.rejection.stage, facet.rejection.reason, len(facet.rejection.detail)) == ("compose", "bad", 300)


def test_provenance_sums_up_calls() -> None:
    usage = Usage(attempts=2)
    usage.add(completion_of("x", prompt_tokens=3, completion_tokens=4))
    usage.add(completion_of("y", prompt_tokens=30, completion_tokens=40))
    made = provenance_of("respond", ScriptedModel(lambda _: ""), "v1", 9, SamplingParameters(temperature=0.5), usage)
    assert (made.provider, made.model, made.seed, made.temperature) == ("scripted-provider", "scripted-model", 9, 0.5)
    assert (made.attempts, made.prompt_tokens, made.completion_tokens) == (2, 33, 44)
