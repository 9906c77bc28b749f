"""Slips of a teacher who fills slots: wishes that contradict each other, say nothing, or are not what was assigned.

The answer is made without a fault first; a slip then words one set or one slot of it anew. The names of the slot stay as they
were assigned: nothing but the meaning tells.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from services.simulator.augment import Slot, Wish, Writer, entry_of, read_slots, wish_of
from services.simulator.chance import Chance, generator_of
from services.simulator.faults import Fault
from services.simulator.labels import NO_SLIP, Label
from services.simulator.phrases import fill
from services.simulator.slips import load_rewordings, load_slips, paraphrase, worded
from services.simulator.words import lower_opening
from shared.domain.checks import canonical_sentence, conflict, find_checks
from shared.domain.taxonomy import PlacedSeed, SeedPreference, Subdimension, default_taxonomy, seed_check

LOW_AND_HIGH = "background_knowledge"
"""The dimension whose poles are levels: the first pole of each subdimension knows little, the second much."""


class _Answer(msgspec.Struct):
    """A sound answer on its way to an unsound one."""

    instruction: str
    slots: list[Slot]
    wishes: list[Wish]
    preferences: list[dict[str, Any]]
    writer: Writer
    held_out: Sequence[str]

    @property
    def chance(self) -> Chance:
        return self.writer.chance

    def sets(self) -> dict[int, list[int]]:
        """Positions of the slots of each set."""
        found: dict[int, list[int]] = {}
        for position, slot in enumerate(self.slots):
            found.setdefault(slot.set, []).append(position)
        return found

    def reword(self, position: int, body: str) -> None:
        """The description of a slot made of another body, in frames of its own."""
        self.preferences[position]["description"] = self.writer.describe(self.slots[position], body)

    def in_any_order(self, positions: Iterable[int]) -> list[int]:
        found = list(positions)
        self.chance.shuffle(found)
        return found

    def without_check(self) -> list[int]:
        """Slots whose description need not state a check, in any order: a check's sentence would say what was assigned."""
        return self.in_any_order(index for index, slot in enumerate(self.slots) if not slot.check_sentence)


class _Made(msgspec.Struct, frozen=True):
    """Where a slip was made, by positions of slots."""

    positions: tuple[int, ...]
    detail: str = ""


@lru_cache(maxsize=1)
def _subdimensions() -> dict[str, tuple[str, Subdimension]]:
    """The shipped taxonomy's subdimensions by name, with their dimension."""
    return {
        subdimension.name: (dimension.name, subdimension)
        for dimension in default_taxonomy().dimensions
        for subdimension in dimension.subdimensions
    }


def opposite_seeds(subdimension: str, pole: str) -> list[SeedPreference]:
    """Seeds of the shipped taxonomy on the other side of a subdimension; none where it has no such pole."""
    known = _subdimensions().get(subdimension)
    if known is None or pole not in {one.name for one in known[1].poles}:
        return []
    return [seed for seed in known[1].seeds if seed.pole != pole]


def seeds_of_other_levels(slot: Slot, taken: frozenset[str]) -> list[SeedPreference]:
    """Seeds of other subdimensions of the slot's dimension (not those in `taken`); of levels of knowledge, of another level."""
    own = _subdimensions().get(slot.subdimension)
    if own is None or own[0] != slot.dimension:
        return []
    side = _side(own[1], slot.pole)
    return [
        seed
        for name, (dimension, other) in _subdimensions().items()
        if dimension == slot.dimension and name not in taken
        for seed in other.seeds
        if dimension != LOW_AND_HIGH or _side(other, seed.pole) != side
    ]


def _side(subdimension: Subdimension, pole: str) -> int:
    return next((index for index, one in enumerate(subdimension.poles) if one.name == pole), -1)


def _moot_preference(answer: _Answer) -> _Made | None:
    for position in answer.without_check()[:1]:
        answer.reword(position, worded(load_slips().moot, answer.instruction, answer.chance))
        return _Made((position,))
    return None


def _wrong_pole(answer: _Answer) -> _Made | None:
    for position in answer.without_check():
        slot = answer.slots[position]
        seeds = opposite_seeds(slot.subdimension, slot.pole)
        if seeds:
            seed = answer.chance.choice(seeds)
            answer.reword(position, seed.description)
            return _Made((position,), seed.name)
    return None


