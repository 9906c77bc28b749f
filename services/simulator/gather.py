"""The sentences of one candidate as they are gathered, within the bounds on length."""

from collections.abc import Iterable, Sequence

from services.simulator.demands import Demands
from services.simulator.layout import edge_words, extra_words
from services.simulator.recipes import Recipe
from services.simulator.wanted import CLOSING, Placed
from services.simulator.words import lower_opening
from shared.domain.prose import words

_FIRST_CUTTING = 3
"""Number of the first candidate that cuts sentences which are too long into pieces."""
_BEFORE_MIDDLE = 2


def rough_word_count(text: str) -> int:
    """Words, roughly; in scripts without spaces, signs by two."""
    if text.isascii():
        return len(text.split())
    return max(len(text.split()), sum("\u0e00" <= sign <= "\u9fff" for sign in text) // 2)


def word_count(text: str) -> int:
    """Words as the checks count them."""
    return len(words(text))


def pieces_of(sentence: str, most: int) -> list[str]:
    """The sentence as pieces of at most so many words."""
    left = sentence.rstrip(CLOSING).split()
    pieces = []
    while left:
        size = min(most, len(left))
        # A full stop after a single letter is that of an initial and ends no sentence.
        while size > 1 and len(left[size - 1]) == 1:
            size -= 1
        piece = " ".join(left[:size]).rstrip(",;:")
        pieces.append(f"{piece[:1].upper()}{piece[1:]}.")
        left = left[size:]
    return pieces or [sentence]


class Draft:
    """What a candidate says so far: an opening, the body, and sentences around demanded phrases at their places."""

    def __init__(self, demands: Demands, recipe: Recipe, *, foreign: bool) -> None:
        self.demands = demands
        self.opening: list[str] = []
        self.body: list[str] = []
        self.placed: list[Placed] = []
        self.count_of = word_count if demands.about_length and not foreign else rough_word_count
        once, self.each = extra_words(demands)
        self.count = once + self.count_of(f"{demands.starts_with} {demands.ends_with}")
        self.longest = demands.maximum_sentence_words
        if self.longest is not None and "json" in demands.formats:
            self.longest = max(1, self.longest - 1)
        self.cuts = recipe.number >= _FIRST_CUTTING

    @property
    def size(self) -> int:
        """Sentences so far."""
        return len(self.opening) + len(self.body) + len(self.placed)

    def room(self, shares: int = 1) -> float:
        """Words that one of so many further sentences may have."""
        most = self.demands.maximum_words
        free = float("inf") if most is None else (most - self.count) // shares - self.each
        return free if self.longest is None else min(free, self.longest)

    def place(self, sentence: Placed) -> None:
        """Add a sentence that must stand in the answer, however long the text becomes."""
        self.placed.append(sentence)
        self.count += self.count_of(sentence.text) + self.each

    def open(self, sentence: str) -> None:
        """Let the answer begin so, where there is room."""
        if self.count_of(sentence) <= self.room():
            self.opening = [sentence]
            self.count += self.count_of(sentence) + self.each

    def take(self, sentence: str) -> bool:
        """Whether the sentence, or what it is cut into, fits and was taken."""
        size = self.count_of(sentence)
        pieces = [sentence]
        if self.longest is not None and size > self.longest:
            if not self.cuts:
                return False
            pieces = pieces_of(sentence, self.longest)
        size += self.each * len(pieces)
        most = self.demands.maximum_words
        if most is not None and self.count + size > most:
            return False
        self.body.extend(pieces)
        self.count += size
        return True

    def take_part(self, sentence: str) -> bool:
        """Take as many words of the sentence as there is room for."""
        room = int(min(self.room(), 10_000))
        if room < 1:
            return False
        part = pieces_of(sentence, room)[0]
        self.body.append(part)
        self.count += self.count_of(part) + self.each
        return True

    def sentences(self) -> list[str]:
        """All of them, in order."""
        at = {place: [one.text for one in self.placed if one.place == place] for place in ("first", "middle", "last")}
        cut = min(_BEFORE_MIDDLE, len(self.body))
        return [*self.opening, *at["first"], *self.body[:cut], *at["middle"], *self.body[cut:], *at["last"]]

    def fitted(self, most: int | None, joint: str) -> list[str]:
        """The sentences, merged to at most so many, their first and last short enough to be joined with what the answer
        must begin and end with."""
        result = self.sentences()
        needed = {one.text for one in self.placed}
        first, last = edge_words(self.demands)
        rooms = None if self.longest is None else (self.longest, self.longest - first, self.longest - last)
        if most is not None and len(result) > most:
            result = self._merged(result, most, joint, needed, rooms)
        if rooms is not None and result:
            result = self._shortened(result, rooms[1], 0, needed)
            result = self._shortened(result, rooms[2], len(result) - 1, needed)
        return result

    def _merged(
        self, sentences: list[str], most: int, joint: str, needed: set[str], rooms: tuple[int, int, int] | None
    ) -> list[str]:
        per_group = -(-len(sentences) // most)
        starts = range(0, len(sentences), per_group)
        merged = []
        for number, start in enumerate(starts):
            group = sentences[start : start + per_group]
            if rooms is not None:
                room = min(rooms[0], rooms[1] if number == 0 else 99, rooms[2] if number == len(starts) - 1 else 99)
                group = self._within(group, room, needed)
            merged.append(_joined(group, joint))
        return merged

    def _within(self, group: Sequence[str], room: int, needed: Iterable[str]) -> list[str]:
        """The sentences that must stand, and of the others those for which there is room together."""
        kept = {one for one in group if one in needed}
        free = room - sum(map(self.count_of, kept))
        for one in group:
            if one not in kept and self.count_of(one) <= free:
                kept.add(one)
                free -= self.count_of(one)
        return [one for one in group if one in kept] or [pieces_of(group[0], max(1, room))[0]]

    def _shortened(self, sentences: list[str], room: int, position: int, needed: Iterable[str]) -> list[str]:
        """With a sentence of at most so many words at this position (the first or the last)."""
        if self.count_of(sentences[position]) <= room:
            return sentences
        fitting = [index for index, one in enumerate(sentences) if self.count_of(one) <= room]
        result = list(sentences)
        # From the middle if possible, so that the other edge keeps its own.
        found = next((index for index in fitting if 0 < index < len(result) - 1), fitting[0] if fitting else None)
        if found is not None:
            result[found], result[position] = result[position], result[found]
        elif result[position] not in needed and room > 0:
            result[position] = pieces_of(result[position], room)[0]
        return result


def _joined(group: list[str], joint: str) -> str:
    """One sentence; a question or an exclamation goes last, so that it keeps its mark."""
    ends = [one for one in group if one[-1] in "?!？！"]
    ordered = [one for one in group if one not in ends[-1:]] + ends[-1:]
    clauses = [one.rstrip(CLOSING) for one in ordered]
    closing = ordered[-1][-1] if ends else "."
    return joint.join([clauses[0], *map(lower_opening, clauses[1:])]) + closing
