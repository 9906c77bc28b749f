"""Answers of class `augment`: every slot of the block made specific to the instruction."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.simulator.chance import Chance, generator_of, uniforms_of
from services.simulator.phrases import Coined, fill, load_phrases
from services.simulator.requests import BadRequest
from services.simulator.tongue import answer_language
from services.simulator.words import lower_opening, named, topics_of

T = TypeVar("T")

KEYS = frozenset({"instruction", "slots"})
UNFIT_SHARE = 0.02
"""Share of (instruction, seed preference) pairs that are answered with fits=false."""
MAXIMUM_KEYWORDS = 8
OTHER_DIMENSION = "other"
"""Where the stock of coined preferences keeps those for dimensions that it does not know."""

_LIST_MARKS = re.compile(r"[,;:|/]|\s[-–—•]\s")


class Slot(msgspec.Struct, frozen=True):
    """One slot of the block. `free`: it names a dimension alone."""

    number: int
    set: int
    dimension: str
    subdimension: str
    pole: str
    seed: str
    description: str
    check_sentence: str
    intensity: str
    known: dict[str, list[str]]
    """Of a free slot: poles by subdimension that a coined preference may belong to."""

    @property
    def free(self) -> bool:
        return not (self.subdimension or self.pole or self.seed)


def _text(slot: dict[str, Any], name: str, position: int, *, required: bool = False) -> str:
    value = slot.get(name)
    if isinstance(value, str):
        return value.strip()
    if value is None and not required:
        return ""
    raise BadRequest(f"slots/{position}/{name} is {value!r}; it must be a string", "messages")


def _number(slot: dict[str, Any], name: str, position: int, default: int) -> int:
    value = slot.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"slots/{position}/{name} is {value!r}; it must be a whole number", "messages")
    return value


def _known(slot: dict[str, Any], position: int) -> dict[str, list[str]]:
    value = slot.get("known_subdimensions") or {}
    if not isinstance(value, dict) or not all(isinstance(poles, list) for poles in value.values()):
        raise BadRequest(f"slots/{position}/known_subdimensions must map names to lists of poles", "messages")
    return value


def read_slots(block: dict[str, Any]) -> list[Slot]:
    """The slots of the block, in its order. Raises BadRequest for a block that cannot be read."""
    slots = block["slots"]
    if not isinstance(block["instruction"], str) or not isinstance(slots, list) or not slots:
        raise BadRequest(
            "the json block needs `instruction` as text and `slots` as a list that is not empty", "messages"
        )
    found = []
    for position, slot in enumerate(slots):
        if not isinstance(slot, dict):
            raise BadRequest(f"slots/{position} must be an object", "messages")
        found.append(
            Slot(
                number=_number(slot, "slot", position, position),
                set=_number(slot, "set", position, 0),
                dimension=_text(slot, "dimension", position, required=True),
                subdimension=_text(slot, "subdimension", position),
                pole=_text(slot, "pole", position),
                seed=_text(slot, "seed", position),
                description=_text(slot, "seed_description", position),
                check_sentence=_text(slot, "check_sentence", position),
                intensity=_text(slot, "intensity", position),
                known=_known(slot, position),
            )
        )
    return found


class Pools:
    """Draws from stocks: nothing comes again before all of its stock was used."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._pools: dict[tuple[Any, ...], list[Any]] = {}

    def draw(self, stock: tuple[T, ...]) -> T:
        if not self._pools.get(stock):
            self._pools[stock] = list(stock)
        found: T = self._chance.draw(self._pools[stock])
        return found


