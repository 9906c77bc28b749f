"""The row stage `augment`: k preference sets for an instruction, one teacher call for all of them.

Subdimension, pole, seed and intensity of each slot are drawn by quota (`services.augmentation.sampler`); the teacher makes each
slot concrete, or coins a preference in a free one; code verifies, and a judge where the job has one. Sets with a fault are asked
for again, one call per set, with a fresh sample index. Sets of persistent people are taken as they are, without a call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from services.augmentation import review
from services.augmentation.answers import SCHEMA, SCHEMA_NAME, PreferenceAnswer, PreferenceSets
from services.augmentation.drawing import Drawing, drawing_of
from services.augmentation.sampler import SetAssignment
from services.augmentation.validation import compare_sets, judge_set
from shared.domain.identifiers import seed_of
from shared.domain.jobs import AugmentParameters
from shared.domain.plan import StageKind
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.splits import Split
from shared.llm.protocol import CompletionRequest, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, concurrently, fault_of, provenance_of, reject, share_usage
from shared.stages.protocol import RowContext, RowStageHandler
from shared.stages.second_look import Place, confirmed_faults

PROMPT = load_prompt("services.augmentation", "preference_sets")


class _Set(msgspec.Struct):
    """One set on its way: what is assigned, what came of the latest try."""

    assignment: SetAssignment
    usage: Usage
    seed: int = 0
    preferences: tuple[Preference, ...] = ()
    fault: Fault | None = None
    refused: set[int] = msgspec.field(default_factory=set)
    redrawn: int = 0
    judge_usage: Usage = msgspec.field(default_factory=Usage)
    unreviewed: int = 0
    """Preferences of the latest try about which the judge said nothing usable."""


class _Row(msgspec.Struct, frozen=True):
    """What all calls of one row share."""

    row: InstructionRow
    context: RowContext
    drawing: Drawing


async def augment(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Give the row its facets: `sets_per_instruction` of them, each with one preference per slot or a rejection.

    Rejection reasons: `no_set_found` (the sampler knows no set within the rules), `set_contradiction`, `malformed_preference`,
    `preference_does_not_fit`, `wrong_pole`, `restates_instruction`, `repeated_preference`, `similar_set`, `duplicate_set`,
    `held_out_preference`, `injected_description`, `frank_preference` (harmful intent), with a judge also `wrong_level` and
    `moot_preference`, and the codes of the models' errors.
    """
    parameters = context.spec.augment
    drawing = drawing_of(context.taxonomy, context.spec, row.language, row.tags)
    work = _Row(row, context, drawing)
    assignments = drawing.sampler.assign(row.draw, row.level)
    sets = {assignment.index: _Set(assignment, Usage()) for assignment in assignments if assignment is not None}
    settled: list[_Set] = []
    pending: list[_Set] = []
    for one in sets.values():
        if one.assignment.profile is None:
            pending.append(one)
        else:
            one.preferences = drawing.preferences_of(one.assignment)
            settled.append(one)
    for attempt in range(parameters.quality_retries + 1):
        if attempt:
            pending = _redraw(work, sets, pending, attempt)
        if not pending:
            break
        await _ask(work, pending, settled, attempt)
        await _review(work, pending, attempt)
        _settle(pending, settled, parameters.maximum_set_similarity)
        pending = [one for one in pending if one.fault is not None and not one.fault.final]
    row.facets = [_facet(index, sets.get(index), context) for index in range(parameters.sets_per_instruction)]
    return row


def _facet(index: int, one: _Set | None, context: RowContext) -> Facet:
    facet = Facet(index=index)
    if one is None:
        detail = "no choice of seed preferences was found that keeps the rules of drawing: too many exclude each other"
        reject(facet, context.stage, Fault("no_set_found", detail))
        return facet
    facet.redrawn = one.redrawn
    facet.profile = one.assignment.profile
    if facet.profile is None:
        sampling = context.spec.augment.sampling
        facet.provenance.append(
            provenance_of(context.stage, context.teacher, PROMPT.version, one.seed, sampling, one.usage)
        )
    if context.judge is not None and one.judge_usage.attempts:
        version, seed = review.PROMPT.version, context.spec.seed
        facet.provenance.append(
            provenance_of(f"{context.stage}:judge", context.judge, version, seed, review.SAMPLING, one.judge_usage)
        )
        facet.scores["unreviewed"] = float(one.unreviewed)
    if one.fault is not None:
        reject(facet, context.stage, one.fault)
    else:
        facet.preferences = list(one.preferences)
    return facet


