"""What an answer takes up of its system message: short quotations from each sentence that says what the reader wants."""

import re
from collections.abc import Callable
from functools import lru_cache

from services.simulator.chance import Chance
from services.simulator.phrases import load_phrases
from services.simulator.words import content_words, lower_opening, topics_of, words_of

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LONGEST = 10
_LONGEST_PART = {2: 5, 1: 2}
"""Words of a quotation, and of shorter ones by the number of content words in them."""
_ENOUGH, _FULL = 2, 3
"""Content words that a quotation must and should have."""
_LEADING = frozenset(("a", "an", "the", "no", "not", "never", "more", "less", "only", "each", "every", "without"))
"""Words that a quotation begins with rather than after: without them it may say the opposite."""
_JOINING = frozenset(
    ("and", "but", "or", "so", "that", "which", "because", "as", "than", "who", "where", "instead", "of")
)
"""Words that tie a clause to what comes before it."""
_RELATIVE = frozenset(("who", "which", "that"))
_PARTING = _RELATIVE | {"and", "but", "or", "because", "so", "where"}
_LEADING_ON = frozenset(("in", "by", "from", "of", "on", "to", "with", "at", "for", "so"))
_ARTICLES = frozenset(("a", "an", "the"))
_SMALL_WORDS = "is are be was can may not what how it its their no one such about into before after when"
_OPEN = _LEADING_ON | _JOINING | _ARTICLES | frozenset(_SMALL_WORDS.split())
"""Words that no quotation breaks off at."""
_SHORTEST_HALF = 3
_ENDED, _BEGUN, _WHOLE = range(3)
"""How well a part of a sentence stands alone."""
_EDGES = ".,:;!?()[]*-–"
_PAUSE = re.compile(r"[,;:)]$")


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Words that the simulator's own system messages are made of: no sign of a preference."""
    phrases = load_phrases()
    stock = (
        *(text for voice in phrases.compose_voices for text in (*voice.fillers, *voice.openings, *voice.closings)),
        *phrases.compose_links,
        *phrases.compose_labels,
        *phrases.augment_leads,
        *phrases.augment_tails,
        *(text for several in phrases.augment_intensities.values() for text in several),
        *phrases.compose_roles,
    )
    return frozenset(word for text in stock for word in words_of(text))


def _parted(tokens: list[str], ends: Callable[[str, str], bool]) -> list[list[str]]:
    """The tokens in parts: one ends where `ends` says so of a token and the one after it."""
    parts: list[list[str]] = [[]]
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        parts[-1].append(token)
        if ends(token, following):
            parts.append([])
    return parts


def _freed(part: list[str]) -> list[str]:
    """The part without the words that tie it to what comes before it."""
    start = 0
    while start < len(part) and part[start].lower() in _JOINING:
        start += 1
    return part[start:]


def _begun(clause: list[str]) -> list[str]:
    """The beginning of a clause, not ending in a word that leads on."""
    start = clause[:_LONGEST]
    while len(start) > 1 and start[-1].lower() in _OPEN:
        start.pop()
    return start


def _ended(clause: list[str]) -> list[str]:
    """The end of a clause, not beginning in the middle of what a small word ties together."""
    end = clause[-_LONGEST:]
    joints = [index for index, token in enumerate(end) if token in _PARTING and len(end) - index > _SHORTEST_HALF]
    if joints:
        return _freed(end[joints[0] :])
    while len(end) > 1 and end[0].lower() in _OPEN - _ARTICLES:
        del end[0]
    return end


def _parts(sentence: list[str]) -> list[tuple[int, list[str]]]:
    """What can be quoted of a sentence, and how well it stands alone: its clauses, of a long one the halves, the
    beginning and the end."""
    found = []
    for clause in map(_freed, _parted(sentence, lambda token, _: bool(_PAUSE.search(token)))):
        if len(clause) <= _LONGEST:
            found.append((_WHOLE, clause))
            continue
        halves = _parted(clause, lambda token, following: following in _PARTING and token not in _LEADING_ON)
        # What a pronoun ties to the half before it says little alone.
        own = [_begun(_freed(half)) for half in halves if half and half[0] not in _RELATIVE and len(half) <= _LONGEST]
        found.extend((_WHOLE, half) for half in own if len(half) >= _SHORTEST_HALF)
        found.extend([(_BEGUN, _begun(clause)), (_ENDED, _ended(clause))])
    return found


def _quotations(sentence: str, content: set[str], chance: Chance) -> list[str]:
    """The best quotation, and shorter ones with two and with one of the content words, as far as there are any."""
    tokens = sentence.split()
    told = {token for token in tokens if token.strip(_EDGES).lower() in content}
    found = []
    ranked = []
    for kind, part in _parts(tokens):
        count = sum(token in told for token in part)
        # Two content words are enough to prefer what stands better alone.
        ranked.append(((min(_ENOUGH, count), kind, min(_FULL, count)), " ".join(part)))
    best = max((rank for rank, _ in ranked), default=(0, _ENDED, 0))
    if best[0]:
        found.append(chance.choice([text for rank, text in ranked if rank == best]))
    places = [index for index, token in enumerate(tokens) if token in told]
    for count, longest in _LONGEST_PART.items():
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
        found.append(" ".join(tokens[start : end + 1]))
    texts = [text.strip(_EDGES) for text in found]
    return [lower_opening(text) for text in texts if text and not any(mark in text for mark in '"“”')]


def echo_groups(system: str, instruction: str, chance: Chance) -> list[list[str]]:
    """For each sentence of the system message quotations from it, the longest first; none on the instruction's own words."""
    ignored = common_words() | set(content_words(instruction)) | {topic.lower() for topic in topics_of(instruction)}
    groups = []
    for sentence in _SENTENCE_END.split(system):
        content = {word for word in content_words(sentence) if word not in ignored and word.isascii() and len(word) > 4}
        found = _quotations(sentence, content, chance) if content else []
        if found:
            groups.append(found)
    chance.shuffle(groups)
    return groups
