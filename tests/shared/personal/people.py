"""Preferences of the shipped taxonomy that can stand together, drawn by chance."""

from random import Random

from shared.domain.profiles import StatedPreference
from shared.domain.taxonomy import default_taxonomy
from shared.personal.resolving import Wish, candidate_wishes, contradiction

CANDIDATES = list(candidate_wishes(default_taxonomy()))
OWN_WORDS = (
    "No small talk, please",
    "I get lost in long chains of ifs and buts.",
    "Write as if I were ten\n\nand curious",
    'Say "I do not know" where you do not',
)


def drawn_preferences(chance: Random, most: int = 12) -> list[StatedPreference]:
    """Up to `most` preferences without a contradiction: seeds, poles and own words."""
    wanted = chance.randint(1, most)
    kept: list[Wish] = []
    stated: list[StatedPreference] = []
    for preference, wish in chance.sample(CANDIDATES, len(CANDIDATES)):
        if len(stated) == wanted:
            break
        if all(contradiction(wish, other) is None for other in kept):
            kept.append(wish)
            stated.append(preference)
    for words in chance.sample(OWN_WORDS, chance.randint(0, min(len(OWN_WORDS), most - len(stated)))):
        stated.insert(chance.randrange(len(stated) + 1), StatedPreference(description=words))
    return stated
