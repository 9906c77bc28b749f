"""What differs between the two answers of each choice, as evidence for preferences that can be stated: one column of numbers for
each, from -1 (the rejected answer follows it, the chosen one does not) to 1 (the other way round)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log, log1p
from typing import Literal

import numpy as np

from shared.domain.checks import evaluate
from shared.domain.checks.reading_level import reading_grade
from shared.domain.profiles import StatedPreference
from shared.domain.prose import LineRole, is_unspaced, read_lines, sentences, without_code_blocks, words
from shared.domain.taxonomy import Subdimension, Taxonomy, seed_check
from shared.personal.inference.choices import Choice
from shared.personal.resolving import Wish, candidate_wishes
from shared.statistics.intervals import Numbers

Source = Literal["program", "judge"]
LENGTH = "length"
_STRUCTURE = frozenset({LineRole.BULLET, LineRole.NUMBERED, LineRole.HEADING, LineRole.TABLE})


@dataclass(frozen=True)
class Measure:
    """A general measure of texts. `signs` says which way a check of that kind (or format) pulls it; a difference of `scale` is
    as good as any larger one."""

    name: str
    of: Callable[[str], float]
    scale: float
    signs: Mapping[str, int]


def _length(text: str) -> float:
    prose = without_code_blocks(text)
    # A character of a script without spaces says about as much as a word by half.
    return log1p(len(prose) / 2 if is_unspaced(prose) else len(words(prose)))


def _sentence_length(text: str) -> float:
    found = sentences(text)
    return log(max(1.0, sum(len(words(one)) for one in found) / len(found))) if found else float("nan")


def _reading_level(text: str) -> float:
    grade = reading_grade(text)
    return float("nan") if grade is None else grade


def _structure(text: str) -> float:
    roles = [line.role for line in read_lines(text) if line.role is not LineRole.BLANK]
    return sum(role in _STRUCTURE for role in roles) / len(roles) if roles else float("nan")


MEASURES = (
    Measure(LENGTH, _length, log(1.2), {"minimum_words": 1, "maximum_words": -1, "sentence_count_at_most": -1}),
    Measure("sentence length", _sentence_length, log(1.2), {"maximum_sentence_words": -1}),
    Measure("reading level", _reading_level, 1.0, {"reading_level_at_least": 1, "reading_level_at_most": -1}),
    Measure(
        "layout",
        _structure,
        0.2,
        {"numbered_list": 1, "bullet_list": 1, "table": 1, "headings": 1, "plain_prose": -1},
    ),
)


@dataclass(frozen=True)
class Column:
    """The evidence for one preference: `values` has a number per choice. `by_length` says that it compares lengths alone."""

    stated: StatedPreference
    wish: Wish
    source: Source
    values: Numbers
    by_length: bool = False


def program_columns(choices: Sequence[Choice], taxonomy: Taxonomy) -> list[Column]:
    """A column for each seed with a machine check, and for each pole that a general measure belongs to.

    A seed's column is 1 where the chosen answer passes its check and the rejected one fails it, -1 the other way round, 0 where
    the check tells nothing. A pole's is the difference of the measure, cut at -1 and 1. Equal texts are measured once.
    """
    order: dict[str, int] = {}
    chosen = np.array([order.setdefault(choice.chosen, len(order)) for choice in choices], dtype=np.int64)
    rejected = np.array([order.setdefault(choice.rejected, len(order)) for choice in choices], dtype=np.int64)
    texts = list(order)
    columns = []
    measured: dict[str, Numbers] = {}
    measures = measures_of_poles(taxonomy)
    for stated, wish in candidate_wishes(taxonomy):
        if wish.seed is not None:
            check = seed_check(wish.seed)
            if check is None:
                continue
            marks = np.array([_MARKS[evaluate(check, text).outcome] for text in texts])
            values = np.nan_to_num(marks[chosen] - marks[rejected])
            columns.append(Column(stated, wish, "program", values, check.kind in MEASURES[0].signs))
        elif wish.subdimension is not None and wish.pole is not None:
            for measure, sign in measures.get((wish.subdimension.name, wish.pole.name), ()):
                if measure.name not in measured:
                    measured[measure.name] = np.array([measure.of(text) for text in texts])
                figures = measured[measure.name]
                difference = np.nan_to_num(figures[chosen] - figures[rejected])
                values = sign * np.clip(difference / measure.scale, -1, 1)
                columns.append(Column(stated, wish, "program", values, measure.name == LENGTH))
    return columns


_MARKS = {"pass": 1.0, "fail": 0.0, "not_applicable": float("nan")}


def measures_of_poles(taxonomy: Taxonomy) -> dict[tuple[str, str], list[tuple[Measure, int]]]:
    """Which measures speak for which pole (names of subdimension and pole), and in which direction.

    A measure belongs to the subdimension whose seeds' checks pull it most, to the first of equals; of its two poles the one
    pulled less takes the other direction. So it works for uploaded taxonomies as for the shipped one.
    """
    found: dict[tuple[str, str], list[tuple[Measure, int]]] = {}
    subdimensions = [one for dimension in taxonomy.dimensions for one in dimension.subdimensions]
    for measure in MEASURES:
        pulls = [_pulls(one, measure) for one in subdimensions]
        strongest = max(range(len(pulls)), key=lambda number: _spread(pulls[number]))
        if not _spread(pulls[strongest]):
            continue
        subdimension, pull = subdimensions[strongest], pulls[strongest]
        low, high = min(pull, key=lambda name: pull[name]), max(pull, key=lambda name: pull[name])
        found.setdefault((subdimension.name, high), []).append((measure, 1))
        found.setdefault((subdimension.name, low), []).append((measure, -1))
    return found


def _pulls(subdimension: Subdimension, measure: Measure) -> dict[str, int]:
    pulls = {pole.name: 0 for pole in subdimension.poles}
    for seed in subdimension.seeds:
        check = seed_check(seed)
        if check is not None:
            pulls[seed.pole] += measure.signs.get(str(check.parameters.get("format", check.kind)), 0)
    return pulls


def _spread(pulls: Mapping[str, int]) -> int:
    return max(pulls.values()) - min(pulls.values())
