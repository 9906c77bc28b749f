"""Whole sentences around the phrases that an answer must hold; their stock and the words of layouts (`wanted.yaml`)."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import msgspec
import yaml

from services.simulator.chance import Chance
from services.simulator.phrases import load_phrases
from services.simulator.recipes import Recipe
from services.simulator.stream import Stream, on_topic
from services.simulator.words import lower_opening
from shared.domain.checks.phrases import contains_phrase
from shared.domain.prose import fold

Place = Literal["first", "middle", "last"]
CLOSING = ".!?…。！？"


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A phrase with frames of its own, from easy to demanding. With `lead`, any sentence may follow the phrase and that."""

    phrase: str
    place: Place
    frames: tuple[str, ...]
    lead: str = ""


class Foreign(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What another language says around a phrase (which stays as it is), asks, and calls the parts of a layout."""

    phrases: tuple[str, ...]
    columns: tuple[str, str]
    headings: tuple[str, str, str]
    question: str = ""
    stop: str = "."


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stock. `words` and `marks` go around any phrase of words and any of signs."""

    known: tuple[Known, ...]
    words: tuple[str, ...]
    marks: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    foreign: dict[str, Foreign]

    def of(self, phrase: str) -> Known | None:
        """The frames that were written for a phrase."""
        return _by_phrase().get(fold(phrase))


class Placed(msgspec.Struct, frozen=True):
    """A sentence and where in the answer it belongs."""

    text: str
    place: Place


@lru_cache(maxsize=1)
def load_wanted() -> Wanted:
    """The shipped stock. Raises msgspec.ValidationError where the file does not fit `Wanted`."""
    text = files("services.simulator").joinpath("wanted.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), Wanted)


@lru_cache(maxsize=1)
def _by_phrase() -> dict[str, Known]:
    return {known.phrase: known for known in load_wanted().known}


def _quoted(frame: str, phrase: str, stop: str) -> str:
    """The frame around the phrase; a phrase with its own closing mark ends the sentence."""
    sentence = frame.replace("{p}", phrase)
    return sentence if phrase[-1] in CLOSING else f"{sentence}{stop}"


def _bare(phrase: str) -> str:
    """The phrase alone, where there is room or leave for nothing else."""
    return f'"{phrase}".' if phrase[-1] in CLOSING else f"{phrase[:1].upper()}{phrase[1:]}."


@lru_cache(maxsize=256)
def _stock_with(phrase: str) -> tuple[str, ...]:
    """Sentences of the ordinary stock that hold the phrase in their own words."""
    phrases = load_phrases()
    stock = (*phrases.simple, *phrases.plain, *phrases.elaborate)
    return tuple(one for one in stock if contains_phrase(one.replace("{t}", " ").replace("{u}", " "), phrase))


def _english(phrase: str, recipe: Recipe, stream: Stream, chance: Chance) -> Iterator[list[tuple[str, Place]]]:
    stock = load_wanted()
    known = stock.of(phrase)
    if known is not None:
        third = max(1, len(known.frames) // 3)
        start = third * recipe.level(chance)
        level: list[str] = list(known.frames[start : start + third])
        if known.lead and (following := stream.next(linked=False)) and "," not in following[:20]:
            level.append(f"{phrase[:1].upper()}{phrase[1:]}{known.lead}{lower_opening(following)}")
        yield [(one, known.place) for one in level]
        yield [(one, known.place) for one in known.frames]
    yield [(one, "middle") for one in _stock_with(phrase)]
    generic = stock.words if any(sign.isalnum() for sign in phrase) else stock.marks
    yield [(_quoted(one, phrase, "."), "middle") for one in generic]


def _foreign(phrase: str, language: str) -> Iterator[list[tuple[str, Place]]]:
    stock = load_wanted().foreign.get(language)
    if stock is None:
        return
    if contains_phrase(stock.question, phrase):
        yield [(stock.question, "first")]
    for frame in stock.phrases:
        yield [(_quoted(frame, phrase, stock.stop), "middle")]


def sentence_with(
    phrase: str,
    language: str,
    recipe: Recipe,
    topics: Sequence[str],
    stream: Stream,
    fits: Callable[[str], bool],
    chance: Chance,
) -> Placed:
    """A sentence that holds the phrase: the first that fits of those written for it, those that happen to hold it, those
    that quote it; the bare phrase where none fits or the recipe asks for no more."""
    if recipe.whole:
        tiers = _english(phrase, recipe, stream, chance) if language == "en" else _foreign(phrase, language)
        for tier in tiers:
            chance.shuffle(tier)
            # A sentence on the topic says more than one that could stand anywhere.
            tier.sort(key=lambda entry: "{" not in entry[0])
            for frame, place in tier:
                sentence = on_topic(frame, topics, chance)
                if sentence is not None and fits(sentence):
                    return Placed(sentence, place)
    return Placed(_bare(phrase), "middle")