class Writer:
    """Words the preferences of one call on the topics of its instruction. Frames are drawn per set, what is coined per call."""

    def __init__(self, instruction: str, chance: Chance, slots: Sequence[Slot]) -> None:
        self.chance = chance
        self.topics = topics_of(instruction)
        self.names = tuple(map(named, self.topics)) if answer_language(instruction) == "en" else self.topics
        # Subdimensions that a set has already.
        self.taken: dict[int, set[str]] = {}
        for slot in slots:
            self.taken.setdefault(slot.set, set()).add(slot.subdimension)
        self._coins = Pools(chance)
        self._frames: dict[int, Pools] = {}

    def keywords(self, seed: str) -> str:
        """One preference, not a list of several."""
        frame = self.chance.choice(load_phrases().keyword_frames)
        texts = (fill(one, self.chance.choice(self.topics), s=seed) for one in (frame, "{s}"))
        found = [_LIST_MARKS.sub(" ", text).split() for text in texts]
        # What is too long loses its topic rather than its last words.
        fitting = next((words for words in found if len(words) <= MAXIMUM_KEYWORDS), found[-1][:MAXIMUM_KEYWORDS])
        return " ".join(fitting)

    def describe(self, slot: Slot, body: str) -> str:
        """The description: a lead, the body with its words unchanged, how much it matters, and the slot's check sentence or a
        tail."""
        phrases = load_phrases()
        frames = self._frames.setdefault(slot.set, Pools(self.chance))
        topic, other = self.two_topics()
        sentence = slot.check_sentence
        body = " ".join((body.replace(sentence, "") if sentence else body).split())
        if body:
            body = f"{fill(frames.draw(phrases.augment_leads), topic, other)} {lower_opening(body)}"
            if body[-1] not in ".!?":
                body += "."
        intensities = phrases.augment_intensities.get(slot.intensity)
        weight = frames.draw(intensities) if intensities else ""
        # How much it matters takes the place of a tail, so that the wish stays the longest part.
        tail = "" if sentence or weight else fill(frames.draw(phrases.augment_tails), topic, other)
        return " ".join(part for part in (body, weight, sentence, tail) if part)

    def coin(self, slot: Slot) -> tuple[Coined, str, str]:
        """A preference for a free slot, with the subdimension and pole of those offered that it belongs to, else its own name and
        no pole. What belongs to a subdimension that is not offered, or that the set has already, is passed over."""
        coined = load_phrases().coined
        stock = coined.get(slot.dimension) or coined[OTHER_DIMENSION]
        taken = self.taken.setdefault(slot.set, set())
        for _ in range(2 * len(stock)):
            found = self._coins.draw(stock)
            subdimension, _, pole = (found.belongs or f"{found.subdimension}: ").partition(": ")
            offered = found.belongs is None or pole in slot.known.get(subdimension, ())
            if offered and subdimension not in taken:
                break
        else:
            subdimension, pole = found.subdimension, ""
        taken.add(subdimension)
        return found, subdimension, pole

    def two_topics(self) -> tuple[str, str]:
        """Two topics with their articles; the same one twice where there is no other."""
        topic = self.chance.choice(self.names)
        return topic, self.chance.choice([word for word in self.names if word != topic] or [topic])


class Wish(NamedTuple):
    """What a slot is filled with before it is worded."""

    subdimension: str
    pole: str
    name: str
    body: str
    fits: bool


def name_of(slot: Slot) -> str:
    """What the seed of an assigned slot is called."""
    return slot.seed or f"{slot.pole} {slot.subdimension}".strip() or slot.dimension


def wish_of(slot: Slot, instruction: str, seed: int, writer: Writer) -> Wish:
    """The seed that is assigned to the slot; for a free slot one that is coined within the dimension."""
    if slot.free:
        coined, subdimension, pole = writer.coin(slot)
        return Wish(subdimension, pole, coined.name, coined.description, True)
    name = name_of(slot)
    fits = uniforms_of(seed, "fits", instruction, name)[0] >= UNFIT_SHARE
    return Wish(slot.subdimension, slot.pole, name, slot.description or f"The answer leans towards {name}.", fits)


def entry_of(slot: Slot, wish: Wish, writer: Writer) -> dict[str, Any]:
    """The slot's entry in the answer."""
    return {
        "slot": slot.number,
        "dimension": slot.dimension,
        "subdimension": wish.subdimension,
        "pole": wish.pole,
        "preference": writer.keywords(wish.name),
        "description": writer.describe(slot, wish.body),
        "fits": wish.fits,
    }


def answer_augment(block: dict[str, Any], seed: int, digest: bytes) -> dict[str, Any]:
    """`{"preferences": [{slot, dimension, subdimension, pole, preference, description, fits}]}`, in the order of the slots.

    A demanded check sentence stands in its description verbatim; for a free slot a preference is coined within the dimension.
    Raises BadRequest for a block it cannot read.
    """
    slots = read_slots(block)
    writer = Writer(block["instruction"], generator_of(seed, digest, "augment"), slots)
    wishes = [wish_of(slot, block["instruction"], seed, writer) for slot in slots]
    return {"preferences": [entry_of(slot, wish, writer) for slot, wish in zip(slots, wishes, strict=True)]}