def _wrong_level(answer: _Answer) -> _Made | None:
    for position in answer.without_check():
        slot = answer.slots[position]
        taken = frozenset(other.subdimension for other in answer.slots if other.set == slot.set)
        seeds = seeds_of_other_levels(slot, taken)
        if seeds:
            seed = answer.chance.choice(seeds)
            answer.reword(position, seed.description)
            return _Made((position,), seed.name)
    return None


def _comma_split_keywords(answer: _Answer) -> _Made | None:
    chance, lists = answer.chance, load_slips().keyword_lists
    position = chance.randrange(len(answer.slots))
    joint = chance.choice(lists.joints)
    words = chance.sample(lists.qualities, chance.randint(2, 3))
    name = answer.wishes[position].name
    if len(name.split()) <= 2:
        words[0] = name
    if len(words) == 3 and joint.strip() in ("and", "plus", ", and"):
        answer.preferences[position]["preference"] = f"{words[0]}, {words[1]}{joint}{words[2]}".replace(",,", ",")
    else:
        answer.preferences[position]["preference"] = joint.join(words)
    return _Made((position,), joint.strip())


def _held_out_paraphrase(answer: _Answer) -> _Made | None:
    texts = [text for text in answer.held_out if text.strip()]
    free = answer.without_check()
    if not texts or not free:
        return None
    text = answer.chance.choice(texts)
    checks = find_checks(text)
    for check in checks:
        text = text.replace(canonical_sentence(check), " ")
    # A slot of the dimension that the text belongs to is where a teacher would write it.
    home = next((d for d, sub in _subdimensions().values() for seed in sub.seeds if seed.description in text), None)
    position = next((index for index in free if answer.slots[index].dimension == home), free[0])
    answer.reword(position, paraphrase(text, answer.chance))
    return _Made((position,))


@lru_cache(maxsize=1)
def _reworded_seeds() -> dict[str, PlacedSeed]:
    """The shipped seeds that there are rewordings of, by their descriptions."""
    return {
        placed.seed.description: placed
        for placed in default_taxonomy().seeds()
        if placed.seed.name in load_rewordings()
    }


def _held_out_reworded(answer: _Answer) -> _Made | None:
    """What a held-out seed asks for in words of its own, in a slot that the meaning alone tells it from: one of the seed's own
    pole, or a free one of its dimension."""
    homes: dict[str, list[int]] = {}
    for text in dict.fromkeys(answer.held_out):
        placed = _reworded_seeds().get(text)
        if placed is None:
            continue
        own = (placed.subdimension.name, placed.seed.pole)
        homes[placed.seed.name] = [
            position
            for position in answer.without_check()
            if (slot := answer.slots[position]).seed != placed.seed.name
            and ((slot.subdimension, slot.pole) == own or (slot.free and slot.dimension == placed.dimension.name))
        ]
    names = [name for name, positions in homes.items() if positions]
    if not names:
        return None
    name = answer.chance.choice(names)
    position = homes[name][0]
    answer.reword(position, answer.chance.choice(load_rewordings()[name]))
    return _Made((position,), name)


def _injected_description(answer: _Answer) -> _Made | None:
    """The wish as it is, with a command to its reviewer behind it."""
    position = answer.chance.randrange(len(answer.slots))
    own = _without_checks(answer.wishes[position].body)
    command = worded(load_slips().description_commands, answer.instruction, answer.chance)
    answer.reword(position, f"{own if own[-1:] in '.!?' else f'{own}.'} {command}")
    return _Made((position,), command)


def _duplicate_set(answer: _Answer) -> _Made | None:
    sets = answer.sets()
    if len(sets) < 2:
        return None
    copy, model = answer.chance.sample(list(sets), 2)
    left = list(sets[model])
    for position in sets[copy]:
        slot = answer.slots[position]
        same = [index for index in left if answer.slots[index].dimension == slot.dimension]
        source = (same or left or sets[model])[0]
        if source in left:
            left.remove(source)
        answer.preferences[position]["preference"] = answer.writer.keywords(answer.wishes[source].name)
        answer.reword(position, paraphrase(_without_checks(answer.wishes[source].body), answer.chance))
    return _Made(tuple(sets[copy]), f"set {model}")


def _without_checks(text: str) -> str:
    for check in find_checks(text):
        text = text.replace(canonical_sentence(check), " ")
    return " ".join(text.split())


