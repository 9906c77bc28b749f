"""Reviews of preference sets: which option a description expresses, whether it is trivial, which two contradict each other."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from services.simulator.chance import Chance, generator_of
from services.simulator.judge_profile import JudgeProfile
from services.simulator.recognition import recognise, stems_of
from services.simulator.requests import BadRequest
from shared.domain.checks import conflict, find_checks
from shared.domain.rows import Check
from shared.domain.taxonomy import seeds_conflict

NO_OPTION = -1
FEWEST_STEMS = 2
"""So many content stems must an unknown wish share with an option to express it."""
_OPTION = re.compile(r"^(?P<subdimension>[^:]+): (?P<pole>.+?) - ")


class Wish(NamedTuple):
    """One wish of the block."""

    number: int
    set: int
    text: str
    options: tuple[str, ...]


def _wishes(block: dict[str, Any]) -> list[Wish]:
    wishes = block.get("wishes")
    if not isinstance(wishes, list):
        raise BadRequest("the json block needs `wishes` as a list", "messages")
    found = []
    for position, value in enumerate(wishes):
        try:
            number, of_set, text, options = value["wish"], value["set"], value["text"], value["options"]
        except (TypeError, KeyError):
            raise BadRequest(f"wishes/{position} needs wish, set, text and options", "messages") from None
        numbers = isinstance(number, int) and isinstance(of_set, int)
        if not numbers or not isinstance(text, str) or not isinstance(options, list):
            raise BadRequest(f"wishes/{position} needs numbers, a text and a list of options", "messages")
        found.append(Wish(number, of_set, text, tuple(map(str, options))))
    return found


@lru_cache(maxsize=4096)
def _option_stems(option: str) -> frozenset[str]:
    return stems_of(option)


def true_option(text: str, options: tuple[str, ...]) -> int:
    """Position of the option that a wish expresses, -1 for none of them.

    A wish in known words expresses the pole that they belong to, or nothing. Any other one expresses the option with which it
    shares most content stems, two at least.
    """
    recognised = recognise(text)
    if recognised.trivial:
        return NO_OPTION
    poles = [(match["subdimension"], match["pole"]) if (match := _OPTION.match(one)) else None for one in options]
    known = [one.pole for one in recognised.found if one.pole]
    # A wish that was turned against another still says first what it was assigned.
    for pole in known:
        if pole in poles:
            return poles.index(pole)
    if known:
        return NO_OPTION
    said = stems_of(text)
    shared = [len(said & _option_stems(option)) for option in options]
    best = max(shared, default=0)
    return shared.index(best) if best >= FEWEST_STEMS else NO_OPTION


@lru_cache(maxsize=4096)
def _checks(text: str) -> tuple[Check, ...]:
    return tuple(find_checks(text))


def why_contradictory(first: str, second: str) -> str | None:
    """Why no answer can follow both wishes, or None: their machine checks, seeds that exclude each other, opposite poles of one
    subdimension, one refusing what the other wants, or words that no text can meet beside a check of the other."""
    checks = _checks(first), _checks(second)
    for one in checks[0]:
        for other in checks[1]:
            if reason := conflict(one, other):
                return reason
    known = recognise(first), recognise(second)
    for (mine, theirs), theirs_checks in (((known[0], known[1]), checks[1]), ((known[1], known[0]), checks[0])):
        refused = mine.negated & {placed.seed.name for placed in theirs.seeds}
        if refused:
            return f"one refuses what the other wants: {', '.join(sorted(refused))}"
        if mine.contrary_kinds & {check.kind for check in theirs_checks}:
            return "one asks in words for what a check of the other rules out"
    for mine_seed in known[0].seeds:
        for other_seed in known[1].seeds:
            same = mine_seed.subdimension.name == other_seed.subdimension.name
            if same and mine_seed.seed.pole != other_seed.seed.pole:
                return f"{mine_seed.seed.pole} and {other_seed.seed.pole} of {mine_seed.subdimension.name}"
            if reason := seeds_conflict(mine_seed.seed, other_seed.seed):
                return reason
    return None


def answer_set_review(block: dict[str, Any], seed: int, digest: bytes, profile: JudgeProfile) -> dict[str, Any]:
    """`{"wishes": [{wish, option, trivial}], "contradictions": [{first, second, why}]}`.

    Of the profile, `review_error` turns options, `triviality_recall` and `triviality_false_rate` what is trivial,
    `contradiction_recall` and `contradiction_false_rate` (per set of two wishes or more) the contradictions. Raises BadRequest
    for a block that cannot be read.
    """
    wishes = _wishes(block)
    chance = generator_of(seed, digest, "set_review")
    answers = []
    for wish in wishes:
        option = true_option(wish.text, wish.options)
        if chance.random() < profile.review_error:
            option = chance.choice([one for one in range(NO_OPTION, len(wish.options)) if one != option] or [option])
        trivial = recognise(wish.text).trivial
        says_trivial = chance.random() < (profile.triviality_recall if trivial else profile.triviality_false_rate)
        answers.append({"wish": wish.number, "option": option, "trivial": says_trivial})
    sets: dict[int, list[Wish]] = {}
    for wish in wishes:
        sets.setdefault(wish.set, []).append(wish)
    contradictions = [
        {"first": first.number, "second": second.number, "why": why}
        for several in sets.values()
        for first, second, why in _contradictions(several, profile, chance)
    ]
    return {"wishes": answers, "contradictions": contradictions}


def _contradictions(wishes: list[Wish], profile: JudgeProfile, chance: Chance) -> list[tuple[Wish, Wish, str]]:
    pairs = [(first, second) for place, first in enumerate(wishes) for second in wishes[place + 1 :]]
    found = [
        (first, second, why)
        for first, second in pairs
        if (why := why_contradictory(first.text, second.text)) and chance.random() < profile.contradiction_recall
    ]
    if pairs and chance.random() < profile.contradiction_false_rate:
        first, second = chance.choice(pairs)
        if all((first, second) != (one, other) for one, other, _ in found):
            found.append((first, second, "the one seems to leave no room for the other"))
    return found
