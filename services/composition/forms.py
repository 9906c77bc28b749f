"""How form, role and length of a system message are drawn for a facet."""

import math
from collections.abc import Sequence
from random import Random

import msgspec

from shared.domain.splits import HeldOut, SplitLevel
from shared.domain.system_forms import Form, load_forms, load_roles

SHARE_OF_DESCRIPTIONS = 0.6
"""The least that a target asks for, as a share of what the descriptions take: below that no teacher can weave all of them in."""


class Wording(msgspec.Struct, frozen=True):
    """How one system message is to be worded."""

    form: Form
    role: str | None


def draw_wordings(seed: int, facets: int, held_out: HeldOut, level: str) -> list[Wording]:
    """A form for each facet of a row, and a role where the form gives one; forms differ as long as there are enough.

    Held-out forms and roles are for level `unseen_wording` alone, and there every facet has one of them (any wording where
    nothing is held out).
    """
    chance = Random(seed)
    forms = list(load_forms())
    known_forms = [form for form in forms if form.name not in held_out.forms]
    unseen_roles = [role for role in load_roles() if role in held_out.roles]
    known_roles = [role for role in load_roles() if role not in held_out.roles]
    if level != SplitLevel.UNSEEN_WORDING:
        return [_with_role(form, known_roles, chance) for form in _in_turn(known_forms, facets, chance)]
    unseen = [form for form in forms if form.name in held_out.forms]
    if unseen_roles:
        unseen += [form for form in known_forms if form.gives_role]
    roles = unseen_roles or known_roles
    return [_with_role(form, roles, chance) for form in _in_turn(unseen or known_forms, facets, chance)]


def _in_turn(forms: Sequence[Form], count: int, chance: Random) -> list[Form]:
    """None comes again before all did."""
    drawn: list[Form] = []
    while len(drawn) < count:
        drawn.extend(chance.sample(forms, len(forms)))
    return drawn[:count]


def _with_role(form: Form, roles: Sequence[str], chance: Random) -> Wording:
    return Wording(form, chance.choice(roles) if form.gives_role and roles else None)


def draw_target(form: Form, seed: int, *, description_characters: int, minimum: int, maximum: int) -> int:
    """A length to aim at, in characters: log-uniform over the form's range, raised to what the descriptions need and kept
    within `minimum`..`maximum` of the job."""
    low, high = math.log(form.minimum_characters), math.log(form.maximum_characters)
    target = math.exp(Random(seed).uniform(low, high))
    target = max(target, SHARE_OF_DESCRIPTIONS * description_characters)
    return round(min(max(target, minimum), maximum))
