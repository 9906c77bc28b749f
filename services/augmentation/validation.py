"""What code can say about preferences that a teacher wrote: pure functions, no calls."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import combinations, product
from statistics import fmean

import msgspec
import yaml

from services.augmentation.answers import PreferenceAnswer
from services.augmentation.free_slots import canonical_place
from services.augmentation.sampler import SetAssignment, Slot
from shared.domain.checks import conflict, find_checks
from shared.domain.containment import HeldOutTexts
from shared.domain.grader_commands import commands_reviewer
from shared.domain.rows import Preference
from shared.domain.similarity import rouge_l, word_tokens
from shared.domain.splits import HeldOut
from shared.stages.facets import Fault

MINIMUM_DESCRIPTION_CHARACTERS = 20
MAXIMUM_DESCRIPTION_CHARACTERS = 600
MAXIMUM_KEYWORD_CHARACTERS = 80
MAXIMUM_KEYWORDS = 10
RUN_LENGTH = 5
"""Words in a row that count as taken over from the instruction."""
MAXIMUM_SHARED_RUNS = 0.4
"""Share of a description's five-word runs that may stand in the instruction before it counts as a restatement of it."""
MINIMUM_WORDS_TO_COMPARE = 4
WHOLE_SET_SHARE = 0.8
"""A set whose descriptions come so close on average, as a share of what one alone may, is a copy in other words."""

_LIST_MARKS = re.compile(r"[,;|/+&\n]|\s[-–—•]\s")
_JOINED = re.compile(r"\s+(?:and|plus|or|yet|but)\s+")
_SPACES = re.compile(r"\s+")


class SetVerdict(msgspec.Struct, frozen=True):
    """What came of one set: its preferences, or the fault; `unfit` are the numbers of the seeds to be redrawn."""

    preferences: tuple[Preference, ...] = ()
    fault: Fault | None = None
    unfit: frozenset[int] = frozenset()


class TrainingGuard:
    """Keeps what is held out away from training sets, by name and by wording."""

    def __init__(self, held_out: HeldOut, texts: HeldOutTexts) -> None:
        """`texts`: descriptions of the held-out seeds."""
        self._held_out = held_out
        self._texts = texts

    def fault(self, preferences: Sequence[Preference], check_sentences: Sequence[str]) -> Fault | None:
        """`held_out_preference` where a set holds a subdimension, a preference or a pair of poles that training must not see, or
        a description that comes close to a held-out one."""
        for preference in preferences:
            if preference.subdimension in self._held_out.subdimensions:
                return Fault("held_out_preference", f"the subdimension {preference.subdimension!r} is held out")
            if (name := self._held_out.name_of(preference)) is not None:
                return Fault("held_out_preference", f"{name!r} is the name of a preference that is held out")
            found = self._texts.closest(_without(preference.description, check_sentences))
            if found is not None:
                return Fault(
                    "held_out_preference",
                    f"the description of {preference.subdimension!r} holds {found[1]:.0%} of the 5-grams of a held-out one",
                )
        cells = [(preference.subdimension, preference.pole) for preference in preferences]
        if self._held_out.has_pair(cells):
            return Fault("held_out_preference", "two of its poles are a pair that is held out")
        return None


def judge_set(
    assignment: SetAssignment,
    answers: Sequence[PreferenceAnswer | None],
    instruction: str,
    known: Mapping[str, Mapping[str, Sequence[str]]],
) -> SetVerdict:
    """Check one set's answers, one per slot in the order of the slots, against what was assigned. `known`: pole names by
    subdimension, by dimension, for what the teacher coins.

    Faults: `malformed_preference` (a slot not answered or under another name; keywords empty, too long or a list; a
    description of the wrong length; two preferences of one subdimension), `preference_does_not_fit`, `wrong_pole`,
    `set_contradiction`, `restates_instruction`, `injected_description` (it tells a reviewer what to conclude). A machine
    check's sentence that the teacher left out is added.
    """
    pairs = list(zip(assignment.slots, answers, strict=True))
    missing = [place for place, (_, answer) in enumerate(pairs) if answer is None]
    if missing:
        return _malformed(f"slots {missing} of the set are not answered, or answered twice")
    unfit = frozenset(slot.seed.number for slot, answer in pairs if slot.seed and answer and not answer.fits)
    if unfit:
        names = ", ".join(slot.seed.name for slot in assignment.slots if slot.seed and slot.seed.number in unfit)
        fault = Fault("preference_does_not_fit", f"the teacher says that these do not fit: {names}")
        return SetVerdict(fault=fault, unfit=unfit)
    preferences: list[Preference] = []
    runs = _runs(instruction)
    for slot, answer in pairs:
        if answer is None:
            continue
        verdict = _judge_preference(slot, answer, runs, known)
        if isinstance(verdict, Fault):
            return SetVerdict(fault=verdict)
        preferences.append(verdict)
    contradiction = _contradiction(preferences)
    if contradiction:
        return SetVerdict(fault=Fault("set_contradiction", contradiction))
    repeated = _repeated(preferences)
    if repeated:
        return _malformed(repeated)
    return SetVerdict(preferences=tuple(preferences))


