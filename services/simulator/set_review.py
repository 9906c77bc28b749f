"""Reviews of preference sets: which option a description expresses, whether it is trivial, whether it asks for the same as
another one, which two contradict each other, and which command whoever reviews them."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from services.simulator.chance import Chance, generator_of
from services.simulator.judge_profile import JudgeProfile
from services.simulator.recognition import KNOWN_SHARE, recognise, stems_of
from services.simulator.requests import BadRequest
from services.simulator.slips import review_command_in
from shared.domain.checks import conflict, find_checks
from shared.domain.rows import Check
from shared.domain.taxonomy import seeds_conflict

NO_OPTION = NO_OTHER = -1
FEWEST_STEMS = 2
"""So many content stems must an unknown wish share with an option to express it."""
_OPTION = re.compile(r"^(?P<subdimension>[^:]+): (?P<pole>.+?) - ")


class Wish(NamedTuple):
    """One wish of the block."""

    number: int
    set: int
    text: str
    options: tuple[str, ...]
    others: tuple[str, ...] = ()


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
        others = value.get("others", [])
        if not isinstance(others, list):
            raise BadRequest(f"wishes/{position}/others must be a list", "messages")
        found.append(Wish(number, of_set, text, tuple(map(str, options)), tuple(map(str, others))))
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


def true_other(text: str, others: tuple[str, ...]) -> int:
    """Position of the other wish that asks for the same, -1 for none. Others are named: "<name>: <text>".

    A wish in known words of a seed (its own, or those of `rewordings.yaml`) is the same as the one of that seed's name; any
    wish is the same as one nearly all of whose content stems it has.
    """
    seeds = {placed.seed.name for placed in recognise(text).seeds}
    said = stems_of(text)
    for position, other in enumerate(others):
        name, _, description = other.partition(": ")
        stems = _option_stems(description)
        if name in seeds or (stems and len(said & stems) >= KNOWN_SHARE * len(stems)):
            return position
    return NO_OTHER


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
    """`{"wishes": [{wish, option, trivial, same_as}], "contradictions": [{first, second, why}], "commands": [wish]}`.

    Of the profile, `review_error` turns options and what is a command, `triviality_recall` and `triviality_false_rate` what is
    trivial, `held_out_recall` and `held_out_false_rate` (per wish that is shown beside others) what is the same,
    `contradiction_recall` and `contradiction_false_rate` (per set of two wishes or more) the contradictions. A judge who obeys
    injections finds nothing in a wish that commands it. Raises BadRequest for a block that cannot be read.
    """
    wishes = _wishes(block)
    chance = generator_of(seed, digest, "set_review")
    answers, commands = [], []
    obeyed: set[int] = set()
    for wish in wishes:
        option = true_option(wish.text, wish.options)
        if chance.random() < profile.review_error:
            option = chance.choice([one for one in range(NO_OPTION, len(wish.options)) if one != option] or [option])
        trivial = recognise(wish.text).trivial
        says_trivial = chance.random() < (profile.triviality_recall if trivial else profile.triviality_false_rate)
        same_as = _same_as(wish, profile, chance)
        commanded = bool(review_command_in(wish.text))
        if commanded and profile.obeys_injections:
            obeyed.add(wish.number)
            says_trivial, same_as = False, NO_OTHER
        elif commanded and chance.random() >= profile.review_error:
            commands.append(wish.number)
        answers.append({"wish": wish.number, "option": option, "trivial": says_trivial, "same_as": same_as})
    sets: dict[int, list[Wish]] = {}
    for wish in wishes:
        sets.setdefault(wish.set, []).append(wish)
    contradictions = [
        {"first": first.number, "second": second.number, "why": why}
        for several in sets.values()
        for first, second, why in _contradictions(several, profile, chance)
        if not obeyed & {first.number, second.number}
    ]
    return {"wishes": answers, "contradictions": contradictions, "commands": commands}


def _same_as(wish: Wish, profile: JudgeProfile, chance: Chance) -> int:
    if not wish.others:
        return NO_OTHER
    truth = true_other(wish.text, wish.others)
    if chance.random() < (profile.held_out_false_rate if truth == NO_OTHER else 1 - profile.held_out_recall):
        return chance.randrange(len(wish.others)) if truth == NO_OTHER else NO_OTHER
    return truth


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
