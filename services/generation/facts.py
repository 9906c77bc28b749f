"""Which answers of an instruction contradict the neutral one? Asked once about all of them, beside the checklists.

Every checklist already asks for contradictions of its one answer, and overlooks some. So a second call compares the facts of all
answers, and a third those about which the two disagree: a contradiction counts when two calls find one in the same answer, each
with quotes that stand where they should.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from services.generation.quotes import contradiction_of
from shared.domain.identifiers import seed_of
from shared.domain.jobs import SamplingParameters
from shared.domain.rows import Contradiction, InstructionRow
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, fault_of, share_usage
from shared.stages.second_look import Place, confirmed_faults

PROMPT = load_prompt("services.generation", "facts_review")
SAMPLING = SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=4096)
"""Greedy, with room for some contradictions of each answer."""
SCHEMA_NAME = "facts_review"


class FactsModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContradictionAnswer(FactsModel):
    answer: int
    answer_quote: str
    reference_quote: str


class FactsAnswer(FactsModel):
    """The structured output of a review."""

    contradictions: list[ContradictionAnswer]


SCHEMA: dict[str, Any] = FactsAnswer.model_json_schema()


class Compared(msgspec.Struct, frozen=True):
    """What is known of one text: the contradictions that count, and how many were dropped since a quote did not hold."""

    contradictions: tuple[Contradiction, ...] = ()
    unverified: int = 0


class FactsReview:
    """Compares the answers of one row with its neutral one, each text once."""

    def __init__(self, model: LanguageModel, row: InstructionRow, job_seed: int, usage: Mapping[int, Usage]) -> None:
        """`usage` by facet index: a call counts for every answer that it is about, its tokens are shared out."""
        self._model = model
        self._row = row
        self._job_seed = job_seed
        self._usage = usage
        self._known: dict[str, Compared] = {}
        self._rounds = 0

    async def confirm(
        self, texts: Mapping[int, str], reference: str, first_look: Mapping[int, Sequence[Contradiction]]
    ) -> dict[int, Compared | Fault]:
        """What counts, for each facet's text. `first_look`: the verified contradictions that its checklist told.

        A text that is the reference contradicts nothing. The fault of a failed call (`judge_` and the code of its error) is that
        of all texts it was about. StepFailed, StepDeferred and cancellation pass through.
        """
        new = [index for index, text in texts.items() if text not in self._known and text != reference]
        found: dict[int, list[Contradiction]] = {index: list(first_look.get(index, ())) for index in new}
        unverified = dict.fromkeys(new, 0)

        async def look(indices: Sequence[int], number: int) -> Mapping[Place, Fault] | Fault:
            if not number:
                return {(index,): _BROKEN for index in indices if found[index]}
            told = await self._ask({index: texts[index] for index in indices}, reference, number)
            if isinstance(told, Fault):
                return told
            seen = set()
            for index, said in told:
                contradiction = contradiction_of(said.answer_quote, said.reference_quote, texts[index], reference)
                if contradiction is None:
                    unverified[index] += 1
                    continue
                seen.add((index,))
                if contradiction not in found[index]:
                    found[index].append(contradiction)
            return dict.fromkeys(seen, _BROKEN)

        faults = await confirmed_faults(new, look, looks_at_all=2)
        self._rounds += bool(new)
        results: dict[int, Compared | Fault] = {}
        for index in new:
            fault = faults.get(index)
            if fault is not None and fault is not _BROKEN:
                results[index] = fault
            else:
                kept = tuple(found[index]) if fault is _BROKEN else ()
                self._known[texts[index]] = Compared(kept, unverified[index])
        return {index: results.get(index) or self._known.get(text, Compared()) for index, text in texts.items()}

    async def _ask(
        self, texts: Mapping[int, str], reference: str, number: int
    ) -> list[tuple[int, ContradictionAnswer]] | Fault:
        """The contradictions told in one call, each with the facet whose answer it is about; those about other answers than
        were shown are passed over."""
        sample_index = f"facts:{self._rounds}:{number}"
        seed = seed_of(self._job_seed, "facts", self._row.row_id, sample_index)
        order = list(texts)
        random.Random(seed).shuffle(order)
        request = CompletionRequest(
            messages=PROMPT.messages(
                request={
                    "instruction": self._row.instruction,
                    "reference": reference,
                    "answers": [{"answer": place, "text": texts[index]} for place, index in enumerate(order)],
                }
            ),
            request_class="judge",
            sample_index=sample_index,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            max_tokens=SAMPLING.max_tokens,
            seed=seed,
            schema_name=SCHEMA_NAME,
            schema=SCHEMA,
        )
        usages = [self._usage[index] for index in order]
        for usage in usages:
            usage.attempts += 1
        try:
            said, completion = await self._model.complete_structured(request, FactsAnswer)
        except LanguageModelError as error:
            fault = fault_of(error)
            return Fault(f"judge_{fault.reason}", fault.detail, fault.final)
        share_usage(completion.prompt_tokens, completion.completion_tokens, usages)
        return [(order[one.answer], one) for one in said.contradictions if 0 <= one.answer < len(order)]


_BROKEN = Fault("broken_fact")
