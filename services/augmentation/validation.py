"""What code can say about preferences that a teacher wrote: pure functions, no calls."""

import re
from collections.abc import Sequence

import msgspec

from services.augmentation.answers import PreferenceAnswer
from services.augmentation.catalogue import Seed
from services.augmentation.sampler import SetAssignment
from shared.domain.checks import conflict, find_checks
from shared.domain.rows import Preference
from shared.domain.similarity import rouge_l, word_tokens
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

_LIST_MARKS = re.compile(r"[,;|/\n]|\s[-–—•]\s")
_SPACES = re.compile(r"\s+")


class SetVerdict(msgspec.Struct, frozen=True):
    """What came of one set: its preferences, or the fault; `unfit` are the numbers of the seeds to be redrawn."""

    preferences: tuple[Preference, ...] = ()
    fault: Fault | None = None
    unfit: frozenset[int] = frozenset()


def judge_set(assignment: SetAssignment, answers: Sequence[PreferenceAnswer], instruction: str) -> SetVerdict:
    """Check one set's answers against what was assigned.

    Faults: `malformed_preference` (a slot not answered, answered twice or under another name; keywords empty, too long or
    a list; a description of the wrong length), `preference_does_not_fit`, `wrong_pole`, `set_contradiction`,
    `restates_instruction`. A machine check's sentence that the teacher left out is added to the description.
    """
    by_dimension: dict[str, PreferenceAnswer] = {}
    for answer in answers:
        if answer.dimension in by_dimension:
            return _malformed(f"dimension {answer.dimension!r} is answered twice")
        by_dimension[answer.dimension] = answer
    wanted = {seed.dimension for seed in assignment.seeds}
    if by_dimension.keys() != wanted:
        return _malformed(f"dimensions answered: {sorted(by_dimension)}; assigned: {sorted(wanted)}")
    unfit = frozenset(seed.number for seed in assignment.seeds if not by_dimension[seed.dimension].fits)
    if unfit:
        names = ", ".join(seed.name for seed in assignment.seeds if seed.number in unfit)
        fault = Fault("preference_does_not_fit", f"the teacher says that these do not fit: {names}")
        return SetVerdict(fault=fault, unfit=unfit)
    preferences: list[Preference] = []
    runs = _runs(instruction)
    for seed in assignment.seeds:
        verdict = _judge_preference(seed, by_dimension[seed.dimension], runs)
        if isinstance(verdict, Fault):
            return SetVerdict(fault=verdict)
        preferences.append(verdict)
    contradiction = _contradiction(preferences)
    if contradiction:
        return SetVerdict(fault=Fault("set_contradiction", contradiction))
    return SetVerdict(preferences=tuple(preferences))


def compare_sets(
    candidate: Sequence[Preference],
    accepted: Sequence[Sequence[Preference]],
    maximum_similarity: float,
    check_sentences: Sequence[str],
) -> Fault | None:
    """Hold a set against its siblings: `duplicate_set` where all keywords are the same, `similar_set` where two descriptions
    of one dimension are closer than `maximum_similarity` (ROUGE-L). Sentences of machine checks are left out of that: their
    wording is fixed, and opposite checks are worded alike."""
    mine = {preference.dimension: preference for preference in candidate}
    for other in accepted:
        theirs = {preference.dimension: preference for preference in other}
        if all(
            preference.preference.casefold() == theirs[name].preference.casefold() for name, preference in mine.items()
        ):
            return Fault("duplicate_set", "all keywords are those of an earlier set of this instruction")
        for name, preference in mine.items():
            first = _without(preference.description, check_sentences)
            second = _without(theirs[name].description, check_sentences)
            if min(len(first.split()), len(second.split())) < MINIMUM_WORDS_TO_COMPARE:
                continue
            similarity = rouge_l(first, second)
            if similarity > maximum_similarity:
                return Fault(
                    "similar_set",
                    f"descriptions of {name!r} have ROUGE-L {similarity:.2f} with an earlier set;"
                    f" at most {maximum_similarity:.2f} is allowed",
                )
    return None


def _malformed(detail: str) -> SetVerdict:
    return SetVerdict(fault=Fault("malformed_preference", detail))


def _judge_preference(seed: Seed, answer: PreferenceAnswer, runs: frozenset[tuple[str, ...]]) -> Preference | Fault:
    if answer.subdimension != seed.subdimension:
        return Fault(
            "malformed_preference",
            f"{seed.dimension!r} is answered under {answer.subdimension!r}; assigned was {seed.subdimension!r}",
        )
    keywords = answer.preference.strip().rstrip(".")
    if not keywords:
        return Fault("malformed_preference", f"the keywords of {seed.dimension!r} are empty")
    if _LIST_MARKS.search(keywords):
        return Fault("malformed_preference", f"the keywords of {seed.dimension!r} are a list: {keywords[:80]!r}")
    if len(keywords) > MAXIMUM_KEYWORD_CHARACTERS or len(keywords.split()) > MAXIMUM_KEYWORDS:
        return Fault(
            "malformed_preference",
            f"the keywords of {seed.dimension!r} have {len(keywords)} characters in {len(keywords.split())} words;"
            f" allowed are {MAXIMUM_KEYWORD_CHARACTERS} and {MAXIMUM_KEYWORDS}",
        )
    if keywords.casefold() in seed.opposite_names:
        return Fault("wrong_pole", f"{keywords!r} names the opposite of {seed.pole!r} in {seed.subdimension!r}")
    description = _SPACES.sub(" ", answer.description).strip()
    if len(description) < MINIMUM_DESCRIPTION_CHARACTERS:
        return _wrong_length(seed, description)
    if seed.check_sentence and seed.check_sentence not in description:
        stop = "" if description[-1] in ".!?" else "."
        description = f"{description}{stop} {seed.check_sentence}"
    if len(description) > MAXIMUM_DESCRIPTION_CHARACTERS:
        return _wrong_length(seed, description)
    of_description = _runs(description)
    if runs and of_description:
        shared = len(of_description & runs) / len(of_description)
        if shared > MAXIMUM_SHARED_RUNS:
            return Fault(
                "restates_instruction",
                f"{shared:.0%} of the {RUN_LENGTH}-word runs in the description of {seed.dimension!r} stand in the instruction",
            )
    return Preference(
        dimension=seed.dimension,
        subdimension=seed.subdimension,
        preference=keywords,
        description=description,
        pole=seed.pole,
        seed_name=seed.name,
        check=seed.check,
    )


def _wrong_length(seed: Seed, description: str) -> Fault:
    return Fault(
        "malformed_preference",
        f"the description of {seed.dimension!r} has {len(description)} characters;"
        f" {MINIMUM_DESCRIPTION_CHARACTERS} to {MAXIMUM_DESCRIPTION_CHARACTERS} are allowed",
    )


def _contradiction(preferences: Sequence[Preference]) -> str | None:
    """Why the machine checks that these descriptions state cannot all hold, or None. A check that the teacher stated though its
    seed has none counts as a contradiction with what was assigned: nobody would ever evaluate it."""
    stated = []
    for preference in preferences:
        for check in find_checks(preference.description):
            if check != preference.check:
                return f"the description of {preference.dimension!r} demands {check.kind}, which was not assigned to it"
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
