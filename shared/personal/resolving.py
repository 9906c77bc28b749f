"""Stated preferences looked up in a taxonomy: what each asks for, or where and why it cannot be used."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import msgspec
from rapidfuzz import fuzz, process

from shared.domain.checks import Check, canonical_sentence, conflict, find_checks
from shared.domain.errors import InputRefused
from shared.domain.grader_commands import commands_reviewer
from shared.domain.profiles import MAXIMUM_PREFERENCES, StatedPreference
from shared.domain.prose import fold, fold_name
from shared.domain.taxonomy import (
    PlacedSeed,
    Pole,
    SeedPreference,
    Subdimension,
    Taxonomy,
    seed_check,
    seeds_conflict,
)
from shared.personal.own_words import plain_line, quotable

_ALIKE = 60.0
"""Likeness (0 to 100) from which on a known name is suggested for an unknown one."""
_SUGGESTIONS = 3


class Wish(msgspec.Struct, frozen=True):
    """One stated preference and what the taxonomy says of it.

    `description` is the taxonomy's (of the seed, or of the pole), on one line and without the sentence of the seed's check;
    `own_words` the person's, cleaned. One of the two is never empty.
    """

    subdimension: Subdimension | None
    pole: Pole | None
    seed: SeedPreference | None
    description: str
    own_words: str
    check: Check | None

    @property
    def sentence(self) -> str:
        """The canonical sentence of the seed's check; empty without one."""
        return "" if self.check is None else canonical_sentence(self.check)

    @property
    def text(self) -> str:
        """All that is wished for, without the check's sentence."""
        return " ".join(part for part in (self.description, self.own_words) if part)

    def checks(self) -> list[Check]:
        """Every machine check that this wish states: the seed's, and those whose sentences stand in descriptions."""
        found = [] if self.check is None else [self.check]
        for check in (*find_checks(self.description), *find_checks(self.own_words)):
            if check not in found:
                found.append(check)
        return found


def resolve(preferences: Sequence[StatedPreference], taxonomy: Taxonomy) -> tuple[Wish, ...]:
    """The wishes behind stated preferences, in their order.

    Names are compared without case, signs and double spaces. Raises InputRefused with the pointer `/preferences/<n>/…` of a
    name that the taxonomy does not have (near ones are suggested), of own words that hold no words or speak to a reviewer,
    and of what repeats or contradicts an earlier preference; with `/preferences` where there are none or more than
    MAXIMUM_PREFERENCES. Own words are never quoted in an error.
    """
    if not preferences:
        raise InputRefused("no preference is given; state one to compose a message of", "/preferences")
    if len(preferences) > MAXIMUM_PREFERENCES:
        raise InputRefused(
            f"{len(preferences)} preferences are given; a person can state at most {MAXIMUM_PREFERENCES} at once: keep those "
            "that matter most",
            "/preferences",
        )
    names = _Names(taxonomy)
    wishes = tuple(names.wish(stated, f"/preferences/{number}") for number, stated in enumerate(preferences))
    for (i, a), (j, b) in combinations(enumerate(wishes), 2):
        _refuse_repetition(a, b, i, j)
        if reason := contradiction(a, b):
            raise InputRefused(
                f"preference {j} contradicts preference {i}: {reason}; leave one of them out",
                f"/preferences/{j}{_member(b)}",
            )
    return wishes


def contradiction(a: Wish, b: Wish) -> str | None:
    """Why two wishes cannot stand in one message; None where nothing speaks against it. Own words are compared by the machine
    checks that stand in them alone."""
    if a.subdimension is not None and a.subdimension is b.subdimension and a.pole and b.pole and a.pole is not b.pole:
        return f"{a.pole.name!r} and {b.pole.name!r} are opposite poles of {a.subdimension.name!r}"
    if a.seed is not None and b.seed is not None and (reason := seeds_conflict(a.seed, b.seed)):
        return reason
    return next((reason for one in a.checks() for other in b.checks() if (reason := conflict(one, other))), None)


def candidate_wishes(taxonomy: Taxonomy) -> Iterator[tuple[StatedPreference, Wish]]:
    """Every seed and every pole of a taxonomy as a preference that can be stated, seeds first."""
    for placed in taxonomy.seeds():
        yield StatedPreference(seed=placed.seed.name), _seed_wish(placed, "")
    for dimension in taxonomy.dimensions:
        for subdimension in dimension.subdimensions:
            for pole in subdimension.poles:
                yield (
                    StatedPreference(subdimension=subdimension.name, pole=pole.name),
                    Wish(subdimension, pole, None, plain_line(pole.description), "", None),
                )


