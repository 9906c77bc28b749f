"""What the machine checks of a system message demand of a text, folded into one set of bounds."""

from collections.abc import Iterable

import msgspec

from shared.domain.checks import conflict
from shared.domain.checks.phrases import phrases_of
from shared.domain.rows import Check


class Demands(msgspec.Struct):
    """Bounds of all checks together; None or empty where nothing is demanded."""

    minimum_words: int | None = None
    maximum_words: int | None = None
    maximum_sentences: int | None = None
    maximum_sentence_words: int | None = None
    formats: frozenset[str] = frozenset()
    maximum_grade: int | None = None
    minimum_grade: int | None = None
    include: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    language: str | None = None
    starts_with: str = ""
    ends_with: str = ""

    @property
    def about_length(self) -> bool:
        """Whether words must be counted exactly."""
        return any(bound is not None for bound in (self.minimum_words, self.maximum_words, self.maximum_sentence_words))


def fold(checks: Iterable[Check]) -> Demands:
    """The bounds of the checks. A kind that is not known here changes nothing: the text is then found by trial alone."""
    demands = Demands()
    checks = tuple(checks)
    for check in checks:
        value = next(iter(check.parameters.values()), None)
        if isinstance(value, int):
            _fold_number(demands, check.kind, value)
        elif isinstance(value, str):
            _fold_text(demands, check.kind, value)
        elif isinstance(value, list):
            if check.kind == "must_include":
                demands.include += tuple(value)
            elif check.kind == "must_include_one":
                demands.include += (_fitting(check, checks),)
            elif check.kind == "must_avoid":
                demands.avoid += tuple(value)
    return demands


def _fitting(several: Check, checks: tuple[Check, ...]) -> str:
    """The first of the alternatives that no other check excludes; the first of all where each is excluded."""
    found = phrases_of(several.parameters)
    for one in found:
        wanted = Check("must_include", {"phrases": [one]})
        if not any(conflict(wanted, other) for other in checks if other != several):
            return one
    return found[0]


_MOST = {
    "maximum_words": "maximum_words",
    "sentence_count_at_most": "maximum_sentences",
    "maximum_sentence_words": "maximum_sentence_words",
    "reading_level_at_most": "maximum_grade",
}
_LEAST = {"minimum_words": "minimum_words", "reading_level_at_least": "minimum_grade"}


def _fold_number(demands: Demands, kind: str, value: int) -> None:
    if (name := _MOST.get(kind)) is not None:
        old = getattr(demands, name)
        setattr(demands, name, value if old is None else min(old, value))
    elif (name := _LEAST.get(kind)) is not None:
        old = getattr(demands, name)
        setattr(demands, name, value if old is None else max(old, value))


def _fold_text(demands: Demands, kind: str, value: str) -> None:
    if kind == "format":
        demands.formats |= {value}
    elif kind == "language":
        demands.language = value
    # Of two beginnings that agree, the longer one holds the other.
    elif kind == "starts_with":
        demands.starts_with = max(demands.starts_with, value, key=len)
    elif kind == "ends_with":
        demands.ends_with = max(demands.ends_with, value, key=len)
