"""Does the response follow its system message, and do its siblings' responses not? One blind judge call per response and system
message, so that a margin compares two responses under one and the same demand."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.identifiers import seed_of
from shared.domain.jobs import SamplingParameters
from shared.domain.rows import Facet, InstructionRow
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, concurrently, fault_of

PROMPT = load_prompt("services.generation", "verdict")
SAMPLING = SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=1024)
SCHEMA_NAME = "verdict"


class VerdictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PreferenceVerdict(VerdictModel):
    preference: int
    feedback: str
    score: Annotated[int, Field(ge=1, le=5)]


class Verdict(VerdictModel):
    verdicts: list[PreferenceVerdict]


SCHEMA: dict[str, Any] = Verdict.model_json_schema()


class Judging(msgspec.Struct, frozen=True):
    """How well responses honour the preferences of one system message: its own response (`own`) and those of its siblings, by
    their facet index. Means over the same preferences, on the scale 1 to 5."""

    own: float
    siblings: dict[int, float]

    @property
    def margin(self) -> float | None:
        """Own response minus the best of the siblings'; None without siblings."""
        return self.own - max(self.siblings.values()) if self.siblings else None

    def scores(self) -> dict[str, float]:
        """The figures as a facet stores them."""
        result = {"judge_own": self.own, **{f"judge_sibling_{index}": score for index, score in self.siblings.items()}}
        if self.margin is not None:
            result["judge_margin"] = self.margin
        return result


class Answer(msgspec.Struct, frozen=True):
    """A response of one facet; `attempt` tells it from the ones before."""

    text: str
    attempt: int


class Judge:
    """Scores the responses of one row under each of its system messages, each response under each message once."""

    def __init__(self, model: LanguageModel, row: InstructionRow, job_seed: int, usage: Mapping[int, Usage]) -> None:
        """`usage` by facet index: the calls about a facet's system message count for that facet."""
        self._model = model
        self._row = row
        self._job_seed = job_seed
        self._usage = usage
        self._scores: dict[tuple[int, int, int], float] = {}

    async def judge(self, facets: Sequence[Facet], answers: Mapping[int, Answer]) -> dict[int, Judging | Fault]:
        """What comes of every facet's system message under its own response and under those of its siblings.

        The judge sees one system message and one response per call and is not told whether they belong together. A call
        that fails becomes a fault of the facet whose system message it was about: its reason is `judge_` and the error's code, or
        `judge_incomplete` where a verdict does not score every preference once.
        """
        order = [(facet, index) for facet in facets for index in answers]
        results = await concurrently([self._score(facet, index, answers[index]) for facet, index in order])
        found: dict[int, dict[int, float]] = {facet.index: {} for facet in facets}
        faults: dict[int, Fault] = {}
        for (facet, index), result in zip(order, results, strict=True):
            if isinstance(result, Fault):
                faults.setdefault(facet.index, result)
            else:
                found[facet.index][index] = result
        return {own: faults.get(own) or Judging(scores.pop(own), scores) for own, scores in found.items()}

    async def _score(self, facet: Facet, index: int, answer: Answer) -> float | Fault:
        """Mean score of the answer of facet `index` over the preferences of `facet`, 1 to 5."""
        key = (facet.index, index, answer.attempt)
        if key in self._scores:
            return self._scores[key]
        sample_index = f"judge:{facet.index}:{index}:{answer.attempt}"
        descriptions = [preference.description for preference in facet.preferences]
        request = CompletionRequest(
            messages=PROMPT.messages(
                request={
                    "instruction": self._row.instruction,
                    "system": facet.system,
                    "response": answer.text,
                    "preferences": descriptions,
                }
            ),
            request_class="judge",
            sample_index=sample_index,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            max_tokens=SAMPLING.max_tokens,
            seed=seed_of(self._job_seed, "judge", self._row.row_id, sample_index),
            schema_name=SCHEMA_NAME,
            schema=SCHEMA,
        )
        usage = self._usage[facet.index]
        usage.attempts += 1
        try:
            verdict, completion = await self._model.complete_structured(request, Verdict)
        except LanguageModelError as error:
            fault = fault_of(error)
            return Fault(f"judge_{fault.reason}", fault.detail, fault.final)
        usage.add(completion)
        scored = {entry.preference: entry.score for entry in verdict.verdicts}
        if sorted(scored) != list(range(len(descriptions))) or len(verdict.verdicts) != len(descriptions):
            return Fault("judge_incomplete", f"scored preferences {sorted(scored)} of {len(descriptions)}")
        self._scores[key] = fmean(scored.values())
        return self._scores[key]
