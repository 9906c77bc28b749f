"""A system message from stated preferences, by rule: the same preferences always give the same words.

Each message opens with a role; each wish becomes a sentence or two addressed to the assistant, in the person's order, with the
canonical sentence of its machine check. Shape, role, leads and closing are drawn by a hash of the wishes, so that messages do not
all look alike: prose in one piece, prose in paragraphs, hyphens, or numbers.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from random import Random

import yaml
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.identifiers import seed_of
from shared.domain.profiles import StatedPreference
from shared.domain.taxonomy import Taxonomy
from shared.personal.own_words import quoted
from shared.personal.resolving import Wish, resolve
from shared.personal.validation import require_within_length

_LAYOUT = 1
"""Raised when the same words are put together in another way: part of the version."""
_SHAPES = ("prose", "paragraphs", "bullets", "numbered")
_INTRODUCED = frozenset({"bullets", "numbered"})
_CLOSED_SHARE = 0.6
_FIRST_PARAGRAPH_SHARE = 0.5
_SENTENCE_ENDS = ".!?…。！？"
_STOPS = _SENTENCE_ENDS + "\"”'"

Phrases = tuple[str, ...]


class Wording(BaseModel):
    """The composer's words, from `wording.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: Phrases = Field(min_length=2)
    introductions: Phrases = Field(min_length=2)
    leads: Phrases = Field(min_length=2)
    poles: Phrases = Field(min_length=2)
    words: Phrases = Field(min_length=2)
    words_on: Phrases = Field(min_length=2)
    words_added: Phrases = Field(min_length=2)
    closings: Phrases = Field(min_length=2)


def compose(preferences: Sequence[StatedPreference], taxonomy: Taxonomy) -> str:
    """The system message of a person. Pure: it depends on the preferences, their order and the taxonomy's texts alone.

    Raises InputRefused as `shared.personal.resolving.resolve` does, and for a message longer than a profile may have.
    """
    text = render(resolve(preferences, taxonomy))
    require_within_length(text)
    return text


def composer_version() -> str:
    """12 hex digits that change with the composer's words and with how it puts them together."""
    return sha256(f"{_LAYOUT}\x1f{_source()}".encode()).hexdigest()[:12]


def render(wishes: Sequence[Wish]) -> str:
    """The message of wishes that were resolved."""
    wording = load_wording()
    named = [
        (wish.subdimension and wish.subdimension.name, wish.pole and wish.pole.name, wish.text, wish.sentence)
        for wish in wishes
    ]
    chance = Random(seed_of("composer", named))
    shape = chance.choice(_SHAPES)
    role = chance.choice(wording.roles)
    introduction = chance.choice(wording.introductions)
    parts = _parts(wishes, wording, chance)
    closing = chance.choice(wording.closings) if chance.random() < _CLOSED_SHARE else ""
    if shape in _INTRODUCED:
        marks = ["-"] * len(parts) if shape == "bullets" else [f"{number}." for number in range(1, len(parts) + 1)]
        lines = [f"{mark} {part}" for mark, part in zip(marks, parts, strict=True)]
        return "\n".join([f"{role} {introduction}", *lines, *([closing] if closing else [])])
    opening = f"{role} {introduction}" if chance.random() < _FIRST_PARAGRAPH_SHARE else role
    if shape == "prose":
        return " ".join([opening, *parts, *([closing] if closing else [])])
    middle = (len(parts) + 1) // 2
    blocks = [opening, " ".join(parts[:middle]), " ".join([*parts[middle:], *([closing] if closing else [])])]
    return "\n\n".join(block for block in blocks if block)


def _parts(wishes: Sequence[Wish], wording: Wording, chance: Random) -> list[str]:
    """What is said of each wish. No phrase comes again before all of its kind did."""
    decks = {name: _Deck(phrases, chance) for name, phrases in wording if isinstance(phrases, tuple)}
    parts = []
    for wish in wishes:
        subdimension = "" if wish.subdimension is None else wish.subdimension.name
        said = []
        if wish.seed is not None:
            said.append(_filled(decks["leads"].draw(), description=_stopped(wish.description)))
        elif wish.pole is not None:
            said.append(
                _filled(
                    decks["poles"].draw(),
                    subdimension=subdimension,
                    pole=wish.pole.name,
                    description=_stopped(wish.description),
                )
            )
        if wish.own_words:
            kind = "words_added" if said else "words_on" if subdimension else "words"
            phrase = _filled(decks[kind].draw(), subdimension=subdimension, words=quoted(wish.own_words))
            # Words that end a sentence themselves need no second full stop behind the quotation.
            said.append(phrase.removesuffix(".") if wish.own_words[-1] in _SENTENCE_ENDS else phrase)
        if wish.sentence:
            said.append(wish.sentence)
        parts.append(" ".join(part for part in said if part))
    return parts


class _Deck:
    """Phrases in a drawn order, over and over."""

    def __init__(self, phrases: Phrases, chance: Random) -> None:
        self._phrases = chance.sample(phrases, len(phrases))
        self._next = 0

    def draw(self) -> str:
        phrase = self._phrases[self._next % len(self._phrases)]
        self._next += 1
        return phrase


def _filled(phrase: str, **values: str) -> str:
    """The phrase with its slots filled. Values are data: braces in them mean nothing."""
    return "" if values.get("description") == "" else phrase.format(**values)


def _stopped(description: str) -> str:
    return description if not description or description[-1] in _STOPS else f"{description}."


@lru_cache(maxsize=1)
def load_wording() -> Wording:
    """The shipped words. Raises pydantic.ValidationError for a malformed file."""
    return Wording.model_validate(yaml.safe_load(_source()))


@lru_cache(maxsize=1)
def _source() -> str:
    return files("shared.personal").joinpath("wording.yaml").read_text(encoding="utf-8")