def _contradictory_set(answer: _Answer) -> _Made | None:
    """One wish of a set turned against another of it, in one of several ways."""
    pairs = [
        (turned, against)
        for positions in answer.sets().values()
        for turned in positions
        for against in positions
        if turned != against and not answer.slots[against].free
    ]
    kinds = list(_CONTRADICTIONS.items())
    answer.chance.shuffle(kinds)
    answer.chance.shuffle(pairs)
    for kind, contrary_of in kinds:
        for turned, against in pairs:
            contrary = contrary_of(answer, against)
            if contrary is None:
                continue
            # A check's sentence is one only as a sentence of its own, behind another.
            whole = not answer.slots[turned].check_sentence and not find_checks(contrary)
            replaced = answer.chance.random() < 0.5 and whole
            own = "" if replaced else _without_checks(answer.wishes[turned].body)
            if own and own[-1] not in ".!?":
                own += "."
            answer.reword(turned, f"{own} {contrary}")
            return _Made((turned, against), kind)
    return None


def _opposite_pole(answer: _Answer, position: int) -> str | None:
    slot = answer.slots[position]
    seeds = opposite_seeds(slot.subdimension, slot.pole)
    return answer.chance.choice(seeds).description if seeds else None


def _negation(answer: _Answer, position: int) -> str | None:
    negation = answer.chance.choice(load_slips().negations)
    return fill(negation, w=lower_opening(_without_checks(answer.wishes[position].body)))


def _contrary_in_words(answer: _Answer, position: int) -> str | None:
    checks = find_checks(answer.slots[position].check_sentence)
    wordings = load_slips().contraries.get(checks[0].kind) if checks else None
    return answer.chance.choice(wordings) if wordings else None


def _contrary_check(answer: _Answer, position: int) -> str | None:
    """The sentence of a check that no text can pass together with the slot's own."""
    rivals = _rivals(answer.slots[position].check_sentence)
    return answer.chance.choice(rivals) if rivals else None


@lru_cache(maxsize=512)
def _rivals(sentence: str) -> tuple[str, ...]:
    """Sentences of the shipped taxonomy's checks that no text passes together with the check of a sentence."""
    own = find_checks(sentence)
    found = [seed_check(placed.seed) for placed in default_taxonomy().seeds()]
    return tuple(
        dict.fromkeys(
            canonical_sentence(check) for check in found if check is not None and own and conflict(own[0], check)
        )
    )


_CONTRADICTIONS: dict[str, Callable[[_Answer, int], str | None]] = {
    "opposite pole": _opposite_pole,
    "negation": _negation,
    "contrary in words": _contrary_in_words,
    "contrary check": _contrary_check,
}

_SLIPS: dict[Fault, Callable[[_Answer], _Made | None]] = {
    Fault.CONTRADICTORY_SET: _contradictory_set,
    Fault.MOOT_PREFERENCE: _moot_preference,
    Fault.WRONG_POLE: _wrong_pole,
    Fault.WRONG_LEVEL: _wrong_level,
    Fault.DUPLICATE_SET: _duplicate_set,
    Fault.COMMA_SPLIT_KEYWORDS: _comma_split_keywords,
    Fault.HELD_OUT_PARAPHRASE: _held_out_paraphrase,
    Fault.HELD_OUT_REWORDED: _held_out_reworded,
    Fault.INJECTED_DESCRIPTION: _injected_description,
}


def slipped_augment(
    block: dict[str, Any], slip: Fault, held_out: Sequence[str], seed: int, digest: bytes
) -> tuple[dict[str, Any], Label]:
    """The answer of `answer_augment` with one slip in it, and its label: the set and the numbers of the slots; of a
    contradiction first the slot that was turned, then the one that it is turned against. Where the block cannot carry the slip,
    the sound answer. Raises BadRequest for a block that cannot be read."""
    slots, instruction = read_slots(block), block["instruction"]
    first = Writer(instruction, generator_of(seed, digest, "augment"), slots)
    wishes = [wish_of(slot, instruction, seed, first) for slot in slots]
    entries = [entry_of(slot, wish, first) for slot, wish in zip(slots, wishes, strict=True)]
    writer = Writer(instruction, generator_of(seed, digest, "slip"), slots)
    answer = _Answer(instruction, slots, wishes, entries, writer, held_out)
    made = _SLIPS[slip](answer)
    if made is None:
        return {"preferences": entries}, Label(NO_SLIP, slip.value)
    hit = [answer.slots[position] for position in made.positions]
    label = Label(slip.value, slip.value, hit[0].set, tuple(slot.number for slot in hit), made.detail)
    return {"preferences": answer.preferences}, label