def compare_sets(
    candidate: Sequence[Preference],
    accepted: Sequence[Sequence[Preference]],
    maximum_similarity: float,
    check_sentences: Sequence[str],
) -> Fault | None:
    """Hold a set against itself and its siblings: `repeated_preference` where two of its descriptions are closer than
    `maximum_similarity` (ROUGE-L), `similar_set` where one of them is that close to one of a sibling, whatever they are labelled,
    `duplicate_set` where all keywords are a sibling's, or the descriptions are close to a sibling's on average. Sentences of
    machine checks are left out of the comparison: their wording is fixed, and opposite checks are worded alike."""
    for mine, theirs in combinations(candidate, 2):
        similarity = _similarity(mine, theirs, check_sentences)
        if similarity > maximum_similarity:
            return Fault(
                "repeated_preference",
                f"descriptions of {mine.subdimension!r} and {theirs.subdimension!r} have ROUGE-L {similarity:.2f};"
                f" at most {maximum_similarity:.2f} is allowed",
            )
    for other in accepted:
        if sorted(one.preference.casefold() for one in candidate) == sorted(one.preference.casefold() for one in other):
            return Fault("duplicate_set", "all keywords are those of an earlier set of this instruction")
        closest = [max(_similarity(mine, theirs, check_sentences) for theirs in other) for mine in candidate]
        if fmean(closest) > WHOLE_SET_SHARE * maximum_similarity:
            return Fault(
                "duplicate_set", f"its descriptions have ROUGE-L {fmean(closest):.2f} on average with an earlier set"
            )
        for mine, theirs in product(candidate, other):
            similarity = _similarity(mine, theirs, check_sentences)
            if similarity > maximum_similarity:
                return Fault(
                    "similar_set",
                    f"descriptions of {mine.subdimension!r} have ROUGE-L {similarity:.2f} with an earlier set;"
                    f" at most {maximum_similarity:.2f} is allowed",
                )
    return None


def _similarity(one: Preference, other: Preference, check_sentences: Sequence[str]) -> float:
    """ROUGE-L of two descriptions without the sentences of machine checks; 0 where one has too few words to compare."""
    first, second = _without(one.description, check_sentences), _without(other.description, check_sentences)
    if min(len(first.split()), len(second.split())) < MINIMUM_WORDS_TO_COMPARE:
        return 0.0
    return rouge_l(first, second)


def _malformed(detail: str) -> SetVerdict:
    return SetVerdict(fault=Fault("malformed_preference", detail))


