"""The stock of what goes wrong in meaning (`slips.yaml`), read once, and rewording as a teacher does it who copies."""

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from services.simulator.chance import Chance
from services.simulator.phrases import fill, read_stock
from services.simulator.words import lower_opening, topics_of


class KeywordLists(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    joints: tuple[str, ...]
    qualities: tuple[str, ...]


class Slips(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All wordings. Slots: {t}, {u} topic words, {w} a wish, {n}, {m} numbers and {s} their sum."""

    moot: tuple[str, ...]
    negations: tuple[str, ...]
    contraries: dict[str, tuple[str, ...]]
    keyword_lists: KeywordLists
    leaks: tuple[str, ...]
    tasks: tuple[str, ...]
    injections: tuple[str, ...]
    description_commands: tuple[str, ...]
    message_commands: tuple[str, ...]


@lru_cache(maxsize=1)
def load_slips() -> Slips:
    """The shipped stock. Raises msgspec.ValidationError where the file does not fit `Slips`."""
    return read_stock("slips.yaml", Slips)


@lru_cache(maxsize=1)
def load_rewordings() -> dict[str, tuple[str, ...]]:
    """What seeds of the shipped taxonomy come down to in other words, by their names. Raises msgspec.ValidationError where the
    file holds anything else."""
    return read_stock("rewordings.yaml", dict[str, tuple[str, ...]])


_SLOT = re.compile(r"\{([a-zA-Z])\}")
_NUMBERS = "nms"


def pattern_of(wordings: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the wordings, whatever stands in their slots."""
    patterns = []
    for wording in wordings:
        parts = _SLOT.split(wording)
        # Texts and names of slots take turns.
        patterns.append(
            "".join(
                (r"\d+" if part in _NUMBERS else r"\S+") if place % 2 else re.escape(part)
                for place, part in enumerate(parts)
            )
        )
    return re.compile("|".join(patterns), re.IGNORECASE)


@lru_cache(maxsize=1)
def _review_commands() -> re.Pattern[str]:
    slips = load_slips()
    return pattern_of((*slips.description_commands, *slips.message_commands))


def review_command_in(text: str) -> str:
    """The shipped command to a reviewer that stands in a wish or a system message; empty where there is none."""
    found = _review_commands().search(text)
    return found.group() if found else ""


_TOPICS = 3
"""The first few topics of a text are what it is about; descriptions have many more words that look like one."""


def worded(templates: tuple[str, ...], about: str, chance: Chance) -> str:
    """One of the wordings, on what a text is about and with numbers drawn by chance."""
    topics = topics_of(about)[:_TOPICS]
    topic = chance.choice(topics)
    other = chance.choice([one for one in topics if one != topic] or [topic])
    first, second = chance.randint(3, 60), chance.randint(3, 60)
    numbers = {"n": str(first), "m": str(second), "s": str(first + second)}
    text = fill(chance.choice(templates), topic, other, **numbers)
    return f"{text[0].upper()}{text[1:]}"


_REWORDINGS = tuple(
    (re.compile(rf"\b{wording}\b"), replacement)
    for wording, replacement in (
        ("so that", "in order that"),
        ("such as", "for instance"),
        ("rather than", "and not"),
        ("instead of", "in place of"),
        ("because", "since"),
        ("every", "each"),
        ("but", "yet"),
        ("even", "also"),
        ("nothing else", "no more than that"),
        ("is to be", "should be"),
        ("does not", "will not"),
        ("where", "wherever"),
        ("if", "whenever"),
        ("with no", "without any"),
        ("must", "has to"),
        ("cannot", "can never"),
        ("wants to", "would like to"),
        ("which", "that"),
        ("only", "nothing but"),
    )
)
_MOST_REWORDINGS = 3
_TURNS = re.compile(r"^(?P<main>[^,;]{20,}?),? (?P<link>so that|where|when|because|if|before|as) (?P<side>[^,;]{12,})$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def paraphrase(text: str, chance: Chance) -> str:
    """The same wish in lightly other words: clauses and sentences change places, a few function words are exchanged. The words
    that carry the meaning stay."""
    sentences = [_turned(one) for one in _SENTENCE_END.split(" ".join(text.split()))]
    if len(sentences) > 1:
        first = chance.randrange(1, len(sentences))
        sentences = [*sentences[first:], *sentences[:first]]
    result = " ".join(sentences)
    rewordings = list(_REWORDINGS)
    chance.shuffle(rewordings)
    changed = 0
    for pattern, replacement in rewordings:
        result, count = pattern.subn(replacement, result, count=1)
        changed += count
        if changed == _MOST_REWORDINGS:
            break
    return result


def _turned(sentence: str) -> str:
    """The sentence with its subordinate clause first, where it ends in one."""
    end = sentence[-1:] if sentence[-1:] in ".!?" else ""
    match = _TURNS.match(sentence.removesuffix(end))
    if match is None:
        return sentence
    link = match["link"]
    return f"{link[0].upper()}{link[1:]} {match['side']}, {lower_opening(match['main'])}{end}"
