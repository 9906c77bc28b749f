"""What the system message of a profile must satisfy, whether a rule or a language model wrote it."""

from collections.abc import Sequence

from shared.domain.checks import canonical_sentence, find_checks
from shared.domain.errors import InputRefused
from shared.domain.grader_commands import commands_reviewer
from shared.domain.stems import content_stems
from shared.domain.system_messages import MINIMUM_COVERAGE, answer_mark, coverage
from shared.personal.resolving import Wish

MINIMUM_CHARACTERS = 40
MAXIMUM_CHARACTERS = 12_000
"""Twelve preferences of the shipped taxonomy take under 4,000; the rest is room for own words."""


def require_within_length(text: str) -> None:
    """Raise InputRefused for a message that no profile may have."""
    if len(text) > MAXIMUM_CHARACTERS:
        raise InputRefused(
            f"the preferences make a system message of {len(text)} characters; at most {MAXIMUM_CHARACTERS} are allowed: state "
            "fewer, or describe them in fewer words",
            "/preferences",
        )


def fault_of(text: str, wishes: Sequence[Wish]) -> str | None:
    """Why a text cannot be the system message of these wishes; None where nothing speaks against it.

    It must have a usable length, hold nothing of an answer and no command to a reviewer, state exactly the machine checks
    that the wishes state, and take up a quarter of the content words of each wish. The reason names a wish by its number from
    0 and never quotes it.
    """
    if not MINIMUM_CHARACTERS <= len(text) <= MAXIMUM_CHARACTERS:
        return f"it has {len(text)} characters; {MINIMUM_CHARACTERS} to {MAXIMUM_CHARACTERS} are allowed"
    if answer_mark(text) is not None:
        return "it reads like an answer, not like a system message"
    if commands_reviewer(text):
        return "it tells whoever reviews it what to conclude"
    found = find_checks(text)
    stated = [(number, check) for number, wish in enumerate(wishes) for check in wish.checks()]
    for number, check in stated:
        if check not in found:
            return f"the sentence of the machine check {check.kind!r} of preference {number} is not in it verbatim"
    allowed = [check for _, check in stated]
    for check in found:
        if check not in allowed:
            return f"it demands {check.kind!r}, which none of the preferences does"
    stems = content_stems(text)
    for number, wish in enumerate(wishes):
        sentences = [canonical_sentence(check) for check in wish.checks()]
        for described in (wish.description, wish.own_words):
            rest = described
            for sentence in sentences:  # looked for verbatim above
                rest = rest.replace(sentence, " ")
            share = coverage(rest, None, stems)
            if share < MINIMUM_COVERAGE:
                return (
                    f"it takes up {share:.0%} of the content words of preference {number}; at least {MINIMUM_COVERAGE:.0%} "
                    "is asked for"
                )
    return None
