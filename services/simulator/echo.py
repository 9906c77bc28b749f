"""What an answer takes up of its system message: short quotations from each sentence that says what the reader wants."""

import re
from functools import lru_cache

from services.simulator.chance import Chance
from services.simulator.phrases import load_phrases
from services.simulator.words import content_words, words_of

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LONGEST = {3: 8, 2: 5, 1: 2}
"""Words of a quotation by the number of content words in it."""
_LEADING = frozenset(("a", "an", "the", "no", "not", "never", "more", "less", "only", "each", "every", "without"))
"""Words that a quotation begins with rather than after: without them it may say the opposite."""
_EDGES = ".,:;!?()[]*-–"
_PAUSE = re.compile(r"[,;:)]$")


@lru_cache(maxsize=1)
def _common_words() -> frozenset[str]:
    """Words that the simulator's own system messages are made of: no sign of a preference."""
    phrases = load_phrases()
    stock = (
        *(text for voice in phrases.compose_voices for text in (*voice.fillers, *voice.openings, *voice.closings)),
        *phrases.compose_links,
        *phrases.compose_labels,
        *phrases.augment_leads,
        *phrases.augment_tails,
        *phrases.compose_roles,
    )
    return frozenset(word for text in stock for word in words_of(text))


def _quotations(sentence: str, content: set[str], chance: Chance) -> list[str]:
    """One quotation with three, one with two and one with one of the content words, as far as there are any."""
    tokens = sentence.split()
    places = [index for index, token in enumerate(tokens) if content.intersection(words_of(token))]
    found = []
    for count, longest in _LONGEST.items():
        spans = [
            (places[first], places[first + count - 1])
            for first in range(len(places) - count + 1)
            if places[first + count - 1] - places[first] < longest
        ]
        # Within a clause if possible.
        whole = [(a, b) for a, b in spans if not any(_PAUSE.search(token) for token in tokens[a:b])]
        if not spans:
            continue
        start, end = chance.choice(whole or spans)
        if start and tokens[start - 1].lower() in _LEADING:
            start -= 1
        text = " ".join(tokens[start : end + 1]).strip(_EDGES)
        if text and not any(mark in text for mark in '"“”'):
            found.append(text)
    return found


def echo_groups(system: str, instruction: str, chance: Chance) -> list[list[str]]:
    """For each sentence of the system message quotations from it, the longest first; none on the instruction's own words."""
    ignored = _common_words() | set(content_words(instruction))
    groups = []
    for sentence in _SENTENCE_END.split(system):
        content = {word for word in content_words(sentence) if word not in ignored and word.isascii() and len(word) > 4}
        found = _quotations(sentence, content, chance) if content else []
        if found:
            groups.append(found)
    chance.shuffle(groups)
    return groups
