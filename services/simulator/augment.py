"""Answers of class `augment`: every slot of the block made specific to the instruction."""

import re
from typing import Any

from services.simulator.chance import Chance, generator_of, uniforms_of
from services.simulator.phrases import fill, load_phrases
from services.simulator.requests import BadRequest
from services.simulator.tongue import answer_language
from services.simulator.words import lower_opening, named, topics_of

KEYS = frozenset({"instruction", "slots"})
UNFIT_SHARE = 0.02
"""Share of (instruction, seed preference) pairs that are answered with fits=false."""
MAXIMUM_KEYWORDS = 8

_LIST_MARKS = re.compile(r"[,;:|/]|\s[-–—•]\s")


def _text(slot: dict[str, Any], name: str, position: int, *, required: bool = False) -> str:
    value = slot.get(name)
    if isinstance(value, str):
        return value.strip()
    if value is None and not required:
        return ""
    raise BadRequest(f"slots/{position}/{name} is {value!r}; it must be a string", "messages")


def _keywords(seed: str, topic: str, chance: Chance) -> str:
    # One preference, not a list of several.
    texts = (fill(frame, topic, s=seed) for frame in (chance.choice(load_phrases().keyword_frames), "{s}"))
    found = [_LIST_MARKS.sub(" ", text).split() for text in texts]
    # What is too long loses its topic rather than its last words.
    return " ".join(next((words for words in found if len(words) <= MAXIMUM_KEYWORDS), found[-1][:MAXIMUM_KEYWORDS]))


class _Frames:
    """Leads and tails of the descriptions of one set: none comes again before all were used."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._pools: dict[tuple[str, ...], list[str]] = {}

    def draw(self, stock: tuple[str, ...]) -> str:
        if not self._pools.get(stock):
            self._pools[stock] = list(stock)
        return self._chance.draw(self._pools[stock])


def _describe(seed_description: str, sentence: str, topics: tuple[str, ...], frames: _Frames, chance: Chance) -> str:
    phrases = load_phrases()
    topic = chance.choice(topics)
    other = chance.choice([word for word in topics if word != topic] or [topic])
    body = seed_description.replace(sentence, "").strip() if sentence else seed_description.strip()
    body = " ".join(body.split())
    if body:
        lead = fill(frames.draw(phrases.augment_leads), topic, other)
        body = f"{lead} {lower_opening(body)}"
        if body[-1] not in ".!?":
            body += "."
    tail = "" if sentence else fill(frames.draw(phrases.augment_tails), topic, other)
    return " ".join(part for part in (body, sentence, tail) if part)


def answer_augment(block: dict[str, Any], seed: int, digest: bytes) -> dict[str, Any]:
    """`{"sets": [{"set", "preferences": [{dimension, subdimension, preference, description, fits}]}]}`, in the order of the
    slots. A demanded check sentence stands in its description verbatim. Raises BadRequest for a block it cannot read."""
    instruction = block["instruction"]
    slots = block["slots"]
    if not isinstance(instruction, str) or not isinstance(slots, list) or not slots:
        raise BadRequest(
            "the json block needs `instruction` as text and `slots` as a list that is not empty", "messages"
        )
    topics = topics_of(instruction)
    names = tuple(map(named, topics)) if answer_language(instruction) == "en" else topics
    frames: dict[int, _Frames] = {}
    chance = generator_of(seed, digest, "augment")
    sets: dict[int, list[dict[str, Any]]] = {}
    for position, slot in enumerate(slots):
        if (
            not isinstance(slot, dict)
            or isinstance(slot.get("set", 0), bool)
            or not isinstance(slot.get("set", 0), int)
        ):
            raise BadRequest(f"slots/{position} must be an object whose `set` is a whole number", "messages")
        index = slot.get("set", 0)
        dimension = _text(slot, "dimension", position, required=True)
        subdimension = _text(slot, "subdimension", position)
        pole = _text(slot, "pole", position)
        seed_name = _text(slot, "seed", position) or f"{pole} {subdimension}".strip() or dimension
        seed_description = _text(slot, "seed_description", position) or f"The answer leans towards {seed_name}."
        check_sentence = _text(slot, "check_sentence", position)
        drawn = frames.setdefault(index, _Frames(chance))
        sets.setdefault(index, []).append(
            {
                "dimension": dimension,
                "subdimension": subdimension,
                "preference": _keywords(seed_name, chance.choice(topics), chance),
                "description": _describe(seed_description, check_sentence, names, drawn, chance),
                "fits": uniforms_of(seed, "fits", instruction, seed_name)[0] >= UNFIT_SHARE,
            }
        )
    return {"sets": [{"set": index, "preferences": preferences} for index, preferences in sets.items()]}
