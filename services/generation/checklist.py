"""One blind call of the judge per answer: which wishes of all people of an instruction does it follow?

The judge sees the wishes shuffled, without a hint to whom they belong or for whom the answer was written. It is not believed
at its word: a verdict without a quote that stands in the answer is taken one step down, and every call holds a control, a wish
that the answer does not follow by construction. Sent are only the wishes that no program decides.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from services.generation.controls import plant_control
from services.generation.quotes import contradiction_of, stands_in
from shared.domain.facet_matrix import score_of
from shared.domain.identifiers import seed_of
from shared.domain.jobs import SamplingParameters
from shared.domain.prose import fold
from shared.domain.rows import NEUTRAL_INDEX, Contradiction, Facet, InstructionRow
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, concurrently, fault_of

PROMPT = load_prompt("services.generation", "checklist")
SCHEMA_NAME = "checklist"
TOKENS_PER_ITEM, TOKENS_BESIDE = 96, 1024
"""What one item of an answer takes at most, roughly, and what the contradictions take."""
ONE_STEP_DOWN = {"followed": "partly", "partly": "violated"}

Entry = tuple[int, int]
"""Facet index and position of a preference."""


class ChecklistModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChecklistItem(ChecklistModel):
    item: Annotated[int, Field(ge=0)]
    verdict: Literal["followed", "partly", "violated"]
    quote: str


class QuotedContradiction(ChecklistModel):
    answer_quote: str
    reference_quote: str


class ChecklistAnswer(ChecklistModel):
    items: list[ChecklistItem]
    contradictions: list[QuotedContradiction]


SCHEMA: dict[str, Any] = ChecklistAnswer.model_json_schema()


class Answer(msgspec.Struct, frozen=True):
    """An answer to check. `index` is its facet's (NEUTRAL_INDEX for the neutral one), `attempt` tells it from the ones before,
    and `decided` are the preferences on which a program gave a verdict."""

    index: int
    text: str
    attempt: int
    decided: Mapping[Entry, str]


class Checked(msgspec.Struct, frozen=True):
    """What a judge says of an answer, its quotes verified: verdict and quote of every preference that was asked for."""

    verdicts: Mapping[Entry, tuple[str, str]]
    contradictions: list[Contradiction]
    quote_unverified: int
    """Verdicts that were taken one step down."""
    contradictions_unverified: int
    """Contradictions that were dropped, because a quote does not stand where it should or both say the same."""
    controls: int = 0
    """Controls that were asked for, one per call about this text."""
    controls_missed: int = 0
    """Those of them that the judge called followed or partly, before its quotes were looked at."""


class Checklist:
    """Judges the answers of one row, each text once."""

    def __init__(
        self,
        model: LanguageModel,
        row: InstructionRow,
        facets: Sequence[Facet],
        job_seed: int,
        usage: Mapping[int, Usage],
    ) -> None:
        """`facets` are those whose preferences are asked for; `usage` by facet index: the calls about an answer count for it."""
        self._model = model
        self._row = row
        self._job_seed = job_seed
        self._usage = usage
        self._wishes: dict[str, list[tuple[Entry, str]]] = {}
        for facet in facets:
            for position, preference in enumerate(facet.preferences):
                entry = (facet.index, position)
                self._wishes.setdefault(fold(preference.description), []).append((entry, preference.description))
        self._known: dict[str, Checked] = {}
        self._controls: dict[str, list[str]] = {}
        self._seen_again: set[tuple[int, str]] = set()
        self.sampling = sampling_for(sum(len(facet.preferences) for facet in facets))

    async def judge(self, answers: Sequence[Answer], reference: str | None) -> dict[int, Checked | Fault]:
        """What comes of each answer, by its index. `reference` is the neutral answer's text, the same in every call.

        Equal texts are asked for once. Faults: `judge_incomplete` where not every item has one verdict, `judge_misled` where the
        control was called followed twice, and `judge_` with the code of an error of the model.
        """
        new = {answer.text: answer for answer in reversed(answers) if answer.text not in self._known}
        results = await concurrently([self._judge_one(answer, reference) for answer in new.values()])
        faults: dict[str, Fault] = {}
        for text, result in zip(new, results, strict=True):
            if isinstance(result, Fault):
                faults[text] = result
            else:
                self._known[text] = result
        return {answer.index: faults.get(answer.text) or self._known[answer.text] for answer in answers}

    async def _judge_one(self, answer: Answer, reference: str | None) -> Checked | Fault:
        if answer.text == reference:
            reference = None
        wishes = self._open_wishes(answer)
        if not wishes and reference is None:
            return Checked({}, [], 0, 0)
        return await self._ask_twice(answer, reference, wishes, 0)

    async def look_again(self, answers: Sequence[Answer], reference: str | None) -> dict[int, Checked]:
        """A second call about answers that `judge` has judged, with another order and control: of the preferences of the
        answer's own facet the kinder of both verdicts stands from now on, so that one slip of the judge does not end a facet.

        Each answer is looked at again once; those that were, and those whose call comes to nothing, are left out.
        """
        new = [one for one in answers if (one.index, one.text) not in self._seen_again and one.text in self._known]
        self._seen_again.update((one.index, one.text) for one in new)
        results = await concurrently([self._own_again(answer, reference) for answer in new]) if new else []
        found = {}
        for answer, second in zip(new, results, strict=True):
            if not isinstance(second, Fault):
                self._known[answer.text] = _kinder(self._known[answer.text], second, answer.index)
                found[answer.index] = self._known[answer.text]
        return found

    async def _own_again(self, answer: Answer, reference: str | None) -> Checked | Fault:
        wishes = self._open_wishes(answer)
        return await self._ask_twice(answer, None if answer.text == reference else reference, wishes, 2)

    def _open_wishes(self, answer: Answer) -> list[tuple[str, list[Entry]]]:
        """The wishes that no program decides, each once, with the preferences that hold it."""
        return [
            (members[0][1], [entry for entry, _ in members])
            for listed in self._wishes.values()
            if (members := [(entry, words) for entry, words in listed if entry not in answer.decided])
        ]

    async def _ask_twice(
        self, answer: Answer, reference: str | None, wishes: Sequence[tuple[str, list[Entry]]], first: int
    ) -> Checked | Fault:
        """The call numbered `first`, and the next where its control was called followed."""
        for number in (first, first + 1):
            result = await self._ask(answer, reference, wishes, number)
            if result is not None:
                return result
        return Fault("judge_misled", "the judge called a wish followed that the answer does not follow, twice")

    async def _ask(
        self, answer: Answer, reference: str | None, wishes: Sequence[tuple[str, list[Entry]]], number: int
    ) -> Checked | Fault | None:
        """One call; None where its control was called followed."""
        name = "neutral" if answer.index == NEUTRAL_INDEX else str(answer.index)
        sample_index = f"judge:{name}:{answer.attempt}:{number}"
        seed = seed_of(self._job_seed, "judge", self._row.row_id, sample_index)
        control: tuple[str, list[Entry]] = (plant_control(answer.text, seed).wish, [])
        items = [*wishes, control]
        random.Random(seed).shuffle(items)
        request = CompletionRequest(
            messages=PROMPT.messages(
                request={
                    "instruction": self._row.instruction,
                    "answer": answer.text,
                    "reference": reference,
                    "items": [{"item": n, "wish": wish} for n, (wish, _) in enumerate(items)],
                }
            ),
            request_class="judge",
            sample_index=sample_index,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=self.sampling.max_tokens,
            seed=seed,
            schema_name=SCHEMA_NAME,
            schema=SCHEMA,
        )
        usage = self._usage[answer.index]
        usage.attempts += 1
        try:
            said, completion = await self._model.complete_structured(request, ChecklistAnswer)
        except LanguageModelError as error:
            fault = fault_of(error)
            return Fault(f"judge_{fault.reason}", fault.detail, fault.final)
        usage.add(completion)
        by_item = {one.item: one for one in said.items}
        if sorted(by_item) != list(range(len(items))) or len(said.items) != len(items):
            return Fault("judge_incomplete", f"{len(said.items)} verdicts on {len(items)} items")
        # Kept whatever comes of it: a judge whose misses were forgotten after a second call would look better than it is.
        on_control = by_item[items.index(control)].verdict
        given = self._controls.setdefault(answer.text, [])
        given.append(on_control)
        if on_control == "followed":
            return None
        checked = read_checked(
            answer.text, reference, [(entries, by_item[n]) for n, (_, entries) in enumerate(items)], said.contradictions
        )
        missed = sum(verdict != "violated" for verdict in given)
        return msgspec.structs.replace(checked, controls=len(given), controls_missed=missed)


def _kinder(first: Checked, second: Checked, facet: int) -> Checked:
    """The first look, with the kinder of both verdicts on the facet's preferences, and with the controls of both."""
    verdicts = dict(first.verdicts)
    for entry, (verdict, quote) in second.verdicts.items():
        if entry[0] == facet and score_of(verdict) > score_of(verdicts[entry][0]):
            verdicts[entry] = (verdict, quote)
    return msgspec.structs.replace(
        first, verdicts=verdicts, controls=second.controls, controls_missed=second.controls_missed
    )


def sampling_for(wishes: int) -> SamplingParameters:
    """Greedy, with room for a verdict and a quote on every wish and on the control."""
    return SamplingParameters(
        temperature=0.0, top_p=1.0, max_tokens=min(65_536, TOKENS_BESIDE + TOKENS_PER_ITEM * (wishes + 1))
    )


def read_checked(
    text: str,
    reference: str | None,
    items: Sequence[tuple[Sequence[Entry], ChecklistItem]],
    contradictions: Sequence[QuotedContradiction],
) -> Checked:
    """The judge's words with every quote verified. `items`: the preferences that each verdict is about (none: the control)."""
    verdicts: dict[Entry, tuple[str, str]] = {}
    unverified = 0
    for entries, item in items:
        verdict = item.verdict
        found = stands_in(item.quote, text)
        if entries and verdict in ONE_STEP_DOWN and not found:
            unverified += 1
        for entry in entries:
            verdicts[entry] = (verdict if found else ONE_STEP_DOWN.get(verdict, verdict), item.quote if found else "")
    told = [contradiction_of(one.answer_quote, one.reference_quote, text, reference) for one in contradictions]
    kept = [one for one in told if one is not None]
    return Checked(verdicts, kept, unverified, len(contradictions) - len(kept))
