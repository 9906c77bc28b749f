"""The row stage `rubric`: the teacher writes one rubric for each preference of a facet, all of a facet in one call."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.domain.evaluations import BenchParameters
from shared.domain.identifiers import seed_of
from shared.domain.prose import fold, is_unspaced
from shared.domain.rows import Facet, InstructionRow, Preference, Rubric
from shared.domain.stems import content_stems
from shared.llm.protocol import CompletionRequest
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, provenance_of, reject, settle_facets
from shared.stages.protocol import RowContext

PROMPT = load_prompt("services.evaluation", "rubrics")
SCHEMA_NAME = "rubrics"
REQUEST_CLASS = "judge"
LEVELS = 5


class WrittenRubric(BaseModel):
    """One rubric as the teacher writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    criterion: str
    levels: list[str]


class WrittenRubrics(BaseModel):
    """The structured output of a request for rubrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rubrics: list[WrittenRubric]


async def write_rubrics(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `rubrics` of every living facet, or reject it. A facet that brings a whole set along is kept as it is.

    Rejection reasons: `no_preferences`, those of `fault_of_rubrics` and `fault_of_wishes`, and the codes of the model's errors.
    """
    parameters = bench_of(context)
    asked: dict[int, Facet] = {}
    for facet in row.facets:
        if not facet.alive or _brings_rubrics(facet):
            continue
        if not facet.preferences:
            reject(facet, context.stage, Fault("no_preferences", "there is nothing that a rubric could be written for"))
            continue
        asked[facet.index] = facet
    usages = {index: Usage() for index in asked}
    seeds: dict[int, int] = {}

    async def make(index: int, attempt: int) -> list[Rubric] | Fault:
        usage = usages[index]
        usage.attempts += 1
        sample_index = f"rubrics:{index}:{attempt}"
        seeds[index] = seed_of(context.spec.seed, "rubrics", row.row_id, sample_index)
        request: dict[str, Any] = {
            "instruction": row.instruction,
            "rubrics_for": [
                {"number": number, "wish": preference.description}
                for number, preference in enumerate(asked[index].preferences)
            ],
        }
        said, completion = await context.teacher.complete_structured(
            CompletionRequest(
                messages=PROMPT.messages(request=request),
                request_class=REQUEST_CLASS,
                sample_index=sample_index,
                temperature=parameters.sampling.temperature,
                top_p=parameters.sampling.top_p,
                max_tokens=parameters.sampling.max_tokens,
                seed=seeds[index],
                schema_name=SCHEMA_NAME,
                schema=WrittenRubrics.model_json_schema(),
            ),
            WrittenRubrics,
        )
        usage.add(completion)
        preferences = asked[index].preferences
        numbers = [one.number for one in said.rubrics]
        if numbers != list(range(len(preferences))):
            return Fault("rubric_incomplete", f"rubrics {numbers} for {len(preferences)} preferences")
        rubrics = [Rubric(one.criterion.strip(), [level.strip() for level in one.levels]) for one in said.rubrics]
        return fault_of_rubrics(rubrics, len(preferences)) or fault_of_wishes(rubrics, preferences) or rubrics

    outcomes = await settle_facets(list(asked), make, _never_alike, parameters.quality_retries)
    for index, outcome in outcomes.items():
        facet = asked[index]
        facet.provenance.append(
            provenance_of(
                context.stage, context.teacher, PROMPT.version, seeds[index], parameters.sampling, usages[index]
            )
        )
        if isinstance(outcome, Fault):
            reject(facet, context.stage, outcome)
        else:
            facet.rubrics = outcome
    return row


def _brings_rubrics(facet: Facet) -> bool:
    """Whether the facet has a whole set already; one without preferences, as benches of others may have, needs no number."""
    expected = len(facet.preferences) or len(facet.rubrics)
    return bool(facet.rubrics) and fault_of_rubrics(facet.rubrics, expected) is None


def bench_of(context: RowContext) -> BenchParameters:
    """How the job makes its bench. Raises LookupError where it makes none."""
    if context.spec.bench is None:
        raise LookupError(f"the job {context.spec.name!r} makes no bench")
    return context.spec.bench


def fault_of_rubrics(rubrics: Sequence[Rubric], preferences: int) -> Fault | None:
    """What is wrong with the rubrics of a facet with so many preferences: `rubric_incomplete` (another number),
    `rubric_criterion` (empty, or the same twice), `rubric_levels` (not five), `rubric_level_empty`, `rubric_levels_alike`."""
    if len(rubrics) != preferences:
        return Fault("rubric_incomplete", f"{len(rubrics)} rubrics for {preferences} preferences")
    criteria = [fold(rubric.criterion) for rubric in rubrics]
    if not all(criteria) or len(set(criteria)) != len(criteria):
        return Fault("rubric_criterion", "a criterion is empty, or two are the same")
    for number, rubric in enumerate(rubrics):
        if len(rubric.levels) != LEVELS:
            return Fault("rubric_levels", f"rubric {number} has {len(rubric.levels)} levels instead of {LEVELS}")
        levels = [fold(level) for level in rubric.levels]
        if not all(levels):
            return Fault("rubric_level_empty", f"a level of rubric {number} is empty")
        if len(set(levels)) != LEVELS:
            return Fault("rubric_levels_alike", f"two levels of rubric {number} say the same")
    return None


def fault_of_wishes(rubrics: Sequence[Rubric], preferences: Sequence[Preference]) -> Fault | None:
    """`rubric_off_wish` where a rubric shares no content word with the preference that it is for: it grades something else, such
    as the wish of its neighbour. Wishes without a content word, or in scripts without spaces, are not looked at."""
    for number, (rubric, preference) in enumerate(zip(rubrics, preferences, strict=True)):
        wish = f"{preference.preference} {preference.description}"
        stems = content_stems(wish)
        if stems and not is_unspaced(wish) and not stems & content_stems(" ".join([rubric.criterion, *rubric.levels])):
            return Fault("rubric_off_wish", f"rubric {number} names nothing of the wish that it is for")
    return None


def _never_alike(_: list[Rubric], __: Sequence[list[Rubric]]) -> None:
    """Two people of an instruction may want the same, and get the same rubric."""