def _redraw(work: _Row, sets: dict[int, _Set], pending: Sequence[_Set], attempt: int) -> list[_Set]:
    """The pending sets that can be asked for again: those whose refused seeds could be replaced, or had none."""
    ready: list[_Set] = []
    for one in pending:
        refused = [seed for seed in one.assignment.seeds if seed.number in one.refused]
        if refused:
            others = [other.assignment for other in sets.values() if other is not one]
            assignment = work.drawing.sampler.redraw(
                work.row.draw, work.row.level, one.assignment, one.refused, others, attempt
            )
            if assignment is None:
                one.fault = Fault("preference_does_not_fit", "the taxonomy has no other seed for this slot", final=True)
                continue
            one.assignment = assignment
            one.redrawn += len(refused)
        ready.append(one)
    return ready


def _batches(parameters: AugmentParameters, pending: Sequence[_Set], attempt: int) -> list[tuple[str, list[_Set]]]:
    """Which sets go into one call, with the sample index of that call.

    The first time as many as the token limit lets through; a retry asks for each set alone.
    """
    if attempt:
        return [(f"augment:{one.assignment.index}:{attempt}", [one]) for one in pending]
    batches: list[list[_Set]] = []
    slots = 0
    for one in pending:
        slots += len(one.assignment.slots)
        if not batches or slots > parameters.slots_per_call():
            batches.append([])
            slots = len(one.assignment.slots)
        batches[-1].append(one)
    return [("augment:all:0", batch) for batch in batches]


async def _ask(work: _Row, pending: Sequence[_Set], settled: Sequence[_Set], attempt: int) -> None:
    """Ask the teacher for all pending sets, all calls at once, and fill in preferences or fault."""
    siblings = [preference.description for one in settled for preference in one.preferences]
    batches = _batches(work.context.spec.augment, pending, attempt)
    await concurrently([_ask_for(work, batch, siblings, index, attempt) for index, batch in batches])


async def _ask_for(work: _Row, batch: Sequence[_Set], siblings: Sequence[str], sample_index: str, attempt: int) -> None:
    row, context, drawing = work.row, work.context, work.drawing
    sampling = context.spec.augment.sampling
    seed = seed_of(context.spec.seed, "augment", row.row_id, sample_index)
    request = CompletionRequest(
        messages=PROMPT.messages(siblings=siblings, request=_block(row.instruction, batch, drawing)),
        request_class="augment",
        sample_index=sample_index,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=seed,
        schema_name=SCHEMA_NAME,
        schema=SCHEMA,
    )
    for one in batch:
        one.seed = seed
        one.usage.attempts = attempt + 1
        one.preferences, one.fault = (), None
    try:
        answer, completion = await context.teacher.complete_structured(request, PreferenceSets)
    except LanguageModelError as error:
        for one in batch:
            one.fault = fault_of(error)
        return
    share_usage(completion.prompt_tokens, completion.completion_tokens, [one.usage for one in batch])
    of_slot: dict[int, PreferenceAnswer | None] = {}
    for entry in answer.preferences:
        of_slot[entry.slot] = None if entry.slot in of_slot else entry
    first = 0
    for one in batch:
        numbers = range(first, first + len(one.assignment.slots))
        first = numbers.stop
        answers = [of_slot.get(number) for number in numbers]
        verdict = judge_set(one.assignment, answers, row.instruction, drawing.known)
        one.preferences, one.fault = verdict.preferences, verdict.fault
        one.refused |= verdict.unfit
        if one.fault is None:
            one.fault = _misplaced(work, one)


