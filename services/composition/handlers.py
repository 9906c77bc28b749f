"""The row stage `compose`: one system message for each living facet, from the descriptions of its preference set alone."""

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from services.composition.forms import Form, draw_forms, draw_target
from services.composition.validation import compare_system_messages, judge_form, judge_system_message
from shared.domain.checks import canonical_sentence
from shared.domain.identifiers import seed_of
from shared.domain.plan import StageKind
from shared.domain.rows import Facet, InstructionRow
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
    form: Form
    target: int
    messages: Any
    usage: Usage
    seed: int = 0


async def compose(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `system` and `system_form` of every living facet, or reject it.

    Rejection reasons: those of `judge_system_message`, `judge_form` and `compare_system_messages`, and the codes of the
    model's errors.
    """
    parameters = context.spec.compose
    forms = draw_forms(seed_of(context.spec.seed, "form", row.row_id), len(row.facets))
    works = {
        facet.index: _prepare(row, facet, forms[position], context)
        for position, facet in enumerate(row.facets)
        if facet.alive
    }

    async def make(index: int, attempt: int) -> str | Fault:
        work = works[index]
        work.usage.attempts += 1
        sample_index = f"compose:{index}:{attempt}"
        work.seed = seed_of(context.spec.seed, "compose", row.row_id, sample_index)
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
            fault = judge_form(text, work.form.shape, work.target, described)
        return text if fault is None else fault

    outcomes = await settle_facets(list(works), make, compare_system_messages, parameters.quality_retries)
    for index, outcome in outcomes.items():
        work = works[index]
        work.facet.provenance.append(
            provenance_of(context.stage, context.teacher, PROMPT.version, work.seed, parameters.sampling, work.usage)
        )
        if isinstance(outcome, Fault):
            reject(work.facet, context.stage, outcome)
        else:
            work.facet.system = outcome
            work.facet.system_form = work.form.name
    return row


def _prepare(row: InstructionRow, facet: Facet, form: Form, context: RowContext) -> _Work:
    parameters = context.spec.compose
    descriptions = [preference.description for preference in facet.preferences]
    target = draw_target(
        form,
        seed_of(context.spec.seed, "length", row.row_id, facet.index),
        description_characters=sum(map(len, descriptions)),
        minimum=parameters.minimum_characters,
        maximum=parameters.maximum_characters,
    )
    request = {
        "form": form.name,
        "target_characters": target,
        "descriptions": descriptions,
        "required_sentences": [
            canonical_sentence(preference.check) for preference in facet.preferences if preference.check is not None
        ],
    }
    messages = PROMPT.messages(guidance=form.guidance.strip(), request=request)
    return _Work(facet=facet, form=form, target=target, messages=messages, usage=Usage())


HANDLERS = (RowStageHandler(StageKind.COMPOSE, compose, {"system_message": PROMPT.version}),)
