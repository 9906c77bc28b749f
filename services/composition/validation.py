"""What code can say about a system message that a teacher wrote: pure functions, no calls."""

import re
from collections.abc import Sequence

from shared.domain.checks import find_checks
from shared.domain.grader_commands import commands_reviewer
from shared.domain.jobs import ComposeParameters
from shared.domain.rows import Preference
from shared.domain.similarity import rouge_l, word_tokens
from shared.domain.stems import content_stems
from shared.domain.system_forms import Shape
from shared.domain.system_messages import MINIMUM_COVERAGE, answer_mark
from shared.domain.system_messages import coverage as coverage_of
from shared.stages.facets import Fault

RUN_LENGTH = 5
MAXIMUM_SHARED_RUNS = 0.3
"""Share of the instruction's five-word runs that may stand in the system message."""
MINIMUM_WORDS_TO_COMPARE = 5
MAXIMUM_SIBLING_SIMILARITY = 0.8
"""ROUGE-L above which two system messages of one instruction count as the same."""

LEAST_OF_TARGET, MOST_OF_TARGET = 0.5, 2.0
"""A length outside these multiples of the target was not aimed at: language models miss a count of characters, not by half."""
MOST_OF_DESCRIPTIONS = 1.5
"""So much of the descriptions' length is allowed whatever the target was: the wishes must all find room."""
_BULLET = re.compile(r"^\s*[-*•–]\s+\S", re.MULTILINE)
_NUMBER = re.compile(r"^\s*\d{1,2}[.)]\s+\S", re.MULTILINE)
_LABEL = re.compile(r"^\W*[^\s:.!?][^:.!?\n]{1,48}:\W*\s\S", re.MULTILINE)
_PARAGRAPH_END = re.compile(r"\S[ \t]*\n\s*(?=\S)")


def coverage(preference: Preference, stems: frozenset[str]) -> float:
    """Share (0..1) of the preference's content words that are among `stems` (see `shared.domain.system_messages`)."""
    return coverage_of(preference.description, preference.check, stems)


def judge_system_message(
    text: str, preferences: Sequence[Preference], instruction: str, parameters: ComposeParameters
) -> Fault | None:
    """Why this system message cannot be used, or None.

    Faults: `length_out_of_range`, `answer_leaked`, `missing_check_sentence`, `foreign_check`, `preference_missing`,
    `restates_task`, `injected_message` (it tells a reviewer what to conclude).
    """
    if not parameters.minimum_characters <= len(text) <= parameters.maximum_characters:
        return Fault(
            "length_out_of_range",
            f"{len(text)} characters; {parameters.minimum_characters} to {parameters.maximum_characters} are allowed",
        )
    if mark := answer_mark(text):
        return Fault("answer_leaked", f"reads like an answer: {mark!r}")
    if commands_reviewer(text):
        return Fault("injected_message", "it tells whoever reviews it what to conclude")
    assigned = [preference.check for preference in preferences if preference.check is not None]
    found_checks = find_checks(text)
    for check in assigned:
        if check not in found_checks:
            return Fault("missing_check_sentence", f"the sentence of the check {check.kind!r} is not in it verbatim")
    for check in found_checks:
        if check not in assigned:
            return Fault("foreign_check", f"demands {check.kind}, which none of the preferences does")
    stems = content_stems(text)
    for preference in preferences:
        share = coverage(preference, stems)
        if share < MINIMUM_COVERAGE:
            return Fault(
                "preference_missing",
                f"takes up {share:.0%} of the content words of the {preference.dimension!r} preference;"
                f" at least {MINIMUM_COVERAGE:.0%} is asked for",
            )
    return _restatement(text, instruction)


def judge_form(text: str, shape: Shape, target: int, description_characters: int, wishes: int) -> Fault | None:
    """`wrong_form` where the text does not have the shape that was asked for, `length_off_target` where it is less than half or
    more than twice as long as asked (what the descriptions take is always allowed). Without this, a teacher that writes one
    and the same kind of message for every form would go unseen."""
    bullets, numbers, labels = (len(pattern.findall(text)) for pattern in (_BULLET, _NUMBER, _LABEL))
    paragraphs = 1 + len(_PARAGRAPH_END.findall(text.strip()))
    seen = f"{paragraphs} paragraphs or lines, {bullets} bullets, {numbers} numbered lines, {labels} labelled lines"
    least = min(2, wishes)  # who has one wish gets a list of one
    fits = {
        "prose": bullets + numbers <= 1,
        "paragraphs": bullets + numbers <= 1 and paragraphs >= 2,
        "bullets": bullets >= least,
        "numbered": numbers >= least,
        "labelled": labels >= least,
    }
    if not fits[shape]:
        return Fault("wrong_form", f"the form asks for {shape}; seen: {seen}")
    fewest = LEAST_OF_TARGET * target
    most = max(MOST_OF_TARGET * target, MOST_OF_DESCRIPTIONS * description_characters)
    if not fewest <= len(text) <= most:
        return Fault(
            "length_off_target",
            f"{len(text)} characters where {target} were asked for; {fewest:.0f} to {most:.0f} pass",
        )
    return None


def judge_role(text: str, role: str) -> Fault | None:
    """`role_missing` where the message does not give the role that was asked for: half of its content words must be there."""
    wanted = content_stems(role)
    found = wanted & content_stems(text)
    if 2 * len(found) < len(wanted):
        return Fault("role_missing", f"the role {role!r} was asked for; of its words only {sorted(found)} are there")
    return None


def compare_system_messages(text: str, accepted: Sequence[str]) -> Fault | None:
    """`similar_system_message` where the text is too close to one of its siblings."""
    for other in accepted:
        similarity = 1.0 if text == other else rouge_l(text, other)
        if similarity > MAXIMUM_SIBLING_SIMILARITY:
            return Fault(
                "similar_system_message",
                f"ROUGE-L {similarity:.2f} with a sibling; at most {MAXIMUM_SIBLING_SIMILARITY:.2f} is allowed",
            )
    return None


def _restatement(text: str, instruction: str) -> Fault | None:
    asked = word_tokens(instruction)
    if len(asked) < MINIMUM_WORDS_TO_COMPARE:
        return None  # so few words can stand in a message by chance
    runs = {tuple(asked[i : i + RUN_LENGTH]) for i in range(len(asked) - RUN_LENGTH + 1)}
    said = word_tokens(text)
    shared = runs & {tuple(said[i : i + RUN_LENGTH]) for i in range(len(said) - RUN_LENGTH + 1)}
    share = len(shared) / len(runs)
    if share > MAXIMUM_SHARED_RUNS:
        return Fault("restates_task", f"{share:.0%} of the instruction's {RUN_LENGTH}-word runs stand in it")
    return None