async def _review(work: _Row, pending: Sequence[_Set], attempt: int) -> None:
    """Ask the judge, where there is one, what the sets that code found no fault with really mean, twice; what both calls object
    to counts, and where they differ a third decides."""
    good = [one for one in pending if one.fault is None]
    context = work.context
    judge = context.judge
    if judge is None or not good:
        return
    by_index = {one.assignment.index: one for one in good}
    looks: list[review.ReviewResult] = []

    async def look(indices: Sequence[int], number: int) -> Mapping[Place, Fault] | Fault:
        result = await review.review_sets(
            judge,
            work.row,
            [(index, by_index[index].preferences) for index in indices],
            review.review_options_of(context.taxonomy),
            context.spec.seed,
            f"review:{attempt}:{number}",
            work.drawing.held_out_seeds if work.row.split == Split.TRAIN else None,
        )
        looks.append(result)
        usages = [by_index[index].judge_usage for index in indices]
        for usage in usages:
            usage.attempts += 1
        share_usage(result.usage.prompt_tokens, result.usage.completion_tokens, usages)
        return {one.place: one.fault() for one in result.findings} if result.error is None else result.error

    # Contradictions are easily overlooked among all the wishes of an instruction: one call would not find enough of them.
    faults = await confirmed_faults(list(by_index), look, looks_at_all=2)
    at_all = looks[:2]
    failed = any(result.error is not None for result in at_all)
    unanswered = set.intersection(*(set(result.incomplete) for result in at_all))
    for index, one in by_index.items():
        one.fault = faults.get(index)
        one.unreviewed = len(one.preferences) if failed else sum(of_set == index for of_set, _ in unanswered)
        if one.fault is None:
            one.preferences = _placed(one, at_all)
            one.fault = _misplaced(work, one)


def _misplaced(work: _Row, one: _Set) -> Fault | None:
    """The fault of a set that holds what the row must not have: a frank preference, in training something that is held out."""
    drawing = work.drawing
    fault = None if drawing.careful is None else drawing.careful.fault(one.preferences)
    if fault is None and work.row.split == Split.TRAIN:
        fault = drawing.guard.fault(one.preferences, _sentences(one))
    return fault


def _placed(one: _Set, looks: Sequence[review.ReviewResult]) -> tuple[Preference, ...]:
    """The set's preferences; one that the teacher coined under a name of its own gets the place that the judge found for it in
    every one of these looks, as long as no other preference of the set has that subdimension."""
    names = {preference.subdimension for preference in one.preferences}
    found: list[Preference] = []
    for position, preference in enumerate(one.preferences):
        places = {result.placed.get((one.assignment.index, position)) for result in looks}
        place = places.pop() if len(places) == 1 else None
        if place is not None and not preference.pole and place.subdimension not in names - {preference.subdimension}:
            names.add(place.subdimension)
            found.append(structs.replace(preference, subdimension=place.subdimension, pole=place.pole))
        else:
            found.append(preference)
    return tuple(found)


def _block(instruction: str, batch: Sequence[_Set], drawing: Drawing) -> dict[str, Any]:
    slots: list[dict[str, Any]] = []
    for one in batch:
        for slot in one.assignment.slots:
            seed = slot.seed
            entry: dict[str, Any] = {
                "slot": len(slots),
                "set": one.assignment.index,
                "dimension": slot.dimension,
                "intensity": slot.intensity,
            }
            if seed is None:
                entry |= {"free": True, "known_subdimensions": drawing.choices_of(one.assignment, slot.dimension)}
            else:
                entry |= {
                    "subdimension": seed.subdimension,
                    "pole": seed.pole,
                    "pole_description": seed.pole_description,
                    "seed": seed.name,
                    "seed_description": seed.description,
                    "check_sentence": seed.check_sentence,
                }
            slots.append(entry)
    return {"instruction": instruction, "slots": slots}


def _sentences(one: _Set) -> list[str]:
    return [seed.check_sentence for seed in one.assignment.seeds if seed.check_sentence]


def _settle(pending: Sequence[_Set], settled: list[_Set], maximum_similarity: float) -> None:
    """Hold the sets that just came in against all that stand, in order of their index; the good ones are settled."""
    sentences = [sentence for one in (*pending, *settled) for sentence in _sentences(one)]
    for one in sorted(pending, key=lambda item: item.assignment.index):
        if one.fault is not None:
            continue
        one.fault = compare_sets(
            one.preferences, [other.preferences for other in settled], maximum_similarity, sentences
        )
        if one.fault is None:
            settled.append(one)


HANDLERS = (
    RowStageHandler(
        StageKind.AUGMENT, augment, {"preference_sets": PROMPT.version, review.SCHEMA_NAME: review.PROMPT.version}
    ),
)
