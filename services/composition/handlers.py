"""The row stage `compose`: one system message for each living facet, from the descriptions of its preference set alone."""

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from services.composition import review
from services.composition.forms import Wording, draw_target, draw_wordings
from services.composition.validation import compare_system_messages, judge_form, judge_role, judge_system_message
from shared.domain.checks import canonical_sentence
from shared.domain.identifiers import seed_of
from shared.domain.plan import StageKind
from shared.domain.rows import Facet, InstructionRow
from shared.domain.splits import HeldOut, hold_out
from shared.llm.protocol import CompletionRequest
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, provenance_of, reject, settle_facets
from shared.stages.protocol import RowContext, RowStageHandler

PROMPT = load_prompt("services.composition", "system_message")


class SystemMessage(BaseModel):
    """The structured output of a compose request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str


SCHEMA_NAME = "system_message"
SCHEMA: dict[str, Any] = SystemMessage.model_json_schema()


class _Work(msgspec.Struct):
    """What one facet is to be made from, and what it took so far."""

    facet: Facet
    wording: Wording
    target: int
    messages: Any
    usage: Usage
    seed: int = 0


async def compose(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `system` and `system_form` of every living facet, or reject it.

    Rejection reasons: those of `judge_system_message`, `judge_form`, `judge_role` and `compare_system_messages`, and the codes
    of the model's errors; with a judge those of `MessageReviewer`.
    """
    parameters = context.spec.compose
    held_out = hold_out(context.taxonomy, context.spec.splits, context.spec.seed)
    wordings = draw_wordings(seed_of(context.spec.seed, "form", row.row_id), len(row.facets), held_out, row.level)
    works = {
        facet.index: _prepare(row, facet, _wording_of(facet, wordings[position], held_out, context), context)
        for position, facet in enumerate(row.facets)
        if facet.alive
    }

    async def make(index: int, attempt: int) -> str | Fault:
        work = works[index]
        work.usage.attempts += 1
        whose = work.facet.profile
        # A persistent person has one system message: the same call for every instruction, which is paid for once.
        sample_index = f"compose:{index}:{attempt}" if whose is None else f"compose:profile:{whose}:{attempt}"
        work.seed = seed_of(context.spec.seed, "compose", row.row_id if whose is None else "profile", sample_index)
        request = CompletionRequest(
            messages=work.messages,
            request_class="compose",
            sample_index=sample_index,
            temperature=parameters.sampling.temperature,
            top_p=parameters.sampling.top_p,
            max_tokens=parameters.sampling.max_tokens,
            seed=work.seed,
            schema_name=SCHEMA_NAME,
            schema=SCHEMA,
        )
        answer, completion = await context.teacher.complete_structured(request, SystemMessage)
        work.usage.add(completion)
        text = answer.system.strip()
        preferences = work.facet.preferences
        fault = judge_system_message(text, preferences, row.instruction, parameters)
        if fault is None:
            described = sum(len(preference.description) for preference in preferences)
            fault = judge_form(text, work.wording.form.shape, work.target, described, len(preferences))
        if fault is None and work.wording.role is not None:
            fault = judge_role(text, work.wording.role)
        return text if fault is None else fault

    reviewer = (
        None
        if context.judge is None
        else review.MessageReviewer(
            context.judge,
            row.row_id,
            {index: work.facet.profile for index, work in works.items()},
            context.spec.seed,
        )
    )
    outcomes = await settle_facets(
        list(works),
        make,
        compare_system_messages,
        parameters.quality_retries,
        None if reviewer is None else reviewer.look,
    )
    for index, outcome in outcomes.items():
        work = works[index]
        work.facet.provenance.append(
            provenance_of(context.stage, context.teacher, PROMPT.version, work.seed, parameters.sampling, work.usage)
        )
        if reviewer is not None and context.judge is not None and reviewer.messages[index].usage.attempts:
            reviewed = reviewer.messages[index]
            version, seed = review.PROMPT.version, context.spec.seed
            work.facet.provenance.append(
                provenance_of(f"{context.stage}:judge", context.judge, version, seed, review.SAMPLING, reviewed.usage)
            )
            work.facet.scores |= reviewed.scores()
        if isinstance(outcome, Fault):
            reject(work.facet, context.stage, outcome)
        else:
            work.facet.system = outcome
            work.facet.system_form = work.wording.form.name
            work.facet.system_role = work.wording.role
    return row


def _wording_of(facet: Facet, drawn: Wording, held_out: HeldOut, context: RowContext) -> Wording:
    """What was drawn for the row's facet, or what a persistent person always has."""
    if facet.profile is None:
        return drawn
    return draw_wordings(seed_of(context.spec.seed, "form", "profile", facet.profile), 1, held_out, "")[0]


def _prepare(row: InstructionRow, facet: Facet, wording: Wording, context: RowContext) -> _Work:
    parameters = context.spec.compose
    form = wording.form
    descriptions = [preference.description for preference in facet.preferences]
    whose = (row.row_id, facet.index) if facet.profile is None else ("profile", facet.profile)
    target = draw_target(
        form,
        seed_of(context.spec.seed, "length", *whose),
        description_characters=sum(map(len, descriptions)),
        minimum=parameters.minimum_characters,
        maximum=parameters.maximum_characters,
    )
    request = {
        "form": form.name,
        "role": wording.role,
        "target_characters": target,
        "descriptions": descriptions,
        "required_sentences": [
            canonical_sentence(preference.check) for preference in facet.preferences if preference.check is not None
        ],
    }
    messages = PROMPT.messages(guidance=form.guidance.strip(), request=request)
    return _Work(facet=facet, wording=wording, target=target, messages=messages, usage=Usage())


HANDLERS = (
    RowStageHandler(
        StageKind.COMPOSE, compose, {SCHEMA_NAME: PROMPT.version, review.SCHEMA_NAME: review.PROMPT.version}
    ),
)
