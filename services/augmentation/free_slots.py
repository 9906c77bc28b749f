"""Where a preference belongs that the teacher coined in a free slot: the taxonomy's subdimension and pole, or its own name.

The teacher sees the names that the taxonomy has and says which of them fits, if any; its words alone would not tell.
"""

import re
from collections.abc import Mapping, Sequence

_NAME_WORDS = 4
_SIGNS = re.compile(r"[^\w\s]+|_+")


def canonical_name(name: str) -> str:
    """A coined name in lower case, without signs, at most four words: `Tone-of-voice!` and `tone of voice` are one."""
    return " ".join(_SIGNS.sub(" ", name.casefold()).split()[:_NAME_WORDS])


def canonical_place(subdimension: str, pole: str, known: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """(subdimension, pole) of a coined preference. `known`: pole names by subdimension, as the taxonomy writes them. The pole is
    empty where the subdimension does not have it, and the subdimension is `canonical_name` where the taxonomy has none such."""
    names = {canonical_name(name): name for name in known}
    found = names.get(canonical_name(subdimension))
    if found is None:
        return canonical_name(subdimension), ""
    poles = {canonical_name(name): name for name in known[found]}
    return found, poles.get(canonical_name(pole), "")
