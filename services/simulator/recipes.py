"""How the candidates of one answer are made: first what a reader would like best, then less and less of what nobody demanded."""

from collections.abc import Iterator

import msgspec

from services.simulator.chance import Chance
from services.simulator.demands import Demands

CANDIDATES = 40
FOR_ONE_GRADE = 120
"""Candidates where the reading level must be one grade exactly: the measure moves with every word."""
_WITH_WHOLE_SENTENCES = 16
_GRADES: tuple[tuple[float, tuple[float, float, float]], ...] = (
    (-1, (1, 0, 0)),
    (1, (0.75, 0.25, 0)),
    (3, (0.4, 0.6, 0)),
    (4.5, (0, 1, 0)),
    (6, (0, 0.95, 0.05)),
    (7.5, (0, 0.9, 0.1)),
    (9, (0, 0.86, 0.14)),
    (11, (0, 0.8, 0.2)),
    (14.5, (0, 0.7, 0.3)),
    (18, (0, 0.55, 0.45)),
    (21.5, (0, 0.4, 0.6)),
)
"""Mean reading grade of 300 words by the shares of simple, plain and elaborate sentences."""
_NEAREST = 3


class Recipe(msgspec.Struct, frozen=True):
    """How one candidate is made. `mix` are the shares of simple, plain and elaborate sentences, `number` counts candidates;
    `whole`: demanded phrases stand in sentences of their own making, not bare."""

    mix: tuple[float, float, float]
    echoes: bool
    opening: bool
    short_words: bool
    topics: bool
    whole: bool
    scale: float
    number: int

    def level(self, chance: Chance) -> int:
        """0 for a simple, 1 for a plain, 2 for an elaborate sentence."""
        drawn = chance.random()
        return 0 if drawn < self.mix[0] else 1 if drawn < self.mix[0] + self.mix[1] else 2


def _mixes(demands: Demands) -> list[tuple[float, float, float]]:
    high, low = demands.maximum_grade, demands.minimum_grade
    if low is not None and high is not None:
        middle = (low + high) / 2
        return [mix for _, mix in sorted(_GRADES, key=lambda entry: abs(entry[0] - middle))[:_NEAREST]]
    if low is not None:
        return [(0, 0, 1)] if low > 8 else [(0, 0.4, 0.6), (0, 0, 1)]
    if high is not None:
        return [(1, 0, 0)] if high < 11 else [(0.4, 0.6, 0), (1, 0, 0)]
    if demands.maximum_sentence_words is not None:
        return [(1, 0, 0)] if demands.maximum_sentence_words < 12 else [(0.6, 0.4, 0), (1, 0, 0)]
    return [(0.15, 0.75, 0.1), (0.5, 0.5, 0), (0, 0.6, 0.4), (1, 0, 0)]


def recipes(demands: Demands, chance: Chance) -> Iterator[Recipe]:
    """The recipes of all candidates, in order."""
    mixes = _mixes(demands)
    bounded = demands.maximum_grade is not None or demands.minimum_grade is not None
    first = 0 if bounded else chance.randrange(min(3, len(mixes)))
    exact = bounded and demands.maximum_grade == demands.minimum_grade
    for number in range(FOR_ONE_GRADE if exact else CANDIDATES):
        yield Recipe(
            mix=mixes[(first + number) % len(mixes)],
            echoes=number % 4 < 2 and number < 16,
            opening=number % 4 != 3 and number < 20,
            short_words=demands.maximum_grade is not None and number > 0,
            topics=number % 6 != 5,
            whole=number < _WITH_WHOLE_SENTENCES,
            scale=(1.0, 0.8, 1.3, 0.6, 1.6)[number % 5],
            number=number,
        )