def _judge_preference(
    slot: Slot,
    answer: PreferenceAnswer,
    runs: frozenset[tuple[str, ...]],
    known: Mapping[str, Mapping[str, Sequence[str]]],
) -> Preference | Fault:
    seed = slot.seed
    if answer.dimension != slot.dimension:
        detail = f"a slot of {slot.dimension!r} is answered under the dimension {answer.dimension!r}"
        return Fault("malformed_preference", detail)
    if seed is not None:
        place = (seed.subdimension, seed.pole)
        if answer.subdimension != seed.subdimension:
            return Fault(
                "malformed_preference",
                f"{seed.dimension!r} is answered under {answer.subdimension!r}; assigned was {seed.subdimension!r}",
            )
    else:
        place = canonical_place(answer.subdimension, answer.pole, known[slot.dimension])
        if not place[0]:
            return Fault("malformed_preference", f"a coined preference of {slot.dimension!r} names no subdimension")
    subdimension, pole = place
    keywords = answer.preference.strip().rstrip(".")
    if not keywords:
        return Fault("malformed_preference", f"the keywords of {subdimension!r} are empty")
    if _LIST_MARKS.search(keywords) or _joins_qualities(keywords):
        return Fault("malformed_preference", f"the keywords of {subdimension!r} are a list: {keywords[:80]!r}")
    if len(keywords) > MAXIMUM_KEYWORD_CHARACTERS or len(keywords.split()) > MAXIMUM_KEYWORDS:
        return Fault(
            "malformed_preference",
            f"the keywords of {subdimension!r} have {len(keywords)} characters in {len(keywords.split())} words;"
            f" allowed are {MAXIMUM_KEYWORD_CHARACTERS} and {MAXIMUM_KEYWORDS}",
        )
    if seed is not None and keywords.casefold() in seed.opposite_names:
        return Fault("wrong_pole", f"{keywords!r} names the opposite of {seed.pole!r} in {seed.subdimension!r}")
    description = _SPACES.sub(" ", answer.description).strip()
    if len(description) < MINIMUM_DESCRIPTION_CHARACTERS:
        return _wrong_length(subdimension, description)
    if commands_reviewer(description) or commands_reviewer(keywords):
        return Fault("injected_description", f"the description of {subdimension!r} tells its reviewer what to conclude")
    if seed is not None and seed.check_sentence and seed.check_sentence not in description:
        stop = "" if description[-1] in ".!?" else "."
        description = f"{description}{stop} {seed.check_sentence}"
    if len(description) > MAXIMUM_DESCRIPTION_CHARACTERS:
        return _wrong_length(subdimension, description)
    of_description = _runs(description)
    if runs and of_description:
        shared = len(of_description & runs) / len(of_description)
        if shared > MAXIMUM_SHARED_RUNS:
            return Fault(
                "restates_instruction",
                f"{shared:.0%} of the {RUN_LENGTH}-word runs in the description of {subdimension!r} stand in the instruction",
            )
    return Preference(
        dimension=slot.dimension,
        subdimension=subdimension,
        preference=keywords,
        description=description,
        pole=pole,
        seed_name=seed.name if seed else "",
        check=seed.check if seed else None,
        intensity=slot.intensity,
    )


@lru_cache(maxsize=1)
def _quality_words() -> frozenset[str]:
    text = files("services.augmentation").joinpath("quality_words.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text))


def _joins_qualities(keywords: str) -> bool:
    """Whether the keywords are qualities joined by words instead of commas: `friendly and precise`."""
    parts = [part.strip() for part in _JOINED.split(keywords.casefold())]
    return len(parts) > 1 and sum(part in _quality_words() for part in parts) > 1


def _repeated(preferences: Sequence[Preference]) -> str | None:
    """Which subdimension stands twice: a coined preference can fall onto that of another slot."""
    seen: set[str] = set()
    for preference in preferences:
        if preference.subdimension in seen:
            return f"two preferences of one set belong to {preference.subdimension!r}"
        seen.add(preference.subdimension)
    return None


def _wrong_length(subdimension: str, description: str) -> Fault:
    return Fault(
        "malformed_preference",
        f"the description of {subdimension!r} has {len(description)} characters;"
        f" {MINIMUM_DESCRIPTION_CHARACTERS} to {MAXIMUM_DESCRIPTION_CHARACTERS} are allowed",
    )


def _contradiction(preferences: Sequence[Preference]) -> str | None:
    """Why the machine checks that these descriptions state cannot all hold, or None. A check that the teacher stated though its
    seed has none counts as a contradiction with what was assigned: nobody would ever evaluate it."""
    stated = []
    for preference in preferences:
        for check in find_checks(preference.description):
            if check != preference.check:
                return (
                    f"the description of {preference.subdimension!r} demands {check.kind}, which was not assigned to it"
                )
            stated.append(check)
    for position, first in enumerate(stated):
        for second in stated[position + 1 :]:
            reason = conflict(first, second)
            if reason is not None:
                return reason
    return None


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    tokens = word_tokens(text)
    return frozenset(tuple(tokens[i : i + RUN_LENGTH]) for i in range(len(tokens) - RUN_LENGTH + 1))


def _without(description: str, sentences: Sequence[str]) -> str:
    for sentence in sentences:
        description = description.replace(sentence, " ")
    return description
