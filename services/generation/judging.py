"""Does the response follow its own system message more than its siblings' do theirs? One blind judge call per system message."""

from collections.abc import Sequence
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
    """What a judge said of one response. `own` and `siblings` are means over preferences, on the scale 1 to 5; `siblings` by
    facet index."""

    own: float
    siblings: dict[int, float]

    @property
    def margin(self) -> float | None:
        """Own score minus the best of the siblings'; None without siblings."""
        return self.own - max(self.siblings.values()) if self.siblings else None

    def scores(self) -> dict[str, float]:
        """The figures as a facet stores them."""
        result = {"judge_own": self.own, **{f"judge_sibling_{index}": score for index, score in self.siblings.items()}}
        if self.margin is not None:
            result["judge_margin"] = self.margin
        return result


async def judge_response(
    judge: LanguageModel,
    row: InstructionRow,
    response: str,
    own: Facet,
    siblings: Sequence[Facet],
    *,
    job_seed: int,
    attempt: int,
    usage: Usage,
) -> Judging | Fault:
    """Score one response against its own system message and against each sibling's.

    The judge sees one system message per call and is not told whose it is. A call that fails becomes a fault whose reason is
    `judge_` and the error's code; `judge_incomplete` where a verdict does not score every preference once.
    """

    async def score(facet: Facet) -> float | Fault:
        sample_index = f"judge:{own.index}:{facet.index}:{attempt}"
        descriptions = [preference.description for preference in facet.preferences]
        request = CompletionRequest(
            messages=PROMPT.messages(
                request={
                    "instruction": row.instruction,
                    "system": facet.system,
                    "response": response,
                    "preferences": descriptions,
                }
            ),
            request_class="judge",
            sample_index=sample_index,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            max_tokens=SAMPLING.max_tokens,
            seed=seed_of(job_seed, "judge", row.row_id, sample_index),
            schema_name=SCHEMA_NAME,
            schema=SCHEMA,
        )
        usage.attempts += 1
        try:
            verdict, completion = await judge.complete_structured(request, Verdict)
        except LanguageModelError as error:
            fault = fault_of(error)
            return Fault(f"judge_{fault.reason}", fault.detail, fault.final)
        usage.add(completion)
        scored = {entry.preference: entry.score for entry in verdict.verdicts}
        if sorted(scored) != list(range(len(descriptions))) or len(verdict.verdicts) != len(descriptions):
            return Fault("judge_incomplete", f"scored preferences {sorted(scored)} of {len(descriptions)}")
        return fmean(scored.values())

    results = await concurrently([score(facet) for facet in (own, *siblings)])
    numbers: list[float] = []
    for result in results:
        if isinstance(result, Fault):
            return result
        numbers.append(result)
    return Judging(numbers[0], {facet.index: number for facet, number in zip(siblings, numbers[1:], strict=True)})