class _Names:
    """The names of a taxonomy, by their folded form."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._seeds: dict[str, PlacedSeed] = {}
        self._subdimensions: dict[str, Subdimension] = {}
        for placed in taxonomy.seeds():
            self._seeds.setdefault(_key(placed.seed.name), placed)
            self._subdimensions.setdefault(_key(placed.subdimension.name), placed.subdimension)

    def wish(self, stated: StatedPreference, place: str) -> Wish:
        own_words = ""
        if stated.description is not None:
            own_words = quotable(stated.description)
            if not any(character.isalnum() for character in own_words):
                raise InputRefused("the description holds no words; say what is wanted", f"{place}/description")
            if commands_reviewer(own_words):
                raise InputRefused(
                    "the description tells whoever reviews or grades an answer what to conclude of it; say how answers shall be",
                    f"{place}/description",
                )
        if stated.seed is not None:
            placed = self._seeds.get(_key(stated.seed))
            if placed is None:
                known = [one.seed.name for one in self._seeds.values()]
                raise InputRefused(self._unknown("seed preference", stated.seed, known), f"{place}/seed")
            wish = _seed_wish(placed, own_words)
            self._refuse_inner_conflict(wish, place)
            return wish
        subdimension = pole = None
        description = ""
        if stated.subdimension is not None:
            subdimension = self._subdimensions.get(_key(stated.subdimension))
            if subdimension is None:
                known = [one.name for one in self._subdimensions.values()]
                raise InputRefused(self._unknown("subdimension", stated.subdimension, known), f"{place}/subdimension")
            if stated.pole is not None:
                pole = next((one for one in subdimension.poles if _key(one.name) == _key(stated.pole)), None)
                if pole is None:
                    poles = ", ".join(repr(one.name) for one in subdimension.poles)
                    raise InputRefused(
                        f"{subdimension.name!r} has no pole {plain_line(stated.pole)!r}; it has {poles}",
                        f"{place}/pole",
                    )
                description = plain_line(pole.description)
        wish = Wish(subdimension, pole, None, description, own_words, None)
        self._refuse_inner_conflict(wish, place)
        return wish

    def _unknown(self, what: str, name: str, known: Sequence[str]) -> str:
        near = process.extract(name, known, scorer=fuzz.WRatio, limit=_SUGGESTIONS, score_cutoff=_ALIKE)
        advice = (
            f"did you mean {' or '.join(repr(one) for one, *_ in near)}?"
            if near
            else "GET /v1/taxonomies/… lists its names"
        )
        return f"the taxonomy {self._taxonomy.name!r} has no {what} {plain_line(name)!r}; {advice}"

    @staticmethod
    def _refuse_inner_conflict(wish: Wish, place: str) -> None:
        for one, other in combinations(wish.checks(), 2):
            if reason := conflict(one, other):
                raise InputRefused(
                    f"this preference contradicts itself: {reason}; leave one of the two demands out",
                    f"{place}/description",
                )


def _seed_wish(placed: PlacedSeed, own_words: str) -> Wish:
    pole = next(one for one in placed.subdimension.poles if one.name == placed.seed.pole)
    check = seed_check(placed.seed)
    description = placed.seed.description
    if check is not None:
        description = description.replace(canonical_sentence(check), " ")
    return Wish(placed.subdimension, pole, placed.seed, plain_line(description), own_words, check)


def _refuse_repetition(a: Wish, b: Wish, i: int, j: int) -> None:
    if b.seed is not None and a.seed is b.seed:
        said, member = f"the seed {b.seed.name!r}", "seed"
    elif a.pole is not None and a.pole is b.pole and a.seed is b.seed is None and not (a.own_words and b.own_words):
        said, member = f"the pole {a.pole.name!r}", "pole"
    elif b.own_words and fold(a.own_words) == fold(b.own_words):
        said, member = "the same description", "description"
    else:
        return
    raise InputRefused(f"preferences {i} and {j} both give {said}; state it once", f"/preferences/{j}/{member}")


def _member(wish: Wish) -> str:
    if wish.seed is not None:
        return "/seed"
    return "/pole" if wish.pole is not None else "/description"


def _key(name: str) -> str:
    return fold_name(name) or fold(name)
