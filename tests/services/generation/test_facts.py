"""The review of facts: what it asks, what it takes three calls to settle, and what it does not believe."""

from collections.abc import Mapping
from typing import Any

from services.generation.facts import Compared, FactsReview
from shared.domain.rows import Contradiction, InstructionRow
from shared.llm.protocol import CompletionRequest, RetriesExhausted
from shared.stages.facets import Fault, Usage
from tests.support.fake_models import Answer, ScriptedModel, block_of

ROW = InstructionRow("0" * 16, "When does the ferry leave?", "demo", "demo", 0)
NEUTRAL = "The ferry leaves at nine."
TEXTS = {0: "It leaves at ten, so hurry.", 2: "Be there early: it leaves at nine.", 3: "At noon it leaves."}
TEN = Contradiction("It leaves at ten", "The ferry leaves at nine")


class Bench:
    """A review over a judge who tells the contradictions that stand under the sample index of a call, by text."""

    def __init__(self, told: Mapping[str, Mapping[str, tuple[str, str]]]) -> None:
        self._told = told
        self.model = ScriptedModel(self._answer)
        self.usage = {index: Usage() for index in TEXTS}
        self.review = FactsReview(self.model, ROW, 7, self.usage)

    def _answer(self, request: CompletionRequest) -> Answer:
        told = self._told.get(request.sample_index, {})
        numbers = {one["text"]: one["answer"] for one in block_of(request)["answers"]}
        return {
            "contradictions": [
                {"answer": numbers.get(text, 99), "answer_quote": ours, "reference_quote": theirs}
                for text, (ours, theirs) in told.items()
            ]
        }

    async def confirm(self, first_look: Mapping[int, list[Contradiction]]) -> dict[int, Any]:
        return await self.review.confirm(TEXTS, NEUTRAL, first_look)


def broken(text: str, ours: str) -> dict[str, tuple[str, str]]:
    return {text: (ours, "The ferry leaves at nine")}


async def test_what_a_checklist_told_counts_when_the_review_agrees() -> None:
    bench = Bench({"facts:0:1": broken(TEXTS[0], "It leaves at ten")})
    assert await bench.confirm({0: [TEN]}) == {0: Compared((TEN,)), 2: Compared(), 3: Compared()}
    assert bench.model.sample_indices == ["facts:0:1"]
    (request,) = bench.model.requests
    assert (request.request_class, request.schema_name, request.temperature) == ("judge", "facts_review", 0.0)
    assert sorted(one["text"] for one in block_of(request)["answers"]) == sorted(TEXTS.values())
    assert [usage.attempts for usage in bench.usage.values()] == [1, 1, 1]
    assert sum(usage.prompt_tokens for usage in bench.usage.values()) == 10


async def test_a_third_call_decides_where_two_disagree() -> None:
    told_once = Bench({})
    assert await told_once.confirm({0: [TEN]}) == {0: Compared(), 2: Compared(), 3: Compared()}
    assert told_once.model.sample_indices == ["facts:0:1", "facts:0:2"]
    assert [one["text"] for one in block_of(told_once.model.requests[1])["answers"]] == [TEXTS[0]]
    overlooked = Bench({f"facts:0:{number}": broken(TEXTS[3], "At noon it leaves") for number in (1, 2)})
    found = await overlooked.confirm({})
    assert found[3].contradictions == (Contradiction("At noon it leaves", "The ferry leaves at nine"),)


async def test_quotes_that_do_not_hold_are_counted_and_nothing_else() -> None:
    same = ("leaves at nine", "leaves at nine")
    bench = Bench({"facts:0:1": {TEXTS[0]: ("It sails at ten", NEUTRAL), TEXTS[2]: same}})
    assert await bench.confirm({}) == {0: Compared((), 1), 2: Compared((), 1), 3: Compared()}
    assert bench.model.sample_indices == ["facts:0:1"]


async def test_answers_that_were_not_shown_are_passed_over() -> None:
    bench = Bench({"facts:0:1": {"no such text": ("It leaves at ten", NEUTRAL)}})
    assert await bench.confirm({}) == {0: Compared(), 2: Compared(), 3: Compared()}


async def test_a_text_is_compared_once_and_the_reference_itself_never() -> None:
    bench = Bench({})
    await bench.confirm({})
    await bench.review.confirm({**TEXTS, 3: NEUTRAL}, NEUTRAL, {})
    await bench.review.confirm({**TEXTS, 3: "At noon, I think."}, NEUTRAL, {})
    assert [len(block_of(request)["answers"]) for request in bench.model.requests] == [3, 1]
    assert bench.model.sample_indices == ["facts:0:1", "facts:1:1"]


async def test_a_failed_call_is_the_fault_of_the_answers_it_was_about() -> None:
    bench = Bench({})
    bench.model = ScriptedModel(lambda _: RetriesExhausted("gone"))
    bench.review = FactsReview(bench.model, ROW, 7, bench.usage)
    found = await bench.confirm({})
    assert {one.reason for one in found.values() if isinstance(one, Fault)} == {f"judge_{RetriesExhausted.code}"}
    assert len(found) == 3
