"""Do descriptions mean what was assigned? One blind judge call about the preference sets of an instruction.

The judge sees each description with a few poles to choose from, the assigned one among them at a place drawn by seed, and is not
told which it is. What it names tells whether a description stands for its pole, for the opposite one, or for something else.
Preferences that the teacher coined in free slots have no assigned pole: the judge is asked which one they come down to, and no
answer is wrong.

Beside a wish that trains stand the held-out seeds that it could mean, as wishes of other people: the judge says whether it asks
for the same as one of them. Comparing words finds only what shares the wording of a held-out seed.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from services.augmentation.held_out_seeds import HeldOutSeed, HeldOutSeeds
from shared.domain.identifiers import seed_of
from shared.domain.jobs import SamplingParameters
from shared.domain.rows import InstructionRow, Preference
from shared.domain.stems import content_stems
from shared.domain.taxonomy import Dimension, Subdimension, Taxonomy
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, fault_of
from shared.stages.second_look import Place

PROMPT = load_prompt("services.augmentation", "set_review")
SAMPLING = SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=4096)
"""Greedy; the limit leaves room for the frame, some contradictions, and 48 tokens on each of the most wishes of a call."""
SCHEMA_NAME = "set_review"
NO_OPTION = -1
NO_OTHER = -1
OTHER_SUBDIMENSIONS = 2
"""So many subdimensions beside the assigned one have a pole among the options."""
FREE_OPTIONS = 4
SEEDS_NAMED = 6
"""Seeds that an option names as examples of its pole."""


class ReviewModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WishAnswer(ReviewModel):
    wish: int
    option: int
    trivial: bool
    same_as: int


class ContradictionAnswer(ReviewModel):
    first: int
    second: int
    why: str


class SetReview(ReviewModel):
    """The structured output of a review."""

    wishes: list[WishAnswer]
    contradictions: list[ContradictionAnswer]
    commands: list[int]


SCHEMA: dict[str, Any] = SetReview.model_json_schema()


class Finding(msgspec.Struct, frozen=True):
    """Something wrong with one set. `preferences` are positions in it: one, or the two that contradict each other.

    `reason`: `wrong_pole` (it argues for the other side), `wrong_level` (for something else than its subdimension),
    `moot_preference` (any sensible answer follows it), `held_out_preference` (it asks for the same as a held-out seed),
    `injected_description` (it commands whoever reviews it), `set_contradiction`.
    """

    set: int
    reason: str
    preferences: tuple[int, ...]
    detail: str
    reading: str = ""
    """What a preference was read as, for findings that depend on it: readings that differ do not confirm each other."""

    @property
    def place(self) -> Place:
        """What two calls must agree on."""
        return (self.set, *self.preferences, self.reading)

    def fault(self) -> Fault:
        """The finding as the fault of its set."""
        return Fault(self.reason, self.detail)


class PoleFound(msgspec.Struct, frozen=True):
    """Where a coined preference belongs: names of a subdimension and one of its poles."""

    subdimension: str
    pole: str


class ReviewResult(msgspec.Struct, frozen=True):
    """What came of one review call.

    `incomplete` are the wishes (set, position) that the judge left out, answered twice or with an option that there is not: about
    them nothing was found. `placed` has an entry for each coined preference that was answered, None where it belongs to no
    pole that was offered. `error` is the fault of a call that failed (`judge_` and the error's code): then nothing is known.
    """

    findings: tuple[Finding, ...] = ()
    incomplete: tuple[tuple[int, int], ...] = ()
    placed: dict[tuple[int, int], PoleFound | None] = {}
    error: Fault | None = None
    usage: Usage = msgspec.field(default_factory=Usage)


class Option(msgspec.Struct, frozen=True):
    """One pole as the judge reads it."""

    subdimension: str
    pole: str
    text: str
    stems: frozenset[str]


class ReviewOptions:
    """The poles of a taxonomy as options for the judge."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._by_dimension = {dimension.name: _options_of(dimension) for dimension in taxonomy.dimensions}

    def for_preference(self, preference: Preference, chance: Random) -> tuple[Option, ...]:
        """What the judge chooses from: all poles of the preference's subdimension and one of each of two others, drawn; for a
        coined preference the poles of its dimension whose words are closest to its own."""
        of_dimension = self._by_dimension.get(preference.dimension, {})
        own = of_dimension.get(preference.subdimension, ())
        if not assigned(preference) or preference.pole not in {option.pole for option in own}:
            chosen = _closest(preference, [option for several in of_dimension.values() for option in several])
        else:
            names = [name for name in of_dimension if name != preference.subdimension]
            others = chance.sample(names, min(OTHER_SUBDIMENSIONS, len(names)))
            chosen = [*own, *(chance.choice(of_dimension[name]) for name in others)]
        return tuple(chosen)


def assigned(preference: Preference) -> bool:
    """Whether the preference grew from a seed; else the teacher coined it."""
    return bool(preference.seed_name)


def _options_of(dimension: Dimension) -> dict[str, tuple[Option, ...]]:
    return {
        subdimension.name: tuple(_option(subdimension, pole.name, pole.description) for pole in subdimension.poles)
        for subdimension in dimension.subdimensions
    }


def _option(subdimension: Subdimension, pole: str, description: str) -> Option:
    seeds = [seed for seed in subdimension.seeds if seed.pole == pole]
    examples = "; ".join(seed.name for seed in seeds[:SEEDS_NAMED])
    text = f"{subdimension.name}: {pole} - {description.rstrip('.')} (such as: {examples})"
    return Option(
        subdimension.name,
        pole,
        text,
        content_stems(" ".join([text, *(seed.description for seed in seeds[:SEEDS_NAMED])])),
    )


def _closest(preference: Preference, options: Sequence[Option]) -> list[Option]:
    stems = content_stems(f"{preference.subdimension} {preference.preference} {preference.description}")
    ranked = sorted(options, key=lambda option: (-len(stems & option.stems), option.subdimension, option.pole))
    return ranked[:FREE_OPTIONS]


class _Wish(msgspec.Struct, frozen=True):
    """One preference on its way to the judge."""

    set: int
    position: int
    preference: Preference
    options: tuple[Option, ...]
    others: tuple[HeldOutSeed, ...]


async def review_sets(
    judge: LanguageModel,
    row: InstructionRow,
    sets: Sequence[tuple[int, Sequence[Preference]]],
    options: ReviewOptions,
    job_seed: int,
    sample_index: str,
    held_out: HeldOutSeeds | None = None,
) -> ReviewResult:
    """What a judge finds in the sets of one instruction, given as (number of the set, its preferences), in one call. `held_out`
    is what the sets must not ask for; None where they may ask for anything.

    An error of the model becomes the result's `error`; StepFailed, StepDeferred and cancellation pass through.
    """
    wishes = []
    for index, preferences in sets:
        for position, preference in enumerate(preferences):
            # Every look offers the same options, so that two readings can be held against each other, in another order.
            offered = options.for_preference(
                preference, Random(seed_of(job_seed, "review", row.row_id, index, position))
            )
            order = Random(seed_of(job_seed, "review", row.row_id, sample_index, index, position))
            others = () if held_out is None else held_out.beside(preference)
            wishes.append(
                _Wish(
                    index,
                    position,
                    preference,
                    tuple(order.sample(offered, len(offered))),
                    tuple(order.sample(others, len(others))),
                )
            )
    if not wishes:
        return ReviewResult()
    request = CompletionRequest(
        messages=PROMPT.messages(request=_block(row.instruction, wishes)),
        request_class="judge",
        sample_index=sample_index,
        temperature=SAMPLING.temperature,
        top_p=SAMPLING.top_p,
        max_tokens=SAMPLING.max_tokens,
        seed=seed_of(job_seed, "review", row.row_id, sample_index),
        schema_name=SCHEMA_NAME,
        schema=SCHEMA,
    )
    usage = Usage(attempts=1)
    try:
        answer, completion = await judge.complete_structured(request, SetReview)
    except LanguageModelError as error:
        fault = fault_of(error)
        return ReviewResult(error=Fault(f"judge_{fault.reason}", fault.detail, fault.final), usage=usage)
    usage.add(completion)
    return read_review(answer, wishes, usage)


def _block(instruction: str, wishes: Sequence[_Wish]) -> dict[str, Any]:
    return {
        "instruction": instruction,
        "wishes": [
            {
                "wish": number,
                "set": wish.set,
                "text": wish.preference.description,
                "options": [option.text for option in wish.options],
                **({"others": [other.text for other in wish.others]} if wish.others else {}),
            }
            for number, wish in enumerate(wishes)
        ],
    }


def read_review(answer: SetReview, wishes: Sequence[_Wish], usage: Usage) -> ReviewResult:
    """The findings in an answer. What it says about wishes that were not asked for, or of two sets, is passed over."""
    times = Counter(entry.wish for entry in answer.wishes)
    said = {entry.wish: entry for entry in answer.wishes}
    findings: list[Finding] = []
    incomplete: list[tuple[int, int]] = []
    placed: dict[tuple[int, int], PoleFound | None] = {}
    for number, wish in enumerate(wishes):
        entry = said.get(number)
        if entry is None or times[number] > 1 or not _usable(entry, wish):
            incomplete.append((wish.set, wish.position))
            continue
        chosen = None if entry.option == NO_OPTION else wish.options[entry.option]
        if not assigned(wish.preference):
            placed[wish.set, wish.position] = PoleFound(chosen.subdimension, chosen.pole) if chosen else None
        finding = _finding(wish, chosen, trivial=entry.trivial)
        if finding is not None:
            findings.append(finding)
        if wish.others and entry.same_as != NO_OTHER:
            findings.append(_held_out(wish, wish.others[entry.same_as].name))
    findings.extend(_commands(answer, wishes))
    findings.extend(_contradictions(answer, wishes))
    return ReviewResult(tuple(findings), tuple(incomplete), placed, None, usage)


def _usable(entry: WishAnswer, wish: _Wish) -> bool:
    """Whether the numbers in an answer name something that was offered."""
    named = not wish.others or NO_OTHER <= entry.same_as < len(wish.others)
    return named and NO_OPTION <= entry.option < len(wish.options)


def _held_out(wish: _Wish, name: str) -> Finding:
    detail = f"the {wish.preference.subdimension!r} preference asks for the same as the held-out {name!r}"
    return Finding(wish.set, "held_out_preference", (wish.position,), detail, f"same as {name}")


def _commands(answer: SetReview, wishes: Sequence[_Wish]) -> list[Finding]:
    told = [wishes[number] for number in dict.fromkeys(answer.commands) if 0 <= number < len(wishes)]
    return [
        Finding(
            wish.set,
            "injected_description",
            (wish.position,),
            f"the {wish.preference.subdimension!r} preference commands whoever reviews it",
            "command",
        )
        for wish in told
    ]


def _finding(wish: _Wish, chosen: Option | None, *, trivial: bool) -> Finding | None:
    """What is wrong with one preference by itself; that it says nothing goes before what it might say."""
    preference = wish.preference
    if trivial:
        detail = f"any sensible answer follows the {preference.subdimension!r} preference"
        return Finding(wish.set, "moot_preference", (wish.position,), detail, "trivial")
    own = (preference.subdimension, preference.pole)
    # A judge who was not offered the assigned pole has said nothing against it.
    if not assigned(preference) or own not in {(option.subdimension, option.pole) for option in wish.options}:
        return None
    if chosen is not None and (chosen.subdimension, chosen.pole) == own:
        return None
    meant = f"{preference.pole!r} of {preference.subdimension!r}"
    if chosen is not None and chosen.subdimension == preference.subdimension:
        return Finding(
            wish.set, "wrong_pole", (wish.position,), f"reads as {chosen.pole!r}, not as {meant}", chosen.pole
        )
    read = f"{chosen.pole!r} of {chosen.subdimension!r}" if chosen is not None else "none of the poles offered"
    return Finding(wish.set, "wrong_level", (wish.position,), f"reads as {read}, not as {meant}", read)


def _contradictions(answer: SetReview, wishes: Sequence[_Wish]) -> list[Finding]:
    found: dict[tuple[int, int], Finding] = {}
    for entry in answer.contradictions:
        pair = min(entry.first, entry.second), max(entry.first, entry.second)
        if not (0 <= pair[0] < pair[1] < len(wishes)) or pair in found:
            continue
        first, second = wishes[pair[0]], wishes[pair[1]]
        if first.set == second.set:
            positions = (first.position, second.position)
            found[pair] = Finding(first.set, "set_contradiction", positions, entry.why)
    return list(found.values())


_MAXIMUM_KEPT = 16
_kept: dict[str, ReviewOptions] = {}


def review_options_of(taxonomy: Taxonomy) -> ReviewOptions:
    """The options of a taxonomy, built once per version and process (the 16 built last are kept)."""
    options = _kept.get(taxonomy.version)
    if options is None:
        options = ReviewOptions(taxonomy)
        while len(_kept) >= _MAXIMUM_KEPT:
            del _kept[next(iter(_kept))]
        _kept[taxonomy.version] = options
    return options
